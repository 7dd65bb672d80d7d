"""Paths on hosts, in addresses of pages and out of them. Names hold any bytes but `/` and NUL."""

from __future__ import annotations

import posixpath
from urllib.parse import quote, urlencode

from flask import request, url_for

from ood.hosts.roles import PORTAL

MAX_NAME = 255  # bytes, on Linux
MAX_PATH = 4095


def as_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def files_address(host: str, path: str) -> str:
    """The address of a path in the File Manager; of the home directory when it is not absolute.

    An empty `host` is the portal host.
    """
    home = url_for("files.home", host=host or PORTAL)
    return home + quote(as_bytes(path)) if path.startswith("/") else home


def shell_address(host: str, path: str = "", job: str = "") -> str:
    """The address of a shell in a directory; in the home directory when it is not absolute.

    An empty `host` is the portal host. A back-end's is its log-in host or, with the id of one of
    the user's own jobs there, the host that this runs on for as long as it runs.
    """
    address = url_for("shell.home", host=host or PORTAL)
    if path.startswith("/"):
        address += quote(as_bytes(path))
    return f"{address}?{urlencode({'job': job})}" if job else address


def address_of(family: str, host: str, path: str) -> str:
    """The address at which one of the families of pages beside `files` has a directory."""
    return f"/{family}/{quote(host)}{quote(as_bytes(path))}"


def asked_path() -> str:
    """The path that is asked for, with surrogate escapes: Werkzeug has it without the bytes that
    are not UTF-8."""
    asked: bytes = request.environ["PATH_INFO"].encode("latin-1")
    _, _files, _host, path = asked.split(b"/", 3)
    return "/" + path.decode("utf-8", "surrogateescape")


def canonical(path: str) -> str:
    """An absolute path without `//`, `.` and `..`, and without a slash at its end.

    `..` is what stands before it in the path, as in a shell: who came by a link goes back there.
    """
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def is_possible(path: str) -> bool:
    """Whether a file of this path can be: hosts have no good words for one that cannot."""
    names = as_bytes(path).split(b"/")
    return "\0" not in path and len(as_bytes(path)) <= MAX_PATH and max(map(len, names)) <= MAX_NAME


def for_audit(path: str) -> str:
    """A path in which no byte is lost, and which every reader of JSON takes."""
    return as_bytes(path).decode("utf-8", "backslashreplace")


def crumbs(path: str) -> list[tuple[str, str]]:
    """A canonical path and all above it, from the root: (name, path)."""
    found = [("/", "/")]
    for name in path.split("/"):
        if name:
            found.append((name, posixpath.join(found[-1][1], name)))
    return found
