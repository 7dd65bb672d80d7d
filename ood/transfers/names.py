"""Names of unfinished uploads and transfers, and names that are not taken yet."""

import hashlib
import posixpath
from collections.abc import Container
from itertools import count

MAX_NAME = 255  # bytes, on Linux
PART = ".ood-upload"
STAGE = ".ood-transfer-"


def part_name(name: str, size: int, modified: int) -> str:
    """The name of an upload until it is complete. By this name alone, an upload continues when the
    user chooses the same file again."""
    identity = f"{name}\0{size}\0{modified}".encode("utf-8", "surrogateescape")
    tail = f".{hashlib.blake2b(identity, digest_size=8).hexdigest()}{PART}"
    return f".{_cut(name, MAX_NAME - len(tail) - 1)}{tail}"


def unfinished(name: str) -> str:
    """The final name of an unfinished upload, which may be shortened, or a description of an
    unfinished transfer; empty for any other name."""
    if name.startswith(".") and name.endswith(PART):
        return name[1 : -len(PART)].rpartition(".")[0]
    return "copied files" if name.startswith(STAGE) else ""


def free_name(name: str, taken: Container[str]) -> str:
    """`name`, or the first of `name (2)`, `name (3)` and so on that is not taken."""
    stem, ending = posixpath.splitext(name)
    if len(ending) > 16:  # a dot somewhere in a long name
        stem, ending = name, ""
    for number in count(1):
        tail = f" ({number}){ending}" if number > 1 else ending
        found = _cut(stem, MAX_NAME - len(tail.encode("utf-8", "surrogateescape"))) + tail
        if found not in taken:
            return found
    raise AssertionError


def _cut(name: str, size: int) -> str:
    """The start of a name, in at most `size` bytes and without cutting a character in two."""
    while len(name.encode("utf-8", "surrogateescape")) > size:
        name = name[:-1]
    return name
