"""Reading a site's YAML files, and naming the file, line and key of each mistake in them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ood.errors import ConfigError

Keys = Sequence[str | int]
"""The keys and list positions from the top of a file down to a value."""
Model = TypeVar("Model", bound=BaseModel)


def _as_text(given: Any) -> Any:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return str(given) if is_number else given


Text = Annotated[str, BeforeValidator(_as_text)]
"""Text that YAML may have parsed as a number."""


class Settings(BaseModel):
    """Settings with the portal's own keys. An unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SharedSettings(BaseModel):
    """Settings with Open OnDemand's keys. The portal ignores unknown keys."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping, empty for an empty file. Raises `ConfigError`."""
    try:
        return parse_yaml(path.read_text("utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', error)}") from error


def parse_yaml(text: str, path: Path) -> dict[str, Any]:
    """Parse a YAML mapping that `path` contains or produces. Raises `ConfigError`."""
    try:
        found = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        what = ", ".join(part for part in (error.context, error.problem) if part)
        line = _line(error.problem_mark)
        raise ConfigError(mistake_at(path, f"not valid YAML ({what})", line=line)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f"{path}: expected keys and values, not {type(found).__name__}")
    return found or {}


def without_empty(found: Any) -> Any:
    """The same values without empty keys, as Open OnDemand reads its files. An empty `acls` stays,
    and is a mistake: it may have lost the rules that keep somebody out."""
    if isinstance(found, dict):
        given = {key: each for key, each in found.items() if each is not None or key == "acls"}
        return {key: without_empty(each) for key, each in given.items()}
    return [*map(without_empty, found)] if isinstance(found, list) else found


def validated(model: type[Model], found: Any, path: Path, within: Keys = ()) -> Model:
    """The settings in `found`, which the file has below the keys `within`. Raises `ConfigError`
    with a line for each mistake."""
    try:
        return model.model_validate(found)
    except ValidationError as error:
        mistakes = error.errors()
    lines = []
    for each in mistakes:
        keys = (*within, *each["loc"])
        what = each["msg"].removeprefix("Value error, ")
        # A message about several keys names them in backticks. Use the first one in the file.
        named = [] if keys else [name.split(".") for name in re.findall(r"`([\w.]+)", what)]
        found_at = (_line_of(path, name, exact=True) for name in named)
        lines.append(mistake_at(path, what, keys, next(filter(None, found_at), None)))
    raise ConfigError("\n".join(lines))


def mistake_at(path: Path, what: str, keys: Keys = (), line: int | None = None) -> str:
    """A description of a mistake that starts with the file, the line and the key. `line` defaults
    to that of the deepest of the keys that exists."""
    line = line or (_line_of(path, keys) if keys else None)
    where = f"line {line}: " if line else ""
    key = f"{'.'.join(map(str, keys))}: " if keys else ""
    return f"{path}: {where}{key}{what}"


def given_twice(path: Path) -> Iterator[str]:
    """A message for each key that a mapping in a YAML file contains more than once."""
    unread: list[tuple[yaml.Node | None, tuple[str, ...]]] = [(_root(path), ())]
    while unread:
        node, keys = unread.pop()
        seen = set()
        for name, key, value in _children(node):
            unread.append((value, (*keys, name)))
            if isinstance(node, yaml.MappingNode) and name in seen:
                what = "this key appears twice, and only the last one is used"
                yield mistake_at(path, what, (*keys, name), _line(key.start_mark))
            seen.add(name)


def _line_of(path: Path, keys: Keys, *, exact: bool = False) -> int | None:
    """The line of the deepest of these keys that exists or, with `exact`, of the last key only."""
    line, node = None, _root(path)
    for wanted in keys:
        found = next((each for each in _children(node) if each[0] == str(wanted)), None)
        if found is None:
            return None if exact else line
        line, node = _line(found[1].start_mark), found[2]
    return line


def _root(path: Path) -> yaml.Node | None:
    """The file's syntax tree, which has line numbers; None if the file is not readable YAML."""
    try:
        text = re.sub(r"\{%.*?%\}", "", path.read_text("utf-8"))  # of templates
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _children(node: yaml.Node | None) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """The entries of a mapping or list, each as (key or position, key's node, value's node)."""
    if isinstance(node, yaml.MappingNode):
        return [(str(key.value), key, value) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(str(number), value, value) for number, value in enumerate(node.value)]
    return []


def _line(mark: yaml.Mark | None) -> int | None:
    return mark.line + 1 if mark is not None else None
