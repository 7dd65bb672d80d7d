"""The fields of a form, and what each accepts. All of it is checked here, on the server."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

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
CHECKED = "1"


def _options(given: Any) -> Any:
    """Open OnDemand writes options as `[label, value]` pairs, or as plain values."""
    if not isinstance(given, list):
        raise ValueError("options are a list")
    pairs = []
    for option in given:
        parts = option if isinstance(option, list) else [option]
        if not parts:
            raise ValueError("an option is empty")
        pairs.append((str(parts[0]), str(parts[1] if len(parts) > 1 else parts[0])))
    return tuple(pairs)


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
    widget: Widget = "text_field"
    label: str = ""
    help: str = ""
    value: Annotated[str, BeforeValidator(_as_text)] = ""
    min: float | None = None
    max: float | None = None
    step: float | None = None
    required: bool = False
    options: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_options)] = ()
    display: bool = False
    cacheable: bool = True
    hide_when_empty: bool = False
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
            if self.widget == "select" and text not in (value for _, value in self.options):
                raise ValueError("Choose one of the options.")
            if self.required:
                raise ValueError("Fill in this field.")
            return FORMATS[self.format]("") if self.format else ""
        if self.widget == "number_field":
            return self._number(text)
        if self.options and text not in (value for _, value in self.options):
            raise ValueError("Choose one of the options.")
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            raise ValueError(self.title or "This is not of the form that is wanted here.")
        return FORMATS[self.format](text) if self.format else text

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
