"""The only module that puts values into shell text."""

import re
import shlex
from collections.abc import Mapping, Sequence

_PLAIN = re.compile(rb"[A-Za-z0-9_@%+=:,./-]+", re.ASCII)


def shell_word(value: object) -> str:
    """Return `value` as one bash word, for scripts.

    Stricter than `shlex.quote`: every byte except letters, digits and a few harmless signs becomes
    an octal escape in ANSI-C quotes (`$'two\\040words'`). Inside quotes, a comment or a
    here-document of a template, the value may be wrong, but it is never run as code: it has no
    `$(`, backtick, space or newline.

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
    """Return `argv` as a POSIX shell command, because SSH accepts only a string."""
    if any("\0" in part for part in argv):
        raise ValueError("an argument cannot hold a NUL")
    words = list(argv)
    if env:
        words = ["env", *(f"{name}={value}" for name, value in env.items()), *words]
    line = shlex.join(words)
    return f"cd {shlex.quote(cwd)} && exec {line}" if cwd else f"exec {line}"
