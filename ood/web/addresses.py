"""Addresses of pages for paths on hosts, and paths from addresses. Names can contain any bytes
except `/` and NUL."""

import posixpath
from urllib.parse import quote, urlencode

from flask import request, url_for
from werkzeug.routing import PathConverter

from ood.hosts.roles import PORTAL

MAX_NAME = 255  # bytes, on Linux
MAX_PATH = 4095


class Rest(PathConverter):
    """The rest of an address, `<rest:...>` in rules. It may contain `//` and newlines."""

    regex = r"[\s\S]+?"
    part_isolating = False


def as_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def files_address(host: str, path: str) -> str:
    """The address of a path in the File Manager; of the home directory if it is not absolute. An
    empty `host` is the portal host."""
    home = url_for("files.home", host=host or PORTAL)
    return home + quote(as_bytes(path)) if path.startswith("/") else home


def shell_address(host: str, path: str = "", job: str = "") -> str:
    """The address of a shell in a directory; in the home directory if that is not absolute. An
    empty `host` is the portal host. On a cluster, the shell is on the log-in host or, with the ID
    of a running job, on that job's host."""
    address = url_for("shell.home", host=host or PORTAL)
    if path.startswith("/"):
        address += quote(as_bytes(path))
    return f"{address}?{urlencode({'job': job})}" if job else address


def directory_address(family: str, host: str, path: str) -> str:
    """The address of a directory in a family of pages other than `files`."""
    return f"/{family}/{quote(host)}{quote(as_bytes(path))}"


def same_query() -> str:
    """The query string of this request, with its `?`; empty if it has none."""
    query = request.query_string.decode("latin-1")
    return f"?{query}" if query else ""


def asked_path() -> str:
    """The path in this request's address, with surrogate escapes. (Werkzeug drops bytes that are
    not UTF-8.)"""
    asked: bytes = request.environ["PATH_INFO"].encode("latin-1")
    _, _files, _host, path = asked.split(b"/", 3)
    return "/" + path.decode("utf-8", "surrogateescape")


def canonical(path: str) -> str:
    """An absolute path without `//`, `.`, `..` and a slash at its end. `..` removes the name before
    it, even if that is a link, as in a shell."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def is_possible(path: str) -> bool:
    """Whether a file can have this path. (For others, the errors of hosts are unhelpful.)"""
    data = as_bytes(path)
    longest_name = max(map(len, data.split(b"/")))
    return b"\0" not in data and len(data) <= MAX_PATH and longest_name <= MAX_NAME


def for_audit(path: str) -> str:
    """A path for JSON, with escapes for bytes that are not UTF-8."""
    return as_bytes(path).decode("utf-8", "backslashreplace")


def crumbs(path: str) -> list[tuple[str, str]]:
    """A canonical path and its parents, from the root: (name, path)."""
    found = [("/", "/")]
    for name in path.split("/"):
        if name:
            found.append((name, posixpath.join(found[-1][1], name)))
    return found
