"""What a site makes its own in the looks of the portal: colours, and what it announces.

Parts of portal.yml. Colours are checked at the start: text in them, or on them, can be read in
either theme (WCAG 2.2 AA, contrast of at least 4.5).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

LEAST_CONTRAST = 4.5
WORST_GROUND = {"light": "#e4f0f9", "dark": "#14303f"}
"""Of all that portal.css puts below text, what is nearest to the colour of text in that theme."""

Colour = Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")]


def luminance(colour: str) -> float:
    """Relative luminance, from 0 (black) to 1 (white): WCAG 2.2's own formula."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1 (none) to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def text_on(colour: str) -> str:
    """Black or white, whichever is easier to read there; either way it is at least 4.58."""
    return max(("#000000", "#ffffff"), key=lambda text: contrast(colour, text))


class Colours(BaseModel):
    """`colours` of portal.yml: of the bar at the top, and of links and buttons."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bar: Colour | None = None
    bar_dark: Colour | None = None
    """In the dark theme; without it, `bar`."""
    accent: Colour | None = None
    accent_dark: Colour | None = None

    @model_validator(mode="after")
    def _can_be_read(self) -> Colours:
        if (self.accent is None) != (self.accent_dark is None):
            raise ValueError("`accent` and `accent_dark` go together: links stand on both grounds")
        if self.bar is None and self.bar_dark is not None:
            raise ValueError("`bar_dark` needs `bar`")
        for key, theme in (("accent", "light"), ("accent_dark", "dark")):
            colour = getattr(self, key)
            found = contrast(colour, WORST_GROUND[theme]) if colour else LEAST_CONTRAST
            if found < LEAST_CONTRAST:
                other = "darker" if theme == "light" else "lighter"
                raise ValueError(
                    f"`{key}`: {colour} has a contrast of {found:.1f} in the {theme} theme, where "
                    f"{LEAST_CONTRAST} is needed: choose a {other} one"
                )
        return self

    def style_sheet(self) -> str:
        """The variables of portal.css that are the site's; empty when it has none."""
        pairs = {
            "bar": (self.bar, self.bar_dark or self.bar),
            "accent": (self.accent, self.accent_dark),
        }
        lines = []
        for name, (light, dark) in pairs.items():
            if light and dark:
                lines.append(f"--{name}: light-dark({light}, {dark});")
                lines.append(f"--on-{name}: light-dark({text_on(light)}, {text_on(dark)});")
        return f":root {{ {' '.join(lines)} }}\n" if lines else ""


def _with_zone(when: datetime) -> datetime:
    return when.astimezone() if when.tzinfo is None else when


When = Annotated[datetime, AfterValidator(_with_zone)]


class Announcement(BaseModel):
    """One of `announcements` of portal.yml. Times without a zone are in the portal machine's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: Annotated[str, Field(min_length=1)]
    """Markdown."""
    level: Literal["info", "warning", "danger"] = "info"
    since: When | None = Field(default=None, alias="from")
    until: When | None = None

    def is_on(self, now: datetime) -> bool:
        return (self.since is None or self.since <= now) and (
            self.until is None or now < self.until
        )
