"""Jinja2 templates in app definitions, where Open OnDemand uses ERB.

In `*.sh.j2`, and in templates without an ending such as `tool.j2`, each `{{ value }}` becomes one
shell word, in `*.yml.j2` one YAML scalar, so that a value cannot become code or structure. The
filter `expands_on_the_back_end` leaves text unquoted, so that the job's shell expands it.
"""

import json
import re
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mistune
from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
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
from ood.yaml_files import mistake_at


class _Expands(str):
    """Text that is rendered without quotes, so that the job's shell expands it."""


def _to_shell(value: Any) -> str:
    if isinstance(value, Undefined):
        return str(value)  # raises an error that names the variable
    return value if isinstance(value, _Expands) else shell_word(value)


def _to_yaml(value: Any) -> str:
    if isinstance(value, Undefined):
        return str(value)
    # JSON is valid YAML except for its escapes of emoji and for some unescaped characters.
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def words_file(words: list[str]) -> str:
    """The content of a file with one quoted shell word a line, as ces-run reads it."""
    return "".join(f"{shlex.quote(word)}\n" for word in words)


def lines_file(lines: list[str]) -> str:
    """The content of a file with these lines."""
    return "".join(f"{line}\n" for line in lines)


def image_name(image: str) -> str:
    """The image's own name: `hello-tre` for `registry/group/hello-tre:1.0`."""
    return re.split(r"[:@]", image.rpartition("/")[2])[0]


class _Environment(Environment):
    """Jinja2, but `context.copy` is the field of this name rather than a method of dictionaries."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def _search_path(directory: Path) -> list[Path]:
    """A template's directory and those above it, up to `app_defs/` with the shared templates."""
    paths = [directory, *directory.parents]
    of_app = (n for n, path in enumerate(paths) if (path / "manifest.yml").exists())
    return paths[: next(of_app, 1) + 2]


@cache
def _environment(directory: Path, kind: str) -> Environment:
    finalize = {"sh": _to_shell, "yml": _to_yaml}.get(kind)
    # In shell scripts `{#` is part of `${#name}`.
    comments = ("{%--", "--%}") if kind == "sh" else ("{#", "#}")
    environment = _Environment(
        comment_start_string=comments[0],
        comment_end_string=comments[1],
        loader=FileSystemLoader(_search_path(directory)),
        undefined=StrictUndefined,
        autoescape=kind == "html",  # the other kinds have `finalize`, or are markdown
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
    """Render `<name>.<kind>.j2`. Raises `ConfigError` for any mistake in the template."""
    try:
        return _environment(path.parent, _kind(path)).get_template(path.name).render(**values)
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error


def check_template(path: Path, known: Known | None = None) -> list[str]:
    """The mistakes in a template and in those that it includes, each with file and line. With
    `known`, unknown names are mistakes too."""
    environment = _environment(path.parent, _kind(path))
    found: list[tuple[int, str]] = []
    problems: list[str] = []
    try:
        text = path.read_text("utf-8")
        if _kind(path) == "sh":
            found += check_values(environment, text)
        tree = environment.parse(text)
        if known is not None:
            found += unknown_names(environment, tree, known)
            own = {name.name: None for name in tree.find_all(nodes.Name) if name.ctx == "store"}
            known = {**own, **known}
        assert environment.loader is not None
        for included, line in _included_by(tree):
            try:
                _, filename, _ = environment.loader.get_source(environment, included)
                problems += check_template(Path(filename or ""), known)
            except TemplateNotFound:
                what = f"cannot include {included or 'a template whose name is in a variable'}"
                found.append((line, what))
        environment.compile(tree)  # finds unknown filters
    except TemplateSyntaxError as error:
        found.append((error.lineno, error.message or ""))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(mistake_at(path, str(error)))
    return [*(mistake_at(path, what, line=line) for line, what in found), *problems]


def _included_by(tree: nodes.Template) -> list[tuple[str, int]]:
    """The templates that a template includes, each with its line. A name in a variable is empty."""
    return [
        (str(name.value) if isinstance(name, nodes.Const) else "", found.lineno)
        for found in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends))
        if (name := getattr(found, "template", None)) is not None
    ]


def _kind(path: Path) -> str:
    kind = Path(path.stem).suffix.removeprefix(".")
    return {"": "sh", "bash": "sh", "yaml": "yml"}.get(kind, kind)


_to_html = mistune.create_markdown(escape=True, plugins=["table", "strikethrough"])


def markdown(text: str) -> Markup:
    """The HTML of Markdown text. HTML in the text is escaped, and harmful links are removed."""
    return Markup(_to_html(text))  # noqa: S704 - mistune escapes the text
