"""The fields of a form, and how the server validates their values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, model_validator

from ood.apps.formats import FORMATS
from ood.yaml_files import SharedSettings, Text

Widget = Literal[
    "number_field",
    "select",
    "radio",
    "check_box",
    "text_field",
    "text_area",
    "password_field",
    "hidden_field",
]
MAX_LENGTH = 16_384  # characters of one field
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u2028\u2029\ud800-\udfff]")
DIRECTIVE = re.compile(r"data(-[a-z0-9]+){2,}")
CHECKED = "1"
COUNT = {"widget": "number_field", "value": 1, "min": 1, "required": True}
EMAIL = {"widget": "check_box", "label": "Send me an email when the job starts"}
KNOWN_FIELDS: dict[str, dict[str, Any]] = {
    "bc_num_hours": {"label": "Number of hours", **COUNT},
    "bc_num_slots": {"label": "Number of cores", **COUNT},
    "bc_account": {"label": "Account"},
    "bc_queue": {"label": "Partition"},
    "bc_email_on_started": EMAIL,
}
"""The predefined fields of Open OnDemand, with the attributes that a form need not repeat."""


class Option(NamedTuple):
    """An option of a select or radio field. `directives` change other fields when it is chosen (see
    `directives.py`)."""

    label: str
    value: str
    directives: Mapping[str, str] = {}


def _field_name(name: str) -> str:
    if not re.fullmatch(r"\w+", name, re.ASCII) or name == "csrf_token":
        raise ValueError("use another name of letters, digits and _ for this field")
    return name


def _options(given: Any) -> Any:
    """Options in Open OnDemand's notation: each is a plain value, or a list of a label, a value and
    any number of `data-…: value`."""
    if not isinstance(given, list):
        raise ValueError("expected a list of options")
    options = []
    for option in given:
        parts = option if isinstance(option, list) else [option]
        plain = [part for part in parts if not isinstance(part, dict)]
        if not plain:
            raise ValueError("an option has no label")
        keys = {
            key: value for part in parts if isinstance(part, dict) for key, value in part.items()
        }
        options.append(Option(str(plain[0]), str(plain[:2][-1]), _directives(keys)))
    return tuple(options)


def dashed(text: str) -> str:
    """A field's name or value as it appears in directives."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _directives(given: dict[Any, Any]) -> dict[str, str]:
    for key in given:
        if not DIRECTIVE.fullmatch(dashed(str(key))):
            raise ValueError(f"`{key}` is not a directive such as `data-hide-gpu`")
    booleans = {True: "true", False: "false"}
    return {
        dashed(str(key)): booleans[value] if isinstance(value, bool) else str(value)
        for key, value in given.items()
    }


def _html_options(given: Any) -> Any:
    """The directives of a check box, which are below `data` in Open OnDemand's `html_options`."""
    data = (given.get("data") if isinstance(given, dict) else None) or {}
    if not isinstance(data, dict):
        raise ValueError("expected keys below `data`")
    return _directives({f"data-{key}": value for key, value in data.items()})


def _as_text(given: Any) -> Any:
    """The value as text, which YAML may have parsed as a number or a Boolean."""
    if isinstance(given, bool):
        return CHECKED if given else "0"
    return "" if given is None else str(given)


class Field(SharedSettings):
    """One attribute of form.yml, with Open OnDemand's keys.

    `format`, a key of the portal's own, parses a text (see `formats.py`). The values of a
    `password_field` are secrets, which are never cached, shown in a page or kept in a file.
    """

    name: Annotated[str, AfterValidator(_field_name)]
    widget: Annotated[
        Widget, BeforeValidator(lambda value: "radio" if value == "radio_button" else value)
    ] = "text_field"
    label: Text = ""
    help: Text = ""
    value: Annotated[str, BeforeValidator(_as_text)] = ""
    min: float | None = None
    max: float | None = None
    step: float | None = None
    required: bool = False
    options: Annotated[tuple[Option, ...], BeforeValidator(_options)] = ()
    html_options: Annotated[Mapping[str, str], BeforeValidator(_html_options)] = {}
    """Directives of a check box."""
    display: bool = False
    """Whether the job card shows the value."""
    cacheable: bool = True
    hide_by_default: bool = False
    """Whether the form asks for the field only if the directive `hide` says `false`."""
    hide_when_empty: bool = False
    """With `display`: whether the card leaves out an empty value."""
    fixed: bool = False
    """Whether the app or the site sets the value, so that the form does not show the field."""
    pattern: str | None = None
    title: Text = ""
    """One sentence that describes `pattern`, shown if a value does not match."""
    format: Literal["shell_words", "environment", "image"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Field:
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"`pattern` is not a regular expression: {error}") from None
        if self.widget in ("select", "radio") and not self.options:
            raise ValueError("a select or radio field needs `options`")
        return self

    @property
    def text_if_hidden(self) -> str:
        """What is used in place of a user's text while a directive hides the field."""
        if self.widget == "check_box":
            return "0"
        return self.value or (self.options[0].value if self.options else "")

    @property
    def is_secret(self) -> bool:
        return self.widget == "password_field"

    def read(self, text: str) -> Any:
        """Validate what was typed. Returns a str, int, float, bool, or the result of `format`.

        Raises ValueError with the message to show beside the field.
        """
        if self.widget != "text_area":
            text = text.strip()
        if len(text) > MAX_LENGTH:
            raise ValueError(f"Use at most {MAX_LENGTH:,} characters.")
        if found := UNSEEN.search(text):
            raise ValueError(
                f"This contains an invisible character (U+{ord(found[0]):04X}). Delete the text "
                "and enter it again."
            )
        if self.widget == "check_box":
            return text == CHECKED
        if "\n" in text and self.widget != "text_area":
            raise ValueError("Use only one line.")
        if not text.strip():
            if self.widget == "select" and text not in (option.value for option in self.options):
                raise ValueError("Choose one of the options.")
            if self.required:
                raise ValueError("Fill in this field.")
            return FORMATS[self.format]("") if self.format else ""
        if self.widget == "number_field":
            return self._number(text)
        if self.options and text not in (option.value for option in self.options):
            raise ValueError("Choose one of the options.")
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            raise ValueError(self.title or "This value is not in the required format.")
        return FORMATS[self.format](text) if self.format else text

    def example(self) -> Any:
        """A value for checking templates: the field's initial value, or another that is valid."""
        given = self.options[0].value if self.options else f"{self.min or 1:g}"
        for text in (self.value or given, "registry.example/image:1.0", "A=b"):
            try:
                return self.read(text)
            except ValueError:
                continue
        return self.value

    def _number(self, text: str) -> int | float:
        if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", text, re.ASCII):
            raise ValueError("Enter a number, using digits.")
        number = Decimal(text)
        if self.min is not None and number < Decimal(str(self.min)):
            raise ValueError(f"Enter {self.min:g} or more.")
        if self.max is not None and number > Decimal(str(self.max)):
            raise ValueError(f"Enter {self.max:g} or less.")
        step = self.step or 1
        if (number - Decimal(str(self.min or 0))) % Decimal(str(step)):
            raise ValueError(
                "Enter a whole number." if step == 1 else f"Enter a number in steps of {step:g}."
            )
        return int(number) if number == int(number) else float(number)


def job_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `KNOWN_FIELDS` in a form as keys of submit.yml, which can replace them."""
    found = {
        "wall_time": int(float(values.get("bc_num_hours") or 0) * 3600),
        "cores": int(values.get("bc_num_slots") or 0),
        "accounting_id": values.get("bc_account"),
        "queue_name": values.get("bc_queue"),
        "email_on_started": values.get("bc_email_on_started"),
    }
    return {key: value for key, value in found.items() if value}
