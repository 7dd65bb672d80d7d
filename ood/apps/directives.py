"""Changes to fields that depend on other choices: Open OnDemand's `data-*` directives, and the
limits of the chosen back-end.

In the browser, portal.js applies them while the user fills in the form. This module applies them
again to the values that the browser sends, because a browser cannot be trusted.

    data-hide-FIELD: true                    hides the field
    data-min-FIELD, data-max-FIELD: NUMBER   with -for-OTHER-VALUE, only while OTHER has that value
    data-option-for-OTHER-VALUE: false       hides this option while OTHER has that value
    data-label-FIELD, data-help-FIELD: TEXT
    data-set-FIELD: VALUE                    sets the field, in the browser only

In names and values of fields, `-` stands for all characters except letters and digits.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ood.apps.fields import CHECKED, Field
from ood.schedulers.limits import Limits


def dashed(text: str) -> str:
    """A field's name or value as it appears in directives."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclass
class Changes:
    """How the current choices change one field."""

    hide: bool = False
    min: float | None = None
    max: float | None = None
    label: str = ""
    help: str = ""
    without: set[str] = field(default_factory=set)  # values of hidden options

    def applied(self, to: Field) -> Field:
        """The field with these changes, for validating its value."""
        lows = [low for low in (to.min, self.min) if low is not None]
        highs = [high for high in (to.max, self.max) if high is not None]
        return to.model_copy(
            update={
                "min": max(lows, default=None),
                "max": min(highs, default=None),
                "options": tuple(each for each in to.options if each.value not in self.without),
            }
        )


def changes(fields: Sequence[Field], typed: Mapping[str, str]) -> dict[str, Changes]:
    """How each field changes with the values in `typed`, by field, which include the cluster."""
    found = {each.name: Changes() for each in fields}
    names = {dashed(each.name): each.name for each in fields}
    true = {f"{dashed(name)}-{dashed(value)}" for name, value in typed.items()}  # conditions
    for each in fields:
        for option in each.options:
            for key, value in option.directives.items():
                condition = key.removeprefix("data-option-for-")
                if condition != key and value == "false" and condition in true:
                    found[each.name].without.add(option.value)
    for key, value in _in_force(fields, typed):
        verb, _, rest = key.removeprefix("data-").partition("-")
        # For example `num-cores-for-cluster-ruby`, unless a field has this very name.
        target, _, condition = (rest, "", "") if rest in names else rest.partition("-for-")
        change = found.get(names.get(target, ""))
        if change is None or (condition and condition not in true):
            continue
        if verb == "hide" and value == "true":
            change.hide = True
        elif verb in ("min", "max") and (number := _number(value)) is not None:
            setattr(change, verb, number)
        elif verb in ("label", "help"):
            setattr(change, verb, value)
    return found


def _in_force(fields: Sequence[Field], typed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The directives of the chosen options and of the check boxes, as (key, value)."""
    for each in fields:
        text = typed.get(each.name, each.value)
        for option in each.options:
            if option.value == text:
                yield from option.directives.items()
        for key, value in each.html_options.items():
            what, _, when = key.rpartition("-when-")
            now = ("checked",) if text == CHECKED else ("unchecked", "un-checked")
            if value == "true" and when in now:
                yield what, value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def value_if_hidden(hidden: Field) -> Any:
    """The value of a hidden field: False for a check box, else the field's initial value."""
    if hidden.widget == "check_box":
        return False
    free = hidden.model_copy(update={"required": False, "options": ()})
    return free.read(hidden.value or (hidden.options[0].value if hidden.options else ""))


def limit_directives(field: Field, limits: Limits) -> dict[str, str]:
    """How a back-end's limits change a field, as values for the directives `label`, `max` and
    `hide`; empty for most fields."""
    if field.name == "gpu":
        return {"hide": "false" if limits.gpus else "true"}
    if field.name not in ("cores", "memory"):
        return {}
    its = limits.cores if field.name == "cores" else limits.memory_gib
    known = [limit for limit in (its, field.max) if limit is not None]
    if not known:
        return {"label": field.label, "max": ""}
    most = f"{min(known):.15g}"
    unit = " GiB" if field.name == "memory" else ""
    return {"label": f"{field.label} (max {most}{unit})", "max": most}
