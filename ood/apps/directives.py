"""Changes to fields that depend on other choices: Open OnDemand's `data-*` directives, and the
limits of the chosen back-end.

In the browser, portal.js applies them while the user fills in the form. This module applies them
again to the values that the browser sends, because a browser cannot be trusted.

    data-hide-FIELD: true                    hides the field; false shows one hidden by default
    data-min-FIELD, data-max-FIELD: NUMBER   with -for-OTHER-VALUE, only while OTHER has that value
    data-option-for-OTHER-VALUE: false       hides this option while OTHER has that value
    data-exclusive-option-for-OTHER-VALUE: true     hides it unless OTHER has such a value
    data-label-FIELD, data-help-FIELD: TEXT
    data-set-FIELD: VALUE                    sets the field, in the browser only

In names and values of fields, `-` stands for all characters except letters and digits. A hidden
field has its initial value, and that value's directives are in force.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ood.apps.fields import CHECKED, Field, Option, dashed
from ood.schedulers.limits import Limits

TARGETED = ("hide", "min", "max", "label", "help", "set")
OPTION_FOR = ("option-for", "exclusive-option-for")
SWITCH = re.compile("data-(.+)-when-(checked|un-?checked)")


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
    shown = {each.name: each.value for each in fields} | dict(typed)
    given = shown
    for _ in range(len(fields) + 1):  # until no field more is hidden or shown
        found = _changes(fields, given)
        hidden = {each.name: each.text_if_hidden for each in fields if found[each.name].hide}
        if given == shown | hidden:
            break
        given = shown | hidden
    return found


def _changes(fields: Sequence[Field], given: Mapping[str, str]) -> dict[str, Changes]:
    found = {each.name: Changes() for each in fields}
    hide: dict[str, set[str]] = {each.name: set() for each in fields}  # values of this directive
    names = {dashed(name): name for name in given}
    true = {f"{dashed(name)}-{dashed(value)}" for name, value in given.items()}  # conditions
    for each in fields:
        for option in each.options:
            if not _offered(option, names, true):
                found[each.name].without.add(option.value)
    for key, value in _in_force(fields, given):
        verb, target, condition = parse(key, names)
        change = found.get(names.get(target, ""))
        if change is None or (condition and condition not in true):
            continue
        number = _number(value)
        if verb == "hide":
            hide[names[target]].add(value)
        elif verb == "min" and number is not None:
            change.min = max(number, change.min if change.min is not None else number)
        elif verb == "max" and number is not None:
            change.max = min(number, change.max if change.max is not None else number)
        elif verb in ("label", "help"):
            setattr(change, verb, value)
    for each in fields:
        said = hide[each.name]
        found[each.name].hide = "true" in said or (each.hide_by_default and "false" not in said)
    return found


def parse(key: str, names: Collection[str]) -> tuple[str, str, str]:
    """The verb of a directive, the dashed name of its field, and a condition `OTHER-VALUE`. Each is
    empty if the directive has none that is known."""
    rest = key.removeprefix("data-")
    verb = next((each for each in (*TARGETED, *OPTION_FOR) if rest.startswith(f"{each}-")), "")
    rest = rest.removeprefix(f"{verb}-")
    if verb in OPTION_FOR:
        return verb, _start(rest, names, "-"), rest
    # For example `num-cores-for-cluster-ruby`, unless a field has this very name.
    target = rest if rest in names else _start(rest, names, "-for-")
    return verb, target, rest.removeprefix(target).removeprefix("-for-")


def _start(text: str, names: Collection[str], end: str) -> str:
    """The longest of the names that the text starts with, before `end`; empty if none."""
    return max((name for name in names if text.startswith(name + end)), key=len, default="")


def _offered(option: Option, names: Collection[str], true: Collection[str]) -> bool:
    needed: dict[str, bool] = {}  # whether another field has one of the values for this option
    for key, value in option.directives.items():
        verb, other, condition = parse(key, names)
        if verb == "option-for" and value == "false" and condition in true:
            return False
        if verb == "exclusive-option-for" and other:
            fits = value == "true" and condition in true
            needed[other] = needed.get(other, False) or fits
    return all(needed.values())


def _in_force(fields: Sequence[Field], given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The directives of the chosen options and of the check boxes, as (key, value)."""
    for each in fields:
        for option in each.options:
            if option.value == given[each.name]:
                yield from option.directives.items()
        for key, value in each.html_options.items():
            switch = SWITCH.fullmatch(key)
            if switch and (switch[2] == "checked") == (given[each.name] == CHECKED):
                yield f"data-{switch[1]}", value


def without_effect(fields: Sequence[Field], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """The field and the key of each directive that does nothing in a form of these `names`."""
    known = {*map(dashed, names)}
    for each in fields:
        keys = {key for option in each.options for key in option.directives}
        for key in sorted(keys) if each.widget in ("select", "radio") else ():
            verb, target, condition = parse(key, known)
            if not (verb and target) or (condition and not _start(condition, known, "-")):
                yield each.name, key
        for key in each.html_options:
            switch = SWITCH.fullmatch(key)
            verb, target, _ = parse(f"data-{switch[1]}" if switch else key, known)
            if each.widget != "check_box" or not switch or verb != "hide" or not target:
                yield each.name, key


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def value_if_hidden(hidden: Field) -> Any:
    """The value of a hidden field for templates."""
    free = hidden.model_copy(update={"required": False, "options": ()})
    return free.read(hidden.text_if_hidden)


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
