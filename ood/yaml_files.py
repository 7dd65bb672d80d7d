"""YAML files of a site: reading them, and saying where in them a mistake is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ood.errors import ConfigError

Keys = Sequence[str | int]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping. Raises `ConfigError` naming the file and line."""
    try:
        text = path.read_text("utf-8")
        found = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(mistake(path, _words(error), line=_line(error.problem_mark))) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(mistake(path, " ".join(str(error).split()))) from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        what = f"holds a {type(found).__name__} where keys are expected"
        raise ConfigError(mistake(path, what))
    return found


def mistake(path: Path, what: str, keys: Keys = (), line: int | None = None) -> str:
    """One line that names the file, the line, the key and what is wrong with it. Without `line`
    it is that of the key, or of the key above where that is missing."""
    line = line or (_line_of(path, keys) if keys else None)
    where = f"line {line}: " if line else ""
    key = f"{'.'.join(map(str, keys))}: " if keys else ""
    return f"{path}: {where}{key}{what}"


def mistakes(path: Path, error: ValidationError, within: Keys = ()) -> str:
    """A line for each mistake that pydantic found in what stands below the keys `within`."""
    lines = []
    for found in error.errors():
        keys = (*within, *found["loc"])
        what = found["msg"].removeprefix("Value error, ")
        # What is wrong with two keys together names them.
        named = [] if keys else [name.split(".") for name in re.findall(r"`([\w.]+)", what)]
        line = next((line for name in named if (line := _line_of(path, name, whole=True))), None)
        lines.append(mistake(path, what, keys, line))
    return "\n".join(lines)


def given_twice(path: Path) -> Iterator[str]:
    """A line for each key of a YAML file that is given twice: only the last one counts."""
    open_: list[tuple[yaml.Node | None, tuple[str, ...]]] = [(_root(path), ())]
    while open_:
        node, keys = open_.pop()
        seen = set()
        for name, key, value in _children(node):
            open_.append((value, (*keys, name)))
            if isinstance(node, yaml.MappingNode) and name in seen:
                line = _line(key.start_mark)
                what = "is given twice, and only the last one counts"
                yield mistake(path, what, (*keys, name), line)
            seen.add(name)


def _line_of(path: Path, keys: Keys, *, whole: bool = False) -> int | None:
    """The line of the deepest of these keys that is there; with `whole`, of all of them or none."""
    line, node = None, _root(path)
    for wanted in keys:
        found = next((each for each in _children(node) if each[0] == str(wanted)), None)
        if found is None:
            return None if whole else line
        line, node = _line(found[1].start_mark), found[2]
    return line


def _root(path: Path) -> yaml.Node | None:
    """A file without its values: None where it cannot be read, or is no YAML."""
    try:
        return yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _children(node: yaml.Node | None) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """What stands in a node, as (name or number, node of the key, node of the value)."""
    if isinstance(node, yaml.MappingNode):
        return [(str(key.value), key, value) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(str(number), value, value) for number, value in enumerate(node.value)]
    return []


def _line(mark: yaml.Mark | None) -> int | None:
    return mark.line + 1 if mark is not None else None


def _words(error: yaml.MarkedYAMLError) -> str:
    said = ", ".join(part for part in (error.context, error.problem) if part)
    return f"this is not YAML ({said})"
