"""Jinja2 for the files of an app, where Open OnDemand has ERB.

In `*.sh.j2` every `{{ value }}` comes out as one shell word, in `*.yml.j2` as one YAML scalar: a
value can become neither code nor structure. Text that must expand on the back-end says so with
the filter `expands_on_the_back_end`.
"""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import mistune
from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    Undefined,
    nodes,
)
from markupsafe import Markup

from ood.apps.names_check import Known, unknown_names
from ood.apps.shell_check import check_values
from ood.errors import ConfigError
from ood.quoting import shell_word
from ood.yaml_files import mistake


class _Expands(str):
    """Text for the back-end's shell to expand."""


def _to_shell(value: Any) -> str:
    if isinstance(value, Undefined):
        return str(value)  # raises, naming the variable
    return value if isinstance(value, _Expands) else shell_word(value)


def _to_yaml(value: Any) -> str:
    if isinstance(value, Undefined):
        return str(value)
    # JSON is YAML with every string quoted, but for how it escapes emoji, and some line ends.
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def words_file(words: list[str]) -> str:
    """The text of a file of shell words (as ces-run reads them), one a line."""
    return "".join(f"{shlex.quote(word)}\n" for word in words)


def lines_file(lines: list[str]) -> str:
    """The text of a file of lines."""
    return "".join(f"{line}\n" for line in lines)


def image_name(image: str) -> str:
    """The last part of an image's address: `hello-tre` of `registry/group/hello-tre:1.0`."""
    return re.split(r"[:@]", image.rpartition("/")[2])[0]


@cache
def _environment(directory: Path, kind: str) -> Environment:
    finalize = {"sh": _to_shell, "yml": _to_yaml}.get(kind)
    # `{#` stands in every `${#name}` of a shell script.
    comments = ("{%--", "--%}") if kind == "sh" else ("{#", "#}")
    environment = Environment(
        comment_start_string=comments[0],
        comment_end_string=comments[1],
        # An app's own directories, and that of all apps: what several need is written once there.
        loader=FileSystemLoader([directory, *directory.parents[:2]]),
        undefined=StrictUndefined,
        autoescape=kind == "html",  # noqa: S701 - the other kinds have `finalize`, or are markdown
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        expands_on_the_back_end=_Expands,
        words_file=words_file,
        lines_file=lines_file,
        image_name=image_name,
    )
    return environment


def render(path: Path, **values: Any) -> str:
    """Render `<name>.<kind>.j2`. Raises `ConfigError`: what goes wrong there is its author's."""
    try:
        return _environment(path.parent, _kind(path)).get_template(path.name).render(**values)
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error


def check(path: Path) -> list[str]:
    """What is wrong with a template whatever its values, and with those that it includes: a line
    for each mistake, naming file and line."""
    environment = _environment(path.parent, _kind(path))
    problems: list[str] = []
    try:
        text = path.read_text("utf-8")
        if _kind(path) == "sh":
            problems = [
                mistake(path, what, line=at) for at, what in check_values(environment, text)
            ]
        environment.get_template(path.name)
        for included, line in _included_by(environment.parse(text)):
            try:
                problems += check(Path(environment.get_template(included).filename or ""))
            except TemplateNotFound:
                what = f"there is no {included or 'file by a name only known later'} to include"
                problems.append(mistake(path, what, line=line))
    except TemplateSyntaxError as error:
        problems.append(mistake(path, error.message or "", line=error.lineno))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(mistake(path, str(error)))
    return problems


def check_names(path: Path, known: Known) -> list[str]:
    """The names in a template, and in those that it includes, that it will not be given: a line for
    each, naming file and line."""
    environment = _environment(path.parent, _kind(path))
    try:
        text = path.read_text("utf-8")
        tree = environment.parse(text)
        names = unknown_names(environment, text, known)
        problems = [mistake(path, what, line=line) for line, what in names]
        own = {name.name: None for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    except (TemplateError, OSError, UnicodeDecodeError):
        return []  # `check` tells
    for included, _ in _included_by(tree):
        try:
            filename = environment.get_template(included).filename or ""
        except TemplateError:
            continue
        problems += check_names(Path(filename), {**own, **known})
    return problems


def _included_by(tree: nodes.Template) -> list[tuple[str, int]]:
    """The templates that one includes, and in which line; empty for a name only known later."""
    return [
        (str(name.value) if isinstance(name, nodes.Const) else "", found.lineno)
        for found in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends))
        if (name := getattr(found, "template", None)) is not None
    ]


def _kind(path: Path) -> str:
    return path.name.split(".")[-2]


_to_html = mistune.create_markdown(escape=True, plugins=["table", "strikethrough"])


def markdown(text: str) -> Markup:
    """HTML of markdown; HTML within it is escaped, and links can only be links."""
    # The one place where HTML is made outside the templates: mistune escapes all that it is given.
    return Markup(_to_html(text))  # noqa: S704
