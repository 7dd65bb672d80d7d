"""Parsers for the text of fields that have a `format`.

Each takes what was typed, and returns the value for templates or raises ValueError with a message
for the user.
"""

import re
import shlex
from collections.abc import Callable
from typing import Any

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# The grammar of https://github.com/distribution/reference, which registries use. Upper case is
# allowed too, as the registry decides.
IMAGE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[A-Za-z0-9][A-Za-z0-9._-]*)+"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    re.ASCII,
)


def shell_words(text: str) -> list[str]:
    """Split the text into words as a shell does, with quotes, but without expanding anything, such
    as `$HOME` or `*`."""
    try:
        return shlex.split(text)
    except ValueError:
        raise ValueError(
            "A quote is not closed, or the text ends with a backslash. To use either as an "
            "ordinary character, put a backslash before it."
        ) from None


def environment(text: str) -> list[str]:
    """The lines `NAME=value` of the text. The value is the rest after the first `=`."""
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals:
            raise ValueError(f"Line {number} has no “=”. Write NAME=value.")
        if not VARIABLE.fullmatch(name):
            raise ValueError(
                f"Line {number}: “{name}” is not a valid variable name. Use letters, digits and "
                "_, and do not start with a digit."
            )
        lines.append(f"{name}={value}")
    return lines


def image(text: str) -> str:
    """The address of an image, `registry/path/name:tag`, with an optional port and digest."""
    if text.startswith(("http://", "https://", "docker://")):
        raise ValueError(
            f"Leave out “{text.partition('//')[0]}//”: start with the registry’s name, "
            "as in registry.example/group/image:1.0."
        )
    if not IMAGE.fullmatch(text):
        raise ValueError(
            "This is not a valid image URL. Enter it as registry.example/group/image:1.0."
        )
    return text


FORMATS: dict[str, Callable[[str], Any]] = {
    "shell_words": shell_words,
    "environment": environment,
    "image": image,
}
