"""What a host promises, kept alike by this machine and a real sshd; then what only SSH can break.

Nothing here stands in for SSH: the machines are the devcluster's, and where a test needs another
sshd than theirs, it starts one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import paramiko
import pytest
from fabric import Connection
from pydantic import SecretStr

from ood.auth.credentials import Credential, Credentials
from ood.errors import (
    CommandFailed,
    CommandTimedOut,
    FileExists,
    FileFailed,
    FileMissing,
    FileRefused,
    FileTimedOut,
    HostUnreachable,
    PortalError,
    SignInExpired,
)
from ood.hosts.base import MAX_INPUT, Command, FileEntry, Host, Terminal
from ood.hosts.channels import quiet
from ood.hosts.connection import LASTING_CHANNELS
from ood.hosts.local import LocalHost
from ood.hosts.pool import HostPool
from ood.hosts.readdir import parsed
from ood.hosts.ssh import SSHHost
from ood.hosts.ssh_connect import Target, open_connection
from tests.busy import busy, patience
from tests.conftest import ROOT, SLOW, Devcluster, wait_until
from tests.helpers import NASTY
from tests.sshd import PORTAL_HOST, PrivateSshd

LOGIN_HOST = "10.78.0.11"
DATA, END_OF_INPUT, CLOSE = 94, 96, 97  # messages of RFC 4254, section 9
AWKWARD = (*NASTY, "two\nlines\r\n", "grüße 😀 \u202e", "bytes \udcff\udc80", "x" * 9999)
NAMES = tuple(name for name in AWKWARD if name.strip(".") and "/" not in name and len(name) < 200)


@dataclass(frozen=True)
class Machine:
    """A host under test, and a second way in to see what is really there."""

    host: Host
    as_root: Callable[..., str]
    directory: str
    """The user's own and empty, with a name that must be quoted."""

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def runs(self, mark: str) -> bool:
        """Whether a process with this in its command line runs."""
        return bool(self.as_root("pgrep", "-f", mark, check=False))


def as_root_here(*argv: str, check: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def new_mark() -> str:
    """An argument for `sleep` that no other process has."""
    return f"300.{random.randrange(10**9):09}"


def ssh(devcluster: Devcluster, user: str, address: str = PORTAL_HOST) -> SSHHost:
    password = SecretStr(f"{user}-pw")
    return SSHHost(address, user, lambda: password, devcluster.state / "known_hosts")


@pytest.fixture(scope="module", params=["this machine", pytest.param("over SSH", marks=SLOW)])
def one_host(request: pytest.FixtureRequest) -> Iterator[tuple[Host, Callable[..., str]]]:
    if request.param == "this machine":
        yield LocalHost(), as_root_here
        return
    devcluster: Devcluster = request.getfixturevalue("devcluster")
    host = ssh(devcluster, "alice")
    yield host, lambda *argv, check=True: devcluster.host("portal-host", *argv, check=check)
    host.close()


@pytest.fixture
def machine(one_host: tuple[Host, Callable[..., str]]) -> Iterator[Machine]:
    host, as_root = one_host
    made = host.run(["mktemp", "-d", "/tmp/it's a $(test) 😀.XXXXXX"])
    directory = made.text.removesuffix("\n")
    yield Machine(host, as_root, directory)
    as_root("rm", "-rf", directory)


@pytest.fixture
def alice(devcluster: Devcluster) -> Iterator[SSHHost]:
    """A connection of its own to the login host, for tests that mistreat it."""
    host = ssh(devcluster, "alice", LOGIN_HOST)
    yield host
    host.close()


def in_parallel(work: Callable[[int], object], threads: int) -> list[object]:
    """What `work(0)`, `work(1)`... return or raise, each in a thread, all started at once."""
    together = threading.Barrier(threads)

    def one(number: int) -> object:
        together.wait()
        try:
            return work(number)
        except PortalError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))


# ---- run


def test_arguments_arrive_byte_for_byte(machine: Machine) -> None:
    done = machine.host.run(["printf", "%s\\0", *AWKWARD], cwd=machine.directory)
    assert done.stdout == b"".join(os.fsencode(value) + b"\0" for value in AWKWARD)
    assert machine.host.files.list(machine.directory) == []  # none of them ran


def test_the_program_itself_may_have_an_awkward_name(machine: Machine) -> None:
    path = machine.path("a b'$(x).sh")
    machine.host.files.write(path, b'#!/bin/sh\necho "ran $1"\n', 0o700)
    assert machine.host.run([path, "it's"]).text == "ran it's\n"


def test_input_arrives_byte_for_byte(machine: Machine) -> None:
    data = random.randbytes(MAX_INPUT)
    assert machine.host.run(["cat"], input=data).stdout == data
    assert machine.host.run(["cat"]).stdout == b""


def test_input_need_not_be_read(machine: Machine) -> None:
    for command in ("exec true", "exec <&-; sleep 0.2", "head -c 1 >/dev/null"):
        machine.host.run(["sh", "-c", command], input=b"x" * MAX_INPUT)


def test_environment_is_added_to_the_users_own(machine: Machine) -> None:
    env = {f"VALUE_{number}": value for number, value in enumerate(AWKWARD)}
    wanted = " ".join(env)
    script = f'for name in HOME {wanted}; do eval "printf \'%s\\0\' \\"\\${{$name}}\\""; done'
    done = machine.host.run(["sh", "-c", script], env=env)
    assert done.stdout == b"".join(
        os.fsencode(value) + b"\0" for value in (machine.host.home, *AWKWARD)
    )


def test_commands_start_at_home_or_where_they_are_told(machine: Machine) -> None:
    assert machine.host.run(["pwd"]).text == machine.host.home + "\n"
    assert machine.host.run(["pwd"], cwd=machine.directory).text == machine.directory + "\n"
    with pytest.raises(CommandFailed):
        machine.host.run(["pwd"], cwd=machine.path("missing"))


def test_exit_codes(machine: Machine) -> None:
    failing = ["sh", "-c", "echo out; echo why >&2; exit 3"]
    with pytest.raises(CommandFailed) as raised:
        machine.host.run(failing)
    assert (raised.value.exit_code, raised.value.stderr) == (3, "why")
    done = machine.host.run(failing, check=False)
    assert (done.exit_code, done.stdout, done.stderr) == (3, b"out\n", b"why\n")
    assert machine.host.run(["sh", "-c", "kill $$"], check=False).exit_code in (-15, 143)
    with pytest.raises(CommandFailed) as raised:
        machine.host.run(["no-such-command"])
    assert raised.value.exit_code == 127


def test_much_output_on_both_sides_at_once(machine: Machine) -> None:
    script = "head -c 20M /dev/zero & head -c 20M /dev/zero | tr '\\0' e >&2; wait"
    done = machine.host.run(["sh", "-c", script], max_output=48 << 20)
    assert done.stdout == b"\0" * (20 << 20)
    assert done.stderr == b"e" * (20 << 20)


@pytest.mark.parametrize("script", ["sleep {0} & wait", "trap '' TERM; sleep {0}; sleep {0}"])
def test_a_command_that_is_late_is_ended(machine: Machine, script: str) -> None:
    mark = new_mark()
    started = time.monotonic()
    with pytest.raises(CommandTimedOut, match=r"sh .*within 1 s"):
        machine.host.run(["sh", "-c", script.format(mark)], timeout=1)
    assert time.monotonic() - started < 6 * busy()
    wait_until(lambda: not machine.runs(mark), 3, "it still runs")


def test_a_process_left_behind_with_the_output_open_is_not_waited_for(machine: Machine) -> None:
    started = time.monotonic()
    assert machine.host.run(["sh", "-c", "sleep 60 & echo started"]).text == "started\n"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("ours", [True, False])
def test_nothing_is_sent_after_the_close(ours: bool) -> None:
    """Otherwise sshd ends the connection. The close comes while data is on its way."""

    class Transport:
        def _send_user_message(self, message: paramiko.Message) -> None:
            kind = message.asbytes()[0]
            if kind == DATA:
                close() if ours else channel._handle_close(None)  # type: ignore[attr-defined]
            assert not channel.lock.locked(), "needed to exchange keys"
            sent.append(kind)

        def _unlink_channel(self, _number: int) -> None:
            pass

    sent: list[int] = []
    channel = quiet(paramiko.Channel(0))
    close = channel.close
    channel.transport = Transport()  # type: ignore[assignment]
    channel.active = True
    channel.remote_chanid = 0
    channel.out_window_size = channel.out_max_packet_size = 1000
    channel.send(b"data")
    assert sent == [DATA, END_OF_INPUT, CLOSE]
    with pytest.raises(OSError, match="closed"):
        channel.send(b"more")
    channel.shutdown_write()
    channel.resize_pty()
    channel.close()
    assert sent == [DATA, END_OF_INPUT, CLOSE]


def test_the_end_of_input_is_sent_once() -> None:
    channel = quiet(paramiko.Channel(0))
    channel.transport = Mock()
    channel.active = True
    channel.remote_chanid = 0
    channel.shutdown_write()
    channel.shutdown_write()
    assert channel.transport._send_user_message.call_count == 1


def test_a_channel_is_closed_while_data_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other thread writes into its pipe just after that was closed."""
    channel = quiet(paramiko.Channel(0))
    assert channel.fileno() > 0
    close = os.close

    def closes(descriptor: int) -> None:
        close(descriptor)
        channel.in_buffer.feed(b"more")

    monkeypatch.setattr("paramiko.pipe.os.close", closes)
    channel.close()
    assert channel.recv(10) == b"moremore"


def test_too_much_output_is_a_failure(machine: Machine) -> None:
    mark = new_mark()
    for where in ("", ">&2"):
        with pytest.raises(CommandFailed, match="too much output"):
            machine.host.run(["sh", "-c", f"yes {mark} {where}"])
    wait_until(lambda: not machine.runs(mark), 3, "it still runs")
    assert machine.host.run(["echo", "fine"]).text == "fine\n"


# ---- files


def test_a_file_lives_under_any_name(machine: Machine) -> None:
    files = machine.host.files
    for name in NAMES:
        path = machine.path(name)
        before = time.time()
        files.write(path, b"0123456789", 0o600)
        (entry,) = files.list(machine.directory)
        assert (entry.name, entry.size, entry.is_file) == (name, 10, True)
        assert entry.mode & 0o7777 == 0o600
        assert abs(entry.modified - before) < 60
        assert files.stat(path) == entry
        found = machine.host.run(["find", ".", "-mindepth", "1", "-print0"], cwd=machine.directory)
        assert found.stdout == b"./" + os.fsencode(name) + b"\0"
        files.chmod(path, 0o640)
        assert files.stat(path).mode & 0o7777 == 0o640
        files.rename(path, path + "2")
        assert files.read(path + "2", 100) == b"0123456789"
        files.remove(path + "2")
        files.mkdir(path, 0o700)
        files.make_directories(f"{path}/{name}/{name}", 0o700)
        (entry,) = files.list(f"{path}/{name}")
        assert (entry.name, entry.is_directory, entry.mode & 0o777) == (name, True, 0o700)
        machine.host.run(["rm", "-rf", "--", path])


def test_a_file_is_read_in_parts(machine: Machine) -> None:
    files, path = machine.host.files, machine.path("big")
    data = random.randbytes(3_000_000)
    files.write(path, data, 0o600)
    assert files.read(path, 10_000_000) == data
    assert files.read(path, 5, offset=2_999_998) == data[-2:]
    assert files.read(path, 5, offset=9_999_999) == b""
    assert files.read(path, 700_000, offset=1) == data[1:700_001]
    with files.open(path, "rb") as file:
        assert file.read(10) == data[:10]
        file.seek(1_000_000)
        assert file.read(1_000_000) == data[1_000_000:2_000_000]
        assert b"".join(iter(lambda: file.read(65536), b"")) == data[2_000_000:]
        machine.host.run(["sh", "-c", 'printf more >>"$0"', path])  # a log that grows
        assert file.read(65536) == b"more"
    with files.open(path, "rb") as file:  # a download that is given up
        assert file.read(1) == data[:1]


def test_a_file_is_written_in_parts(machine: Machine) -> None:
    files, path = machine.host.files, machine.path("written")
    data = random.randbytes(1_000_000)
    with files.open(path, "xb") as file:
        for start in range(0, len(data), 99_999):
            assert file.write(data[start : start + 99_999]) <= 99_999
    assert files.read(path, 10_000_000) == data
    with files.open(path, "wb") as file:
        file.write(b"shorter")
    assert files.read(path, 100) == b"shorter"


def test_names_that_are_taken_or_missing(machine: Machine) -> None:
    files, missing, there = machine.host.files, machine.path("missing"), machine.path("there")
    files.write(there, b"kept", 0o600)
    machine.host.run(["ln", "-s", "nowhere", machine.path("dangling")])
    missed: list[Callable[[], object]] = [
        lambda: files.list(missing),
        lambda: files.stat(missing),
        lambda: files.stat(machine.path("dangling")),
        lambda: files.open(missing, "rb"),
        lambda: files.read(missing, 1),
        lambda: files.rename(missing, there),
        lambda: files.move(missing, machine.path("new")),
        lambda: files.move(missing, there),
        lambda: files.move(there, f"{missing}/under"),
        lambda: files.lstat(missing),
        lambda: files.resolve(f"{missing}/under"),
        lambda: files.remove(missing),
        lambda: files.chmod(missing, 0o600),
        lambda: files.mkdir(f"{missing}/under"),
        lambda: files.write(f"{missing}/under", b"", 0o600),
        lambda: files.replace(f"{missing}/under", b"", 0o600),
    ]
    taken: list[Callable[[], object]] = [
        lambda: files.write(there, b"lost", 0o600),
        lambda: files.open(there, "xb"),
        lambda: files.mkdir(there),
        lambda: files.move(there, machine.path("dangling")),
        lambda: files.move(machine.path("dangling"), there),
        lambda: files.move(there, there),
        lambda: files.mkdir(machine.directory),
        lambda: files.write(machine.path("dangling"), b"", 0o600),
        lambda: files.open(machine.path("dangling"), "xb"),
    ]
    impossible: list[Callable[[], object]] = [
        lambda: files.remove(machine.directory),
        lambda: files.read(machine.directory, 1),
        lambda: files.open(machine.directory, "wb"),
        lambda: files.rename(there, machine.directory),
        lambda: files.list(there),
        lambda: files.write(machine.path("n" * 300), b"", 0o600),
    ]
    cases = [(missed, FileMissing), (taken, FileExists), (impossible, FileFailed)]
    for attempts, error in cases:
        for attempt in attempts:
            with pytest.raises(error):
                attempt()
    files.make_directories(machine.directory)
    assert files.read(there, 100) == b"kept"
    assert {entry.name for entry in files.list(machine.directory)} == {"there", "dangling"}


def test_the_kernel_says_no(machine: Machine) -> None:
    files, closed = machine.host.files, machine.path("closed")
    roots = machine.path("root's")
    machine.as_root("install", "-d", "-m", "700", closed)
    machine.as_root("install", "-D", "-m", "600", "/dev/null", f"{roots}/file")
    with contextlib.ExitStack() as undo:
        if isinstance(machine.host, LocalHost) and os.geteuid() == 0:  # who may do anything
            os.seteuid(65534)
            undo.callback(os.seteuid, 0)
        attempts: list[Callable[[], object]] = [
            lambda: files.list(closed),
            lambda: files.stat(f"{closed}/x"),
            lambda: files.read(f"{closed}/x", 1),
            lambda: files.open(f"{closed}/x", "rb"),
            lambda: files.write(f"{closed}/x", b"", 0o600),
            lambda: files.replace(f"{closed}/x", b"", 0o600),
            lambda: files.mkdir(f"{closed}/x"),
            lambda: files.make_directories(f"{closed}/x/y"),
            lambda: files.chmod(closed, 0o777),
            lambda: files.remove(f"{roots}/file"),
            lambda: files.rename(f"{roots}/file", f"{roots}/other"),
            lambda: files.open(f"{roots}/file", "wb"),
            lambda: files.move(f"{roots}/file", f"{roots}/other"),
            lambda: files.resolve(f"{closed}/x/y"),
        ]
        for attempt in attempts:
            with pytest.raises(FileRefused, match="do not have permission"):
                attempt()


def test_links_are_shown_as_links_and_followed(machine: Machine) -> None:
    files = machine.host.files
    files.mkdir(machine.path("real"))
    machine.host.run(["ln", "-s", "real", machine.path("link")])
    entries = {entry.name: entry for entry in files.list(machine.directory)}
    assert entries["real"].is_directory
    assert not entries["link"].is_directory
    assert not entries["link"].is_file
    assert files.stat(machine.path("link")).is_directory


def test_a_large_directory_is_read_whole(machine: Machine) -> None:
    names = {f"{number:05}-{'é' * (number % 100)}" for number in range(3000)}
    script = "import os, sys; [open(n, 'w').close() for n in sys.stdin.read().split()]"
    machine.host.run(
        ["python3", "-c", script], cwd=machine.directory, input="\n".join(names).encode()
    )
    for _ in range(2):
        assert {each.name for each in machine.host.files.list(machine.directory)} == names
    assert machine.host.files.stat(machine.directory).is_directory


def test_what_servers_say_of_entries() -> None:
    """Not all say as much as OpenSSH does, and some say more."""

    def text(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    full = (0xF).to_bytes(4, "big") + b"".join(
        number.to_bytes(size, "big")
        for number, size in ((2**40, 8), (1, 4), (2, 4), (0o40755, 4), (5, 4), (6, 4))
    )
    little = (0).to_bytes(4, "big")
    more = (1 << 31 | 4).to_bytes(4, "big") + (0o120777).to_bytes(4, "big")
    more += (1).to_bytes(4, "big") + text(b"acl@example") + text(b"x" * 9)
    attributes = {b".": full, b"..": little, b"a\xff": full, b"b": more, b"c": little}
    data = len(attributes).to_bytes(4, "big")
    data += b"".join(text(name) + text(b"long") + each for name, each in attributes.items())
    assert [*parsed(data)] == [
        FileEntry("a\udcff", 0o40755, 2**40, 6.0, 1, 2),
        FileEntry("b", 0o120777, 0, 0.0, 0, 0),
        FileEntry("c", stat.S_IFREG, 0, 0.0, 0, 0),
    ]
    for cut in (0, 3, 10, len(data) - 1):
        with pytest.raises(paramiko.SFTPError):
            [*parsed(data[:cut])]


def test_a_move_replaces_nothing(machine: Machine) -> None:
    files = machine.host.files
    for name in ("directory", "empty", "file", "other", "-rf bytes \udcff\n"):
        if name in ("directory", "empty"):
            files.mkdir(machine.path(name))
        else:
            files.write(machine.path(name), name.encode("utf-8", "replace"), 0o600)
    machine.host.run(["ln", "-s", "nowhere", machine.path("link")])
    names = [entry.name for entry in files.list(machine.directory)]
    for old in names:
        for new in names:
            with pytest.raises(FileExists):
                files.move(machine.path(old), machine.path(new))
    assert sorted(names) == sorted(entry.name for entry in files.list(machine.directory))
    for name in names:
        before = files.lstat(machine.path(name))
        files.move(machine.path(name), machine.path("new"))
        assert files.lstat(machine.path("new")).mode == before.mode
        files.move(machine.path("new"), machine.path(name))
    assert sorted(names) == sorted(entry.name for entry in files.list(machine.directory))
    assert files.read(machine.path("file"), 10) == b"file"


def test_a_path_is_resolved_on_the_host(machine: Machine) -> None:
    files = machine.host.files
    files.mkdir(machine.path("real"))
    for name, target in {
        "link": "real",
        "again": "link",
        "dangling": "real/nothing",
        "up": "real/../link",
        "loop": "loop",
        "bytes \udcff": "real",
    }.items():
        machine.host.run(["ln", "-s", target, machine.path(name)])
    there = files.resolve(machine.directory)
    for path, real in {
        "real": "real",
        "again": "real",
        "up": "real",
        "bytes \udcff": "real",
        "link/": "real",
        "again/new \udcfe": "real/new \udcfe",
        "dangling": "real/nothing",
        "real/../link/./x": "real/x",
    }.items():
        assert files.resolve(machine.path(path)) == f"{there}/{real}", path
    assert files.resolve("/") == "/"
    with pytest.raises(FileMissing):
        files.resolve(machine.path("loop/below"))
    for name, kind in (("link", stat.S_IFLNK), ("real", stat.S_IFDIR), ("loop", stat.S_IFLNK)):
        found = files.lstat(machine.path(name))
        assert (found.name, stat.S_IFMT(found.mode)) == (name, kind)


def test_errors_name_files_in_words_that_can_be_shown(machine: Machine) -> None:
    with pytest.raises(FileMissing) as raised:
        machine.host.files.stat(machine.path("bytes \udcff"))
    assert "bytes \ufffd" in raised.value.message


def test_a_reader_never_sees_a_part_of_a_replaced_file(machine: Machine) -> None:
    files, path = machine.host.files, machine.path("record")
    versions = (b"a" * 300_000, b"b" * 100_000)
    files.replace(path, versions[0], 0o600)
    stop, reads = threading.Event(), 0

    def read() -> None:
        nonlocal reads
        while not stop.is_set():
            with files.open(path, "rb") as file:
                assert file.read(1_000_000) in versions
            reads += 1

    def read_often() -> bool:
        return reads > 5 or reading.done()

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        number = 0
        while number < 60 or not read_often():
            files.replace(path, versions[number % 2], 0o600)
            number += 1
        stop.set()
        reading.result()
    assert files.stat(path).mode & 0o7777 == 0o600
    assert [entry.name for entry in files.list(machine.directory)] == ["record"]


def test_a_full_disk_fails_and_keeps_the_old_file(machine: Machine) -> None:
    files, disk = machine.host.files, machine.path("disk")
    files.mkdir(disk)
    machine.as_root("mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "full", disk)
    try:
        files.write(f"{disk}/record", b"old" * 1000, 0o600)
        for data in (b"n" * 70_000, b"n" * 1_000_000):
            with pytest.raises(FileFailed):
                files.replace(f"{disk}/record", data, 0o600)
            assert files.read(f"{disk}/record", 1_000_000) == b"old" * 1000
            assert [entry.name for entry in files.list(disk)] == ["record"]
            with pytest.raises(FileFailed), files.open(f"{disk}/upload", "wb") as file:
                file.write(data)
            files.remove(f"{disk}/upload")
    finally:
        machine.as_root("umount", disk)


def test_a_file_is_written_from_a_place_on(machine: Machine) -> None:
    files, path = machine.host.files, machine.path("part")
    files.write(path, b"0123456789", 0o600)
    with files.open(path, "r+b") as file:
        file.seek(8)
        assert file.write(b"x" * 600_000) == 600_000
    assert files.read(path, 1_000_000) == b"01234567" + b"x" * 600_000
    assert files.stat(path).mode & 0o7777 == 0o600
    with pytest.raises(FileMissing):
        files.open(machine.path("none"), "r+b")


def test_a_file_is_streamed(machine: Machine) -> None:
    files, path = machine.host.files, machine.path("-n streamed")
    data = random.randbytes(3_000_000)
    files.write(path, data, 0o600)
    for offset in (0, 1, 2_999_999, 3_000_000, 9_999_999):
        with contextlib.closing(files.stream(path, offset)) as stream:
            found = list(iter(lambda stream=stream: stream.read(65536), b""))  # type: ignore[misc]
        assert b"".join(found) == data[offset:]
    files.stream(path).close()  # a download that is given up
    for wrong in (machine.path("none"), machine.directory):
        with pytest.raises(FileFailed):
            files.stream(wrong).read(1)


# ---- start


def output_of(command: Command) -> bytes:
    return b"".join(iter(lambda: command.read(1 << 20), b""))


def write_many(command: Command) -> None:
    for _ in range(100):
        command.write(bytes(1 << 20))


def test_a_commands_input_and_output_are_streams(machine: Machine) -> None:
    block = random.randbytes(1 << 20)
    with machine.host.start(["cat"]) as command, ThreadPoolExecutor() as pool:
        reading = pool.submit(lambda: len(output_of(command)))
        for _ in range(20):
            command.write(block)
        command.end_input()
        assert reading.result(120) == 20 << 20
        assert command.wait() == 0
        assert command.stderr == ""


def test_a_started_command_is_told_where_and_what(machine: Machine) -> None:
    script = 'printf "%s" "$X" "$0"; pwd; echo "no $1" >&2; exit 3'
    argv = ["sh", "-c", script, *AWKWARD[:2]]
    with machine.host.start(argv, env={"X": "it's"}, cwd=machine.directory) as command:
        said = output_of(command)
        assert said == os.fsencode(f"it's{AWKWARD[0]}{machine.directory}\n")
        assert command.wait() == 3
        assert command.stderr == f"no {AWKWARD[1]}\n"


def test_commands_that_end_at_once_on_both_outputs(machine: Machine) -> None:
    """While one thread read one output and another the other, both could wait for ever."""

    def work(_: int) -> bytes:
        seen = b""
        for _ in range(100):
            with machine.host.start(["sh", "-c", "echo 1 >&2; echo 2"]) as command:
                command.end_input()
                while data := command.read(100):
                    seen += data
        return seen

    assert in_parallel(work, 3) == [b"2\n" * 100] * 3


def test_much_on_standard_error_holds_nobody_up(machine: Machine) -> None:
    script = "head -c 5000000 /dev/zero >&2; head -c 5000000 /dev/zero"
    with machine.host.start(["sh", "-c", script]) as command:
        assert len(output_of(command)) == 5_000_000
        assert command.wait() == 0
        assert 0 < len(command.stderr) < 1_000_000


def test_a_command_that_ends_early_says_so_to_who_writes(machine: Machine) -> None:
    with machine.host.start(["sh", "-c", "echo enough >&2; exit 4"]) as command:
        with pytest.raises(CommandFailed, match="before it had read all its input"):
            write_many(command)
        assert output_of(command) == b""
        assert command.wait() == 4
        assert command.stderr == "enough\n"


@pytest.mark.parametrize("script", ["yes {}", "sleep 0; exec cat - {}"])
def test_closing_a_command_ends_it(machine: Machine, script: str) -> None:
    mark = new_mark()
    command = machine.host.start(["sh", "-c", script.format(mark)])
    wait_until(lambda: machine.runs(mark), 10)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(output_of, command)
        command.close()
        reading.result(60)
    wait_until(lambda: not machine.runs(mark), 10, "it still runs")
    command.close()


def test_more_than_a_gibibyte_goes_out_through_one_connection(alice: SSHHost) -> None:
    """Paramiko's own key re-exchange, after 512 MiB, stalls a connection that streams."""
    block = bytes(1 << 20)
    with alice.start(["wc", "-c"]) as command:
        for _ in range(1200):
            command.write(block)
        command.end_input()
        assert output_of(command).strip() == str(1200 << 20).encode()
    assert len(connections(LOGIN_HOST)) == 1


def test_what_is_open_on_a_lost_connection_can_be_closed(
    alice: SSHHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the moment in which nothing is sent any more, and nobody has noticed yet."""

    def gone(_: bytes) -> None:
        raise EOFError

    command = alice.start(["cat"])
    terminal = alice.terminal("")
    with alice._connection.connected() as transport:
        beside = terminal._channel.get_transport()
        for each in (transport, beside):
            monkeypatch.setattr(each.packetizer, "write_all", gone)
    with pytest.raises(HostUnreachable, match="dropped"):
        command.write(b"x")
    assert alice.run(["echo", "again"]).text == "again\n", "by a new connection"
    command.close()
    terminal.close()
    alice.terminal("").close()


def test_a_command_whose_connection_drops(alice: SSHHost, devcluster: Devcluster) -> None:
    with alice.start(["cat"]) as command:
        (connection,) = connections(LOGIN_HOST)
        kill(devcluster, sshd_of(devcluster, connection))
        with pytest.raises(HostUnreachable, match="dropped"):
            output_of(command)
        with pytest.raises(HostUnreachable, match="dropped"):
            write_many(command)


# ---- terminal


def read_until(terminal: Terminal, wanted: str, seconds: float = 10) -> str:
    """What the terminal shows until it shows `wanted`, a regular expression."""
    shown = ""
    deadline = time.monotonic() + patience(seconds)
    while not re.search(wanted, shown):
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"waited in vain for {wanted}: {shown}"
        data = terminal.read(65536)
        assert data, f"the shell has gone: {shown}"
        shown += data.decode(errors="replace")
    return shown


def read_to_the_end(terminal: Terminal, seconds: float = 10) -> None:
    deadline = time.monotonic() + patience(seconds)
    while True:
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, "the shell has not gone"
        with contextlib.suppress(BlockingIOError):
            if not terminal.read(65536):
                return


@pytest.fixture
def opened(machine: Machine) -> Iterator[Callable[..., Terminal]]:
    with contextlib.ExitStack() as undo:

        def open_terminal(cwd: str, columns: int = 80, rows: int = 24) -> Terminal:
            terminal = machine.host.terminal(cwd, columns, rows)
            undo.callback(terminal.close)
            return terminal

        yield open_terminal


def test_a_terminal_answers(machine: Machine, opened: Callable[..., Terminal]) -> None:
    terminal = opened(machine.directory, 101, 31)
    terminal.write(b"echo grue\\\xc3\\\xa4; stty size; echo \"<$TERM>\" '<'\"$PWD\"'>'\n")
    shown = read_until(terminal, r"<xterm-256color> <.*>")
    assert "31 101" in shown
    assert f"<{machine.directory}>" in shown
    terminal.resize(132, 43)
    terminal.write(b"stty size\n")
    read_until(terminal, "43 132")
    terminal.write(b"cat\n")
    terminal.write("typed 😀\n".encode() * 2)
    read_until(terminal, r"(?s)(typed 😀.*){2}")


def test_a_terminal_starts_in_any_directory(
    machine: Machine, opened: Callable[..., Terminal]
) -> None:
    for name in ("-", "bytes \udcff", "two\nlines"):
        machine.host.files.mkdir(machine.path(name))
        terminal = opened(machine.path(name))
        terminal.write(b'printf "<%s>" "$PWD" | od -An -tx1 -w999; echo done $((1+1))\n')
        shown = read_until(terminal, "done 2")
        assert os.fsencode(f"/{name}>").hex(" ") in shown
        terminal.close()


def test_a_terminal_starts_at_home_when_it_must(
    machine: Machine, opened: Callable[..., Terminal]
) -> None:
    for cwd, word in ((machine.path("missing"), True), ("", False)):
        terminal = opened(cwd)
        terminal.write(b'echo "<$PWD>"\n')
        shown = read_until(terminal, "</.*>")
        assert f"<{machine.host.home}>" in shown
        assert ("Directory not found" in shown) == word


@pytest.mark.parametrize("first", ["", "trap '' HUP; "])
def test_closing_a_terminal_hangs_up(
    machine: Machine, opened: Callable[..., Terminal], first: str
) -> None:
    terminal, mark = opened(machine.directory), new_mark()
    terminal.write(f"{first}exec bash -c 'exec -a {mark} bash'\n".encode())
    terminal.write(f"{first}echo is $((1+1))\n".encode())
    read_until(terminal, "is 2")
    assert machine.runs(mark)
    terminal.close()
    wait_until(lambda: not machine.runs(mark), 5, "the shell still runs")
    terminal.close()


def test_a_terminal_whose_shell_has_gone(machine: Machine, opened: Callable[..., Terminal]) -> None:
    terminal = opened(machine.directory)
    terminal.write(b"exit\n")
    read_to_the_end(terminal)
    assert terminal.read(65536) == b""
    assert not terminal.lost
    terminal.write(b"x")
    terminal.resize(90, 30)
    terminal.close()


def test_nothing_waits_for_a_terminal(machine: Machine, opened: Callable[..., Terminal]) -> None:
    terminal = opened(machine.directory)
    terminal.write(b"stty raw -echo; echo is $((1+1)); sleep 60\n")
    read_until(terminal, "is 2\r?\n")
    with pytest.raises(BlockingIOError):
        terminal.read(65536)
    wait_until(lambda: terminal.write(b"x" * 65536) == 0, 10, "it takes all that is typed")


# ---- dial

SERVER = """
import os, socket, sys, threading

def end():
    sys.stdin.read()
    os._exit(0)

def serve(connection):
    with connection:
        if len(sys.argv) > 1:
            block = bytes(1 << 20)
            for _ in range(int(sys.argv[1])):
                connection.sendall(block)
        while data := connection.recv(65536):
            connection.sendall(data)

threading.Thread(target=end, daemon=True).start()
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"""


@contextlib.contextmanager
def serving(*python: str | Path) -> Iterator[int]:
    """The port of a server that echoes what it is sent, until the test closes its input."""
    with subprocess.Popen(python, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.stdin.close()


def serving_on(host: str, megabytes: int) -> contextlib.AbstractContextManager[int]:
    """The same on a host of the devcluster; it first sends that many MiB of zeros."""
    command = f"exec python3 -c '{SERVER}' {megabytes}"
    return serving(ROOT / "devcluster/as", "alice", host, command)


@pytest.fixture(scope="module")
def echo_port(one_host: tuple[Host, Callable[..., str]]) -> Iterator[int]:
    if isinstance(one_host[0], LocalHost):
        with serving(sys.executable, "-c", SERVER) as port:
            yield port
    else:
        with serving_on("portal-host", 0) as port:
            yield port


def test_dialled_bytes_go_and_come_back(machine: Machine, echo_port: int) -> None:
    stream = machine.host.dial("127.0.0.1", echo_port)
    data = random.randbytes(5_000_000)
    received = bytearray()
    with contextlib.closing(stream), ThreadPoolExecutor() as pool:
        sending = pool.submit(stream.sendall, data)
        while len(received) < len(data):
            received += stream.recv(1 << 16)
        sending.result()
        assert received == data
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(1) == b""


def test_a_dialled_stream_waits_as_long_as_it_is_told(machine: Machine, echo_port: int) -> None:
    stream = machine.host.dial("127.0.0.1", echo_port, timeout=20)
    with contextlib.closing(stream):
        assert not select.select([stream], [], [], 0)[0]
        stream.settimeout(0.1)
        with pytest.raises(TimeoutError):
            stream.recv(1)
        stream.settimeout(None)
        stream.sendall(b"x")
        assert select.select([stream], [], [], 30)[0]
        assert stream.recv(10) == b"x"
    with contextlib.closing(machine.host.dial("127.0.0.1", echo_port, timeout=2)) as stream:
        later = threading.Timer(2.5, stream.sendall, [b"late"])
        later.start()
        assert stream.recv(10) == b"late"  # the timeout was for opening it
        later.join()


def test_dialling_where_nothing_listens(machine: Machine) -> None:
    with pytest.raises(HostUnreachable, match="port 1 of 127"):
        machine.host.dial("127.0.0.1", 1)
    with pytest.raises(HostUnreachable):
        machine.host.dial("no-such-host.invalid", 80)
    assert machine.host.run(["echo", "fine"]).text == "fine\n"


# ---- SSH: signing in


def connections(address: str) -> set[paramiko.Transport]:
    """The SSH connections that this process has to `address`."""
    threads = [thread for thread in threading.enumerate() if isinstance(thread, paramiko.Transport)]
    return {one for one in threads if one.is_active() and one.getpeername()[0] == address}


def socket_of(connection: paramiko.Transport) -> socket.socket:
    assert isinstance(connection.sock, socket.socket)
    return connection.sock


def test_a_wrong_password_is_tried_once(
    start_sshd: Callable[..., PrivateSshd], tmp_path: Path
) -> None:
    sshd = start_sshd()
    before = connections(PORTAL_HOST)
    password = SecretStr("not alice-pw")
    host = SSHHost(sshd.address, "alice", lambda: password, sshd.known_hosts(tmp_path / "known"))
    for _ in range(3):  # as a page does that asks every few seconds
        with pytest.raises(SignInExpired, match="did not accept your user name and password"):
            host.run(["true"])
    wait_until(lambda: "Failed password for alice" in sshd.log)
    assert sshd.log.count("Failed password for alice") == 1
    assert connections(PORTAL_HOST) == before
    password = SecretStr("alice-pw")  # signed in again
    host.run(["true"])
    host.close()


def test_a_host_that_goes_away_while_signing_in_says_nothing_of_the_password(
    start_sshd: Callable[..., PrivateSshd], tmp_path: Path
) -> None:
    sshd = start_sshd()
    known_hosts = sshd.known_hosts(tmp_path / "known_hosts")
    host = SSHHost(sshd.address, "alice", lambda: SecretStr("wrong"), known_hosts)
    sshd.will_die_during_sign_in()
    with pytest.raises(HostUnreachable, match="cannot be reached"):
        host.connect()


def test_an_account_that_has_expired_is_not_accepted(devcluster: Devcluster) -> None:
    """PAM knows the password and then says no: sshd hangs up without a word."""
    with pytest.raises(SignInExpired, match="did not accept"):
        ssh(devcluster, "dave").connect()


def test_a_changed_or_unknown_host_key_is_refused(
    devcluster: Devcluster, start_sshd: Callable[..., PrivateSshd], tmp_path: Path
) -> None:
    sshd = start_sshd()
    other_key = (devcluster.state / "known_hosts").read_text().split("\n")[0].partition(" ")[2]
    cases = {
        "host key .* has changed.* administrator": sshd.known_hosts(
            tmp_path / "changed", other_key
        ),
        "does not know the host key .* administrator": devcluster.state / "known_hosts",
    }
    for sentence, known_hosts in cases.items():
        host = SSHHost(sshd.address, "alice", lambda: SecretStr("alice-pw"), known_hosts)
        with pytest.raises(HostUnreachable, match=sentence):
            host.run(["true"])
    assert sshd.log.count("Connection from") == 2
    assert "alice" not in sshd.log  # who is signing in, and with what, was not said


def test_a_dead_host_is_tried_once_for_all_who_wait(devcluster: Devcluster) -> None:
    host = ssh(devcluster, "alice", "10.78.0.99")
    started = time.monotonic()
    answers = in_parallel(lambda _: host.run(["true"]), 8)
    assert all(isinstance(answer, HostUnreachable) for answer in answers), answers
    assert time.monotonic() - started < 12 * busy()


def test_small_packets_are_not_held_back(alice: SSHHost) -> None:
    alice.connect()
    (connection,) = connections(LOGIN_HOST)
    assert socket_of(connection).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SSHHost]:
    """A host that accepts TCP connections and then says nothing."""
    monkeypatch.setattr("ood.hosts.ssh_connect.CONNECT_TIMEOUT", 5)
    (tmp_path / "known_hosts").touch()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        yield SSHHost(address, "alice", lambda: SecretStr("x"), tmp_path / "known_hosts")


def test_nothing_waits_for_a_connection_that_does_not_open(silent: SSHHost) -> None:
    with ThreadPoolExecutor() as threads:
        opening = threads.submit(silent.run, ["true"])
        waiting = threads.submit(silent.files.list, "/")
        time.sleep(1.2)  # the files waited for the same connection by now
        silent.close_if_idle(0)
        silent.close()
        with pytest.raises(HostUnreachable, match="was closed"):
            waiting.result(timeout=30)
        assert not opening.done()
        with pytest.raises(HostUnreachable, match="cannot be reached"):
            opening.result(timeout=30)


def test_waiting_for_another_threads_connection_has_a_limit(
    silent: SSHHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ood.hosts.connection.OPENING_TIMEOUT", 0.5)
    with ThreadPoolExecutor() as threads:
        opening = threads.submit(silent.connect)
        wait_until(lambda: silent._connection._opening is not None)
        with pytest.raises(HostUnreachable, match="did not answer in time"):
            silent.connect()
        assert not opening.done()
        assert opening.exception() is not None


def test_a_connection_that_opens_after_it_was_closed_is_closed_at_once(
    alice: SSHHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, may_return = threading.Event(), threading.Event()

    def slow(target: Target, credential: Credential) -> Connection:
        connection = open_connection(target, credential)
        opened.set()
        may_return.wait(60)
        return connection

    monkeypatch.setattr("ood.hosts.connection.open_connection", slow)
    with ThreadPoolExecutor() as threads:
        running = threads.submit(alice.run, ["true"])
        assert opened.wait(60)
        assert len(connections(LOGIN_HOST)) == 1
        alice.close()
        may_return.set()
        with pytest.raises(HostUnreachable, match="was closed"):
            running.result(60)
    assert connections(LOGIN_HOST) == set()
    assert alice.run(["echo", "again"]).text == "again\n"


# ---- SSH: one connection for all threads


def test_more_at_once_than_sshd_allows(alice: SSHHost) -> None:
    """sshd's MaxSessions is 10."""
    with contextlib.ExitStack() as undo:
        for _ in range(2):
            undo.enter_context(alice.files.open("/etc/passwd", "rb"))
        answers = in_parallel(lambda n: alice.run(["sh", "-c", f"sleep 0.3; echo {n}"]).text, 15)
    assert answers == [f"{n}\n" for n in range(15)]
    assert len(connections(LOGIN_HOST)) == 1


def test_terminals_have_connections_of_their_own(alice: SSHHost) -> None:
    with contextlib.ExitStack() as undo:

        def work(number: int) -> str:
            terminal = alice.terminal("/")
            undo.callback(terminal.close)
            terminal.write(f"echo '<'{number}'>'\n".encode())
            return read_until(terminal, f"<{number}>", 30)

        in_parallel(work, 20)
        assert alice.run(["echo", "x"]).text == "x\n"
        assert len(connections(LOGIN_HOST)) == 1 + 3
    alice.terminal("/").close()
    assert len(connections(LOGIN_HOST)) == 1 + 3
    alice.close()
    wait_until(lambda: not connections(LOGIN_HOST), 5)


def test_downloads_leave_room_for_commands(alice: SSHHost, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as undo:
        for _ in range(LASTING_CHANNELS):
            undo.enter_context(alice.files.open("/etc/passwd", "rb"))
        with monkeypatch.context() as soon:
            soon.setattr("ood.hosts.connection.SLOT_TIMEOUT", 0.5)
            with pytest.raises(HostUnreachable, match="Close a shell"):
                alice.files.open("/etc/passwd", "rb")
        answers = in_parallel(lambda n: alice.run(["echo", str(n)]).text, 8)
        assert answers == [f"{n}\n" for n in range(8)]
    for _ in range(8):  # closed ones give back their place
        alice.files.open("/etc/passwd", "rb").close()
    assert len(connections(LOGIN_HOST)) == 1


def test_a_site_may_allow_fewer_sessions(
    start_sshd: Callable[..., PrivateSshd], tmp_path: Path
) -> None:
    sshd = start_sshd("MaxSessions 2")
    known_hosts = sshd.known_hosts(tmp_path / "known")
    host = SSHHost(sshd.address, "alice", lambda: SecretStr("alice-pw"), known_hosts)
    assert host.home == "/home/alice"  # keeps one of the two
    answers = in_parallel(lambda n: host.run(["echo", str(n)]).text, 6)
    assert answers == [f"{n}\n" for n in range(6)]
    for _ in range(3):
        host.terminal("/")
    host.close()


def test_many_threads_share_the_files(alice: SSHHost) -> None:
    top = alice.run(["mktemp", "-d"]).text.strip()

    def work(number: int) -> bytes:
        files, path = alice.files, f"{top}/{number}"
        files.mkdir(path)
        data = random.randbytes(200_000)
        for turn in range(4):
            files.replace(f"{path}/file", data, 0o600)
            assert files.read(f"{path}/file", 1_000_000) == data
            with files.open(f"{path}/file", "rb") as file:
                assert file.read(1_000_000) == data
            with files.open(f"{path}/{turn}", "xb") as file:
                file.write(data)
        return str(len(files.list(path))).encode()

    assert in_parallel(work, 12) == [b"5"] * 12
    assert len(connections(LOGIN_HOST)) == 1
    alice.run(["rm", "-rf", top])


def test_a_file_operation_that_hangs_delays_no_other(alice: SSHHost) -> None:
    pipe = alice.run(["mktemp", "-u"]).text.strip()
    alice.run(["mkfifo", pipe])
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(alice.files.read, pipe, 10)
        time.sleep(1)
        started = time.monotonic()
        assert in_parallel(lambda _: alice.files.stat("/").is_directory, 4) == [True] * 4
        assert time.monotonic() - started < 20  # and not as long as SFTP waits
        assert not reading.done()
        # Open for reading too: the reader may be gone before the text is written.
        alice.run(["sh", "-c", 'echo read 1<>"$0"; rm "$0"', pipe])
        with pytest.raises(FileFailed):  # SFTP cannot read pipes
            reading.result(60)
    assert len(connections(LOGIN_HOST)) == 1


def test_more_than_a_gibibyte_streams_in_while_commands_run(alice: SSHHost) -> None:
    """Paramiko's own key re-exchange, after 512 MiB, stalls such a connection."""
    size = 1200 << 20
    received, ran = 0, 0
    with serving_on("alpha-login", size >> 20) as port, ThreadPoolExecutor() as pool:
        stop = threading.Event()

        def run() -> int:
            count = 0
            while not stop.wait(0.05):
                assert alice.run(["echo", "x" * 1000], timeout=60).stdout == b"x" * 1000 + b"\n"
                count += 1
            return count

        running = pool.submit(run)
        try:
            with contextlib.closing(alice.dial("127.0.0.1", port)) as stream:
                stream.settimeout(60)
                while received < size:
                    data = stream.recv(1 << 20)
                    assert data
                    received += len(data)
        finally:
            stop.set()
        ran = running.result()
    assert received == size
    assert ran > 5
    assert len(connections(LOGIN_HOST)) == 1


def test_the_host_may_ask_for_new_keys_meanwhile(
    start_sshd: Callable[..., PrivateSshd], tmp_path: Path
) -> None:
    sshd = start_sshd("RekeyLimit 16M")
    known_hosts = sshd.known_hosts(tmp_path / "known")
    host = SSHHost(sshd.address, "alice", lambda: SecretStr("alice-pw"), known_hosts)
    for _ in range(4):
        done = host.run(["head", "-c", "50M", "/dev/zero"], max_output=64 << 20, timeout=120)
        assert len(done.stdout) == 50 << 20
    host.close()


# ---- SSH: when the connection drops


def sshd_of(devcluster: Devcluster, connection: paramiko.Transport) -> list[str]:
    """The pids, on the login host, of the sshd processes that serve a connection of ours."""
    port = socket_of(connection).getsockname()[1]
    found = devcluster.host("alpha-login", "ss", "-Htnp", f"sport = :22 and dport = :{port}")
    pids: list[str] = re.findall(r"pid=(\d+)", found)
    assert pids
    return pids


def kill(devcluster: Devcluster, pids: list[str]) -> None:
    devcluster.host("alpha-login", "kill", "-9", *pids, check=False)  # one may end by another


def test_verbs_in_flight_say_so_and_the_next_ones_work(
    alice: SSHHost, devcluster: Devcluster
) -> None:
    mark = new_mark()
    reading = alice.files.open("/dev/zero", "rb")
    assert alice.files.stat("/").is_directory
    (connection,) = connections(LOGIN_HOST)
    terminal = alice.terminal("/")
    (terminals,) = connections(LOGIN_HOST) - {connection}
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(alice.run, ["sleep", mark]) for _ in range(3)]
        processes = ["pgrep", "-fc", f"^sleep {mark}"]
        wait_until(lambda: devcluster.host("alpha-login", *processes, check=False) == "3\n", 5)
        kill(devcluster, sshd_of(devcluster, connection))
        for one in running:
            with pytest.raises(HostUnreachable, match="dropped"):
                one.result(timeout=60)
    terminal.write(b"echo is $((1+1))\n")
    read_until(terminal, "is 2")
    kill(devcluster, sshd_of(devcluster, terminals))
    read_to_the_end(terminal)
    assert terminal.lost
    terminal.close()
    with pytest.raises(HostUnreachable):
        reading.read(1)
    reading.close()
    answers = in_parallel(lambda n: alice.run(["echo", str(n)]).text, 8)
    assert answers == [f"{n}\n" for n in range(8)]
    assert alice.files.stat("/").is_directory
    alice.terminal("/").close()
    assert len(connections(LOGIN_HOST) - {connection, terminals}) == 2


def test_a_file_in_flight_when_the_connection_drops(alice: SSHHost, devcluster: Devcluster) -> None:
    path = alice.run(["mktemp"]).text.strip()
    enough = threading.Event()
    with ThreadPoolExecutor() as pool:

        def write() -> None:
            while not enough.is_set():
                alice.files.replace(path, bytes(300_000), 0o600)

        writing = pool.submit(write)
        try:
            # Between two files nobody notices: the next one opens another connection.
            for _ in range(10):
                time.sleep(0.3)
                for connection in connections(LOGIN_HOST):
                    with contextlib.suppress(AssertionError, OSError):  # it has just gone
                        kill(devcluster, sshd_of(devcluster, connection))
                if wait([writing], timeout=2).done:
                    break
            with pytest.raises(HostUnreachable, match="dropped"):
                writing.result(timeout=60)
        finally:
            enough.set()
    assert alice.files.stat(path).size in (0, 300_000)
    alice.run(["sh", "-c", 'rm -f "$0"*', path])


def test_a_network_that_goes_silent(
    alice: SSHHost, devcluster: Devcluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ood.hosts.ssh_connect.DEAD_AFTER", 2)
    alice.files.list("/")
    (connection,) = connections(LOGIN_HOST)
    left = sshd_of(devcluster, connection)
    port = socket_of(connection).getsockname()[1]
    rule = f"INPUT -p tcp --sport {port} -j DROP".split()
    devcluster.host("alpha-login", "iptables", "-I", *rule)
    try:
        started = time.monotonic()
        with pytest.raises(HostUnreachable):
            alice.files.list("/")
        assert time.monotonic() - started < 20  # and not as long as SFTP waits
        assert alice.run(["echo", "again"]).text == "again\n"
    finally:
        devcluster.host("alpha-login", "iptables", "-D", *rule)
        kill(devcluster, left)


def test_a_file_server_that_hangs(
    alice: SSHHost, devcluster: Devcluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.files.list("/")
    (connection,) = connections(LOGIN_HOST)
    below = ["pgrep", "-P", ",".join(sshd_of(devcluster, connection)), "-f", "internal-sftp"]
    pid = devcluster.host("alpha-login", *below).strip()
    devcluster.host("alpha-login", "kill", "-STOP", pid)
    try:
        with monkeypatch.context() as soon:
            soon.setattr("ood.hosts.sftp.ANSWER_TIMEOUT", 2)
            with pytest.raises(FileTimedOut):
                alice.files.stat("/")
        assert alice.files.list("/")
        assert connections(LOGIN_HOST) == {connection}  # it did not close
    finally:
        devcluster.host("alpha-login", "kill", "-CONT", pid)


# ---- the pool


@pytest.fixture
def pool(devcluster: Devcluster) -> Iterator[HostPool]:
    pool = HostPool(LOGIN_HOST, devcluster.state / "known_hosts", Credentials())
    yield pool
    for user in ("alice", "bob"):
        pool.forget(user)


def test_one_connection_for_all_requests_of_a_user(pool: HostPool) -> None:
    pool.sign_in("alice", SecretStr("alice-pw"))
    pool.sign_in("bob", SecretStr("bob-pw"))

    def request(number: int) -> str:
        host = pool.portal_host(("alice", "bob")[number % 2])
        host.files.list(host.home)
        return host.run(["id", "-un"]).text

    assert in_parallel(request, 8) == ["alice\n", "bob\n"] * 4
    assert len(connections(LOGIN_HOST)) == 2
    assert pool.portal_host("alice") is pool.host("alice", LOGIN_HOST)


def test_signing_out_closes_everything(pool: HostPool, devcluster: Devcluster) -> None:
    pool.sign_in("alice", SecretStr("alice-pw"))
    host = pool.portal_host("alice")
    terminal = host.terminal("/")
    with ThreadPoolExecutor() as threads:
        mark = new_mark()
        running = threads.submit(host.run, ["sleep", mark])
        processes = ["pgrep", "-fc", f"^sleep {mark}"]
        wait_until(lambda: devcluster.host("alpha-login", *processes, check=False) == "1\n")
        started = time.monotonic()
        pool.forget("alice")
        assert connections(LOGIN_HOST) == set()
        assert time.monotonic() - started < 3 * busy()
        with pytest.raises(HostUnreachable):
            running.result(timeout=60)
    read_to_the_end(terminal)
    assert terminal.lost
    for old in (host, pool.portal_host("alice")):
        with pytest.raises(SignInExpired):
            old.run(["true"])
        with pytest.raises(SignInExpired):
            old.files.list("/")
        with pytest.raises(SignInExpired):
            old.terminal("/")
        with pytest.raises(SignInExpired):
            old.dial("127.0.0.1", 22)
    terminal.close()
    pool.sign_in("alice", SecretStr("alice-pw"))
    assert pool.portal_host("alice").run(["id", "-un"]).text == "alice\n"


def test_idle_connections_are_closed_and_open_again(
    devcluster: Devcluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ood.hosts.pool.CHECK_EVERY", 0.1)
    monkeypatch.setattr("ood.hosts.pool.IDLE_SECONDS", 0.5)
    pool = HostPool(LOGIN_HOST, devcluster.state / "known_hosts", Credentials())
    pool.sign_in("alice", SecretStr("alice-pw"))
    host = pool.portal_host("alice")
    terminal = host.terminal("/")  # nobody types, but it is open
    time.sleep(1.2)
    terminal.write(b"echo is $((1+1))\n")
    read_until(terminal, "is 2")
    assert host.run(["sh", "-c", "sleep 1; echo slept"]).text == "slept\n"
    terminal.close()
    host.files.list("/")
    wait_until(lambda: not connections(LOGIN_HOST), 5, "the idle connection stays open")
    assert host.files.list("/")
    pool.forget("alice")


def test_one_bad_host_does_not_keep_the_others_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ood.hosts.pool.CHECK_EVERY", 0.05)
    pool = HostPool("localhost", tmp_path / "known_hosts", Credentials())
    checked = threading.Semaphore(0)

    def fails(_: float) -> None:
        raise RuntimeError("a mistake in the portal")

    monkeypatch.setattr(pool.host("alice", "bad"), "close_if_idle", fails)
    monkeypatch.setattr(pool.host("alice", "good"), "close_if_idle", lambda _: checked.release())
    for _ in range(3):
        assert checked.acquire(timeout=30)
    assert "idle connection to bad" in caplog.text
    assert "a mistake in the portal" in caplog.text


def test_a_failed_sign_in_leaves_the_good_one_and_no_trace(
    pool: HostPool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pool.sign_in("alice", SecretStr("alice-pw"))
    before = connections(LOGIN_HOST)
    with pytest.raises(SignInExpired) as raised:
        pool.sign_in("alice", SecretStr("guessed"))
    assert connections(LOGIN_HOST) == before
    host = pool.portal_host("alice")
    assert host.run(["id", "-un"]).text == "alice\n"
    (connection,) = before
    connection.close()  # for some reason: the good password opens it again
    assert host.run(["id", "-un"]).text == "alice\n"
    # And nobody who looks at a log or an error learns a password.
    error = raised.value
    said = f"{caplog.text} {pool!r} {vars(pool)} {host!r} {vars(host)} {error!r} {error.detail}"
    assert "opened SSH connection" in said
    assert "alice-pw" not in said
    assert "guessed" not in said
