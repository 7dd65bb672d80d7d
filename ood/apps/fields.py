"""The fields of a form, and what each accepts. All of it is checked here, on the server."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from ood.apps.formats import FORMATS

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
DIRECTIVE = re.compile(r"data-[a-z0-9]+(-[a-z0-9]+)+")
CHECKED = "1"


class Option(NamedTuple):
    """What a select or radio offers. `directives` are what choosing it does to other fields, by
    Open OnDemand's names (see `directives.py`)."""

    label: str
    value: str
    directives: Mapping[str, str] = {}


def _options(given: Any) -> Any:
    """Open OnDemand writes options as plain values, or as lists: label, value, and then any number
    of `data-…: value`."""
    if not isinstance(given, list):
        raise ValueError("options are a list")
    options = []
    for option in given:
        parts = option if isinstance(option, list) else [option]
        plain = [part for part in parts if not isinstance(part, dict)]
        if not plain:
            raise ValueError("an option is empty")
        given_too = [part for part in parts if isinstance(part, dict)]
        label, value = str(plain[0]), str(plain[min(len(plain), 2) - 1])
        options.append(Option(label, value, _directives(dict(ChainMap(*reversed(given_too))))))
    return tuple(options)


def _directives(given: Any) -> Any:
    if not isinstance(given, dict):
        raise ValueError("keys like `data-hide-gpu` are expected")
    for key in given:
        if not DIRECTIVE.fullmatch(str(key)):
            raise ValueError(f"`{key}` is no directive: they are like `data-hide-gpu`")
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in given.items()
    }


def _html_options(given: Any) -> Any:
    """Open OnDemand's `html_options`, of which the directives of a check box are below `data`."""
    data = given.get("data") if isinstance(given, dict) else None
    return _directives({f"data-{key}": value for key, value in (data or {}).items()})


def _as_text(given: Any) -> Any:
    """YAML reads `value: 4` and `value: true` as other things than the text a form holds."""
    if isinstance(given, bool):
        return CHECKED if given else "0"
    return "" if given is None else str(given)


class Field(BaseModel):
    """One attribute of form.yml, with Open OnDemand's keys.

    `format` is ours: how a text's value is read (see `formats.py`). The values of a
    `password_field` are secrets: never cached, never in a page, never in a file that stays.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    widget: Annotated[
        Widget, BeforeValidator(lambda value: "radio" if value == "radio_button" else value)
    ] = "text_field"
    label: str = ""
    help: str = ""
    value: Annotated[str, BeforeValidator(_as_text)] = ""
    min: float | None = None
    max: float | None = None
    step: float | None = None
    required: bool = False
    options: Annotated[tuple[Option, ...], BeforeValidator(_options)] = ()
    html_options: Annotated[Mapping[str, str], BeforeValidator(_html_options)] = {}
    """Directives of a check box."""
    display: bool = False
    """Whether the card shows the value itself, beside the time and the host."""
    cacheable: bool = True
    hide_when_empty: bool = False
    """With `display`: whether the card leaves it out when it is empty."""
    fixed: bool = False
    """The value is the app's or the site's: it is not in the form, and what is sent for it is
    ignored."""
    pattern: str | None = None
    title: str = ""
    """What the pattern wants, as one sentence: shown when a value does not match it."""
    format: Literal["shell_words", "environment", "image"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Field:
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"the `pattern` is none: {error}") from None
        if self.widget in ("select", "radio") and not self.options:
            raise ValueError("a select or radio needs `options`")
        return self

    @property
    def is_secret(self) -> bool:
        return self.widget == "password_field"

    def read(self, text: str) -> Any:
        """Return the value of what was typed: a str, int, bool, or what `format` makes.

        Raises ValueError with the one sentence to show beside the field.
        """
        if self.widget != "text_area":
            text = text.strip()
        if len(text) > MAX_LENGTH:
            raise ValueError(f"Use at most {MAX_LENGTH:,} characters.")
        if found := UNSEEN.search(text):
            raise ValueError(
                f"There is a character here that cannot be seen (U+{ord(found[0]):04X}). "
                "Remove it; typing the value again helps."
            )
        if self.widget == "check_box":
            return text == CHECKED
        if "\n" in text and self.widget != "text_area":
            raise ValueError("Use one line.")
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
            raise ValueError(self.title or "This is not of the form that is wanted here.")
        return FORMATS[self.format](text) if self.format else text

    def example(self) -> Any:
        """A value of the kind that templates get: the field's own, or one that it would accept."""
        given = self.options[0].value if self.options else f"{self.min or 1:g}"
        for text in (self.value or given, "registry.example/image:1.0", "A=b"):
            try:
                return self.read(text)
            except ValueError:
                continue
        return self.value

    def _number(self, text: str) -> int | float:
        if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", text, re.ASCII):
            raise ValueError("Type a number, in digits.")
        number = Decimal(text)
        if self.min is not None and number < Decimal(str(self.min)):
            raise ValueError(f"Type {self.min:g} or more.")
        if self.max is not None and number > Decimal(str(self.max)):
            raise ValueError(f"Type {self.max:g} or less.")
        step = self.step or 1
        if (number - Decimal(str(self.min or 0))) % Decimal(str(step)):
            raise ValueError(
                "Type a whole number." if step == 1 else f"Type a number in steps of {step:g}."
            )
        return int(number) if number == int(number) else float(number)
