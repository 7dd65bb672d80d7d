"""The bytes of a file on their way to a browser: streamed, in parts, and never run there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from unicodedata import category
from urllib.parse import quote

from flask import Response, request

from ood.errors import FileFailed
from ood.hosts.base import NOT_SEEN, FileEntry, Files, Readable, as_utf8

NEVER_RUN = "sandbox; default-src 'none'"
"""Content-Security-Policy of what users' files hold: whatever it is, it is no portal page."""

OCTETS = "application/octet-stream"
CHUNK = 256 * 1024  # bytes
PDF = "application/pdf"
MAGIC = 12  # bytes that tell what a browser shows
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def shown_type(head: bytes) -> str:
    """The type of what browsers show by themselves, images and PDF, by its first bytes; empty for
    anything else."""
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
    """A regular file, or the part of it that the request asks for. What browsers do not show by
    themselves is always an attachment. The caller has made sure that it is a regular file: opening
    a pipe would wait."""
    etag = f'"{entry.size:x}-{entry.modified:.6f}"'
    asked = request.headers.get("Range", "")
    if request.headers.get("If-Range") not in (None, etag):
        asked = ""  # the file has changed: the parts would not fit together
    whole = range(entry.size)
    part = _part(asked, whole)
    if part is None:
        response = Response(status=416, content_type=OCTETS)
        response.headers["Content-Range"] = f"bytes */{entry.size}"
    else:
        file = files.stream(path, part.start)
        response = Response(_chunks(file, len(part)), content_type=content_type)
        response.call_on_close(file.close)  # also when nobody asked for the first chunk
        response.headers["Content-Length"] = str(len(part))
        if part is not whole:
            response.status_code = 206
            response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{entry.size}"
    kind = "attachment" if content_type == OCTETS else "inline"
    response.headers["Content-Disposition"] = f"{kind}; {_file_name(path.rpartition('/')[2])}"
    response.headers["Content-Security-Policy"] = NEVER_RUN
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = etag
    return response


def _part(asked: str, whole: range) -> range | None:
    """The bytes that a Range header asks for; `whole` itself for none, for one that makes no sense
    and for several parts, as HTTP allows. None when the file has none of them."""
    found = RANGE.fullmatch(asked.strip())
    if found is None or not any(found.groups()):
        return whole
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return whole
    if not first:  # so many from the end
        part = whole[-int(last) :] if int(last) else None
    else:
        part = whole[int(first) : int(last) + 1] if last else whole[int(first) :]
    return part or None


def _chunks(file: Readable, left: int) -> Iterator[bytes]:
    while left > 0:
        data = file.read(min(left, CHUNK))
        if not data:  # to end as if all was well would leave the browser waiting for the rest
            raise FileFailed("The file became shorter while it was sent.")
        left -= len(data)
        yield data


def attachment(name: str) -> str:
    """The Content-Disposition of what is to be saved under a name."""
    return f"attachment; {_file_name(name)}"


def _file_name(name: str) -> str:
    """The name to save as (RFC 6266), without what cannot be seen and would hide what it is."""
    name = "".join(
        "_" if category(character) in NOT_SEEN else character for character in as_utf8(name)
    )
    plain = "".join(
        character if " " <= character <= "~" and character not in '"\\%' else "_"
        for character in name
    )
    return f"filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
