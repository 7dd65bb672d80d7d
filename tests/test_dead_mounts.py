"""A disk that hangs: what waits for it, and what must not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from ood.config import FilesSettings, PortalSettings
from ood.errors import CommandTimedOut, FileTimedOut, HostError
from ood.hosts.pool import HostPool
from ood.hosts.ssh import SSHHost
from ood.transfers.copying import Endpoint, Order
from ood.transfers.progress import State
from ood.transfers.transfer import Transfer
from tests.conftest import Devcluster, wait_until
from tests.test_file_changes import Changer, words
from tests.test_files import address, home, settings
from tests.test_hosts import ssh
from tests.test_web import Page

__all__ = ["home", "settings"]

DEAD = "/run/dead"
MOUNT = f"""
[ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229
mkdir -p {DEAD}/mount {DEAD}/disk/x && cd {DEAD}
bindfs -f -o allow_other,attr_timeout=0,entry_timeout=0 disk mount >/dev/null 2>&1 &
echo $! >pid
timeout 20 sh -c 'until mountpoint -q mount; do sleep 0.05; done' || exit
kill -STOP $(cat pid)
"""
UNMOUNT = f"kill -KILL $(cat {DEAD}/pid); umount -l {DEAD}/mount; rm -rf {DEAD}"


@pytest.fixture
def dead(devcluster: Devcluster) -> Iterator[str]:
    """A directory on the portal host that hangs everyone who touches it."""
    devcluster.host("portal-host", "sh", "-c", MOUNT)
    yield f"{DEAD}/mount"
    devcluster.host("portal-host", "sh", "-c", UNMOUNT)


@pytest.fixture
def alice(devcluster: Devcluster) -> Iterator[SSHHost]:
    host = ssh(devcluster, "alice")
    yield host
    host.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ood.hosts.sftp.ANSWER_TIMEOUT", 1)
    monkeypatch.setattr("ood.hosts.sftp.START_TIMEOUT", 4)


@pytest.mark.usefixtures("soon")
def test_looks_at_a_dead_disk_cost_nothing_else(alice: SSHHost, dead: str) -> None:
    """More of them than sshd allows sessions."""
    tunnel = alice.dial("127.0.0.1", 22)
    assert tunnel.recv(4) == b"SSH-"
    for number in range(12):
        with pytest.raises(FileTimedOut, match="did not answer in time"):
            alice.files.stat(f"{dead}/{number}")
        assert alice.run(["echo", "here"]).text == "here\n"
        assert alice.files.stat("/").is_directory
    tunnel.sendall(b"SSH-2.0-test\r\n")
    received = b""
    while b"ssh-ed25519" not in received:  # in sshd's answer
        data = tunnel.recv(1000)
        assert data, "the tunnel was closed"
        received += data
    with pytest.raises(CommandTimedOut):
        alice.run(["true"], cwd=dead, timeout=1)


@pytest.mark.usefixtures("soon")
def test_a_directory_with_a_dead_mount_point_is_listed(
    alice: SSHHost, dead: str, devcluster: Devcluster
) -> None:
    odd = [b"*", b"a\nb", b".hidden", b"-rf", b"bytes \xff", *(b"%d" % each for each in range(40))]
    octal = "".join("".join(f"\\{byte:03o}" for byte in name) + "\\0" for name in odd)
    fill = f"cd {DEAD}; printf '{octal}' | xargs -0 touch --; ln -s mount link; chmod 640 .hidden"
    devcluster.host("portal-host", "sh", "-c", fill)
    started = time.monotonic()
    for _ in range(3):
        found = {entry.name: entry for entry in alice.files.list(DEAD)}
        assert {*found} == {*map(os.fsdecode, odd), "mount", "disk", "link", "pid"}
        assert found["mount"].mode == 0
        assert found["disk"].is_directory
        assert found["link"].mode == 0o120777
        assert (found[".hidden"].mode, found["pid"].size > 1) == (0o100640, True)
        assert found["pid"].modified > 1e9
    assert time.monotonic() - started < 30
    with pytest.raises(FileTimedOut):
        alice.files.list(dead)


@pytest.fixture
def visits(
    alice: SSHHost, settings: PortalSettings, monkeypatch: pytest.MonkeyPatch, soon: None
) -> Callable[..., Changer]:
    """Sign in to a portal in this process, with alice's files."""
    assert soon is None
    monkeypatch.setattr(HostPool, "portal_host", lambda _pool, _user: alice)
    for limit, seconds in {
        "ood.web.files.access.LOOK_TIMEOUT": 1,
        "ood.web.files.changes.COUNT_SECONDS": 1,
        "ood.hosts.trees.PATIENCE": 2,
        "ood.hosts.trees.GRACE": 1,
    }.items():
        monkeypatch.setattr(limit, seconds)

    def visit(**files: Any) -> Changer:
        changed = FilesSettings.model_validate(files)
        alice = Changer(create_app(settings.model_copy(update={"files": changed})))
        alice.signs_in()
        return alice

    return visit


@pytest.fixture
def room(alice: SSHHost, dead: str, devcluster: Devcluster) -> Iterator[Path]:
    """A directory of alice's with links to a dead disk, and one below it where it is mounted."""
    room = alice.run(["mktemp", "-d", f"{alice.home}/room.XXXXXX"]).text.strip()
    fill = "mkdir -p tree/mount; ln -s $0 data; ln -s $0/x more; echo text > file; cp file tree"
    alice.run(["sh", "-c", fill, dead], cwd=room)
    devcluster.host("portal-host", "mount", "--bind", dead, f"{room}/tree/mount")
    yield Path(room)
    clear = f"umount -l {room}/tree/mount; rm -rf {room}"
    devcluster.host("portal-host", "sh", "-c", clear)


def test_pages_of_a_dead_disk(visits: Callable[..., Changer], room: Path, dead: str) -> None:
    alice = visits(favourites=[f"{dead}/x"])
    for _ in range(3):
        started = time.monotonic()
        rows = alice.rows(address(room))
        assert "does not respond" in rows["data"]
        assert 'href="/files' in rows["file"]
        assert "does not respond" not in rows["file"] + rows["tree"]
    assert time.monotonic() - started < 3, "it is not asked again each time"
    answer = alice.opens(address(room / "data"))
    assert answer.status_code == 504
    assert "Its disk may not be available" in words(answer)
    rows = alice.rows(address(room / "tree"))
    assert "Does not respond" in rows["mount"]
    assert 'href="/files' not in rows["mount"]
    assert 'href="/files' in rows["file"]
    assert alice.opens(address(room / "file")).status_code == 200


def test_changes_around_a_dead_disk(visits: Callable[..., Changer], room: Path) -> None:
    alice = visits()
    assert "Renamed" in alice.is_done("rename", room, name="data", new_name="old")
    assert "Set the permissions" in alice.is_done(
        "permissions", room, name=["file", "old"], set="1", octal="604"
    )
    assert "Deleted" in alice.deletes(room, name=["old", "more"])
    asked = alice.does("delete", room, name="tree")
    assert "at least" in words(asked)
    sure = Page(asked.text).fields["sure"]
    said = alice.is_done("delete", room, name="tree", sure=sure)
    assert "took more than 2 seconds" in said
    said = alice.is_done("permissions", room, name="tree", set="1", octal="700", below="1")
    assert "took more than 2 seconds" in said
    assert {*alice.rows(address(room))} == {"file", "tree"}


def test_a_transfer_from_a_dead_disk_can_be_cancelled(alice: SSHHost, room: Path) -> None:
    source, target = (Endpoint("portal", alice, str(path)) for path in (room / "tree", room))
    transfer = Transfer("1", Order(False, source, target, {"mount": "copy"}))
    running = threading.Thread(target=transfer.run)
    running.start()
    wait_until(lambda: transfer.state is State.COUNTING)
    transfer.cancel()
    running.join(10)
    assert transfer.state is State.CANCELLED
    assert alice.run(["ls"], cwd=str(room)).text.split() == ["data", "file", "more", "tree"]


def test_a_dead_root_holds_up_no_other(
    visits: Callable[..., Changer], room: Path, dead: str
) -> None:
    alice = visits(roots=[dead, str(room)])
    for _ in range(2):
        started = time.monotonic()
        assert alice.opens(address(room)).status_code == 200
        assert alice.opens(address(room / "file")).status_code == 200
    assert time.monotonic() - started < 5
    assert alice.opens("/files/portal/etc").status_code == 403
    assert alice.opens(f"/files/portal{dead}").status_code == 504


@pytest.mark.usefixtures("soon")
def test_a_home_that_hangs_holds_up_nobody_else(
    alice: SSHHost, dead: str, devcluster: Devcluster
) -> None:
    devcluster.host("portal-host", "mount", "--bind", dead, "/home/user40")
    other = ssh(devcluster, "user40")
    try:
        for _ in range(2):
            with pytest.raises(HostError, match="in time"):
                other.run(["true"], timeout=1)
            with pytest.raises(HostError, match="in time"):
                other.files.list("/")
            assert alice.run(["echo", "here"]).text == "here\n"
    finally:
        other.close()
        devcluster.host("portal-host", "umount", "-l", "/home/user40")
