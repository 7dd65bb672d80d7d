"""The File Manager on the embedded default: a home directory with all that names and files can be.

What permissions refuse is not here: these tests may run as root, whom nothing is refused.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect
from werkzeug.test import TestResponse

from app import create_app
from ood.config import EMBEDDED, PortalSettings, load_settings
from ood.errors import HostUnreachable
from ood.hosts.base import FileEntry, Host, shown
from ood.hosts.local import LocalHost
from ood.hosts.roles import HostRoles, files_host_id
from ood.web.addresses import canonical, crumbs, files_address, is_possible
from ood.web.files.downloads import PDF, shown_type
from ood.web.files.listing import PAGE_SIZE, FileRow, Kind, when
from ood.web.filters import size
from tests.conftest import SCREENSHOTS, RunningPortal
from tests.researcher import Researcher, accessible, looks
from tests.test_web import ID, RECORD, Browser, Page, context, db

SCRIPT = "<script>alert(1)</script>"
NEVER_RUN = "sandbox; default-src 'none'"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
NAMES = (
    b"plain.txt",
    b"two  spaces",
    b" leads and trails ",
    b" ",
    b"x ",
    b"*",
    b"quote\"and'quote",
    b"line\nend",
    b"tab\tand\rreturn",
    b"bytes \xff\xfe",
    b"half \xc3",
    b"-rf",
    b"--help",
    b"~",
    b"...",
    b"%2e%2e",
    b"%41%",
    b"a?b=c&d#e;f",
    b"a+b",
    b"a:b@c",
    b"back\\slash",
    b"<script>alert(1)<",
    b"{{ 7*7 }}",
    b"$(touch pwned)",
    "héllo 🚀 ≤".encode(),
    "שלום".encode(),
    "a\u202egnp.exe".encode(),
    b"x" * 255,
    "é".encode() * 127,
)


class Visitor(Browser):
    """A browser that sends the bytes of an address as they are. (Flask's client loses some.)"""

    def opens(self, path: str, method: str = "GET", **given: Any) -> TestResponse:
        return super().opens(path, method, **_exactly(path), **given)

    def fetches(self, path: str, method: str = "GET", **headers: str) -> TestResponse:
        """What a download answers, which is no page of the portal."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.client.open(path, method=method, headers=named, **_exactly(path))
        answer.get_data()
        answer.close()
        return answer

    def rows(self, path: str) -> dict[str, str]:
        """The entries that a page shows: their name in the data, and the HTML of the row."""
        answer = self.opens(path)
        assert answer.status_code == 200, answer.text
        found = re.findall(r'<tr data-name="([^"]*)"(.*?)</tr>', answer.text, re.DOTALL)
        return {unescape(name): row for name, row in found}


def _exactly(path: str) -> dict[str, Any]:
    asked = unquote_to_bytes(path.partition("?")[0]).decode("latin-1")
    return {"environ_overrides": {"PATH_INFO": asked}}


def address(path: Path | bytes, host: str = "portal") -> str:
    return f"/files/{host}{quote(os.fsencode(path))}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # without the tools that run containers
    monkeypatch.setattr("ood.sessions.board.CARDS_SECONDS", 0.0)
    monkeypatch.setattr("ood.background.GOOD_FOR", 0.0)
    return home


@pytest.fixture
def settings(home: Path, tmp_path: Path) -> PortalSettings:
    """The embedded default with more clusters: `far` has homes of its own."""
    assert home.is_dir()
    clusters = tmp_path / "clusters.d"
    clusters.mkdir()
    far = "login: {host: far.example}, custom: {portal: {home: unsynched}}"
    for name, text in {
        "this_machine": "metadata: {title: This machine}, job: {adapter: local}",
        "far": f"metadata: {{title: Far away}}, {far}",
        "secret": f"metadata: {{hidden: true}}, {far}",
        "others": f"acls: [{{adapter: group, groups: [nobody-here], type: whitelist}}], {far}",
    }.items():
        (clusters / f"{name}.yml").write_text(f"v2: {{{text}}}")
    return load_settings(EMBEDDED).model_copy(update={"clusters": clusters})


@pytest.fixture
def ada(settings: PortalSettings) -> Iterator[Visitor]:
    ada = Visitor(create_app(settings))
    ada.signs_in()
    yield ada
    assert not Path("pwned").exists()


@pytest.fixture
def far(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory at the cluster `far`, which no SSH leads to here."""
    there = home.parent / "far-home"
    there.mkdir()

    class Far(LocalHost):
        name = "far.example"
        home = str(there)

    own = HostRoles.files_host

    def files(roles: HostRoles, user: str, cluster: Any) -> Host:
        return Far() if cluster.id == "far" else own(roles, user, cluster)

    monkeypatch.setattr(HostRoles, "files_host", files)
    return there


# ---- Paths


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/", "/"),
        ("//", "/"),
        ("///a//b/", "/a/b"),
        ("/a/./b/.", "/a/b"),
        ("/a/../b", "/b"),
        ("/../../a", "/a"),
        ("/a/..", "/"),
        ("/a/.../b", "/a/.../b"),
        ("/a\n/../b\udcff", "/b\udcff"),
        ("", "/"),
    ],
)
def test_a_path_has_one_form(path: str, right: str) -> None:
    assert canonical(path) == right


def test_the_way_down_to_a_path() -> None:
    assert crumbs("/") == [("/", "/")]
    assert crumbs("/a/b") == [("/", "/"), ("a", "/a"), ("b", "/a/b")]


@pytest.mark.parametrize("path", ["/a\0b", "/" + "x" * 256, "/" + "é" * 128, "/x" * 3000])
def test_what_no_file_can_be_called(path: str) -> None:
    assert not is_possible(path)
    assert is_possible("/" + "x" * 255)


def test_names_are_shown_with_marks_for_what_cannot_be_seen() -> None:
    assert shown("  ") == "⟨U+0020⟩⟨U+0020⟩"
    assert shown("a\nb\x1b\udcff\u202eé\x7f") == "a⟨U+000A⟩b⟨U+001B⟩\ufffd⟨U+202E⟩é⟨U+007F⟩"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1 MiB"),
        (5 * 1024**3, "5 GiB"),
        (2**63, "8 EiB"),
    ],
)
def test_sizes_in_words(count: int, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize("modified", [1e30, -1e30, 253_402_300_800.0])
def test_no_time_that_a_calendar_has_not(modified: float) -> None:
    assert when(FileEntry("x", 0, 0, modified, 0, 0)) is None


# ---- Where one gets


def test_files_begin_at_home(ada: Visitor, home: Path) -> None:
    for start in ("/files", "/files/", "/files/portal", "/files/this_machine"):
        assert ada.opens(start).location == address(home), start
    assert 'href="/files' in ada.opens("/").text


def test_an_address_has_one_form(ada: Visitor, home: Path) -> None:
    (home / "a").mkdir()
    for path in ("//a", "/a/", "/./a", "/a/../a", "/b/../a", "/a/%2e", "/%2e%2e/home/a"):
        answer = ada.opens(f"{address(home)}{path}?hidden=1")
        assert answer.location == f"{address(home)}/a?hidden=1", path
    assert ada.opens(f"/files/portal{'/..' * 90}").location == "/files/portal/"
    assert "etc" in ada.rows("/files/portal/")


def test_a_directory_is_typed(ada: Visitor, home: Path) -> None:
    (home / "a b").mkdir()
    here = address(home / "a b")
    for typed, found in {
        "/etc": "/files/portal/etc",
        "  /etc/ ": "/files/portal/etc",
        "~": address(home),
        "~/a b": here,
        "..": address(home),
        "": here,
        "x/../é": f"{here}/%C3%A9",
        "//evil.example": "/files/portal/evil.example",
    }.items():
        assert ada.opens(f"{here}?path={quote(typed)}").location == found, typed
    page = ada.page(here)
    assert page.fields["path"] == str(home / "a b")


def test_hosts_that_are_not_there_or_not_for_her(ada: Visitor, far: Path) -> None:
    said = set()
    for host in ("secret", "others", "nothing", "far.example", "localhost", "%2e%2e", SCRIPT):
        for path in ("", "/", "/etc", "/etc/passwd?download"):
            answer = ada.opens(f"/files/{quote(host, safe='%')}{path}")
            assert answer.status_code == 404, host
            said.add(Page(answer.text).text)
    assert len(said) == 1, "nothing tells one from the other"
    (far / "there.txt").write_text("far away")
    assert ada.opens("/files/far").location == address(far, "far")
    assert "there.txt" in ada.rows(address(far, "far"))
    page = ada.page(address(far, "far"))
    assert "Far away" in page.text
    assert "others" not in page.text
    assert ada.fetches(f"{address(far / 'there.txt', 'far')}?download").data == b"far away"


def test_a_synched_clusters_files_are_the_portal_hosts(ada: Visitor, home: Path) -> None:
    answer = ada.opens(f"{address(home, 'this_machine')}/x%FF?download")
    assert answer.location == f"{address(home)}/x%FF?download"


def test_a_host_that_does_not_answer(ada: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise HostUnreachable("far.example cannot be reached.")

    monkeypatch.setattr(HostRoles, "files_host", gone)
    answer = ada.opens("/files/far/etc")
    assert answer.status_code == 503
    assert "far.example cannot be reached." in answer.text


def test_after_the_sign_in_one_is_back_at_the_same_file(settings: PortalSettings) -> None:
    stranger = Visitor(create_app(settings))
    for path in (
        "/files/portal/a%FFb",
        "/files/portal/a%3Fb%25%0A?hidden=1",
        "/files/portal/a%20b",
    ):
        way_in = stranger.opens(path).location
        assert way_in.startswith("/login?next=")
        token = stranger.portal.token.new()
        assert stranger.opens(f"{way_in}&token={token}").location == path
        stranger.posts("/logout")


# ---- Names


def test_every_name_is_shown_and_leads_to_its_file(ada: Visitor, home: Path) -> None:
    for number, name in enumerate(NAMES):
        Path(os.fsdecode(os.path.join(os.fsencode(home), name))).write_text(f"number {number}")
    answer = ada.opens(f"{address(home)}?hidden=1")
    assert "<script>alert" not in answer.text
    assert "\u202e" not in re.sub(r'(data-name|value|data-copy)="[^"]*"', "", answer.text)
    rows = ada.rows(f"{address(home)}?hidden=1")
    assert len(rows) == len(NAMES)
    for number, name in enumerate(NAMES):
        text = name.decode("utf-8", "replace")
        links = re.findall(r'href="(/files[^"]*)"', rows[text])
        assert links == [f"{address(home)}/{quote(name)}"], name
        page = ada.opens(links[0])
        assert page.status_code == 200, name
        assert f"number {number}" in page.text
        assert "<script>alert" not in page.text
        download = ada.fetches(f"{links[0]}?download")
        assert download.data == f"number {number}".encode(), name
        disposition = download.headers["Content-Disposition"]
        assert disposition.isascii()
        assert disposition.isprintable()
        assert "%E2%80%AE" not in disposition
    found = ada.json(address(home))["entries"]
    assert {each["address"] for each in found} == {f"{address(home)}/{quote(n)}" for n in NAMES}
    assert {each["name"] for each in found} == {name.decode("utf-8", "replace") for name in NAMES}


def test_directories_of_every_name_can_be_walked(ada: Visitor, home: Path) -> None:
    for name in NAMES:
        directory = Path(os.fsdecode(os.path.join(os.fsencode(home), name)))
        directory.mkdir()
        (directory / "inside").touch()
        answer = ada.opens(address(directory))
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        links = [unescape(link) for link in re.findall(r'href="(/files[^"]*)"', answer.text)]
        assert f"{address(directory)}/inside" in links
        assert address(home) in links, "Up leads there"
        assert answer.text.encode(), "it can be written as UTF-8"


def test_what_is_not_there(ada: Visitor, home: Path) -> None:
    (home / "file").touch()
    for path in ("/no", "/no/more", "/file/x", "/%00", f"/{'x' * 256}", "/%3Cscript%3E", "/%FF"):
        for query in ("", "?download", "?inline"):
            answer = ada.opens(address(home) + path + query)
            assert answer.status_code == 404, path
            assert re.search("There is no |not found", answer.text)
            assert "<script>" not in answer.text
    (home / "circle").symlink_to("circle")
    assert ada.opens(f"{address(home)}/circle").status_code == 404
    error = ada.json(f"{address(home)}/no%FF", 404)["error"]
    assert error["code"] == "file-missing"


# ---- Directories


def test_kinds_of_entries(ada: Visitor, home: Path) -> None:
    (home / "directory").mkdir()
    (home / "file").write_bytes(b"x" * 1536)
    (home / "to directory").symlink_to("directory")
    (home / "to file").symlink_to("file")
    (home / "to nothing").symlink_to("nothing")
    (home / "to itself").symlink_to("to itself")
    (home / "to null").symlink_to("/dev/null")
    os.mkfifo(home / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / "socket"))
    rows = ada.rows(address(home))
    for name, (words, opens) in {
        "directory": ("Directory", True),
        "file": ("File", True),
        "to directory": ("Link to a directory", True),
        "to file": ("Link to a file", True),
        "to nothing": ("Broken link", False),
        "to itself": ("Broken link", False),
        "to null": ("Link to a device", False),
        "pipe": ("Pipe", False),
        "socket": ("Socket", False),
    }.items():
        assert f"<span>{words}</span></td>" in rows[name], name
        assert ('href="/files' in rows[name]) == opens, name
    assert "1.5 KiB" in rows["file"]
    for name in ("pipe", "socket", "to null"):
        page = ada.page(address(home / name))
        assert "cannot be opened" in page.text
        for query in ("?download", "?inline"):
            refused = ada.opens(address(home / name) + query)
            assert refused.status_code == 403
            assert "is not a regular file" in refused.text
    assert ada.opens(f"{address(home / 'directory')}?download").status_code == 403
    found = {each["name"]: each["type"] for each in ada.json(address(home))["entries"]}
    assert found["to directory"] == "link"
    assert found["socket"] == "socket"


def test_links_lead_on_and_up_leads_back(ada: Visitor, home: Path) -> None:
    (home / "a" / "b").mkdir(parents=True)
    (home / "link").symlink_to("a/b")
    answer = ada.opens(address(home / "link"))
    assert "This directory is empty." in answer.text
    assert ada.opens(f"{address(home)}/link/..").location == address(home)


def test_dotfiles_details_and_text_on_demand(ada: Visitor, home: Path) -> None:
    for name in (".hidden", "Alpha", "beta"):
        (home / name).touch(0o640)
    here = address(home)
    assert ada.rows(here).keys() == {"Alpha", "beta"}
    assert "1 dotfile hidden" in ada.page(here).text
    assert ada.rows(f"{here}?hidden=1").keys() == {".hidden", "Alpha", "beta"}
    assert ada.rows(f"{here}?text=ALPH").keys() == {"Alpha"}
    assert ada.rows(f"{here}?text=hid").keys() == set()
    assert "Mode" not in Page(ada.opens(here).text).texts["thead"]
    row = ada.rows(f"{here}?details=1")["Alpha"]
    assert "-rw-r-----" in row
    assert f"<td>{LocalHost().user}</td>" in row
    nothing = ada.opens(f"{here}?text={quote(SCRIPT)}")
    assert "No names match this filter." in nothing.text
    assert SCRIPT not in nothing.text
    for name in ("Alpha", "beta"):
        (home / name).unlink()
    assert "This directory contains only dotfiles." in ada.page(here).text


def test_an_owner_without_a_name(ada: Visitor, home: Path) -> None:
    (home / "file").touch()
    if os.getuid() == 0:
        os.chown(home / "file", 54321, 54322)
        assert "<td>54321</td>" in ada.rows(f"{address(home)}?details=1")["file"]


def test_the_order(ada: Visitor, home: Path) -> None:
    for number, (name, length) in enumerate({"b": 1, "C": 3, "a": 2}.items()):
        (home / name).write_bytes(b"x" * length)
        os.utime(home / name, (number, number))
    (home / "d").mkdir()
    os.utime(home / "d", (9, 9))
    for sort, order in {
        "": "dabC",
        "name": "abCd",
        "-name": "dCba",
        "size": "dbaC",
        "-size": "Cabd",
        "modified": "bCad",
        "-modified": "daCb",
        "type": "dabC",
        "nonsense": "dabC",
    }.items():
        assert "".join(ada.rows(f"{address(home)}?sort={sort}")) == order, sort
    text = ada.opens(f"{address(home)}?sort=name&hidden=1").text
    assert 'aria-sort="ascending"' in text
    assert f'href="{address(home)}?hidden=1&amp;sort=-name"' in text
    assert f'href="{address(home / "d")}?hidden=1&amp;sort=name"' in text, "the view stays"


def test_a_huge_directory(ada: Visitor, home: Path) -> None:
    for number in range(65_000):
        os.close(os.open(home / f"{number:05}", os.O_CREAT, 0o600))
    rows = ada.rows(address(home))
    assert list(rows) == [f"{number:05}" for number in range(PAGE_SIZE)]
    page = ada.page(f"{address(home)}?page=130")
    assert "65000 items, page 130 of 130" in page.text
    for page_asked in ("131", "99999999", "0", "-1", "x", "²"):
        assert ada.opens(f"{address(home)}?page={quote(page_asked)}").status_code == 200
    found = [f"{number:05}" for number in range(65_000) if "123" in f"{number:05}"]
    assert list(ada.rows(f"{address(home)}?text=123")) == found


@pytest.mark.parametrize("modified", [1e12, -1e12])
def test_a_time_beyond_all_calendars(modified: float) -> None:
    """Not every file system of a test machine takes one."""
    entry = FileEntry("file", stat.S_IFREG | 0o644, 0, modified, 0, 0)
    assert FileRow(entry, "/file", Kind.FILE, Kind.FILE).modified is None


def test_json(ada: Visitor, home: Path) -> None:
    (home / ".file").write_text("12345")
    (home / ".file").chmod(0o640)
    os.utime(home / ".file", (1_900_000_000, 1_900_000_000))
    assert ada.json(address(home)) == {
        "host": "portal",
        "path": str(home),
        "entries": [
            {
                "name": ".file",
                "type": "file",
                "size": 5,
                "modified": 1_900_000_000,
                "mode": 0o640,
                "uid": os.getuid(),
                "gid": os.getgid(),
                "address": address(home / ".file"),
            }
        ],
    }
    found = ada.json(address(home / ".file"))
    assert (found["name"], found["size"], found["path"]) == (".file", 5, str(home / ".file"))


# ---- Files


def test_text_is_shown_as_it_is(ada: Visitor, home: Path) -> None:
    path = home / "page.html"
    path.write_bytes(b"\n\nbefore </pre>" + SCRIPT.encode() + b"\xff after\xc3\xa9")
    for query in ("", "?view"):
        answer = ada.opens(address(path) + query)
        assert SCRIPT not in answer.text
        text = Page(answer.text).texts["pre"]
        assert text == f"\n\n\nbefore </pre>{SCRIPT}\ufffd afteré"  # the first one is dropped
    path.write_bytes(b"x" * (1024 * 1024 - 1) + "é".encode() + b"end")
    answer = ada.opens(address(path))
    assert "Only the first 1 MiB is shown." in answer.text
    assert Page(answer.text).texts["pre"].strip() == "x" * (1024 * 1024 - 1)
    path.write_bytes(b"")
    assert "This file is empty." in ada.page(address(path)).text


def test_what_is_no_text_is_offered(ada: Visitor, home: Path) -> None:
    path = home / "data.bin"
    path.write_bytes(b"\0\1\2")
    page = ada.opens(address(path))
    assert "This is not a text file" in page.text
    assert f'href="{address(path)}?download"' in page.text
    assert "<pre" not in page.text


@pytest.mark.parametrize(
    ("head", "type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", ""),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", ""),
        (b"<html>", ""),
        (b"%PDF-1.7", PDF),
        (b"<b>%PDF-1.7", ""),
        (b"", ""),
    ],
)
def test_only_images_and_pdf_are_shown_by_the_browser(
    ada: Visitor, home: Path, head: bytes, type: str
) -> None:
    """Whatever a file is called."""
    path = home / "picture.svg"
    path.write_bytes(head)
    assert shown_type(head) == type
    page = ada.opens(address(path)).text
    assert ("<img" in page) == type.startswith("image/")
    assert (f'href="{address(path)}?inline" target="_blank"' in page) == (type == PDF)
    answer = ada.fetches(f"{address(path)}?inline")
    assert answer.content_type == (type or "application/octet-stream")
    kind = answer.headers["Content-Disposition"].partition(";")[0]
    assert kind == ("inline" if type else "attachment")
    assert answer.headers["Content-Security-Policy"] == NEVER_RUN
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.data == head


def test_a_download(ada: Visitor, home: Path) -> None:
    path = home / 'päge "1".html'
    path.write_text(SCRIPT)
    answer = ada.fetches(f"{address(path)}?download", Accept="application/json")
    assert answer.data == SCRIPT.encode()
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Length"] == str(len(SCRIPT))
    assert answer.headers["Content-Security-Policy"] == NEVER_RUN
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename=\"p_ge _1_.html\"; filename*=UTF-8''p%C3%A4ge%20%221%22.html"
    )
    head = ada.fetches(f"{address(path)}?download", "HEAD")
    assert (head.data, head.headers["Content-Length"]) == (b"", str(len(SCRIPT)))


@pytest.mark.parametrize(
    ("asked", "status", "data", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=0-", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=7-99", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=9-9", 206, b"9", "bytes 9-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=999999999999999999-", 416, b"", "bytes */10"),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=²-", 200, b"0123456789", None),
        (f"bytes={'9' * 5000}-", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
    ids=lambda it: str(it)[:20],
)
def test_parts_of_a_file(
    ada: Visitor, home: Path, asked: str, status: int, data: bytes, content_range: str | None
) -> None:
    (home / "file").write_bytes(b"0123456789")
    answer = ada.fetches(f"{address(home / 'file')}?download", Range=asked)
    assert (answer.status_code, answer.data) == (status, data)
    assert answer.headers.get("Content-Range") == content_range
    assert answer.headers["Content-Length"] == str(len(data))
    assert answer.headers["Content-Security-Policy"] == NEVER_RUN


def test_parts_of_an_empty_file_and_of_one_that_changed(ada: Visitor, home: Path) -> None:
    path = home / "file"
    path.touch()
    there = f"{address(path)}?download"
    assert ada.fetches(there, Range="bytes=0-").status_code == 416
    assert ada.fetches(there, Range="bytes=-5").status_code == 416
    assert ada.fetches(there).headers["Content-Length"] == "0"
    path.write_text("first")
    etag = ada.fetches(there).headers["ETag"]
    again = ada.fetches(there, Range="bytes=1-", If_Range=etag)
    assert (again.status_code, again.data) == (206, b"irst")
    path.write_text("second")
    again = ada.fetches(there, Range="bytes=1-", If_Range=etag)
    assert (again.status_code, again.data) == (200, b"second")


def test_a_download_is_not_kept_in_memory(ada: Visitor, home: Path) -> None:
    path = home / "big"
    with path.open("wb") as file:
        file.truncate(2**40)
    answer = ada.client.get(f"{address(path)}?download", buffered=False)
    assert answer.headers["Content-Length"] == str(2**40)
    first = next(iter(answer.response))
    assert 0 < len(first) < 2**20
    answer.close()
    assert not [fd for fd in Path("/proc/self/fd").iterdir() if _leads_to(fd, path)]
    part = ada.fetches(f"{address(path)}?download", Range="bytes=-5")
    assert part.data == bytes(5)
    page = ada.page(address(path))
    assert "1 TiB" in page.text


def _leads_to(link: Path, path: Path) -> bool:
    try:
        return link.readlink() == path
    except OSError:
        return False


def test_no_end_before_the_end(ada: Visitor, home: Path) -> None:
    path = home / "file"
    path.write_bytes(b"x" * 1_000_000)
    answer = ada.client.get(f"{address(path)}?download", buffered=False)
    path.write_bytes(b"x")
    with pytest.raises(Exception, match="was shortened"):
        list(answer.response)
    answer.close()


def test_what_was_read_is_in_the_audit_log(
    ada: Visitor, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(os.fsdecode(os.fsencode(home) + b"/secret \xff"))
    path.write_text("text")
    (home / "picture").write_bytes(PNG)
    caplog.set_level(logging.INFO, "audit")
    ada.opens(address(home))
    ada.opens(address(path))
    ada.fetches(f"{address(path)}?download")
    ada.fetches(f"{address(path)}?download", "HEAD")
    ada.opens(address(home / "picture"))
    ada.fetches(f"{address(home / 'picture')}?inline")
    lines = [json.loads(each.message) for each in caplog.records if each.name == "audit"]
    assert [(line["event"], line["host"], line["object"]) for line in lines] == [
        ("file-read", "this machine", f"{home}/secret \\xff"),
        ("file-downloaded", "this machine", f"{home}/secret \\xff"),
        ("file-read", "this machine", f"{home}/picture"),
    ]


# ---- From elsewhere


def test_a_card_leads_to_its_files(ada: Visitor, home: Path) -> None:
    (db(home) / ID).write_bytes(RECORD.completed(1_900_000_001).to_json())
    there = address(context(home))
    text = ada.opens("/sessions").text
    assert f'<a href="{there}">{ID}</a>' in text
    assert f'<dd class="path"><a href="{there}">{context(home)}</a>' in text
    assert f'<a href="/sessions/{ID}">Open on its own page' in text
    assert ada.opens(there).status_code == 200


def test_a_card_leads_to_the_host_with_its_files(ada: Visitor, home: Path, far: Path) -> None:
    record = replace(RECORD, cluster_id="far").completed(1_900_000_001)
    (db(home) / ID).write_bytes(record.to_json())
    facts = {"directory": str(far / "there"), "outcome": "succeeded"}
    (context(home) / "portal.json").write_text(json.dumps(facts))
    text = ada.opens("/sessions").text
    assert f'<a href="{address(far / "there", "far")}">{far}/there</a>' in text


def test_a_job_leads_to_its_output(ada: Visitor, home: Path) -> None:
    session = ada.watches(ada.launches())
    answer = ada.opens(f"/jobs/this_machine/{session['job_id']}")
    there = address(Path(session["context_directory"]))
    assert f'<a class="button" href="{there}">Open in File Manager</a>' in answer.text
    assert there.startswith(address(home))


@pytest.mark.parametrize(
    ("cluster", "host"),
    [("this_machine", "portal"), ("far", "far"), ("secret", "secret")],
)
def test_the_host_with_a_clusters_files(ada: Visitor, cluster: str, host: str) -> None:
    assert files_host_id(ada.portal.clusters[cluster]) == host
    with ada.app.test_request_context():
        assert files_address(host, "/a \udcff") == f"/files/{host}/a%20%FF"
        assert files_address("", "relative") == "/files/portal"


# ---- Served by gunicorn, and in a browser


@pytest.fixture
def running(home: Path) -> Iterator[RunningPortal]:
    portal = RunningPortal(home.parent, {"HOME": str(home)})
    portal.start()
    yield portal
    portal.stop()


def test_in_a_browser(browser: Chromium, running: RunningPortal, home: Path) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    places = {"files": home / "many", "files-none": home / "none", "file": home / "many" / "a.py"}
    for empty in (home / "none", home / "many" / "directory"):
        empty.mkdir(parents=True)
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(home / "many") + b"/" + name)).write_text("Hello there")
    (home / "many" / "broken").symlink_to("nothing")
    (home / "many" / "a.py").write_text("print('x')\n" * 30 + "x" * 300)
    with browser.new_context() as own:
        own.grant_permissions(["clipboard-read", "clipboard-write"])
        page = own.new_page()
        ada = Researcher(page, running)
        ada.opens_the_address()
        page.locator("summary", has_text="Files").click()
        page.get_by_role("link", name="Home Directory").click()
        page.get_by_role("link", name="many").click()
        for name in NAMES:
            expect(page.locator("tr[data-name='a.py']")).to_be_visible()
            row = page.locator("tbody tr").nth(
                page.locator("tbody tr").evaluate_all(
                    "(rows, name) => rows.findIndex(row => row.dataset.name == name)",
                    name.decode("utf-8", "replace").replace("\r", "\n"),
                )
            )
            if name == b"...":
                continue
            row.get_by_role("link").click()
            expect(page.get_by_label("Contents")).to_have_text("Hello there")
            with page.expect_download() as download:
                page.get_by_role("link", name="Download").click()
            assert download.value.path().read_text() == "Hello there"
            page.get_by_role("link", name="Up").click()
        page.get_by_role("button", name="Copy path").click()
        expect(page.get_by_text("Copied.")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == str(home / "many")
        page.get_by_label("Directory", exact=True).fill("directory")
        page.get_by_role("button", name="Change directory").click()
        expect(page.get_by_text("This directory is empty.")).to_be_visible()
        deep = home.joinpath(*7 * ["é" * 127])
        deep.mkdir(parents=True)
        page.goto(f"{running.url}{address(deep)}")
        expect(page.get_by_text("This directory is empty.")).to_be_visible()
        for look in looks(page):
            for shot, path in places.items():
                page.goto(f"{running.url}{address(path)}?details=1")
                accessible(page, f"{shot}-{look}")
        assert ada.complaints == []
