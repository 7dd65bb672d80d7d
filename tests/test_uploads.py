"""Uploads, as the page's script, forms and browsers send them: to this machine, and to the
devcluster's portal host over SFTP."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from ood.transfers.names import part_name
from ood.web.files.uploads import MAX_FORM, MAX_PART
from tests.conftest import SCREENSHOTS, SLOW, Devcluster, RunningPortal, wait_until
from tests.researcher import Researcher, accessible, looks
from tests.test_files import NAMES
from tests.webuser import WebUser

MODIFIED = 1_700_000_000_123
BOUNDARY = "x" * 30


class Uploader:
    """What the page's script sends, for one user and one directory."""

    def __init__(self, web: WebUser, directory: str, host: str = "portal") -> None:
        self.web = web
        self.place = f"{host}{quote(os.fsencode(directory))}"
        self.address = f"/uploads/{self.place}"
        self.token = web.csrf_token("/apps/container_app")

    def says(
        self, method: str, query: str, body: bytes = b"", kind: str = "application/octet-stream"
    ) -> tuple[int, Any]:
        headers = {"X-CSRFToken": self.token, "Accept": "application/json", "Content-Type": kind}
        answer, text = self.web.request(method, self.address + query, body, **headers)
        return answer.status, json.loads(text) if text else None

    def query(self, name: str, size: int, **more: object) -> str:
        return "?" + urlencode({"name": name, "size": size, "modified": MODIFIED, **more})

    def plans(self, *files: tuple[str, int], directories: tuple[str, ...] = ()) -> tuple[int, Any]:
        chosen = [{"name": name, "size": size, "modified": MODIFIED} for name, size in files]
        body = json.dumps({"files": chosen, "directories": directories}).encode()
        return self.says("POST", "", body, "application/json")

    def sends(
        self, name: str, size: int, offset: int, data: bytes, if_there: str = "refuse"
    ) -> tuple[int, Any]:
        query = self.query(name, size, offset=offset, if_there=if_there)
        return self.says("PUT", query, data)

    def uploads(self, name: str, data: bytes, if_there: str = "refuse") -> tuple[int, Any]:
        return self.sends(name, len(data), 0, data, if_there)

    def cancels(self, name: str, size: int) -> int:
        return self.says("DELETE", self.query(name, size))[0]

    def begins(self, name: str, size: int, data: bytes) -> socket.socket:
        """Send some of a part, and leave it at that."""
        query = self.query(name, size, offset=0, if_there="replace")
        line = socket.create_connection(("127.0.0.1", self.web.portal.port), 20)
        line.sendall(
            f"PUT {self.address}{query} HTTP/1.1\r\nHost: 127.0.0.1:{self.web.portal.port}\r\n"
            f"Cookie: {self.web.cookie}\r\nX-CSRFToken: {self.token}\r\n"
            f"Content-Length: {min(size, MAX_PART)}\r\n\r\n".encode()
        )
        line.sendall(data)
        return line

    def form(
        self, files: dict[str, bytes], if_there: str = "refuse", token: str | None = None
    ) -> tuple[int, str]:
        """What a browser without scripts sends; the status, and what the next page says."""
        token = self.token if token is None else token
        fields = [("csrf_token", token), ("if_there", if_there)]
        parts = [
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode()
            for n, v in fields
        ]
        for name, data in files.items():
            head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"'
            parts += [f"{head}\r\nContent-Type: x/y\r\n\r\n".encode(), data, b"\r\n"]
        body = b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        answer, text = self.web.request("POST", self.address, body, **kind)
        if answer.status == 303:
            text = self.web.request("GET", f"/files/{self.place}")[1]
        return answer.status, " ".join(re.findall(r'<p class="notice[^>]*>([^<]*)<', text)) or text


@dataclass(frozen=True)
class Place:
    """An empty directory of a signed-in user, with a shell at it and what uploads into it."""

    run: Callable[[str], str]
    directory: str
    user: Uploader

    @property
    def left(self) -> list[str]:
        return [name for name in self.run("ls -A --zero").split("\0") if name]


def signed_in(portal: RunningPortal) -> WebUser:
    web = WebUser(portal)
    address = urlsplit(portal.address)
    web.request("GET", f"{address.path}?{address.query}")
    return web


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningPortal, WebUser]]:
    home = tmp_path_factory.mktemp("home")
    portal = RunningPortal(tmp_path_factory.mktemp("portal"), {"HOME": str(home)})
    portal.start()
    yield portal, signed_in(portal)
    portal.stop()


@pytest.fixture(params=["this machine", pytest.param("over SSH", marks=SLOW)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "this machine":
        directory = tmp_path / "it's here"
        directory.mkdir()

        def run(script: str) -> str:
            done = subprocess.run(["bash", "-c", script], cwd=directory, capture_output=True)
            return os.fsdecode(done.stdout)

        web = request.getfixturevalue("here")[1]
        yield Place(run, str(directory), Uploader(web, str(directory)))
        return
    yield request.getfixturevalue("alices")


@pytest.fixture
def alices(devcluster: Devcluster, site: RunningPortal) -> Iterator[Place]:
    top = devcluster.as_user("alice", "portal-host", "mktemp -d ~/upload.XXXXXX").strip()

    def run(script: str) -> str:
        return devcluster.as_user("alice", "portal-host", f"cd {top} && {script}", check=False)

    yield Place(run, top, Uploader(WebUser(site, "alice"), top))
    devcluster.host("portal-host", "rm", "-rf", top)


# ---- Parts


def test_a_file_comes_in_parts_and_appears_when_it_is_whole(place: Place) -> None:
    data = os.urandom(1_500_000)
    sizes = (0, 600_000, 1_200_000, len(data))
    part = part_name("a b.bin", len(data), MODIFIED)
    for start, stop in pairwise(sizes):
        assert place.user.plans(("a b.bin", len(data)))[1]["files"] == [
            {"offset": start, "there": False}
        ]
        status, answer = place.user.sends("a b.bin", len(data), start, data[start:stop])
        assert (status, answer["offset"]) == (200, stop)
        if stop < len(data):
            assert place.left == [part]
            assert place.run(f"stat -c %s '{part}'") == f"{stop}\n"
    assert answer == {"offset": len(data), "done": True, "name": "a b.bin"}
    assert place.left == ["a b.bin"]
    assert place.run("sha256sum < a*").split()[0] == hashlib.sha256(data).hexdigest()
    assert place.run("touch new; stat -c %a a* new").split() == ["644", "644"]


def test_what_has_arrived_is_the_hosts_to_say(place: Place) -> None:
    data = os.urandom(300_000)
    assert place.user.sends("f", len(data), 0, data[:100_000])[0] == 200
    for offset in (0, 50_000, 100_001, 300_000):
        status, answer = place.user.sends("f", len(data), offset, data[offset:])
        assert (status, answer["error"]["code"]) == (409, "upload-elsewhere")
        assert answer["offset"] == 100_000
    assert place.user.sends("f", len(data), 100_000, data[100_000:])[1]["done"]
    assert place.run("sha256sum < f").split()[0] == hashlib.sha256(data).hexdigest()


def test_more_than_the_file_had_is_refused(place: Place) -> None:
    status, answer = place.user.sends("f", 10, 0, b"x" * 11)
    assert status == 502
    assert "changed during the upload" in answer["error"]["message"]
    assert place.left == []


def test_every_name(place: Place) -> None:
    names = [name.decode() for name in NAMES if b"\xff" not in name and b"\xc3 " not in name + b" "]
    for name in names:
        status, answer = place.user.uploads(name, os.fsencode(name))
        assert (status, answer["name"]) == (200, name)
        assert place.user.uploads(f"dir {name[:100]}/{name}", b"x")[0] == 200
        assert place.user.uploads(name, b"second", "both")[0] == 200
    assert {name.replace("\r", "\n") for name in names} < {
        name.replace("\r", "\n") for name in place.left
    }
    assert len(place.left) == 3 * len(names)
    assert not [name for name in place.left if name.endswith(".ood-upload")]
    found = place.run("find . -maxdepth 1 -type f -print0 | sort -z | xargs -0 cat")
    assert found.count("second") == len(names)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/../../x", "/etc/x", "a//b", "a/", "a\0b", "x" * 256, "../x"]
)
def test_names_that_cannot_be(
    here: tuple[RunningPortal, WebUser], tmp_path: Path, name: str
) -> None:
    (tmp_path / "in").mkdir()
    user = Uploader(here[1], str(tmp_path / "in"))
    for status, _ in (user.uploads(name, b"x"), user.plans((name, 1))):
        assert 400 <= status < 503
    assert user.cancels(name, 1) >= 400
    assert [*tmp_path.rglob("*")] == [tmp_path / "in"]


def test_directories_are_made(place: Place) -> None:
    status, _ = place.user.plans(directories=("a/empty", "a/b"))
    assert status == 200
    assert place.user.uploads("a/b/c/d.txt", b"1")[0] == 200
    assert place.user.uploads("a/b/c/e.txt", b"2")[0] == 200
    assert place.run("find . -mindepth 1 | sort").split() == [
        *("./a", "./a/b", "./a/b/c", "./a/b/c/d.txt", "./a/b/c/e.txt", "./a/empty")
    ]
    status, answer = place.user.uploads("a/b/c/d.txt/x", b"1")
    assert status == 409
    assert "is not a directory" in answer["error"]["message"]


def test_nothing_is_overwritten_unasked(place: Place) -> None:
    place.run("echo old > f.txt; chmod 640 f.txt; mkdir d; ln -s f.txt link")
    assert [
        each["there"] for each in place.user.plans(("f.txt", 3), ("d", 3), ("g", 3))[1]["files"]
    ] == [*(True, True, False)]
    status, answer = place.user.uploads("f.txt", b"new")
    assert (status, answer["error"]["code"]) == (409, "file-exists")
    assert place.run("cat f.txt") == "old\n"
    assert place.user.sends("f.txt", 3, 3, b"", "both")[1]["name"] == "f (2).txt"
    assert place.user.uploads("f.txt", b"new", "both")[1]["name"] == "f (3).txt"
    assert place.user.uploads("f.txt", b"new", "replace")[1]["name"] == "f.txt"
    assert place.run("cat f.txt; stat -c %a f.txt") == "new640\n"
    for if_there in ("refuse", "replace"):
        assert place.user.uploads("d", b"new", if_there)[0] == 409
    assert place.user.uploads("link", b"link", "replace")[0] == 200
    assert place.run("cat f.txt link; stat -c %F link") == "newlinkregular file\n"
    assert place.user.cancels("d", 3) == 204
    assert place.left == ["d", "f (2).txt", "f (3).txt", "f.txt", "link"]


def test_a_browser_that_breaks_off_can_go_on(place: Place) -> None:
    data = os.urandom(3_000_000)
    place.run("echo old > f")
    place.user.begins("f", len(data), data[:2_000_000]).close()

    def got() -> int:
        return int(place.user.plans(("f", len(data)))[1]["files"][0]["offset"])

    wait_until(lambda: got() > 1_000_000)
    assert place.run("cat f") == "old\n"

    def goes_on() -> bool:
        """Something may still be on its way: then it is elsewhere by now."""
        offset = got()
        status, answer = place.user.sends("f", len(data), offset, data[offset:], "replace")
        assert status in (200, 409), answer
        return status == 200

    wait_until(goes_on)
    assert place.run("sha256sum < f").split()[0] == hashlib.sha256(data).hexdigest()
    assert place.left == ["f"]


def test_cancelling_leaves_nothing(place: Place) -> None:
    place.run("echo old > f")
    assert place.user.sends("f", 100, 0, b"x" * 50)[0] == 200
    assert len(place.left) == 2
    for _ in range(2):
        assert place.user.cancels("f", 100) == 204
        assert place.left == ["f"]
    assert place.user.cancels("none/f", 100) == 204


def test_a_part_that_somebody_else_put_there(place: Place, request: pytest.FixtureRequest) -> None:
    place.run("echo mine > secret; chmod 644 secret")
    for number, make in enumerate(
        ("ln -s secret '{}'", "ln secret '{}'", "mkdir '{}'", "mkfifo '{}'", ": > '{}'")
    ):
        name = f"f{number}"
        part = part_name(name, 100, MODIFIED)
        place.run(make.replace("{}", part))
        if make.startswith(":"):
            give = ["sh", "-c", 'chown bin "$0" && chmod 666 "$0"', f"{place.directory}/{part}"]
            if place.run("id -u").strip() == "0":
                subprocess.run(give, check=True)
            else:
                request.getfixturevalue("devcluster").host("portal-host", *give)
        for offset in (0, 5):
            status, answer = place.user.sends(name, 100, offset, b"x" * 50)
            assert status == 403, make
            assert "is in the way. Delete that file" in answer["error"]["message"]
    assert place.run("cat secret") == "mine\n"


RIGHTS = (
    "getfacl -cp {0} | sed s/#.*//; stat -c '%A %G' {0}; "
    "getfattr -d --absolute-names {0} | grep user || :"
)


def test_a_new_file_has_the_rights_that_its_directory_gives(place: Place) -> None:
    place.run("mkdir s; chmod 2770 s; setfacl -d -m g:mail:rwx,o::--- s; chgrp users s || :")
    assert place.user.uploads("s/in one", b"x")[0] == 200
    assert place.user.sends("s/in parts", 2, 0, b"x")[0] == 200
    part = f"s/{part_name('in parts', 2, MODIFIED)}"
    place.run("cd s; touch touched; mkdir made")
    touched = place.run(RIGHTS.format("s/touched"))
    assert "group:mail:rwx" in touched
    assert place.run(RIGHTS.format(f"'{part}'")) == touched
    assert place.user.sends("s/in parts", 2, 1, b"x")[0] == 200
    assert place.user.form({"below": b"x"})[0] == 303
    for name in ("in one", "in parts"):
        assert place.run(RIGHTS.format(f"'s/{name}'")) == touched
    assert place.user.uploads("s/new/below", b"x")[0] == 200
    assert place.run(RIGHTS.format("s/new")) == place.run(RIGHTS.format("s/made"))


def test_a_replaced_file_keeps_its_rights(place: Place) -> None:
    place.run("mkdir s; setfacl -d -m g:mail:rwx s; echo old > s/f; setfattr -n user.a -v 1 s/f")
    for change in ("setfacl -b s/f; chmod 600 s/f", "setfacl -m u:bin:r-- s/f"):
        place.run(change)
        before = place.run(RIGHTS.format("s/f"))
        assert 'user.a="1"' in before
        assert place.user.sends("s/f", 3, 0, b"n", "replace")[0] == 200
        part = f"s/{part_name('f', 3, MODIFIED)}"
        assert place.run(RIGHTS.format(f"'{part}'")) == before, "no more may read it meanwhile"
        assert place.user.sends("s/f", 3, 1, b"ew", "replace")[0] == 200
        assert place.run(RIGHTS.format("s/f") + "; cat s/f") == before + "new"


def test_a_full_disk_is_said_and_nothing_is_left(alices: Place, devcluster: Devcluster) -> None:
    mount = f"mount -t tmpfs -o size=1m,mode=777 none {alices.directory}"
    devcluster.host("portal-host", "sh", "-c", mount)
    try:
        assert alices.user.uploads("old", b"old")[0] == 200
        status, answer = alices.user.uploads("old", os.urandom(3_000_000), "replace")
        assert status == 502
        assert (
            "The disk may be full, or you may have used up your quota. The partial"
            in (answer["error"]["message"])
        )
        assert "ood-upload" not in answer["error"]["message"]
        assert alices.left == ["old"]
        assert alices.run("cat old") == "old"
        status, said = alices.user.form({"x.bin": os.urandom(3_000_000), "y": b"fits"})
        assert "Could not upload x.bin" in said
        assert "Uploaded y." in said
        assert alices.left == ["old", "y"]
    finally:
        devcluster.host("portal-host", "umount", "-l", alices.directory)


def test_what_the_host_does_not_permit(alices: Place, site: RunningPortal) -> None:
    shut = alices.run("mktemp -d /tmp/shut.XXXXXX").strip()
    alices.run(f"chmod 555 {shut}")
    for web in (alices.user.web, WebUser(site, "bob")):
        user = Uploader(web, shut)
        status, answer = user.uploads("f", b"x")
        assert status == 403
        assert answer["error"]["message"].startswith("You do not have permission to write to /tmp")
        assert "not have permission" in user.form({"f": b"x"})[1]
    assert alices.run(f"ls -A {shut} && rmdir {shut}") == ""


# ---- Forms


def test_a_form_without_scripts(place: Place) -> None:
    place.run("echo old > f.txt")
    data = os.urandom(2_000_000) + b"\r\n--" + BOUNDARY[:-1].encode()
    status, said = place.user.form({"a.bin": data, "f.txt": b"new", "empty": b""})
    assert status == 303
    assert "f.txt already exists. It was not replaced." in said
    assert "Uploaded 2 files." in said
    assert place.left == ["a.bin", "empty", "f.txt"]
    assert place.run("sha256sum < a.bin").split()[0] == hashlib.sha256(data).hexdigest()
    assert "Uploaded f (2).txt." in place.user.form({"f.txt": b"new"}, "both")[1]
    assert "Uploaded f.txt." in place.user.form({"f.txt": b"newer"}, "replace")[1]
    assert place.run("cat 'f (2).txt' f.txt") == "newnewer"
    assert "No file was chosen" in place.user.form({"": b""})[1]


def test_a_form_needs_its_token_first(here: tuple[RunningPortal, WebUser], tmp_path: Path) -> None:
    user = Uploader(here[1], str(tmp_path))
    assert user.form({"a": b"x"}, token="")[0] == 400
    assert user.form({"a": b"x"}, token="nonsense")[0] == 400
    user.token = ""
    assert user.uploads("a", b"x")[0] == 400
    assert user.plans(("a", 1))[0] == 400
    assert user.cancels("a", 1) == 400
    assert [*tmp_path.iterdir()] == []


def test_a_form_that_breaks_off_leaves_nothing(place: Place) -> None:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{{}}"{{}}\r\n\r\n'
    token = head.format("csrf_token", "") + place.user.token + "\r\n"
    body = (token + head.format("file", '; filename="f"')).encode() + b"x" * 2_500_000
    with socket.create_connection(("127.0.0.1", place.user.web.portal.port), 20) as line:
        line.sendall(
            f"POST {place.user.address} HTTP/1.1\r\nHost: 127.0.0.1:{place.user.web.portal.port}"
            f"\r\nCookie: {place.user.web.cookie}\r\nContent-Length: 5000000\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode()
            + body
        )
        wait_until(lambda: place.left, 20)
    wait_until(lambda: place.left == [], 20)


def test_sizes_have_limits(here: tuple[RunningPortal, WebUser], tmp_path: Path) -> None:
    user = Uploader(here[1], str(tmp_path))
    lines = {
        "PUT": (user.query("f", 2**40, offset=0, if_there="refuse"), MAX_PART + 1),
        "POST": ("", MAX_FORM + 1),
    }
    for method, (query, length) in lines.items():
        connection = http.client.HTTPConnection("127.0.0.1", here[0].port, timeout=20)
        connection.putrequest(method, user.address + query)
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        for name, value in {
            "Cookie": user.web.cookie,
            "X-CSRFToken": user.token,
            "Content-Length": str(length),
            "Content-Type": kind,
            "Accept": "application/json",
        }.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413
        assert "too large for the portal" in answer.read().decode()
        connection.close()


# ---- What the site allows


def test_a_site_can_turn_it_off(start_site: Callable[..., RunningPortal], alices: Place) -> None:
    portal = start_site(files={"upload": False})
    user = Uploader(WebUser(portal, "alice"), alices.directory)
    assert user.uploads("f", b"x")[0] == 403
    assert user.plans(("f", 1), directories=("d",))[0] == 403
    assert user.cancels("f", 1) == 403
    status, said = user.form({"f": b"x"})
    assert status == 403
    assert "Uploads are turned off on this portal." in said
    assert alices.left == []
    page = user.web.request("GET", f"/files/portal{alices.directory}")[1]
    assert "Upload" not in page


def test_roots_hold_for_uploads(start_site: Callable[..., RunningPortal], alices: Place) -> None:
    alices.run("mkdir in out; ln -s ../out in/link; ln -s ../out/new in/dangling")
    portal = start_site(files={"roots": [f"{alices.directory}/in"]})
    web = WebUser(portal, "alice")
    inside = Uploader(web, f"{alices.directory}/in")
    assert inside.uploads("f", b"x")[0] == 200
    assert inside.uploads("sub/dir/f", b"x")[0] == 200
    for user, name in (
        (Uploader(web, alices.directory), "f"),
        (Uploader(web, f"{alices.directory}/out"), "f"),
        (Uploader(web, f"{alices.directory}/in/link"), "f"),
        (inside, "link/f"),
        (inside, "link/sub/f"),
        (inside, "dangling/f"),
    ):
        assert user.uploads(name, b"x")[0] == 403, name
        assert user.plans((name, 1))[0] == 403 or user is inside
    assert inside.plans(directories=("link/d",))[0] == 403
    assert alices.run("find out -mindepth 1") == ""
    audit = (portal.log.parent / "audit.log").read_text().splitlines()
    uploaded = [json.loads(line) for line in audit if "file-uploaded" in line]
    assert [(line["user"], line["object"]) for line in uploaded] == [
        ("alice", f"{alices.directory}/in/f"),
        ("alice", f"{alices.directory}/in/sub/dir/f"),
    ]


# ---- A portal that dies, and one that holds no more than it must


def test_a_portal_that_is_killed_loses_nothing(
    start_site: Callable[..., RunningPortal], alices: Place
) -> None:
    portal = start_site()
    data = os.urandom(20_000_000)
    alices.run("echo old > f")
    user = Uploader(WebUser(portal, "alice"), alices.directory)
    line = user.begins("f", len(data), data[:15_000_000])
    part = part_name("f", len(data), MODIFIED)
    wait_until(lambda: int(alices.run(f"stat -c %s {part}").strip() or 0) > 10_000_000, 30)
    portal.kill()
    line.close()
    assert alices.run("cat f") == "old\n"
    portal.start()
    user = Uploader(WebUser(portal, "alice"), alices.directory)
    (known,) = user.plans(("f", len(data)))[1]["files"]
    assert known["there"]
    assert 10_000_000 < known["offset"] <= 15_000_000
    rest = data[known["offset"] :]
    assert user.sends("f", len(data), known["offset"], rest, "replace")[1]["done"]
    assert alices.run("sha256sum < f").split()[0] == hashlib.sha256(data).hexdigest()
    assert alices.left == ["f"]


def memory(portal: RunningPortal, peak: bool = False) -> int:
    """Bytes that the portal's worker holds, or has held at most."""
    status = Path(f"/proc/{portal.worker}/status").read_text()
    found = re.search(f"Vm{'HWM' if peak else 'RSS'}:\\s+(\\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def test_large_files_go_through_and_take_no_memory(
    start_site: Callable[..., RunningPortal], alices: Place
) -> None:
    portal = start_site()
    user = Uploader(WebUser(portal, "alice"), alices.directory)

    def goes_through(name: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        for start in range(0, len(data), MAX_PART):
            part = data[start : start + MAX_PART]
            status, answer = user.sends(name, len(data), start, part)
            assert status == 200
        assert answer["done"]
        assert user.form({f"form-{name}": data})[0] == 303
        sums = alices.run(f"sha256sum {name} form-{name}").split()
        assert sums[0] == sums[2] == digest
        found = hashlib.sha256()
        for piece in user.web.downloads(f"/files/{user.place}/{name}?download"):
            found.update(piece)
        assert found.hexdigest() == digest

    goes_through("small", os.urandom(24 << 20))
    before = memory(portal, peak=True)
    goes_through("large", os.urandom(1 << 20) * 200)
    assert memory(portal, peak=True) - before < 40_000_000


# ---- In a browser


def test_in_a_browser(
    browser: Chromium, alices: Place, site: RunningPortal, tmp_path: Path
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tree = tmp_path / "my data"
    (tree / "sub").mkdir(parents=True)
    for number in range(30):
        (tree / "sub" / f"{number} <b>.csv").write_text(str(number))
    (tree / "big.bin").write_bytes(os.urandom(30_000_000))
    alices.run("echo old > taken.txt")
    (tmp_path / "taken.txt").write_text("new")
    (tmp_path / "other.txt").write_text("other")
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        alice = Researcher(page, site)
        alice.signs_in("alice")
        expect(page.get_by_role("button", name="Log Out")).to_be_visible()
        here = f"{site.url}/files/portal{alices.directory}"
        page.goto(here)
        page.locator("#upload > summary").click()
        for look in looks(page):
            accessible(page, f"upload-{look}")
        page.set_viewport_size({"width": 1280, "height": 900})
        page.locator("[data-input=directory]").set_input_files(tree)
        expect(page.get_by_text("31 files uploaded.")).to_be_visible(timeout=120_000)
        assert alices.run("ls 'my data/sub' | wc -l").strip() == "30"
        found = alices.run("sha256sum < 'my data/big.bin'").split()[0]
        assert found == hashlib.sha256((tree / "big.bin").read_bytes()).hexdigest()
        expect(page.get_by_role("link", name="my data")).to_be_visible()
        # Nothing is overwritten unasked.
        both = [tmp_path / "taken.txt", tmp_path / "other.txt"]
        page.locator("[data-input=files]").set_input_files(both)
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("taken.txt")
        accessible(page, "upload-taken")
        dialog.get_by_role("button", name="Skip them").click()
        expect(page.get_by_text("1 file uploaded.")).to_be_visible()
        assert alices.run("cat taken.txt other.txt") == "old\nother"
        page.locator("[data-input=files]").set_input_files(both)
        dialog.get_by_role("button", name="Keep both").click()
        expect(page.get_by_text("2 files uploaded.")).to_be_visible()
        assert alices.run("cat 'taken (2).txt' 'other (2).txt'") == "newother"
        network = context.new_cdp_session(page)
        network.send("Network.enable")

        def is_slow(offline: bool = False) -> None:
            """Slow enough to be broken off and cancelled."""
            rates = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": 2e7}
            network.send("Network.emulateNetworkConditions", {"offline": offline, **rates})

        # A connection that breaks.
        is_slow()
        big = tmp_path / "big.bin"
        big.write_bytes(os.urandom(150_000_000))
        part = part_name(big.name, 150_000_000, int(big.stat().st_mtime * 1000))
        page.locator("[data-input=files]").set_input_files(big)
        wait_until(lambda: alices.run(f"stat -c %s '{part}'").strip() not in ("", "0"), 30)
        is_slow(offline=True)
        expect(page.get_by_text("The connection dropped")).to_be_visible()
        assert "big.bin" not in alices.left
        is_slow()
        expect(page.get_by_text("1 file uploaded.")).to_be_visible(timeout=120_000)
        found = alices.run("sha256sum < big.bin").split()[0]
        assert found == hashlib.sha256(big.read_bytes()).hexdigest()
        # Cancelling.
        os.utime(big)
        page.locator("[data-input=files]").set_input_files(big)
        dialog.get_by_role("button", name="Replace them").click()
        page.get_by_role("button", name="Cancel big.bin").click()
        expect(page.get_by_text("1 upload cancelled.")).to_be_visible()
        wait_until(lambda: [n for n in alices.left if n.endswith("ood-upload")] == [], 20)
        assert alices.run("sha256sum < big.bin").split()[0] == found
        # What nobody goes on with is shown.
        alices.user.sends("abandoned.bin", 100, 0, b"x" * 10)
        page.goto(here)
        page.get_by_text("Unfinished uploads and copies (1)").click()
        accessible(page, "upload-unfinished")
        page.locator("#unfinished").get_by_role("button", name="Delete").click()
        page.get_by_role("button", name=re.compile("Delete")).last.click()
        wait_until(lambda: [n for n in alices.left if n.endswith("ood-upload")] == [], 20)
        assert [one for one in alice.complaints if "ERR_" not in one] == []
