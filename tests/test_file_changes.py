"""What the File Manager changes: entries of directories, and text. On this machine, over SSH, and
in a browser."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import stat
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse, encode_multipart

from app import create_app
from ood.config import FilesSettings, PortalSettings
from ood.errors import HostUnreachable
from ood.hosts import trees
from ood.web.files.editor import MAX_EDIT, mistake_in_text
from ood.web.files.selection import as_value, from_value, mistake_in
from tests.test_files import NAMES, SCRIPT, Visitor, ada, address, home, running, settings
from tests.test_web import Page

__all__ = ["ada", "home", "running", "settings"]


def at(directory: Path, name: bytes) -> Path:
    return Path(os.fsdecode(os.path.join(os.fsencode(directory), name)))


def value(name: bytes | str) -> str:
    return as_value(os.fsdecode(name) if isinstance(name, bytes) else name)


class Changer(Visitor):
    """A browser that sends the forms of the File Manager."""

    def does(self, action: str, where: Path, query: str = "", /, **fields: Any) -> TestResponse:
        data = {"csrf_token": self.csrf_token, "action": action} | fields
        return self.opens(address(where) + query, "POST", data=data)

    def is_done(self, action: str, where: Path, query: str = "", /, **fields: Any) -> str:
        """Do it; return what the next page says."""
        answer = self.does(action, where, query, **fields)
        assert answer.status_code == 303, Page(answer.text).text
        text = self.opens(answer.location).text
        found = re.search(r'<p class="notice (bad)?" role="(status|alert)">(.*?)</p>', text)
        return found[3] if found else ""

    def deletes(self, where: Path, query: str = "", /, **fields: Any) -> str:
        """Ask, be asked, and say yes."""
        asked = self.does("delete", where, query, **fields)
        assert asked.status_code == 200, asked.text
        sure = Page(asked.text).fields["sure"]
        return self.is_done("delete", where, query, sure=sure, **fields)

    def writes(self, path: Path, text: str, **fields: str) -> TestResponse:
        """Open the form, change its text, and press Save."""
        form = self.page(f"{address(path)}?edit").fields
        return self.sends(path, form | {"text": text} | fields)

    def sends(self, path: Path, form: dict[str, str]) -> TestResponse:
        """As browsers do: with CRLF at the ends of lines."""
        lines = re.sub("\r?\n", "\r\n", form["text"])
        boundary, data = encode_multipart(form | {"text": lines})
        kind = f"multipart/form-data; boundary={boundary}"
        return self.opens(address(path), "POST", data=data, content_type=kind)


@pytest.fixture
def eve(settings: PortalSettings) -> Changer:
    eve = Changer(create_app(settings))
    eve.signs_in()
    return eve


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def words(answer: TestResponse) -> str:
    return Page(answer.text).text


# ---- Names


@pytest.mark.parametrize("name", NAMES)
def test_every_name_survives_a_form(name: bytes) -> None:
    text = os.fsdecode(name)
    assert from_value(as_value(text)) == text
    assert re.fullmatch("[A-Za-z0-9%_.~-]+", as_value(text))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "Enter a name"),
        (".", "is reserved"),
        ("..", "is reserved"),
        ("a/b", "cannot contain “/”"),
        ("/", "cannot contain “/”"),
        ("a\0b", "NUL"),
        ("x" * 256, "256 bytes long, but the limit is 255"),
        ("é" * 128, "256 bytes long"),
    ],
    ids=lambda it: repr(it)[:20],
)
def test_names_that_nothing_can_have(eve: Changer, home: Path, name: str, words: str) -> None:
    assert words in mistake_in(name)
    (home / "old").touch()
    before = names(home)
    for action in ("new-file", "new-directory"):
        answer = eve.does(action, home, new=name)
        assert answer.status_code == 422
        page = Page(answer.text)
        assert words in page.texts["#new-mistake"]
        assert page.fields["new"] == name, "what was typed is kept"
    answer = eve.does("rename", home, name="old", new_name=name)
    assert answer.status_code == 422
    assert words in Page(answer.text).texts["#new_name-mistake"]
    assert names(home) == before
    assert names(home.parent) == {"home", "clusters.d"}


@pytest.mark.parametrize("name", ["/etc/passwd", "../home", "..", ".", "", "a/b", "a\0b"])
def test_no_chosen_name_leads_elsewhere(eve: Changer, home: Path, name: str) -> None:
    (home / "a").mkdir()
    (home / "a" / "b").touch()
    for action in ("rename", "permissions", "delete"):
        answer = eve.does(action, home, name=value(name), sure="x", set="1", new_name="pwned")
        assert answer.status_code == 422, answer.text
        assert "That name is not valid." in words(answer)
    assert names(home / "a") == {"b"}


def test_every_name_is_made_renamed_permitted_and_deleted(eve: Changer, home: Path) -> None:
    for name in NAMES:
        text = os.fsdecode(name)
        there, other = at(home, name), home / "other name"
        if "\udc80" <= max(text) <= "\udcff":  # nobody can type these bytes
            there.touch()
        else:
            answer = eve.does("new-file", home, new=text)
            assert answer.location == f"{address(there)}?edit"
            assert eve.opens(answer.location).status_code == 200
            answer = eve.does("new-file", home, new=text)
            assert (answer.status_code, "already exists" in words(answer)) == (422, True)
        assert eve.writes(there, "precious").location == address(there)
        assert there.read_text() == "precious"
        asked = eve.does("rename", home, name=value(name))
        assert SCRIPT not in asked.text
        assert Page(asked.text).fields["name"] == value(name)
        assert "Renamed" in eve.is_done("rename", home, name=value(name), new_name="other name")
        assert other.read_text() == "precious"
        assert not there.exists()
        other.rename(there)
        eve.is_done("permissions", home, name=value(name), set="1", octal="604")
        assert stat.S_IMODE(there.stat().st_mode) == 0o604
        shown_page = eve.does("delete", home, name=value(name))
        assert "<script>alert" not in shown_page.text
        assert "\u202e" not in shown_page.text
        assert "Deleted" in eve.deletes(home, name=value(name))
        assert names(home) <= {"ondemand"}, name


# ---- New, rename


def test_new_ones(eve: Changer, home: Path) -> None:
    (home / "dangling").symlink_to("nothing")
    assert "Created the directory “a b”." in eve.is_done(
        "new-directory", home, "?hidden=1", new="a b"
    )
    assert (home / "a b").is_dir()
    for name in ("a b", "dangling"):
        for action in ("new-file", "new-directory"):
            answer = eve.does(action, home, "?hidden=1&sort=name", new=name)
            assert answer.status_code == 422
            assert "already exists. Nothing was changed." in words(answer)
    assert not (home / "nothing").exists()
    gone = eve.does("new-file", home / "a b" / "gone", new="x")
    assert gone.status_code == 404


def test_a_rename_replaces_nothing(eve: Changer, home: Path) -> None:
    for name in ("file", "taken"):
        (home / name).write_text(name)
    for name in ("directory", "empty"):
        (home / name).mkdir()
    (home / "link").symlink_to("nothing")
    for old in ("file", "directory", "link"):
        for new in ("taken", "empty", "link", "directory"):
            if old == new:
                continue
            answer = eve.does("rename", home, name=old, new_name=new)
            assert answer.status_code == 409, (old, new)
            page = Page(answer.text)
            assert "already exists. Nothing was changed." in page.texts["#new_name-mistake"]
            assert page.fields["new_name"] == new
    assert (home / "file").read_text() == "file"
    assert (home / "taken").read_text() == "taken"
    eve.is_done("rename", home, name="file", new_name="file")
    eve.is_done("rename", home, name="link", new_name="same link")
    assert (home / "same link").is_symlink()
    eve.is_done("rename", home, name="directory", new_name="-rf")
    assert (home / "-rf").is_dir()
    two = eve.does("rename", home, name=["file", "taken"])
    assert "Select only one file" in words(two)
    gone = eve.does("rename", home, name="gone", new_name="x")
    assert (gone.status_code, "no longer exist" in words(gone)) == (404, True)


def test_nothing_is_done_to_nothing(eve: Changer, home: Path) -> None:
    (home / "file").touch()
    for action in ("rename", "permissions", "delete"):
        answer = eve.does(action, home)
        assert answer.status_code == 422
        assert "Select at least one file or folder." in words(answer)
    assert eve.does("nonsense", home).status_code == 404
    assert (
        eve.opens(address(home), "POST", data={"action": "new-file", "new": "x"}).status_code == 400
    )
    assert not (home / "x").exists()


# ---- Permissions


def test_permissions(eve: Changer, home: Path) -> None:
    for name in ("tree/below", "tree/.hidden"):
        (home / name).mkdir(parents=True)
    for name in ("file", "tree/file", "tree/below/run"):
        (home / name).write_text("x")
        (home / name).chmod(0o600)
    (home / "outside").write_text("x")
    (home / "outside").chmod(0o600)
    (home / "tree/link").symlink_to("../outside")

    def mode(name: str) -> int:
        return stat.S_IMODE((home / name).stat().st_mode)

    (home / "tree").chmod(0o2755)
    form = eve.does("permissions", home, name="tree")
    assert form.text.count("checked") == 7
    eve.is_done("permissions", home, name="tree", set="1", bit=["400", "200", "100", "40"])
    assert (mode("tree"), mode("tree/file")) == (0o2740, 0o600), "the bit without a box stays"
    eve.is_done(
        "permissions", home, name=["file", "tree"], set="1", below="1", bit=["400", "200", "40"]
    )
    assert mode("tree") & 0o777 == mode("tree/below") == mode("tree/.hidden") == 0o750
    assert mode("file") == mode("tree/file") == mode("tree/below/run") == 0o640
    assert mode("outside") == 0o600, "no link was followed"
    (home / "tree/below").chmod(0o700)
    form = eve.does("permissions", home, name=["file", "tree"])
    assert "have different permissions" in form.text
    for wrong in ("9", "64", "rwx", "00640", "-64", "6 4", "٦٤٠"):
        answer = eve.does("permissions", home, name="file", set="1", octal=wrong)
        assert answer.status_code == 422
        page = Page(answer.text)
        assert "digits from 0 to 7" in page.texts["#octal-mistake"]
        assert page.fields["octal"] == wrong
    assert mode("file") == 0o640
    eve.is_done("permissions", home, name="tree", set="1", octal="2770")
    assert mode("tree") == 0o2770
    for way in ({"octal": "2770"}, {"bit": ["400", "200", "100", "40", "20", "10"]}):
        eve.is_done("permissions", home, name="tree", set="1", below="1", **way)
        assert (mode("tree"), mode("tree/file")) == (0o2770, 0o770)
    link = eve.does("permissions", home / "tree", name="link")
    assert "Links have no permissions" in words(link)
    eve.is_done(
        "permissions", home / "tree", name=["link", "file"], set="1", octal="604", below="1"
    )
    assert (mode("tree/file"), mode("outside")) == (0o604, 0o600)


# ---- Delete


def test_deleting_is_asked_about_with_counts(eve: Changer, home: Path) -> None:
    (home / "tree/below").mkdir(parents=True)
    (home / "tree/a").write_bytes(bytes(1000))
    (home / "tree/below/b\nc").write_bytes(bytes(2000))
    (home / "elsewhere").mkdir()
    (home / "elsewhere/kept").write_bytes(bytes(5000))
    (home / "tree/link").symlink_to("../elsewhere")
    (home / "link").symlink_to("elsewhere")
    (home / "kept").write_text("kept")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(home / "tree/socket"))
    chosen = ["tree", "link"]
    asked = eve.does("delete", home, "?sort=size", name=chosen)
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", asked.text))
    assert "Delete 2 items?" in text
    assert "Files 5 Directories 2 Size 2.93 KiB" in text
    assert 'href="' + address(home) + '?sort=size"' in asked.text
    assert (home / "tree").exists(), "it was only asked"
    assert eve.deletes(home, name=chosen) == "Deleted “link”, “tree”."
    assert not (home / "tree").exists()
    assert not (home / "link").is_symlink()
    assert (home / "elsewhere/kept").exists(), "no link was followed"
    assert (home / "kept").exists()


def test_what_changed_meanwhile_is_asked_about_again(eve: Changer, home: Path) -> None:
    for name in ("a", "b"):
        (home / name).touch()
    sure = Page(eve.does("delete", home, all="1").text).fields["sure"]
    (home / "new").touch()
    again = eve.does("delete", home, all="1", sure=sure)
    assert again.status_code == 200
    assert "have changed, so nothing was deleted" in again.text
    assert names(home) >= {"a", "b", "new"}
    sure = Page(eve.does("delete", home, name=["a", "b"]).text).fields["sure"]
    (home / "a").unlink()
    assert "Delete 1 item?" in eve.does("delete", home, name=["a", "b"], sure=sure).text
    (home / "b").unlink()
    assert eve.does("delete", home, name=["a", "b"], sure=sure).status_code == 404


def test_all_is_what_the_page_counts(eve: Changer, home: Path) -> None:
    for name in ("data-1", "data-2", ".data-3", "other"):
        (home / name).touch()
    eve.deletes(home, "?text=data", all="1")
    assert names(home) >= {".data-3", "other"}
    assert not names(home) & {"data-1", "data-2"}
    eve.deletes(home, "?hidden=1&text=data", all="1")
    assert ".data-3" not in names(home)
    assert "other" in names(home)


def test_home_is_not_deleted(eve: Changer, home: Path) -> None:
    (home / "file").touch()
    (home.parent / "link").symlink_to("home")
    for where, name in ((home.parent, "home"), (home.parent.parent, home.parent.name)):
        answer = eve.does("delete", where, name=name, sure="x")
        assert "You cannot delete your home directory" in words(answer)
    eve.deletes(home.parent, name="link")
    assert (home / "file").exists()


def test_65000_entries_at_once(eve: Changer, home: Path) -> None:
    many = home / "many"
    many.mkdir()
    for number in range(65_000):
        os.close(os.open(many / f"{number:05}-{'é' * 10}", os.O_CREAT, 0o600))
    page = eve.opens(address(many))
    assert "Select all 65000 items" in page.text
    eve.is_done("permissions", many, all="1", set="1", octal="640")
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(many)} == {0o640}
    asked = eve.does("delete", many, all="1")
    assert "Delete 65000 items?" in asked.text
    assert len(asked.text) < 10_000
    eve.deletes(many, all="1")
    assert names(many) == set()


def test_what_takes_too_long_is_said(
    eve: Changer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that hangs stands for a tree that is too large."""
    (home / "file").touch()
    monkeypatch.setattr(trees, "PATIENCE", 0.2)
    monkeypatch.setattr(trees, "DELETE", ["sleep", "60"])
    said = eve.deletes(home, name="file")
    assert "Deleted 0 items, but not “file”: it took more than 0 seconds" in said
    assert "1 item left." in said


def test_what_was_changed_is_in_the_audit_log(
    eve: Changer, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    at(home, b"a\xff").touch()
    caplog.set_level(logging.INFO, "audit")
    eve.is_done("rename", home, name=value(b"a\xff"), new_name="b")
    eve.is_done("permissions", home, name="b", set="1", octal="600")
    eve.is_done("new-directory", home, new="c")
    eve.writes(home / "b", "text")
    eve.deletes(home, name=["b", "c"])
    lines = [json.loads(each.message) for each in caplog.records if each.name == "audit"]
    assert [(line["event"], line["object"].removeprefix(f"{home}/")) for line in lines] == [
        ("file-renamed", "a\\xff"),
        ("file-permissions", "b"),
        ("file-made", "c"),
        ("file-read", "b"),
        ("file-written", "b"),
        ("file-deleted", "b"),
        ("file-deleted", "c"),
    ]
    assert (lines[0]["to"], lines[1]["mode"]) == ("b", "600")


# ---- Limits


@pytest.fixture
def limited(settings: PortalSettings) -> Callable[..., Changer]:
    def limited(**limits: Any) -> Changer:
        files = FilesSettings.model_validate(limits)
        eve = Changer(create_app(settings.model_copy(update={"files": files})))
        eve.signs_in()
        return eve

    return limited


ASKED: list[dict[str, Any]] = [
    {"action": "new-file", "new": "made"},
    {"action": "new-directory", "new": "made"},
    {"action": "rename", "name": "file", "new_name": "made"},
    {"action": "permissions", "name": "file", "set": "1", "octal": "777"},
    {"action": "permissions", "all": "1", "set": "1", "octal": "777", "below": "1"},
    {"action": "delete", "name": "file"},
    {"action": "delete", "all": "1", "sure": "x"},
]


def test_without_editing_nothing_is_offered_or_done(
    limited: Callable[..., Changer], home: Path
) -> None:
    (home / "file").write_text("kept")
    (home / "file").chmod(0o600)
    eve = limited(edit=False)
    for page in (home, home / "file"):
        text = eve.opens(address(page)).text
        for word in ("Rename", "Delete", "Permissions", "New File", "?edit"):
            assert word not in text
    nothing = limited(edit=False, download=False).opens(address(home)).text
    assert 'name="name"' not in nothing, "nothing can be done with what would be chosen"
    for form in ASKED:
        answer = eve.does(form["action"], home, **form)
        assert answer.status_code == 403
        assert "does not let you change them" in words(answer)
    assert eve.opens(f"{address(home / 'file')}?edit").status_code == 403
    saved = eve.does("save", home / "file", text="lost", fingerprint="missing")
    assert saved.status_code == 403
    assert names(home) <= {"file", "ondemand"}
    assert (home / "file").read_text() == "kept"
    assert stat.S_IMODE((home / "file").stat().st_mode) == 0o600


def test_nothing_outside_the_roots_is_changed(limited: Callable[..., Changer], home: Path) -> None:
    for name in ("open", "closed", "closed/below"):
        (home / name).mkdir()
    for name in ("open/file", "closed/file", "closed/below/file"):
        (home / name).write_text("kept")
        (home / name).chmod(0o600)
    (home / "open/out").symlink_to("../closed")
    (home / "open/file-out").symlink_to("../closed/file")
    (home / "open/new-out").symlink_to("../closed/new")
    eve = limited(roots=["~/open"])
    for where in (home / "closed", home / "open/out", home / "open/out/below"):
        for form in ASKED:
            answer = eve.does(form["action"], where, **form)
            assert answer.status_code == 403, (where, form)
            assert "outside the directories" in words(answer)
    for name in ("file-out", "out/file", "new-out"):
        assert eve.opens(f"{address(home / 'open' / name)}?edit").status_code == 403
        answer = eve.does("save", home / "open" / name, text="lost", fingerprint="missing")
        assert answer.status_code == 403, name
    for form in ASKED[2:]:
        answer = eve.does(form["action"], home, **form | {"name": "open"})
        assert answer.status_code == 403, "a root is no entry to change"
    eve.is_done("permissions", home / "open", all="1", set="1", octal="640", below="1")
    assert stat.S_IMODE((home / "open/file").stat().st_mode) == 0o640
    assert stat.S_IMODE((home / "closed/file").stat().st_mode) == 0o600
    eve.deletes(home / "open", all="1")
    assert names(home / "open") == set()
    assert names(home / "closed") == {"file", "below"}
    assert (home / "closed/file").read_text() == "kept"


# ---- Text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n\nthree before",
        b"no end",
        b"an end\n",
        b"crlf\r\nand\r\n",
        b"\r\n\r\n",
        "\ufeffé 🚀 שלום \u202e\x0c\x1b\t\x7f\u0085\u2028".encode(),
        b"</textarea>" + SCRIPT.encode() + b"&amp;&lt;",
    ],
    ids=repr,
)
def test_text_comes_back_as_it_was(eve: Changer, home: Path, data: bytes) -> None:
    path = home / "file.txt"
    path.write_bytes(data)
    form = eve.page(f"{address(path)}?edit").fields
    assert eve.sends(path, form).location == address(path)
    assert path.read_bytes() == data
    end = b"\r\n" if b"\r\n" in data else b"\n"
    assert eve.writes(path, form["text"] + "\nmore").status_code == 303
    assert path.read_bytes() == data + end + b"more"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"caf\xe9", "is not UTF-8 text"),
        (b"\xed\xa0\x80", "is not UTF-8 text"),
        (b"a\0b", "NUL characters"),
        (b"a\r\nb\nc", "mixed line endings"),
        (b"a\rb", "mixed line endings"),
        (b"a\r\r\nb", "mixed line endings"),
        (b"x" * (MAX_EDIT + 1), "larger than 512 KiB"),
    ],
    ids=lambda it: repr(it)[:30],
)
def test_what_would_be_damaged_is_not_edited(
    eve: Changer, home: Path, data: bytes, words: str
) -> None:
    path = home / "file"
    path.write_bytes(data)
    assert "?edit" not in eve.opens(address(path)).text
    answer = eve.opens(f"{address(path)}?edit")
    assert answer.location == address(path)
    assert words in eve.opens(answer.location).text
    answer = eve.does("save", path, text="lost", fingerprint="x")
    assert (answer.status_code, Page(answer.text).fields["text"]) == (422, "lost")
    assert words in answer.text
    assert path.read_bytes() == data


def test_what_is_edited_comes_back_from_any_browser() -> None:
    """Of all short texts of the pieces that matter: browsers make one line end of all, and send
    CRLF."""
    pieces = (b"a", b"\n", b"\r\n", b"\r", b"\0", "é".encode(), b"\xff")
    taken = 0
    for length in range(6):
        for chosen in product(pieces, repeat=length):
            data = b"".join(chosen)
            if mistake_in_text(data):
                continue
            taken += 1
            end = b"\r\n" if b"\r\n" in data else b"\n"
            sent = re.sub(b"\r\n|\r|\n", b"\r\n", data)
            assert sent.replace(b"\r\n", b"\n").replace(b"\n", end) == data
    assert taken > 500


def test_only_files_are_edited(eve: Changer, home: Path) -> None:
    os.mkfifo(home / "pipe")
    (home / "directory").mkdir()
    for name in ("pipe", "directory"):
        answer = eve.does("save", home / name, text="lost", fingerprint="missing")
        assert answer.status_code == 422
        assert "is not a regular file" in words(answer)
    assert eve.opens(f"{address(home / 'pipe')}?edit").location == address(home / "pipe")


def test_a_file_that_changed_meanwhile(eve: Changer, home: Path) -> None:
    path = home / "file"
    path.write_text("first")
    form = eve.page(f"{address(path)}?edit").fields | {"text": "mine"}
    path.write_text("theirs")
    answer = eve.sends(path, form)
    assert answer.status_code == 409
    assert "has changed since you opened it" in words(answer)
    assert path.read_text() == "theirs"
    form = Page(answer.text).fields
    assert form["text"] == "mine", "what was typed is kept"
    path.write_text("theirs again")
    answer = eve.sends(path, form)
    assert answer.status_code == 409, "it changed once more"
    assert eve.sends(path, Page(answer.text).fields).status_code == 303
    assert path.read_text() == "mine"


def test_a_file_that_went_meanwhile(eve: Changer, home: Path) -> None:
    path = home / "file"
    path.write_text("first")
    form = eve.page(f"{address(path)}?edit").fields | {"text": "mine"}
    path.unlink()
    answer = eve.sends(path, form)
    assert answer.status_code == 409
    assert "no longer exists" in words(answer)
    form = Page(answer.text).fields
    path.write_text("another one")
    answer = eve.sends(path, form)
    assert answer.status_code == 409, "nothing is overwritten unasked"
    path.unlink()
    assert eve.sends(path, form).status_code == 303
    assert path.read_text() == "mine"


def test_a_host_that_goes_away_meanwhile(
    eve: Changer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "file"
    path.write_text("old")
    form = eve.page(f"{address(path)}?edit").fields | {"text": "mine"}

    def gone(*_: object) -> None:
        raise HostUnreachable("The connection to the host was lost. Try again.")

    with monkeypatch.context() as patched:
        patched.setattr("ood.hosts.local_files.LocalFiles.rename", gone)
        answer = eve.sends(path, form)
    assert answer.status_code == 503
    assert "connection to the host was lost" in words(answer)
    form = Page(answer.text).fields
    assert form["text"] == "mine"
    assert path.read_text() == "old"
    assert eve.sends(path, form).status_code == 303
    assert path.read_text() == "mine"


def test_saving_keeps_what_a_file_is(eve: Changer, home: Path) -> None:
    (home / "real").mkdir()
    path = home / "real" / ("x" * 255)
    path.write_text("old")
    path.chmod(0o751)
    if os.getuid() == 0:
        os.chown(path, 54321, 54322)
    (home / "link").symlink_to(path)
    (home / "link to link").symlink_to("link")
    assert eve.writes(home / "link to link", "new").status_code == 303
    assert path.read_text() == "new"
    assert (home / "link").is_symlink()
    assert (home / "link to link").is_symlink()
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o751
    if os.getuid() == 0:
        assert (found.st_uid, found.st_gid) == (54321, 54322)
    assert names(home / "real") == {"x" * 255}


def test_a_long_text(eve: Changer, home: Path) -> None:
    path = home / "file"
    path.write_text("line\n")
    text = "é\n" * (MAX_EDIT // 3)
    assert eve.writes(path, text, stay="1").location == f"{address(path)}?edit"
    assert path.read_text() == text
    answer = eve.writes(path, text + "more")
    assert "longer than 512 KiB" in words(answer)
    assert Page(answer.text).fields["text"] == text + "more"
    assert path.read_text() == text
