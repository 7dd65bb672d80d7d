"""Sends files to browsers: streamed, with byte ranges, and never as pages that browsers run."""

import re
from collections.abc import Iterator
from unicodedata import category
from urllib.parse import quote

from flask import Response, request

from ood.errors import FileFailed
from ood.hosts.base import NOT_SEEN, FileEntry, Files, Readable, as_utf8

NEVER_RUN = "sandbox; default-src 'none'"
"""Content-Security-Policy for users' files, which must not act as pages of the portal."""

OCTETS = "application/octet-stream"
CHUNK = 256 * 1024  # bytes
PDF = "application/pdf"
MAGIC = 12  # bytes at the start of a file, which show its type
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def shown_type(head: bytes) -> str:
    """The type of an image or PDF, by its first bytes; empty for all other files."""
    if head.startswith(b"%PDF-"):
        return PDF
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return ""


def send(files: Files, path: str, entry: FileEntry, content_type: str = OCTETS) -> Response:
    """A regular file, or the byte range that the request asks for; an attachment unless it has a
    `content_type`. (Opening a pipe would wait for a writer.)"""
    etag = f'"{entry.size:x}-{entry.modified:.6f}"'
    wanted = request.headers.get("Range", "")
    if request.headers.get("If-Range") not in (None, etag):
        wanted = ""  # the file has changed, so its parts would not fit together
    full = range(entry.size)
    part = _part(wanted, full)
    if part is None:
        response = Response(status=416, content_type=OCTETS)
        response.headers["Content-Range"] = f"bytes */{entry.size}"
    else:
        file = files.stream(path, part.start)
        response = Response(_chunks(file, len(part)), content_type=content_type)
        response.call_on_close(file.close)  # even when no chunk was read
        response.headers["Content-Length"] = str(len(part))
        if part is not full:
            response.status_code = 206
            response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{entry.size}"
    kind = "attachment" if content_type == OCTETS else "inline"
    response.headers["Content-Disposition"] = disposition(kind, path.rpartition("/")[2])
    response.headers["Content-Security-Policy"] = NEVER_RUN
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = etag
    return response


def _part(wanted: str, full: range) -> range | None:
    """The bytes that a Range header asks for; None if the file has none of them. `full` if there is
    no header, or if it is invalid or asks for several parts, as HTTP allows."""
    found = RANGE.fullmatch(wanted.strip())
    if found is None or not any(found.groups()):
        return full
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return full
    if not first:  # the last bytes
        part = full[-int(last) :] if int(last) else None
    else:
        part = full[int(first) : int(last) + 1] if last else full[int(first) :]
    return part or None


def _chunks(file: Readable, left: int) -> Iterator[bytes]:
    while left > 0:
        data = file.read(min(left, CHUNK))
        if not data:  # the browser would wait for the rest
            raise FileFailed("The file was shortened during the download.")
        left -= len(data)
        yield data


def disposition(kind: str, name: str) -> str:
    """The Content-Disposition with a file's name (RFC 6266). It replaces invisible characters,
    which could disguise the file's type."""
    name = "".join(
        "_" if category(character) in NOT_SEEN else character for character in as_utf8(name)
    )
    plain = "".join(
        character if " " <= character <= "~" and character not in '"\\%' else "_"
        for character in name
    )
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
