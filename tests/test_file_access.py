"""The limits of a safe haven: what portal.yml turns off, and the only directories it shows.

Whatever is closed is asked for in every way there is.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from app import create_app
from ood.config import FilesSettings, PortalSettings
from ood.errors import FileMissing, FileRefused
from ood.hosts.local import LocalHost
from ood.web.files.access import FileAccess, Operation, project_names
from tests.test_files import PNG, Visitor, address, home, settings

__all__ = ["home", "settings"]

OUTSIDE = "outside the directories that this portal shows"
NO_DOWNLOADS = "Downloads are turned off on this portal"

Limited = Callable[..., Visitor]


@pytest.fixture
def limited(settings: PortalSettings) -> Limited:
    """Sign in to a portal with these limits."""

    def limited(**limits: Any) -> Visitor:
        files = FilesSettings.model_validate(limits)
        ada = Visitor(create_app(settings.model_copy(update={"files": files})))
        ada.signs_in()
        return ada

    return limited


@pytest.fixture
def rooms(home: Path) -> Path:
    """Two directories in home, `open` to be a root and `closed` not, with links between them."""
    for name in ("open", "closed", "open-too"):
        (home / name / "below").mkdir(parents=True)
        (home / name / "file").write_text(f"in {name}")
        (home / name / "picture").write_bytes(PNG)
    (home / "open/inner").symlink_to("below")
    (home / "open/out").symlink_to("../closed")
    (home / "open/file-out").symlink_to("../closed/file")
    (home / "open/picture-out").symlink_to("../closed/picture")
    (home / "open/nowhere-out").symlink_to("../closed/nothing")
    (home / "open/loop").symlink_to("loop")
    (home / "closed/in").symlink_to("../open")
    return home


def refused(ada: Visitor, path: str, words: str = OUTSIDE) -> None:
    """By the page, as JSON, and as bytes in every way they can be asked for."""
    for query in ("", "?download", "?inline", "?download&inline", "?details=1&hidden=1", "?edit"):
        for accept in ("text/html", "application/json"):
            answer = ada.opens(path + query, headers={"Accept": accept})
            assert answer.status_code == 403, (path + query, answer.text)
            assert words in answer.text
    for asked in ("HEAD", "GET"):
        part = ada.fetches(f"{path}?download", asked, Range="bytes=0-1")
        assert part.status_code == 403


def test_without_roots_nothing_is_asked_of_the_host(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ood.hosts.local_files.LocalFiles.resolve", None)
    access = FileAccess("portal", LocalHost(), FilesSettings(), ())
    assert access.resolved(f"{home}/x") == access.entry_path(f"{home}/x") == f"{home}/x"
    assert access.start_directory == str(home)


def test_only_roots_are_shown(limited: Limited, rooms: Path) -> None:
    ada = limited(roots=["~/open", "/nothing/here"])
    assert ada.opens("/files").location == address(rooms / "open")
    page = ada.opens(address(rooms / "open/below"))
    assert page.text.count('<li><a href="/files/portal') == 2, "the way down begins at the root"
    assert f'href="{address(rooms)}"' not in page.text
    for name in ("", "closed", "closed/file", "closed/picture", "closed/nothing", "open-too/file"):
        refused(ada, address(rooms / name))
    refused(ada, "/files/portal/")
    refused(ada, "/files/portal/etc/passwd")
    refused(ada, "/files/portal/nowhere/at/all")
    refused(ada, "/files/portal/proc/self/environ")
    for path in (f"{address(rooms)}/open/../closed", f"{address(rooms)}/open/%2e%2e//closed/file"):
        refused(ada, ada.opens(path).location)
    refused(ada, ada.opens(f"{address(rooms / 'open')}?path=..").location)
    assert ada.opens(address(rooms / "open/nothing")).status_code == 404
    assert ada.fetches(f"{address(rooms / 'open/file')}?download").data == b"in open"


def test_links_out_of_the_roots_are_shown_and_lead_nowhere(limited: Limited, rooms: Path) -> None:
    ada = limited(roots=["~/open"])
    rows = ada.rows(address(rooms / "open"))
    assert "Link to a directory" in rows["inner"]
    for name in ("out", "file-out", "picture-out"):
        assert "Link (no access)" in rows[name]
        assert "<a " not in rows[name]
        refused(ada, address(rooms / "open" / name))
    assert "<a " not in rows["nowhere-out"] + rows["loop"]
    refused(ada, address(rooms / "open/nowhere-out"))
    refused(ada, address(rooms / "open/out/file"))
    refused(ada, address(rooms / "open/out/in/out/file"))
    assert ada.opens(address(rooms / "open/loop")).status_code == 404
    assert "Link to a directory" in limited().rows(address(rooms / "open"))["out"]


def test_a_link_into_a_root_is_a_way_in(limited: Limited, rooms: Path) -> None:
    """It is the same file: its real path counts, however it is written."""
    ada = limited(roots=["~/closed/in"])
    assert "in open" in ada.opens(address(rooms / "open/file")).text
    assert "in open" in ada.opens(address(rooms / "closed/in/file")).text
    refused(ada, address(rooms / "closed/file"))
    refused(ada, address(rooms / "open/out/file"))
    ada = limited(roots=["~/open"])
    page = ada.opens(address(rooms / "closed/in/file"))
    assert page.status_code == 200
    assert f'href="{address(rooms / "closed")}"' not in page.text, "no way up but by the shortcuts"
    assert ada.opens(address(rooms / "closed/in/file") + "?edit").status_code == 200
    ada = limited(roots=["~/open/file"])
    assert ada.opens(address(rooms / "open/file")).status_code == 200


def test_a_name_is_an_entry_below_a_root(rooms: Path) -> None:
    """What is made, renamed and deleted is the entry, not what it leads to."""
    settings = FilesSettings(roots=("~/open",))
    access = FileAccess("portal", LocalHost(), settings, ())
    real = os.path.realpath(rooms)
    assert access.entry_path(f"{rooms}/open/out") == f"{real}/open/out"
    assert access.entry_path(f"{rooms}/open/inner/new") == f"{real}/open/below/new"
    assert access.resolved(f"{rooms}/open/inner/new") == f"{real}/open/below/new"
    for path in ("open", "closed/new", "open/out/new", "new", "open-too/new", "nothing/new"):
        with pytest.raises(FileRefused, match=OUTSIDE):
            access.entry_path(f"{rooms}/{path}")
    for path in ("open/nowhere-out", "open/out/new"):
        with pytest.raises(FileRefused, match=OUTSIDE):
            access.resolved(f"{rooms}/{path}")
    with pytest.raises(FileMissing):
        access.entry_path(f"{rooms}/open/nothing/at/all/new")


@pytest.mark.parametrize("operation", [Operation.DOWNLOAD, Operation.EDIT, Operation.UPLOAD])
def test_what_is_turned_off_is_refused(home: Path, operation: Operation) -> None:
    access = FileAccess("portal", LocalHost(), FilesSettings.model_validate({operation: False}), ())
    assert [each for each in Operation if not access.may(each)] == [operation]
    for ask in (access.resolved, access.entry_path):
        assert ask(f"{home}/x") == f"{home}/x"
        with pytest.raises(FileRefused):
            ask(f"{home}/x", operation)


def test_no_downloads(limited: Limited, home: Path) -> None:
    (home / "text").write_text("to be read")
    (home / "data").write_bytes(b"\0data")
    (home / "picture").write_bytes(PNG)
    (home / "large").write_bytes(PNG + bytes(1024 * 1024))
    (home / "paper").write_bytes(b"%PDF-1.7")
    ada = limited(download=False)
    for name in ("text", "data", "picture", "large", "paper"):
        page = ada.opens(address(home / name))
        assert page.status_code == 200
        assert "Download" not in page.text
        assert "?download" not in page.text
        for query in ("?download", "?download&inline", "?download=0"):
            answer = ada.fetches(address(home / name) + query)
            assert answer.status_code == 403
            assert NO_DOWNLOADS in answer.text
    assert "to be read" in ada.opens(address(home / "text")).text
    assert ada.fetches(f"{address(home / 'picture')}?inline").data == PNG
    assert "too large to show" in ada.opens(address(home / "large")).text
    assert "because downloads are not allowed" in ada.opens(address(home / "paper")).text
    for name in ("text", "data", "large", "paper"):
        assert ada.fetches(f"{address(home / name)}?inline").status_code == 403
        part = ada.fetches(f"{address(home / name)}?inline", Range="bytes=0-9")
        assert part.status_code == 403


def test_refusals_are_in_the_audit_log(
    limited: Limited, rooms: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ada = limited(roots=["~/open"], download=False)
    caplog.set_level(logging.INFO, "audit")
    ada.opens(address(rooms / "open/out"))
    ada.fetches(f"{address(rooms / 'open/file')}?download")
    lines = [json.loads(each.message) for each in caplog.records if each.name == "audit"]
    assert [(line["event"], line["status"]) for line in lines] == [("refusal", 403)] * 2
    assert OUTSIDE in lines[0]["reason"]
    assert NO_DOWNLOADS in lines[1]["reason"]


def test_shortcuts(limited: Limited, rooms: Path) -> None:
    def shortcuts(ada: Visitor) -> list[str]:
        text = ada.opens(ada.opens("/files").location).text.partition('class="actions tools"')[2]
        return text.partition("</div>")[0].replace("<bdi>", "").split("</bdi>")[:-1]

    def names(ada: Visitor) -> list[str]:
        return [each.rpartition(">")[2] for each in shortcuts(ada)]

    assert names(limited(favourites=["~", "~/open", "/nothing", "~/open/file"])) == ["~/open"]
    assert names(limited(favourites=["/etc"])) == ["/etc"]
    both = limited(favourites=["/etc", "~/closed"], roots=["~/open", "~/closed"])
    assert names(both) == ["~/closed"], "what is in reach, without where one begins"
    assert "Home" in both.opens(address(rooms / "open")).text


def test_projects_are_named_by_groups(home: Path) -> None:
    assert project_names(["nsh-trial-2", "staff", "x-", "..", "a/b", ""]) == [
        "nsh-trial-2",
        "trial-2",
        "staff",
        "x-",
    ]
    (home / "trial").mkdir()
    settings = FilesSettings(roots=("~/{project}",))
    access = FileAccess("portal", LocalHost(), settings, ["nsh-trial", "other"])
    assert access.start_directory == f"{home}/trial"
    with pytest.raises(FileRefused):
        access.resolved(f"{home}/other")


def test_without_any_root_there_is_nothing(limited: Limited, home: Path) -> None:
    ada = limited(roots=["/nothing"])
    refused(ada, ada.opens("/files").location)
    refused(ada, address(home))


def test_no_address_gets_round_the_roots(limited: Limited, rooms: Path) -> None:
    """Whatever pages there are or will be for paths on hosts. (Shells are the site's to allow.)"""
    ada = limited(roots=["~/open"])
    asked = 0
    for rule in ada.app.url_map.iter_rules():
        if not {"host", "path"} <= rule.arguments or rule.endpoint.startswith("shell"):
            continue
        for method in (rule.methods or set()) - {"OPTIONS"}:
            for name in ("closed", "closed/file", "open/out", "open/out/file", "open/file-out"):
                path = quote(str(rooms / name)).lstrip("/")
                there = rule.rule.replace("<host>", "portal").replace("<path:path>", path)
                there = there.replace("<rest:path>", path)
                assert "<" not in there, rule
                for query in ("", "?download", "?edit", "?all=1&name=file"):
                    data = {"csrf_token": ada.csrf_token, "name": "file", "all": "1"}
                    answer = ada.opens(
                        there + query, method, data=data if method == "POST" else None
                    )
                    assert answer.status_code in (400, 403, 404, 405, 422), (method, there)
                    assert "in closed" not in answer.text
                    asked += 1
    assert asked > 80
    assert (rooms / "closed/file").read_text() == "in closed"
