"""A host that loses what is written, and says so only when the file is closed, or not at all. NFS
does so when a quota is used up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from ood.errors import FileFailed
from ood.hosts.pool import HostPool
from tests.sftp_stub import FAULTS, Stub, sftp_stub
from tests.test_file_changes import Changer, eve, words
from tests.test_files import address, home, settings
from tests.test_web import Page

__all__ = ["eve", "home", "settings"]

HINT = "disk may be full"


@pytest.fixture(params=FAULTS)
def stub(
    request: pytest.FixtureRequest, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stub]:
    """The portal host is one that loses data, once `fault` is set."""
    assert home.is_dir()
    with sftp_stub(tmp_path) as stub:
        monkeypatch.setattr(HostPool, "portal_host", lambda _pool, _user: stub.host)
        assert stub.host.run(["cat"], input=b"x" * 100_000).stdout == b"x" * 100_000
        stub.host.files.write(f"{home}/works", b"x" * 300_000, 0o640)
        assert (home / "works").read_bytes() == b"x" * 300_000
        (home / "works").unlink()
        stub.fault = request.param
        yield stub


def test_files_that_are_written(stub: Stub, home: Path) -> None:
    files, path = stub.host.files, home / "record"
    path.write_text("old")
    for data in (b"new", os.urandom(700_000)):
        with pytest.raises(FileFailed, match=HINT):
            files.replace(str(path), data, 0o600)
        assert path.read_text() == "old"
        assert [*home.iterdir()] == [path]
        with pytest.raises(FileFailed, match=HINT), files.open(f"{home}/other", "xb") as file:
            file.write(data)
        (home / "other").unlink()


def test_an_upload(stub: Stub, eve: Changer, home: Path) -> None:
    assert stub.fault
    (home / "f").write_text("old")
    token = eve.csrf_token
    for if_there in ("replace", "both"):
        data = os.urandom(1_000_000)
        query = {"name": "f", "size": len(data), "modified": 1, "offset": 0, "if_there": if_there}
        answer = eve.client.put(
            f"/uploads/portal{home}?{urlencode(query)}",
            data=data,
            headers={"X-CSRFToken": token, "Accept": "application/json"},
        )
        assert answer.status_code == 502, answer.text
        assert "The disk may be full, or you may have used up your quota." in answer.text
        assert (home / "f").read_text() == "old"
        assert [*home.iterdir()] == [home / "f"]


def test_a_text_is_saved(stub: Stub, eve: Changer, home: Path) -> None:
    (home / "f").write_text("old")
    form = eve.page(f"{address(home / 'f')}?edit").fields | {"text": "a new text"}
    answer = eve.sends(home / "f", form)
    assert answer.status_code == 502
    assert HINT in words(answer)
    assert Page(answer.text).fields["text"] == "a new text"
    (home / "f").unlink()
    answer = eve.sends(home / "f", form | {"fingerprint": "missing"})
    assert HINT in words(answer)
    assert [*home.iterdir()] == []
    stub.fault = ""
    assert eve.sends(home / "f", form | {"fingerprint": "missing"}).status_code == 303
    assert (home / "f").read_text() == "a new text"


def test_a_launch(stub: Stub, eve: Changer, home: Path) -> None:
    assert stub.fault
    answer = eve.submits(cluster="this_machine")
    assert answer.status_code in (422, 502), answer.text
    assert HINT in words(answer)
    assert eve.sessions == []
    left = [path for path in home.rglob("*") if path.is_file()]
    assert left == []
