"""The settings `colours` and `announcements` of portal.yml. `web/theme.py` serves them to browsers.

A colour is refused if text on it, or text of this colour, would be hard to read in either theme:
WCAG 2.2 AA demands a contrast of at least 4.5.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ood.yaml_files import Settings

LEAST_CONTRAST = 4.5
WORST_GROUND = {"light": "#e4f0f9", "dark": "#14303f"}
"""For each theme, the background in portal.css with the least contrast to text."""

Colour = Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")]


def luminance(colour: str) -> float:
    """Relative luminance as in WCAG 2.2, from 0 (black) to 1 (white)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def text_on(colour: str) -> str:
    """Black or white, whichever has more contrast, which is at least 4.58."""
    return max(("#000000", "#ffffff"), key=lambda text: contrast(colour, text))


class Colours(Settings):
    """`colours` of portal.yml, for the bar at the top and for links and buttons."""

    bar: Colour | None = None
    bar_dark: Colour | None = None
    """The bar in the dark theme; defaults to `bar`."""
    accent: Colour | None = None
    accent_dark: Colour | None = None

    @model_validator(mode="after")
    def _can_be_read(self) -> Colours:
        if (self.accent is None) != (self.accent_dark is None):
            raise ValueError(
                "set both `accent` and `accent_dark`, or neither, as both themes have links"
            )
        if self.bar is None and self.bar_dark is not None:
            raise ValueError("`bar_dark` needs `bar`")
        for key, theme in (("accent", "light"), ("accent_dark", "dark")):
            colour = getattr(self, key)
            found = contrast(colour, WORST_GROUND[theme]) if colour else LEAST_CONTRAST
            if found < LEAST_CONTRAST:
                other = "darker" if theme == "light" else "lighter"
                raise ValueError(
                    f"`{key}`: {colour} has a contrast of {found:.1f} in the {theme} theme, but it "
                    f"needs {LEAST_CONTRAST}: choose a {other} colour"
                )
        return self

    def style_sheet(self) -> str:
        """CSS with the site's values for variables of portal.css; empty if it sets none."""
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


When = Annotated[datetime, AfterValidator(lambda when: when if when.tzinfo else when.astimezone())]


class Announcement(Settings):
    """An item of `announcements` in portal.yml. Times default to the portal machine's time zone."""

    text: Annotated[str, Field(min_length=1)]
    """Markdown."""
    level: Literal["info", "warning", "danger"] = "info"
    since: When | None = Field(default=None, alias="from")
    until: When | None = None

    def is_on(self, now: datetime) -> bool:
        began = self.since is None or self.since <= now
        return began and (self.until is None or now < self.until)
