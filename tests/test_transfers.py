"""Copies and moves, within hosts and between them: on this machine, and from the devcluster's
portal host to beta, which has homes of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from ood.errors import Busy
from ood.hosts.base import Host
from ood.hosts.local import LocalHost
from ood.quotas import FairQuota, Quota
from ood.transfers import copying, tools
from ood.transfers.copying import Endpoint, Order
from ood.transfers.names import MAX_NAME, STAGE, free_name, part_name, unfinished
from ood.transfers.progress import Progress, State
from ood.transfers.transfer import Transfer
from ood.transfers.transfers import EACH, Transfers
from tests.conftest import SCREENSHOTS, SLOW, Devcluster, RunningPortal, wait_until
from tests.researcher import LOOKS, Researcher, accessible, looks
from tests.sshd import PORTAL_HOST
from tests.test_files import NAMES
from tests.test_hosts import ssh
from tests.webuser import WebUser

BETA = "10.78.0.21"


# ---- Names


@pytest.mark.parametrize(
    "name", ["x", "x" * 255, "é" * 127, "\udcff" * 255, "a.b.c", ".hidden", "\n"]
)
def test_a_part_has_a_name_that_can_be(name: str) -> None:
    part = part_name(name, 5, 6)
    assert len(os.fsencode(part)) <= MAX_NAME
    assert part.startswith(".")
    assert part != part_name(name, 5, 7) != part_name(name, 6, 6)
    assert name.startswith(unfinished(part))
    assert len(os.fsencode(name)) > 200 or unfinished(part) == name
    assert unfinished(name) == ""


@pytest.mark.parametrize(
    ("name", "taken", "free"),
    [
        ("a.txt", [], "a.txt"),
        ("a.txt", ["a.txt"], "a (2).txt"),
        ("a.txt", ["a.txt", "a (2).txt"], "a (3).txt"),
        (".profile", [".profile"], ".profile (2)"),
        ("a.b/c"[:3] + "x" * 30, ["a.b" + "x" * 30], "a.b" + "x" * 30 + " (2)"),
        ("é" * 127, ["é" * 127], "é" * 125 + " (2)"),
        ("x" * 251 + ".txt", ["x" * 251 + ".txt"], "x" * 247 + " (2).txt"),
    ],
)
def test_a_name_that_is_free(name: str, taken: list[str], free: str) -> None:
    assert free_name(name, taken) == free
    assert len(os.fsencode(free)) <= MAX_NAME


# ---- The engine


@dataclass(frozen=True)
class Site:
    """Two directories, empty at first, with a shell at each of them."""

    source: Endpoint
    target: Endpoint
    at_source: Callable[[str], str]
    at_target: Callable[[str], str]

    def order(self, *names: str, move: bool = False, **called: str) -> Order:
        given = {name: called.get(name, name) for name in names}
        return Order(move, self.source, self.target, given)

    def runs(self, *names: str, move: bool = False) -> Transfer:
        transfer = Transfer("0123", self.order(*names, move=move))
        transfer.run()
        return transfer

    @property
    def left(self) -> str:
        """Everything at the target, hidden or not."""
        return self.at_target("ls -A")


def here(directory: Path) -> Callable[[str], str]:
    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-c", script], cwd=directory, capture_output=True, text=True, check=True
        )
        return done.stdout

    return run


def there(devcluster: Devcluster, host: str, directory: str) -> Callable[[str], str]:
    return lambda script: devcluster.as_user("alice", host, f"cd '{directory}' && {script}")


@pytest.fixture(scope="module")
def alice(devcluster: Devcluster) -> Iterator[dict[str, Host]]:
    hosts = {
        "portal": ssh(devcluster, "alice", PORTAL_HOST),
        "beta": ssh(devcluster, "alice", BETA),
    }
    yield dict(hosts)
    for host in hosts.values():
        host.close()


@pytest.fixture(
    params=[
        "this machine",
        pytest.param("over SSH", marks=SLOW),
        pytest.param("between hosts", marks=SLOW),
    ]
)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if request.param == "this machine":
        places = []
        for name in ("source", "it's target"):
            (tmp_path / name).mkdir()
            places.append(Endpoint("portal", LocalHost(), str(tmp_path / name)))
        yield Site(places[0], places[1], here(tmp_path / "source"), here(tmp_path / "it's target"))
        return
    far = request.getfixturevalue("far") if request.param == "between hosts" else None
    if far:
        yield far
        return
    devcluster: Devcluster = request.getfixturevalue("devcluster")
    host = request.getfixturevalue("alice")["portal"]
    top = host.run(["mktemp", "-d", f"{host.home}/transfer.XXXXXX"]).text.strip()
    host.run(["mkdir", f"{top}/a", f"{top}/b"])
    yield Site(
        Endpoint("portal", host, f"{top}/a"),
        Endpoint("portal", host, f"{top}/b"),
        there(devcluster, "portal-host", f"{top}/a"),
        there(devcluster, "portal-host", f"{top}/b"),
    )
    devcluster.host("portal-host", "rm", "-rf", top)


@pytest.fixture
def far(devcluster: Devcluster, alice: dict[str, Host]) -> Iterator[Site]:
    """From the portal host to beta."""
    tops = {
        id: host.run(["mktemp", "-d", f"{host.home}/transfer.XXXXXX"]).text.strip()
        for id, host in alice.items()
    }
    yield Site(
        Endpoint("portal", alice["portal"], tops["portal"]),
        Endpoint("beta", alice["beta"], tops["beta"]),
        there(devcluster, "portal-host", tops["portal"]),
        there(devcluster, "beta-login", tops["beta"]),
    )
    for name, top in zip(("portal-host", "beta-login"), tops.values(), strict=True):
        devcluster.host(name, "rm", "-rf", top)


TREE = r"""
mkdir -p tree/sub/empty tree/closed
printf 'one' > tree/one; printf 'two' > 'tree/sub/two words'; : > tree/nothing
ln -s one tree/link; ln -s ../../outside tree/sub/out
ln -s nowhere tree/broken; ln -s sub tree/to-sub
ln tree/one tree/sub/hard
truncate -s 3M tree/sparse; printf end >> tree/sparse
chmod 640 tree/one; chmod 755 tree/nothing; chmod 400 'tree/sub/two words'
printf x > tree/closed/x; chmod 555 tree/closed
touch -d '2001-02-03 04:05:06' tree/one tree/sub tree/nothing
"""
LOOK = (
    "find {} -printf '%y %m %l %P\\n' | LC_ALL=C sort; "
    "find {} -type f -exec sha256sum {{}} + | sort"
)


def look(run: Callable[[str], str], name: str = "tree") -> str:
    return run(LOOK.format(name, name))


@pytest.mark.parametrize("move", [False, True])
def test_a_tree_arrives_as_it_was(site: Site, move: bool) -> None:
    site.at_source(TREE)
    if move and site.source.host_id != site.target.host_id:
        site.at_source("chmod 755 tree/closed")  # nobody may delete what is in it
    before = look(site.at_source)
    transfer = site.runs("tree", move=move)
    assert (transfer.state, transfer.problems) == (State.DONE, []), transfer.message
    assert look(site.at_target) == before
    assert site.left == "tree\n"
    assert site.at_target("stat -c %Y tree/one tree/sub tree/nothing").split() == ["981173106"] * 3
    assert site.at_target("stat -c %h tree/one").strip() == "2"
    assert int(site.at_target("du -k tree/sparse").split()[0]) < 100
    if move:
        assert site.at_source("ls -A") == ""
    else:
        assert look(site.at_source) == before
    assert transfer.files == transfer.files_in_all > 0
    site.at_target("chmod -R u+w tree")
    site.at_source("test -e tree && chmod -R u+w tree || true")


WITH_RIGHTS = """
mkdir d; cd d; echo 1 > plain; echo 2 > run; echo 3 > listed; ln listed hard; mkdir sub
chmod 664 plain; chmod 750 run; setfacl -m u:bin:rwx listed; setfattr -n user.a -v 'b c' listed
setfacl -d -m u:bin:rx sub
"""
RIGHTS = """
cd {0}; LC_ALL=C; for f in * */*; do getfacl -cp "$f" | sed 's/#.*//'; stat -c '%A %h %n' "$f"; done
find . -type f -print0 | sort -z | xargs -0 getfattr -d
"""


@pytest.mark.parametrize("move", [False, True])
def test_rights_and_attributes_are_kept(site: Site, move: bool) -> None:
    site.at_source(WITH_RIGHTS)
    if move:  # where new files would have other rights
        site.at_target("setfacl -d -m g:mail:rwx,o::--- .")
    before = site.at_source(RIGHTS.format("d"))
    assert 'user.a="b c"' in before
    assert "default:user:bin:r-x" in before
    transfer = site.runs("d", move=move)
    assert (transfer.state, transfer.problems) == (State.DONE, []), transfer.message
    assert site.at_target(RIGHTS.format("d")) == before


@pytest.mark.parametrize(
    ("give", "plain", "sub"),
    [
        ("setfacl -d -m g:mail:rwx,o::--- .", "-rw-rw----+", "drwxr-x---+"),
        ("chmod 2775 .", "-rw-r--r--", "drwxr-sr-x"),
    ],
)
def test_a_copy_has_the_rights_that_its_directory_gives(
    site: Site, give: str, plain: str, sub: str
) -> None:
    """As with `cp`."""
    site.at_source(WITH_RIGHTS)
    site.at_target(give)
    transfer = site.runs("d")
    assert (transfer.state, transfer.problems) == (State.DONE, []), transfer.message
    seen = site.at_target("cd d; ls -ld plain sub hard run; getfattr -d hard").split()
    assert {plain, sub, 'user.a="b'} < {*seen}
    assert seen[1] == "2", "hard links stay"
    if "+" in plain:
        assert "default:group:mail:rwx" in site.at_target("getfacl -c d/sub")
    assert "user:bin" not in site.at_target("getfacl -cR d")


@pytest.mark.parametrize("what", ["setfacl -m u:bin:r-- f", "setfattr -n user.a -v 1 f", "true"])
def test_a_move_keeps_originals_with_what_cannot_be_kept(
    far: Site, alice: dict[str, Host], devcluster: Devcluster, what: str
) -> None:
    """A disk without access control lists and extended attributes, on the same host or another."""
    names = {"portal": "portal-host", "beta": "beta-login"}
    place = far.target.directory
    for id, name in names.items():
        mount = f"mkdir -p {place}; mount -t ramfs none {place}; chmod 777 {place}"
        devcluster.host(name, "sh", "-c", mount)
        try:
            far.at_source(f"mkdir -p d; cd d; echo 1 > f; echo 2 > g; {what}")
            order = Order(True, far.source, Endpoint(id, alice[id], place), {"d": "d"})
            transfer = Transfer("1", order)
            transfer.run()
            if what == "true":
                assert (transfer.state, transfer.problems) == (State.DONE, []), transfer.message
                assert far.at_source("ls") == ""
            else:
                assert transfer.state is State.INCOMPLETE
                assert far.at_source("ls -A d") == "f\ng\n"
                kind = "access control|permissions" if "setfacl" in what else "attribute"
                assert re.search(kind, transfer.problems[0])
                assert STAGE not in transfer.problems[0]
                assert "nothing was deleted" in transfer.problems[-1]
            assert devcluster.host(name, "cat", f"{place}/d/f", f"{place}/d/g") == "1\n2\n"
        finally:
            devcluster.host(name, "umount", "-l", place)


def test_every_name_arrives(site: Site) -> None:
    files = site.source.host.files
    names = [os.fsdecode(name) for name in NAMES]
    for name in names:
        files.write(f"{site.source.directory}/{name}", os.fsencode(name), 0o600)
        files.mkdir(f"{site.source.directory}/d{name[:200]}")
        files.write(f"{site.source.directory}/d{name[:200]}/{name}", b"x", 0o600)
    chosen = [entry.name for entry in files.list(site.source.directory)]
    transfer = site.runs(*chosen)
    assert (transfer.state, transfer.problems) == (State.DONE, []), transfer.message
    arrived = {entry.name for entry in site.target.host.files.list(site.target.directory)}
    assert arrived == {*chosen}
    for name in names:
        assert site.target.host.files.read(f"{site.target.directory}/{name}", 999) == os.fsencode(
            name
        )
    moved = Transfer("2", Order(True, site.target, site.source, {n: f"m{n[:200]}" for n in chosen}))
    moved.run()
    assert (moved.state, moved.problems) == (State.DONE, []), moved.message
    assert site.left == ""
    assert len(files.list(site.source.directory)) == 2 * len(chosen)
    assert site.at_source("ls -A pwned 2>/dev/null || true") == ""


def test_what_is_there_is_never_overwritten(site: Site) -> None:
    """The page asks before; this is what came since."""
    site.at_source("mkdir a; echo new > a/x; echo new > b.txt")
    site.at_target("mkdir a; echo old > a/y; echo old > b.txt")
    transfer = site.runs("a", "b.txt")
    assert transfer.state is State.DONE
    assert (
        site.at_target("cat a/* b.txt 'a (2)/x' 'b (2).txt'").split() == ["old"] * 2 + ["new"] * 2
    )


def test_a_move_keeps_what_came_meanwhile(far: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    far.at_source("mkdir d; echo 1 > d/1")
    delete = tools.delete

    def late(*given: object) -> str:
        far.at_source("echo 2 > d/2")
        return delete(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(tools, "delete", late)
    transfer = far.runs("d", move=True)
    assert transfer.state is State.INCOMPLETE
    assert "d was not deleted, because something in it was added or changed" in transfer.problems[0]
    assert far.at_source("cat d/*") == "2\n"
    assert far.at_target("cat d/*") == "1\n"


def test_a_move_deletes_nothing_that_changed_meanwhile(
    far: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    far.at_source("mkdir d; echo 1 > d/1")
    copy = copying.copy_between

    def late(order: Order, names: list[str], tree: str, progress: Progress) -> None:
        copy(order, names, tree, progress)
        far.at_source("echo 2 > d/1")

    monkeypatch.setattr(copying, "copy_between", late)
    transfer = far.runs("d", move=True)
    assert transfer.state is State.INCOMPLETE
    assert "changed during the copy" in transfer.problems[0]
    assert far.at_source("cat d/1") == "2\n"
    assert far.at_target("cat d/1") == "1\n"


# (On this machine the tests are root, who may read anything.)
@pytest.mark.parametrize(
    "site",
    [pytest.param(each, marks=SLOW) for each in ("over SSH", "between hosts")],
    indirect=True,
)
def test_what_cannot_be_read_is_named(site: Site) -> None:
    site.at_source(
        "mkdir -p d/shut; echo 1 > d/1; echo 2 > d/2; echo 3 > d/shut/3; chmod 0 d/2 d/shut"
    )
    for move in (False, True):
        transfer = (
            site.runs("d", move=move)
            if not move or site.source.host_id != site.target.host_id
            else None
        )
        if transfer is None:
            continue
        assert transfer.state is State.INCOMPLETE
        said = " ".join(transfer.problems)
        assert "d/2" in said
        assert "d/shut" in said
        assert "Permission denied" in said
        assert site.at_source("ls d") == "1\n2\nshut\n"
    assert site.at_target("cat d/1") == "1\n"
    site.at_source("chmod -R u+rwX d")


def test_special_files_are_left_out_between_hosts(far: Site) -> None:
    far.at_source("mkdir d; echo 1 > d/1; mkfifo d/pipe")
    far.at_source("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"d/sock\")'")
    transfer = far.runs("d", move=True)
    assert transfer.state is State.INCOMPLETE
    assert {"d/pipe: a pipe, not copied", "d/sock: a socket, not copied"} <= {*transfer.problems}
    assert "nothing was deleted" in transfer.problems[-1]
    assert far.at_target("ls d") == "1\n"
    assert far.at_source("ls d") == "1\npipe\nsock\n"


def test_what_has_gone(site: Site) -> None:
    site.at_source("echo 1 > 1")
    transfer = site.runs("1", "gone")
    assert transfer.state is State.INCOMPLETE
    assert "gone" in transfer.problems[0]
    assert site.left == "1\n"


def cancel_when(transfer: Transfer, ready: Callable[[], bool]) -> None:
    running = threading.Thread(target=transfer.run)
    running.start()
    wait_until(lambda: ready() or not running.is_alive(), 30)
    transfer.cancel()
    running.join(120)
    assert not running.is_alive()


def test_cancelling_leaves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.at_source("mkdir d; for i in 1 2 3; do head -c 200M /dev/zero > d/$i; done")
    # Within a host, copying is too fast to be cancelled.
    monkeypatch.setattr(tools, "COPY", tools.COPY.replace("code=$?", "sleep 300; code=$?"))
    for move in (False, True) if site.source.host_id != site.target.host_id else (False,):
        transfer = Transfer("99", site.order("d", move=move))
        cancel_when(transfer, lambda t=transfer: t.files > 1)  # type: ignore[misc]
        assert transfer.state is State.CANCELLED, transfer.message
        assert transfer.message == "Nothing was copied."
        assert site.left == ""
        assert site.at_source("ls d") == "1\n2\n3\n"


def test_a_full_disk_is_said_and_nothing_is_left(far: Site, devcluster: Devcluster) -> None:
    far.at_source("mkdir d; head -c 5M /dev/urandom > d/1; echo 2 > d/2")
    mount = f"mount -t tmpfs -o size=1m,mode=777 none {far.target.directory}"
    devcluster.host("beta-login", "sh", "-c", mount)
    try:
        for move in (False, True):
            transfer = far.runs("d", move=move)
            assert transfer.state is State.FAILED
            assert transfer.message == (
                f"The disk on {BETA} is full, or your quota is used up. Nothing was copied."
            )
            assert far.left == ""
    finally:
        devcluster.host("beta-login", "umount", "-l", far.target.directory)
    assert far.at_source("ls d") == "1\n2\n"


def test_a_directory_that_may_not_be_written(far: Site) -> None:
    far.at_source("echo 1 > 1")
    far.at_target("chmod 555 .")
    transfer = far.runs("1")
    assert transfer.state is State.FAILED
    assert "permission" in transfer.message


def test_a_connection_that_drops(far: Site, devcluster: Devcluster) -> None:
    far.at_source("head -c 900M /dev/zero > big")
    transfer = Transfer("98", far.order("big", move=True))
    running = threading.Thread(target=transfer.run)
    running.start()
    wait_until(lambda: transfer.size > 1_000_000, 30)
    devcluster.host("beta-login", "pkill", "-u", "alice", "sshd")
    running.join(120)
    assert transfer.state is State.FAILED
    assert "dropped" in transfer.message
    assert far.left == ""
    assert far.at_source("ls") == "big\n"


def test_only_so_many_at_once_and_a_sign_out_ends_them(far: Site) -> None:
    far.at_source("head -c 400M /dev/zero > big")
    transfers = Transfers()
    started = [transfers.start("alice", far.order("big")) for _ in range(EACH + 2)]
    wait_until(lambda: sum(each.state is State.COPYING for each in started) == EACH, 30)
    waiting = [each for each in started if each.state is State.WAITING]
    assert len(waiting) == 2
    transfers.cancel("alice", waiting[0].id)
    wait_until(lambda: waiting[0].state is State.CANCELLED, 10)
    transfers.dismiss("alice", waiting[0].id)
    transfers.dismiss("alice", waiting[1].id)  # which still waits
    assert len(transfers.of("alice")) == EACH + 1
    assert transfers.of("bob") == []
    transfers.forget("alice")
    assert {each.state for each in started} == {State.CANCELLED}
    assert transfers.of("alice") == []
    assert far.left == "", [each.message for each in started]


def test_a_quota_limits_each_and_all() -> None:
    quota = Quota(each=2, total=3)
    with quota.hold("a"), quota.hold("a"):
        with pytest.raises(Busy, match="Too many transfers"):
            quota.take("a")
        quota.take("b")
        with pytest.raises(Busy, match="Not now"):
            quota.take("c", problem=Busy("Not now."))
    quota.take("a")


def test_a_quota_waits_with_patience() -> None:
    quota = Quota(each=1, total=1)
    quota.take("a")
    with pytest.raises(Busy):
        quota.take("a", patience=0.05)
    later = threading.Timer(0.1, quota.give_back, ("a",))
    later.start()
    quota.take("b", patience=10)
    later.join()


def test_what_is_cancelled_while_it_waits_does_nothing(tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from/file").touch()
    ends = [Endpoint("portal", LocalHost(), str(tmp_path / name)) for name in ("from", "to")]
    for move in (False, True):
        transfer = Transfer("97", Order(move, ends[0], ends[1], {"file": "file"}))
        transfer.cancel()
        transfer.run()
        assert (transfer.state, transfer.message) == (State.CANCELLED, "Nothing was copied.")
        assert (tmp_path / "from/file").exists()
        assert list((tmp_path / "to").iterdir()) == []


# ---- Pages


class Copier:
    """Somebody without scripts: what their forms send."""

    def __init__(self, web: WebUser) -> None:
        self.web = web
        self.token = web.csrf_token("/apps/container_app")

    def asks(self, directory: str, *names: str, **fields: str) -> tuple[int, str]:
        """Send the form; its status, and the page or where it leads to."""
        given = [("csrf_token", self.token), *(("name", quote(name, safe="")) for name in names)]
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode([*given, *fields.items()])
        answer, text = self.web.request("POST", f"/copies/{directory}", body, **kind)
        return answer.status, text if answer.status != 303 else answer.getheader("Location") or ""

    def goes(self, directory: str, *names: str, to: str, **fields: str) -> tuple[int, str]:
        defaults = {"action": "copy", "to_host": "beta", "at_host": "portal", "go": "1"}
        return self.asks(directory, *names, **{**defaults, **fields, "to": to})

    def presses(self, id: str, what: str) -> int:
        return self.web.post(f"/transfers/{id}/{what}", {}, token=self.token)[0]

    @property
    def states(self) -> dict[str, str]:
        """The newest first."""
        _, text = self.web.request("GET", "/transfers")
        return dict(re.findall(r'data-transfer-id="(\w+)" data-state="(\w+)"', text))

    def waits(self) -> str:
        """For the newest transfer to end; what is said of it."""
        wait_until(lambda: State(next(iter(self.states.values()))).ended, 60)
        _, text = self.web.request("GET", "/transfers")
        return text


@pytest.fixture
def alices(far: Site, site_portal: RunningPortal) -> Copier:
    assert far
    copier = Copier(WebUser(site_portal, "alice"))
    for id, state in copier.states.items():
        assert State(state).ended
        copier.presses(id, "dismiss")
    return copier


@pytest.fixture(scope="module")
def site_portal(
    site_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPortal]:
    directory = tmp_path_factory.mktemp("portal")
    shutil.copytree(site_config, directory / "site")
    path = directory / "site/portal.yml"
    path.write_text(path.read_text() + f"audit_log: {directory}/audit.log\n")
    portal = RunningPortal(directory, {"OOD_PORTAL_CONFIG": str(path)})
    portal.start()
    yield portal
    portal.stop()


def test_a_copy_without_scripts(far: Site, alices: Copier, site_portal: RunningPortal) -> None:
    far.at_source("mkdir 'a b'; echo 1 > 'a b/1'; echo 2 > 2")
    far.at_target("mkdir -p deep/er")
    here, there = f"portal{far.source.directory}", far.target.directory
    assert alices.asks(here) == (303, f"/files/{here}")
    status, page = alices.asks(here, "a b", "2", action="copy")
    assert status == 200
    assert "Copy/Move 2 items" in page
    assert f'value="{far.source.directory}"' in page
    status, page = alices.asks(
        here,
        "2",
        to_host="beta",
        at_host="portal",
        at=far.source.directory,
        to=far.source.directory,
    )
    assert 'value="/home/alice"' in page, "another host begins at home"
    status, page = alices.asks(here, "2", to_host="beta", at_host="beta", look=quote(there))
    assert f'value="{quote(there + "/deep", safe="")}"' in page
    status, page = alices.goes(here, "2", to=f"{there}/none")
    assert status == 200
    assert re.search("There is no |not found", page)
    assert alices.goes(here, "a b", "2", to=f"{there}/deep") == (303, f"/files/{here}")
    page = alices.waits()
    assert "Copied." in page
    assert far.at_target("cat 'deep/a b/1' deep/2") == "1\n2\n"
    (id,) = alices.states
    assert alices.presses(id, "dismiss") == 303
    assert alices.states == {}
    lines = [
        json.loads(line)
        for line in (site_portal.log.parent / "audit.log").read_text().splitlines()
        if '"file-copied"' in line
    ]
    assert [(each["user"], each["object"], each["to"]) for each in lines[-2:]] == [
        ("alice", f"{far.source.directory}/{name}", f"{there}/deep") for name in ("2", "a b")
    ]
    assert (lines[-1]["host"], lines[-1]["to_host"]) == (PORTAL_HOST, BETA)


def test_names_that_are_taken_are_asked_about(far: Site, alices: Copier) -> None:
    far.at_source("echo new > a; echo new > b")
    far.at_target("echo old > a")
    here, there = f"portal{far.source.directory}", far.target.directory
    status, page = alices.goes(here, "a", "b", to=there)
    assert status == 200
    assert "These items already exist, so nothing has been copied or moved" in page
    assert far.left == "a\n"
    assert alices.goes(here, "a", "b", to=there, if_there="skip")[0] == 303
    alices.waits()
    assert far.at_target("cat a b") == "old\nnew\n"
    assert alices.goes(here, "a", "b", to=there, if_there="both", action="move")[0] == 303
    page = alices.waits()
    assert "Moved." in page, page
    assert far.at_target("cat a 'a (2)' b 'b (2)'") == "old\nnew\nnew\nnew\n"
    assert far.at_source("ls -A") == ""


def test_what_makes_no_sense(far: Site, alices: Copier) -> None:
    far.at_source("mkdir -p d/e; ln -s d link; echo 1 > f")
    top = far.source.directory
    here = {"to_host": "portal"}
    for to in (f"{top}/d", f"{top}/d/e", f"{top}/link/e"):
        status, page = alices.goes(f"portal{top}", "d", to=to, **here)
        assert (
            status,
            "“d” cannot be copied or moved into itself. Choose another directory." in page,
        ) == (200, True), to
    status, page = alices.goes(f"portal{top}", "f", to=f"{top}/link/..", action="move", **here)
    assert "The items are already in this directory." in page
    status, page = alices.goes(f"portal{top}", "f", to=f"{top}/f", **here)
    assert status == 200
    assert alices.asks(f"portal{top}", "gone")[0] == 404
    assert alices.asks("nowhere/etc", "passwd")[0] == 404
    assert alices.goes(f"portal{top}", "f", to="/", to_host="nowhere")[0] == 404
    assert alices.states == {}


def test_others_see_nothing_of_it(far: Site, alices: Copier, site_portal: RunningPortal) -> None:
    open_to_all = far.at_source("mktemp -d /tmp/open.XXXXXX").strip()
    far.at_source(f"cd {open_to_all}; chmod 755 .; echo 1 > f; chmod 600 f")
    assert alices.goes(f"portal{open_to_all}", "f", to=far.target.directory)[0] == 303
    alices.waits()
    bob = Copier(WebUser(site_portal, "bob"))
    assert bob.states == {}
    for id in alices.states:
        assert bob.presses(id, "cancel") == 404
        bob.presses(id, "dismiss")
    assert len(alices.states) >= 1
    assert bob.goes(f"portal{open_to_all}", "f", to="/home/bob")[0] == 303
    assert "Permission denied" in bob.waits()
    for id in alices.states:
        alices.presses(id, "dismiss")
    far.at_source(f"rm -r {open_to_all}")


def test_a_site_can_turn_it_off_or_keep_it_in(
    far: Site, start_site: Callable[..., RunningPortal]
) -> None:
    far.at_source("mkdir in out; echo 1 > in/1; echo 2 > out/2; ln -s ../out in/link")
    top = far.source.directory
    off = Copier(WebUser(start_site(files={"edit": False}), "alice"))
    assert off.goes(f"portal{top}/in", "1", to=f"{top}/out", to_host="portal")[0] == 403
    _, page = off.web.request("GET", f"/files/portal{top}/in")
    assert "Copy/Move" not in page
    kept = Copier(WebUser(start_site(files={"roots": [f"{top}/in"]}), "alice"))
    for directory, name, to in (
        ("in", "1", f"{top}/out"),
        ("in", "1", f"{top}/in/link"),
        ("in/link", "2", f"{top}/in"),
        ("out", "2", f"{top}/in"),
    ):
        status, page = kept.goes(f"portal{top}/{directory}", name, to=to, to_host="portal")
        assert status == 403 or "is outside the directories" in page, (directory, to)
    assert kept.states == {}
    assert far.at_source("ls in out") == "in:\n1\nlink\n\nout:\n2\n"


def test_signing_out_ends_it(far: Site, start_site: Callable[..., RunningPortal]) -> None:
    far.at_source("mkdir d; head -c 900M /dev/zero > d/big")
    alice = Copier(WebUser(start_site(), "alice"))
    assert alice.goes(f"portal{far.source.directory}", "d", to=far.target.directory)[0] == 303
    wait_until(lambda: far.left.startswith(STAGE), 30)
    assert alice.web.post("/logout", {}, token=alice.token)[0] in (302, 303)
    assert far.left == ""


def test_in_a_browser(
    browser: Chromium, far: Site, alices: Copier, site_portal: RunningPortal
) -> None:
    assert alices.states == {}
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    far.at_source(
        "mkdir many; cd many; seq 400 | split -l 1 -a 4 - s; head -c 1500M /dev/zero > big"
    )
    far.at_target("mkdir deep")
    name = Path(far.target.directory).name
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        alice = Researcher(page, site_portal)
        alice.signs_in("alice")
        expect(page.get_by_role("button", name="Log Out")).to_be_visible()

        def chooses() -> None:
            page.goto(f"{site_portal.url}/files/portal{far.source.directory}")
            page.get_by_label("Select many").check()
            page.get_by_role("button", name="Copy/Move").click()
            page.get_by_label("Host", exact=True).select_option("Beta")
            page.get_by_role("button", name="Change directory").last.click()
            page.get_by_role("button", name=name).click()
            page.get_by_role("button", name="deep").click()

        chooses()
        expect(page.get_by_label("Directory", exact=True)).to_have_value(
            f"{far.target.directory}/deep"
        )
        for look in looks(page):
            accessible(page, f"copy-{look}")
        page.set_viewport_size({"width": 1280, "height": 900})
        page.get_by_role("button", name="Copy/Move to this directory").click()
        expect(page.get_by_text(re.compile(r"[1-9]\d* of 402\. Size"))).to_be_visible()
        for scheme, width in LOOKS[:2]:
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)
            accessible(page, f"transfers-{scheme}-{width}")
        page.goto(f"{site_portal.url}/transfers")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("Cancelled. Nothing was copied.")).to_be_visible()
        page.get_by_role("button", name="Dismiss").click()
        expect(page.get_by_text("Nothing is being copied or moved.")).to_be_visible()
        assert far.at_target("ls -A deep") == ""
        far.at_source("rm many/big; mkfifo many/pipe")
        chooses()
        page.get_by_label("Move").check()
        page.get_by_role("button", name="Copy/Move to this directory").click()
        expect(page.get_by_text("Copied, but with problems:")).to_be_visible()
        expect(page.get_by_text("many/pipe: a pipe, not copied")).to_be_visible()
        accessible(page, "transfers-incomplete")
        assert far.at_target("ls deep/many | wc -l").strip() == "400"
        page.get_by_role("button", name="Dismiss").click()
        expect(page.get_by_text("Copied, but with problems:")).to_have_count(0)
        assert alice.complaints == []


BUSY = Busy("Not now.")


def test_a_fair_quota_always_leaves_some_for_others() -> None:
    quota = FairQuota(each=12, total=44, threads=52)
    with ExitStack() as held:

        def takes(user: str, key: str) -> int:
            for number in range(50):
                try:
                    held.enter_context(quota.hold(user, key, 0.0, BUSY))
                except Busy:
                    return number
            raise AssertionError("without end")

        assert [takes("alice", f"a{n}") for n in range(4)] == [12, 7, 2, 1]
        assert [takes(user, user) for user in ("bob", "carol", "dan")] == [8, 5, 3]
    assert not quota._taken
    with quota.hold("erin", "e", 0.0, BUSY):
        assert (quota._taken, quota._of_user) == ({"e": 1}, {"erin": 1})


def test_the_greediest_waits_no_longer_when_threads_are_short() -> None:
    quota = FairQuota(each=1, total=8, threads=4)
    said: list[str] = []

    def waits(user: str, key: str, name: str) -> None:
        try:
            with quota.hold(user, key, 20, BUSY):
                said.append(f"{name} goes on")
        except Busy:
            said.append(f"{name} is refused")

    threads = []
    with quota.hold("alice", "a", 0.0, BUSY), quota.hold("bob", "b", 0.0, BUSY):
        for user, name, happens in (
            ("alice", "the first", lambda: len(quota._waiting) == 1),
            ("alice", "the second", lambda: len(quota._waiting) == 2),
            ("bob", "the third", lambda: said == ["the second is refused"]),
            ("alice", "the fourth", lambda: len(said) == 2),
        ):
            threads.append(threading.Thread(target=waits, args=(user, user[0], name)))
            threads[-1].start()
            wait_until(happens)
        assert said == ["the second is refused", "the fourth is refused"]
    for waiting in threads:
        waiting.join(20)
    assert sorted(said[2:]) == ["the first goes on", "the third goes on"]
