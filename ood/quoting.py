"""The one place where values become shell text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

_PLAIN = re.compile(rb"[A-Za-z0-9_@%+=:,./-]+", re.ASCII)


def shell_word(value: object) -> str:
    """Return `value` as one bash word, for scripts.

    Stricter than `shlex.quote`: every byte but letters, digits and a few harmless signs is written
    as an octal escape in ANSI-C quotes (`$'two\\040words'`). Even where a template's author put the
    value inside quotes, a comment or a here-document, the text has no `$(`, backtick, space or
    newline in it, so it can come out wrong there, but not as code.

    Raises ValueError for a NUL, which no shell word can hold.
    """
    data = str(value).encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ValueError("a shell word cannot hold a NUL")
    if not data:
        return "''"
    if _PLAIN.fullmatch(data):
        return data.decode("ascii")
    parts = (chr(byte) if _PLAIN.match(bytes([byte])) else f"\\{byte:03o}" for byte in data)
    return f"$'{''.join(parts)}'"


def command_line(
    argv: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | None = None
) -> str:
    """Return one POSIX shell command for `argv`, for hosts that take nothing but a string (SSH)."""
    if any("\0" in part for part in argv):
        raise ValueError("an argument cannot hold a NUL")
    words = list(argv)
    if env:
        words = ["env", *(f"{name}={value}" for name, value in env.items()), *words]
    line = shlex.join(words)
    return f"cd {shlex.quote(cwd)} && exec {line}" if cwd else f"exec {line}"
