"""Directories and selections as zip archives, and what becomes of downloads when files change."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from ood.hosts import trees
from ood.hosts.local import LocalHost
from ood.transfers import archive
from ood.transfers.archive import NOTES
from tests.conftest import Devcluster, RunningPortal, wait_until
from tests.test_files import NAMES
from tests.test_uploads import Place, alices, here, memory, place  # noqa: F401 - fixtures
from tests.webuser import WebUser


def asks(place: Place, *names: bytes, **more: str) -> http.client.HTTPResponse:
    """What the portal answers to a form with these names, with its body still to be read."""
    user = place.user
    fields = [("csrf_token", user.token), *(("name", quote(name, safe="")) for name in names)]
    connection = http.client.HTTPConnection("127.0.0.1", user.web.portal.port, timeout=60)
    address = user.address.replace("/uploads/", "/archives/")
    connection.request(
        "POST",
        address,
        urlencode([*fields, *more.items()]),
        {
            "Cookie": user.web.cookie,
            "Content-Type": "application/x-www-form-urlencoded",
            "Connection": "close",
        },
    )
    return connection.getresponse()


def refused(place: Place, *names: bytes) -> int:
    """The status of a request that gets no archive."""
    answer = asks(place, *names)
    answer.read()
    return answer.status


def zipped(place: Place, *names: bytes, **more: str) -> zipfile.ZipFile:
    answer = asks(place, *names, **more)
    assert answer.status == 200, answer.read()
    assert answer.getheader("Content-Type") == "application/zip"
    assert answer.getheader("Content-Disposition", "").startswith("attachment; ")
    found = zipfile.ZipFile(io.BytesIO(answer.read()))
    assert found.testzip() is None
    return found


def test_a_directory_as_an_archive(place: Place, tmp_path: Path) -> None:
    place.run(
        "mkdir -p d/sub/empty; echo 1 > d/1; echo 2 > d/sub/2; chmod 750 d/1; : > d/none;"
        "ln d/1 d/hard; touch -d '2001-02-03 04:05:06' d/1; echo no > other; seq 200000 > d/long"
    )
    found = zipped(place, b"d")
    assert sorted(found.namelist()) == [
        *("d/", "d/1", "d/hard", "d/long", "d/none", "d/sub/", "d/sub/2", "d/sub/empty/")
    ]
    assert found.read("d/1") == found.read("d/hard") == b"1\n"
    assert found.read("d/long").count(b"\n") == 200_000
    assert found.getinfo("d/1").external_attr >> 16 == 0o100750
    assert found.getinfo("d/1").date_time[:3] == (2001, 2, 3)
    # Another program finds it as it should be.
    (tmp_path / "d.zip").write_bytes(asks(place, b"d").read())
    unpack = "import shutil, sys; shutil.unpack_archive(sys.argv[1], sys.argv[2])"
    subprocess.run(
        ["python3", "-c", unpack, tmp_path / "d.zip", tmp_path / "out"], check=True, timeout=120
    )
    assert (tmp_path / "out/d/sub/2").read_text() == "2\n"
    assert zipped(place, all="1").namelist().count("other") == 1


def test_names_in_an_archive(place: Place) -> None:
    script = []
    for number, name in enumerate(NAMES):
        quoted = "".join(f"\\x{byte:02x}" for byte in name)
        script.append(f"printf {number} > ./$'{quoted}'")
    place.run("; ".join(script))
    found = zipped(place, *NAMES)
    texts = sorted(int(found.read(name)) for name in found.namelist() if name != NOTES)
    assert texts == [*range(len(NAMES))]
    for member in found.namelist():
        assert not set(member) & set('<>:"\\|?*\n\r\t\u202e'), member
        assert not member.startswith("/")
        assert ".." not in member.split("/")
        assert not member.endswith((".", " "))
    assert len({*found.namelist()}) == len(NAMES)


def test_what_is_not_in_an_archive_is_named_in_it(alices: Place) -> None:
    alices.run(
        "mkdir -p d/shut; echo 1 > d/1; echo 2 > d/2; chmod 0 d/2 d/shut; mkfifo d/pipe;"
        "ln -s /etc/passwd d/link; ln -s . d/loop; ln -s d top;"
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"d/sock\")'"
    )
    found = zipped(alices, b"d", b"top")
    assert {*found.namelist()} == {"d/", "d/1", NOTES}
    notes = found.read(NOTES).decode()
    for line in (
        "d/2: Cannot open: Permission denied",
        "d/shut: Cannot open: Permission denied",
        "d/pipe: a pipe",
        "d/link: a link to /etc/passwd",
        "d/loop: a link to .",
        "top: a link to d",
        "d/sock: socket ignored",
    ):
        assert line in notes, notes
    alices.run("chmod -R u+rwX d")


def test_an_archive_ends_with_the_browser(alices: Place, devcluster: Devcluster) -> None:
    alices.run("mkdir d; head -c 400M /dev/urandom > d/big")
    tar = ["pgrep", "-u", "alice", "-x", "tar"]
    answer = asks(alices, b"d")
    assert answer.read(1_000_000)
    assert devcluster.host("portal-host", *tar, check=False)
    answer.close()
    wait_until(lambda: not devcluster.host("portal-host", *tar, check=False), 20)
    for _ in range(5):  # and its turn is free again
        asks(alices, b"d").close()
    wait_until(lambda: not devcluster.host("portal-host", *tar, check=False), 20)


def test_an_archive_takes_no_memory(
    start_site: Callable[..., RunningPortal], alices: Place
) -> None:
    portal = start_site()
    alices.user.web = WebUser(portal, "alice")
    alices.user.token = alices.user.web.csrf_token("/apps/container_app")
    alices.run(
        "mkdir d few; echo 1 > few/1; head -c 100M /dev/zero > d/big;cd d && seq 5000 | xargs touch"
    )
    zipped(alices, b"few")
    before = memory(portal, peak=True)
    answer = asks(alices, b"d")
    while answer.read(1 << 20):
        pass
    assert memory(portal, peak=True) - before < 60_000_000


def test_an_archive_that_is_cut_off_does_not_seem_whole(
    alices: Place, devcluster: Devcluster
) -> None:
    alices.run("mkdir d; head -c 300M /dev/urandom > d/big; echo 1 > d/z")
    answer = asks(alices, b"d")
    assert answer.read(1_000_000)
    devcluster.host("portal-host", "pkill", "-u", "alice", "-x", "tar")
    with pytest.raises(http.client.IncompleteRead):
        answer.read()


def test_an_archive_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 5)
    (tmp_path / "d").mkdir()
    for number in range(9):
        (tmp_path / "d" / str(number)).touch()
    with trees.start(LocalHost(), archive.PACK, str(tmp_path), ["d"]) as command:
        found = zipfile.ZipFile(io.BytesIO(b"".join(archive.zipped(command))))
    assert len(found.namelist()) == 6
    assert "Everything after the first 5 files and directories." in found.read(NOTES).decode()


def test_a_site_can_turn_it_off(start_site: Callable[..., RunningPortal], alices: Place) -> None:
    alices.run("mkdir -p in/d out; echo 1 > in/d/1; echo 2 > out/2; ln -s ../out in/link")
    portal = start_site(files={"download": False})
    alices.user.web = web = WebUser(portal, "alice")
    alices.user.token = web.csrf_token("/apps/container_app")
    assert refused(alices, b"in") == 403
    page = web.request("GET", f"/files/{alices.user.place}")[1]
    assert "zip" not in page
    portal = start_site(files={"roots": [f"{alices.directory}/in"]})
    alices.user.web = web = WebUser(portal, "alice")
    alices.user.token = web.csrf_token("/apps/container_app")
    assert refused(alices, b"out") == 403
    inside = Place(alices.run, f"{alices.directory}/in", alices.user)
    alices.user.address += "/in"
    found = zipped(inside, b"d", b"link")
    assert {*found.namelist()} == {"d/", "d/1", NOTES}
    alices.user.address += "/link"
    assert refused(inside, b"2") == 403
    audit = (portal.log.parent / "audit.log").read_text().splitlines()
    downloaded = [json.loads(line)["object"] for line in audit if "file-downloaded" in line]
    assert downloaded == [f"{alices.directory}/in/d", f"{alices.directory}/in/link"]


def test_nothing_chosen_and_what_has_gone(place: Place) -> None:
    answer = asks(place)
    answer.read()
    assert (answer.status, answer.getheader("Location")) == (303, f"/files/{place.user.place}")
    assert refused(place, b"gone") == 404
    assert refused(place, b"../x") in (303, 404)
    place.user.token = ""
    assert refused(place, b"x") == 400


# ---- Files that change while they are sent


def downloading(place: Place, name: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", place.user.web.portal.port, timeout=60)
    connection.request(
        "GET",
        f"/files/{place.user.place}/{name}?download",
        headers={"Cookie": place.user.web.cookie, "Connection": "close"},
    )
    return connection.getresponse()


def test_a_file_that_grows_while_it_is_read(place: Place) -> None:
    """A download is what the file was when it began."""
    place.run("head -c 30M /dev/zero > log")
    answer = downloading(place, "log")
    assert answer.read(1000) == bytes(1000)
    place.run("echo more >> log")
    assert answer.read() == bytes(30 * 2**20 - 1000)
    place.run("mkdir d; head -c 30M /dev/urandom > d/log")
    answer = asks(place, b"d")
    first = answer.read(100_000)
    place.run("echo more >> d/log")
    found = zipfile.ZipFile(io.BytesIO(first + answer.read()))
    assert found.testzip() is None
    assert found.getinfo("d/log").file_size >= 30 * 2**20


def test_a_file_that_is_deleted_while_it_is_downloaded(place: Place) -> None:
    place.run("head -c 30M /dev/urandom > f; sha256sum < f > sum")
    answer = downloading(place, "f")
    first = answer.read(1000)
    place.run("rm f")
    digest = hashlib.sha256(first + answer.read()).hexdigest()
    assert digest == place.run("cat sum").split()[0]
    assert downloading(place, "f").status == 404


def test_a_file_that_becomes_shorter_does_not_seem_whole(place: Place) -> None:
    place.run("head -c 30M /dev/urandom > f")
    answer = downloading(place, "f")
    assert answer.read(1000)
    place.run("truncate -s 5M f")
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
