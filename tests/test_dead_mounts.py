"""A disk that hangs: what waits for it, and what must not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from ood.errors import CommandTimedOut, FileTimedOut, HostError
from ood.hosts.ssh import SSHHost
from tests.conftest import Devcluster, RunningPortal
from tests.test_files_site import Changer
from tests.test_hosts import ssh

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


def test_pages_with_a_link_to_a_dead_disk(
    start_site: Callable[..., RunningPortal], dead: str, devcluster: Devcluster
) -> None:
    portal = start_site(files={"favourites": [f"{dead}/x"]})
    alice = Changer(portal, "alice")
    room = devcluster.as_user("alice", "portal-host", "mktemp -d ~/room.XXXXXX").strip()
    fill = f"ln -s {dead} {room}/data; ln -s {dead}/x {room}/more; echo text > {room}/file"
    devcluster.as_user("alice", "portal-host", fill)
    try:
        for _ in range(4):
            started = time.monotonic()
            status, text = alice.looks(room)
            assert status == 200
            assert text.count("its target does not respond") >= 1
            assert 'data-name="file"' in text
        assert time.monotonic() - started < 3, "it is not tried again each time"
        status, text = alice.looks(f"{room}/data")
        assert status == 504
        assert "Its disk may not be available" in text
        assert alice.looks(f"{room}/file")[0] == 200
        assert alice.does("rename", room, name="data", new_name="old")[0] == 303
        assert (
            "Set the permissions"
            in alice.does("permissions", room, all="1", set="1", octal="600")[1]
        )
        assert "Deleted" in alice.deletes(room, name=["old", "more"])
    finally:
        devcluster.host("portal-host", "rm", "-rf", room)


def test_a_dead_root_holds_up_no_other(start_site: Callable[..., RunningPortal], dead: str) -> None:
    alice = Changer(start_site(files={"roots": [dead, "~"]}), "alice")
    started = time.monotonic()
    assert alice.looks("/home/alice")[0] == 200
    assert alice.looks("/home/alice")[0] == 200
    assert time.monotonic() - started < 15
    assert alice.looks("/etc")[0] == 403
    assert alice.looks(dead)[0] == 504


@pytest.mark.usefixtures("soon")
def test_a_home_that_hangs_holds_up_nobody_else(
    alice: SSHHost, dead: str, devcluster: Devcluster
) -> None:
    devcluster.host("portal-host", "mount", "--bind", dead, "/home/user40")
    other = ssh(devcluster, "user40")
    try:
        for _ in range(2):
            with pytest.raises(HostError, match="did not answer"):
                other.run(["true"], timeout=1)
            with pytest.raises(HostError, match="did not answer"):
                other.files.list("/")
            assert alice.run(["echo", "here"]).text == "here\n"
    finally:
        other.close()
        devcluster.host("portal-host", "umount", "-l", "/home/user40")
