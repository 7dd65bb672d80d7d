"""The File Manager's changes on the devcluster: over SSH, as alice and as bob, on the portal host
and on a back-end with homes of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.conftest import Devcluster, RunningPortal
from tests.test_file_changes import value
from tests.test_files import NAMES, SCRIPT
from tests.test_web import Page
from tests.webuser import WebUser

HOSTS = {"portal": "portal-host", "beta": "beta-login"}


class Changer(WebUser):
    """One signed-in user at the File Manager of one host."""

    host = "portal"

    def at(self, path: str | bytes, query: str = "") -> str:
        data = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
        return f"/files/{self.host}{quote(data)}{query}"

    def looks(self, path: str | bytes, query: str = "") -> tuple[int, str]:
        answer, text = self.request("GET", self.at(path, query))
        return answer.status, text

    def does(self, action: str, where: str | bytes, /, **fields: Any) -> tuple[int, str]:
        """Send a form; return status and the text of the page that follows."""
        data = {"csrf_token": self.csrf_token("/"), "action": action} | fields
        body = urlencode(data, doseq=True)
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        answer, text = self.request("POST", self.at(where), body, **kind)
        if answer.status == 303:
            _, text = self.request("GET", answer.getheader("Location") or "")
        return answer.status, text

    def deletes(self, where: str | bytes, **fields: Any) -> str:
        status, text = self.does("delete", where, **fields)
        assert status == 200, text
        status, text = self.does("delete", where, sure=Page(text).fields["sure"], **fields)
        assert status == 303, text
        return notice(text)


def notice(text: str) -> str:
    found = re.search(r'<p class="notice (bad)?" role="(status|alert)">\s*(.*?)</p>', text, re.S)
    return found[3] if found else ""


@pytest.fixture(params=list(HOSTS))
def alice(site: RunningPortal, request: pytest.FixtureRequest) -> Changer:
    alice = Changer(site, "alice")
    alice.host = request.param
    return alice


@pytest.fixture
def room(alice: Changer, devcluster: Devcluster) -> Iterator[str]:
    """A new directory of alice's."""
    machine = HOSTS[alice.host]
    path = devcluster.as_user("alice", machine, "mktemp -d ~/room.XXXXXX").strip()
    yield path
    devcluster.host(machine, "sh", "-c", f"umount -q {path}/disk; rm -rf {path}")


@pytest.fixture
def shell(alice: Changer, devcluster: Devcluster, room: str) -> Callable[..., str]:
    """Run a command in the room: as root, or as a user over SSH."""

    def shell(command: str, user: str = "") -> str:
        line = f"cd {room} && {{ {command}\n}}"
        if user:
            return devcluster.as_user(user, HOSTS[alice.host], line)
        return devcluster.host(HOSTS[alice.host], "bash", "-c", line)

    return shell


def test_every_name_over_ssh(alice: Changer, room: str, shell: Callable[..., str]) -> None:
    typed = [name for name in NAMES if name.decode("utf-8", "ignore").encode() == name]
    for name in typed:
        status, text = alice.does("new-file", room, new=name)
        assert status == 303, (name, text)
        assert "Edit <bdi>" in text
    made = b"".join(
        b"\\x%02x" % byte for name in NAMES if name not in typed for byte in name + b"\0"
    )
    shell(f"printf '{made.decode()}' | xargs -0 touch --", "alice")
    for name in NAMES:
        status, text = (
            alice.does("new-file", room, new=name) if name in typed else (422, "already exists")
        )
        assert (status, "already exists" in text) == (422, True), name
        status, text = alice.does("rename", room, name=value(name), new_name="other name")
        assert status == 303, (name, text)
        assert "<script>alert" not in text
        back = name.decode("utf-8", "replace")
        status, text = alice.does("rename", room, name="other%20name", new_name=back)
        assert status == 303, (name, text)
    every = [value(name.decode("utf-8", "replace")) for name in NAMES]
    status, text = alice.does("permissions", room, name=every, set="1", octal="604")
    assert status == 303
    assert "Set the permissions" in notice(text)
    assert shell("stat -c %a -- * | sort -u", "alice") == "604\n"
    form = Page(alice.looks(f"{room}/-rf", "?edit")[1]).fields
    status, text = alice.does("save", f"{room}/-rf", **form | {"text": f"{SCRIPT}\r\n"})
    assert (status, "<script>alert" in text) == (303, False)
    assert shell("cat -- -rf") == f"{SCRIPT}\n"
    text = alice.deletes(room, name=every)
    assert "Deleted" in text
    assert shell("find . -mindepth 1") == ""


def test_trees_over_ssh(alice: Changer, room: str, shell: Callable[..., str]) -> None:
    shell("mkdir -p tree/below elsewhere && seq 1000 > tree/below/file", "alice")
    shell("echo kept > elsewhere/kept; ln -s ../elsewhere tree/link; ln -s tree/link link", "alice")
    _, text = alice.does("delete", room, name=["tree", "link"])
    plain = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", text))
    assert "Files 3 Directories 2 Size 3.8 KiB" in plain
    alice.does("permissions", room, name=["tree", "link"], set="1", octal="640", below="1")
    assert shell("stat -c %a tree tree/below tree/below/file elsewhere/kept") in (
        "750\n750\n640\n644\n",
        "750\n750\n640\n664\n",
    )
    alice.deletes(room, name=["tree", "link"])
    assert shell("find . -mindepth 1 | sort") == "./elsewhere\n./elsewhere/kept\n"


def test_in_a_directory_of_any_name(alice: Changer, room: str, shell: Callable[..., str]) -> None:
    name = b"-d 'a\"b$(touch pwned)`<script>\n\xff\xe2\x80\xae"
    where = room.encode() + b"/" + name
    octal = "".join(f"\\x{byte:02x}" for byte in name)
    shell(f"printf '{octal}' | xargs -0 mkdir --", "alice")
    assert alice.does("new-file", where, new="-x")[0] == 303
    form = Page(alice.looks(where + b"/-x", "?edit")[1]).fields
    status, text = alice.does("save", where + b"/-x", **form | {"text": "text"})
    assert (status, "<script>\n" in text) == (303, False)
    assert alice.does("new-directory", where, new="y")[0] == 303
    assert (
        "Set the permissions" in alice.does("permissions", where, all="1", set="1", octal="700")[1]
    )
    assert shell("cat -- */-x; stat -c %a -- */*") == "text700\n700\n"
    assert "Deleted" in alice.deletes(where, all="1")
    assert "Deleted" in alice.deletes(room, name=value(name))
    assert shell("find . -mindepth 1; ls / | grep pwned || true") == ""


def test_what_permissions_forbid_is_said(
    alice: Changer, site: RunningPortal, room: str, shell: Callable[..., str]
) -> None:
    shell("mkdir mixed; touch mixed/alices; mkdir -m 700 mixed/roots; touch mixed/roots/file")
    shell("chown alice mixed mixed/alices; touch roots; chmod 711 .")
    _, text = alice.does("delete", room, name=["mixed", "roots"])
    assert "at least" in text
    said = alice.deletes(room, name=["mixed", "roots"])
    assert "Deleted 1 item, but not “mixed”: Permission denied." in said
    assert "At least 2 items left." in said
    assert shell("find mixed | sort") == "mixed\nmixed/roots\nmixed/roots/file\n"
    _, text = alice.does("permissions", room, name="mixed", set="1", octal="700", below="1")
    assert "Could not set all permissions: " in notice(text)
    shell("echo kept > alices; chmod 644 alices; chown alice alices; mkdir hers; chown alice hers")
    bob = Changer(site, "bob")
    bob.host = alice.host
    for form in (
        {"action": "new-file", "new": "x"},
        {"action": "new-directory", "new": "x"},
        {"action": "rename", "name": "alices", "new_name": "x"},
    ):
        action = form.pop("action")
        status, text = bob.does(action, room, **form)
        assert status in (403, 422), text
        assert "permission" in text
    if bob.host == "portal":  # she may not look into it, and neither may he
        assert bob.looks(room)[0] == 403
    form = {"text": "lost", "fingerprint": "missing"}
    status, text = bob.does("save", f"{room}/new", **form)
    assert status == 403
    assert Page(text).fields["text"] == "lost"
    sure = Page(alice.does("delete", room, name="alices")[1]).fields["sure"]
    status, text = bob.does("delete", room, name="alices", sure=sure)
    assert shell("cat alices; ls") == "kept\nalices\nhers\nmixed\n"


def test_text_of_a_shared_project(alice: Changer, room: str, shell: Callable[..., str]) -> None:
    """What a group shares goes on being the group's, whoever saves it."""
    shell("chgrp nsh-trial . && chmod 770 . && echo old > shared")
    shell("chown bob:nsh-trial shared && chmod 664 shared; mkdir closed && echo old > closed/file")
    shell("chmod 666 closed/file; ln -s ../shared closed/link")
    form = Page(alice.looks(f"{room}/closed/link", "?edit")[1]).fields
    assert form["text"] == "old\n"
    status, text = alice.does("save", f"{room}/closed/link", **form | {"text": "new\r\n"})
    assert status == 303, text
    assert shell("cat shared; stat -c '%U %G %a' shared") == "new\nalice nsh-trial 664\n"
    assert shell("readlink closed/link; ls -A . closed | grep -c bak || true") == "../shared\n0\n"
    form = Page(alice.looks(f"{room}/closed/file", "?edit")[1]).fields
    status, text = alice.does("save", f"{room}/closed/file", **form | {"text": "new"})
    assert status == 403
    assert f"You do not have permission to write to {room}/closed" in text
    assert Page(text).fields["text"] == "new"
    assert shell("cat closed/file") == "old\n"
    shell("echo old > others; chown bob:nsh-trial others; chmod 640 others")
    _, text = alice.looks(f"{room}/others", "?edit")
    status, text = alice.does("save", f"{room}/others", **form | {"text": "new"})
    assert status == 422
    assert f"You do not have permission to change {room}/others." in text
    assert shell("cat others") == "old\n"


def test_what_is_made_and_saved_has_the_rights_of_its_place(
    alice: Changer, room: str, shell: Callable[..., str]
) -> None:
    shell("mkdir s && setfacl -d -m g:nsh-trial:rwx s && cd s && touch t && mkdir dir", "alice")
    shell("cd s && echo 1 > old && setfacl -b old && setfattr -n user.a -v 1 old", "alice")
    shell("cd s && echo 1 > listed && setfacl -m u:bob:r old", "alice")

    def rights(name: str) -> str:
        return shell(f"getfacl -c s/{name}; getfattr -d s/{name}", "alice")

    before = {name: rights(name) for name in ("old", "listed")}
    assert alice.does("new-file", f"{room}/s", new="file")[0] == 303
    assert alice.does("new-directory", f"{room}/s", new="made")[0] == 303
    form = {"text": "text", "fingerprint": "missing", "line_end": "lf"}
    assert alice.does("save", f"{room}/s/gone", **form)[0] == 303
    assert rights("file") == rights("gone") == rights("t")
    assert rights("made") == rights("dir")
    for name, were in before.items():
        form = Page(alice.looks(f"{room}/s/{name}", "?edit")[1]).fields
        assert alice.does("save", f"{room}/s/{name}", **form | {"text": "new"})[0] == 303
        assert rights(name) == were
    assert shell("cat s/old s/listed s/gone; ls -A s | wc -l") == "newnewtext7\n"


@pytest.mark.parametrize("why", ["full", "read-only"])
def test_a_disk_that_takes_nothing(
    alice: Changer, room: str, shell: Callable[..., str], why: str
) -> None:
    shell("mkdir disk && mount -t tmpfs -o size=16k,mode=777 none disk")
    shell("echo old > disk/text; mkdir disk/directory; chown -R alice disk")
    form = Page(alice.looks(f"{room}/disk/text", "?edit")[1]).fields
    if why == "full":
        shell("cat /dev/zero > disk/large 2>/dev/null || true")
    else:
        shell("mount -o remount,ro disk")
    status, text = alice.does("save", f"{room}/disk/text", **form | {"text": "new\r\n" * 9000})
    assert status in (422, 502)
    assert "Your changes were not saved. Your text is below." in text
    assert Page(text).fields["text"] == "new\n" * 9000
    assert ".bak" not in text
    assert shell("cat disk/text") == "old\n"
    assert ".bak" not in shell("ls -A disk")
    if why == "full":
        assert "disk may be full" in text
        assert "Deleted" in alice.deletes(f"{room}/disk", name="large")
        form = Page(alice.looks(f"{room}/disk/text", "?edit")[1]).fields
        assert alice.does("save", f"{room}/disk/text", **form | {"text": "new"})[0] == 303
        assert shell("cat disk/text") == "new"
        return
    for action in ("new-file", "new-directory"):
        status, text = alice.does(action, f"{room}/disk", new="x")
        assert status == 422
        assert "read-only" in text
        assert Page(text).fields["new"] == "x"
    status, text = alice.does("rename", f"{room}/disk", name="text", new_name="x")
    assert (status, Page(text).fields["new_name"]) == (502, "x")
    assert "Read-only file system" in alice.deletes(f"{room}/disk", name="directory")
    _, text = alice.does("permissions", f"{room}/disk", name="text", set="1", octal="600")
    assert "Read-only file system" in notice(text)


def test_roots_over_ssh(
    start_site: Callable[..., RunningPortal], alice: Changer, room: str, shell: Callable[..., str]
) -> None:
    name = room.rpartition("/")[2]
    shell("mkdir open closed; echo in > open/file; echo out > closed/file", "alice")
    shell("ln -s ../closed open/out; ln -s ../closed/file open/file-out", "alice")
    shell("ln -s ../closed/new open/new-out; ln -s loop open/loop; ln -s open into", "alice")
    portal = start_site(files={"roots": [f"~/{name}/into"], "download": False})
    limited = Changer(portal, "alice")
    limited.host = alice.host
    status, text = limited.looks(f"{room}/into")
    assert status == 200
    rows = dict(re.findall(r'<tr data-name="([^"]*)"(.*?)</tr>', text, re.S))
    assert {each for each, row in rows.items() if "<a " not in row} == {
        "out",
        "file-out",
        "new-out",
        "loop",
    }
    assert limited.looks(f"{room}/open/file")[0] == limited.looks(f"{room}/into/file")[0] == 200
    for path in ("closed", "closed/file", "into/out", "into/out/file", "into/file-out", ""):
        for query in ("", "?download", "?inline", "?edit"):
            assert limited.looks(f"{room}/{path}".rstrip("/"), query)[0] == 403, path + query
        for accept in ("application/json", "text/html"):
            there = limited.at(f"{room}/{path}".rstrip("/"))
            assert limited.request("GET", there, Accept=accept)[0].status == 403
    assert limited.looks(f"{room}/into/file", "?download")[0] == 403
    for path in ("into/new-out", "into/file-out", "closed/file", "into/out/x"):
        status, text = limited.does("save", f"{room}/{path}", text="x", fingerprint="missing")
        assert status == 403, path
    for where in ("closed", "into/out"):
        for action in ("new-file", "new-directory", "rename", "permissions", "delete"):
            form = {"name": "file", "new": "x", "new_name": "x", "set": "1", "sure": "x"}
            assert limited.does(action, f"{room}/{where}", **form)[0] == 403
    limited.deletes(f"{room}/into", all="1")
    assert shell("ls -A open; ls closed; cat closed/file") == "file\nout\n"
    log = (portal.log.parent / "audit.log").read_text()
    assert log.count('"event": "refusal"') > 40
    assert f"/files/{alice.host}{room}/closed" in log
