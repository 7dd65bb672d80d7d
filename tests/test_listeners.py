"""The portal sends nothing to a service that is not its owner's process. Tested on a node of the
devcluster, where other users take a port as soon as it is free.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import yaml
from websockets.exceptions import InvalidStatus

from ood.errors import CommandFailed, HostUnreachable, SchedulerError, ServiceRefused
from ood.hosts.base import Command, Stream
from ood.hosts.local import LocalHost
from ood.proxy import listeners as listeners_module
from ood.proxy.listeners import ARGV, Listeners
from ood.sessions.service import Service
from tests.conftest import ROOT, Devcluster, RunningPortal, wait_until
from tests.echo import OWNER, Answer, Echo, Stack

TAKES_OVER = """
import json, select, socket, sys, time
port, ends = int(sys.argv[1]), time.monotonic() + 120
print("waiting", flush=True)
page = b"HTTP/1.1 200 OK\\r\\nContent-Length: 7\\r\\nContent-Type: text/html\\r\\n\\r\\nbob was"
taken, heard = 0.0, []
while time.monotonic() < ends and not taken:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("0.0.0.0", port))
        listener.listen(100)
        taken = time.time()
    except OSError:
        listener.close()
        time.sleep(0.002)
print("taken" if taken else "not taken", flush=True)
listener.settimeout(0.2)
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        continue
    connection.settimeout(1)
    try:
        connection.sendall(page)  # without being asked
        heard.append(connection.recv(65536).decode("latin-1"))
    except OSError:
        heard.append("")
    connection.close()
print(json.dumps({"taken": taken, "heard": heard}))
"""


@pytest.fixture(scope="module")
def stack(
    devcluster: Devcluster, site_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("portal") / "site"
    shutil.copytree(site_config, directory)
    path = directory / "portal.yml"
    settings = yaml.safe_load(path.read_text()) | {"app_defs": str(ROOT / "tests/app_defs")}
    path.write_text(yaml.safe_dump(settings))
    portal = RunningPortal(directory, {"OOD_PORTAL_CONFIG": str(path)})
    portal.start()
    yield Stack(portal, "desktop", devcluster)
    portal.stop()


@pytest.fixture
def echo(stack: Stack) -> Iterator[Echo]:
    """A running service which its owner's browser uses."""
    owner = stack.signs_in()
    found = Echo(stack, owner, stack.launches(owner))
    found.starts()
    found.directory = str(found.card["context_directory"])
    found.enters()
    assert found.told()["method"] == "GET"
    yield found
    if found.card["status"] != "completed":
        owner.post(f"/sessions/{found.id}/cancel", {})


@contextmanager
def somebody_else_takes(port: int) -> Iterator[tuple[Callable[[], str], dict[str, object]]]:
    """bob waits on the node for a port. Waits until he has taken it, and, in the end, what he heard
    on it."""
    found: dict[str, object] = {}
    command = f"exec python3 -c '{TAKES_OVER}' {port}"
    argv = [str(ROOT / "devcluster/as"), "bob", "desktop01", command]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bob:
        assert bob.stdin
        assert bob.stdout
        assert bob.stdout.readline() == "waiting\n"
        yield bob.stdout.readline, found
        bob.stdin.close()
        found |= json.loads(bob.stdout.read())


@pytest.mark.parametrize("end", ["killed", "cancelled"])
def test_a_port_that_somebody_else_took_gets_nothing(echo: Echo, end: str) -> None:
    port = int(echo.connection["port"])
    answers: list[Answer] = []
    upgrades: list[int] = []
    stop = threading.Event()

    def asks() -> None:
        while not stop.is_set():
            answers.append(echo.asks("page?html=hers", Sec_Fetch_Mode="navigate"))
            answers.append(echo.asks("x", "POST", b"secret", Sec_Fetch_Mode="cors"))

    def upgrades_() -> None:
        while not stop.is_set():
            try:
                with echo.opens():
                    upgrades.append(101)
            except (InvalidStatus, OSError, EOFError) as refused:
                upgrades.append(getattr(getattr(refused, "response", None), "status_code", 0))

    def looks() -> None:
        while not stop.is_set():  # which probes the service too
            echo.user.request("GET", "/sessions")

    threads = [threading.Thread(target=work) for work in (asks, upgrades_, looks)]
    with somebody_else_takes(port) as (has_taken_it, bobs):
        for thread in threads:
            thread.start()
        time.sleep(1)
        wait_until(lambda: len(answers) > 1 and upgrades)
        ended = time.time()
        if end == "killed":
            os.kill(echo.process, signal.SIGKILL)
        else:
            assert echo.user.post(f"/sessions/{echo.id}/cancel", {})[0] == 303
        taken_or_not = has_taken_it()
        time.sleep(8)
        stop.set()
        for thread in threads:
            thread.join()
    taken, heard = bobs["taken"], bobs["heard"]
    assert isinstance(taken, float)
    assert isinstance(heard, list)
    assert taken_or_not == "taken\n"
    assert taken >= ended
    assert {*heard} <= {""}  # connections on which nothing came, if there were any
    assert not [answer for answer in answers if b"bob was" in answer.body]
    assert {answer.status for answer in answers} <= {200, 404, 410, 502, 503, 504}
    assert {answer.body for answer in answers if answer.status == 200} <= {b"hers"} | {
        answer.body for answer in answers if b'"method"' in answer.body
    }
    why = (
        "could not check that Echo on desktop01",
        "program is listening on",
        "Nothing is listening on",
        "Nothing answers at",
        *(["Echo is not running"] if end == "cancelled" else []),  # which the portal itself did
    )
    assert any(one in answer.body.decode() for answer in answers for one in why)
    assert upgrades[-1] != 101


def _service(port: int) -> Service:
    return Service("id", OWNER, "Echo", "desktop", "7", "node1", port, "/", {})


class Node:
    """This machine in place of a node."""

    def __init__(self, *prefix: str) -> None:
        self.prefix = prefix
        self.argv = ARGV
        self.started = 0
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, _: Service) -> Command:
        self.started += 1
        command = LocalHost().start([*self.prefix, *self.argv])
        self.processes.append(command._process)
        return command

    def has_ended(self) -> bool:
        return all(process.poll() is not None for process in self.processes)


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of this machine at which its root listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


class Opened:
    """A connection, as far as it matters here."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def connects(listeners: Listeners, service: Service) -> None:
    """Connect to a service, which is proven to be its owner's."""
    stream = Opened()
    assert listeners.connect(service, lambda: cast(Stream, stream)) is cast(Stream, stream)
    assert not stream.closed


def test_whose_port_it_is(listening: int) -> None:
    node = Node()
    listeners = Listeners(node.start)
    for _ in range(3):
        connects(listeners, _service(listening))
    with pytest.raises(HostUnreachable, match="Nothing is listening on port"):
        connects(listeners, _service(1))
    assert node.started == 1
    as_nobody = Listeners(Node("setpriv", "--reuid=65534", "--clear-groups").start)
    with pytest.raises(ServiceRefused, match="Another user’s program is listening"):
        connects(as_nobody, _service(listening))
    listeners.forget(OWNER)
    as_nobody.forget(OWNER)


def test_who_listened_before_is_not_taken_for_who_listens_after() -> None:
    """Somebody else accepts the connection and goes, and then the owner's service begins."""
    listeners = Listeners(Node().start)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        service = _service(int(reserved.getsockname()[1]))
    others: list[Opened] = []
    began: list[socket.socket] = []

    def dial() -> Stream:
        """By the time that the connection is open, another socket listens."""
        for earlier in began:
            earlier.close()
        began.append(socket.create_server(("127.0.0.1", service.port)))
        others.append(Opened())
        return cast(Stream, others[-1])

    with pytest.raises(HostUnreachable, match="Nothing is listening"):
        listeners.connect(service, dial)
    assert others == []  # nobody was even connected to
    began.append(socket.create_server(("127.0.0.1", service.port)))
    with pytest.raises(HostUnreachable, match="still starting"):
        listeners.connect(service, dial)
    assert [one.closed for one in others] == [True, True]
    connects(listeners, service)
    began[-1].close()
    listeners.forget(OWNER)


def test_a_greeting_is_no_answer(listening: int) -> None:
    node = Node("/bin/sh", "-c", 'echo "own own own"; echo; exec "$@"', "sh")
    listeners = Listeners(node.start)
    connects(listeners, _service(listening))
    with pytest.raises(HostUnreachable):
        connects(listeners, _service(1))
    listeners.forget(OWNER)


@pytest.mark.parametrize(
    "command", ["exit 1", "echo own", "kill -9 $$", "exec head -c 99999 /dev/zero"]
)
def test_no_answer_is_no_proof(listening: int, command: str) -> None:
    listeners = Listeners(Node("/bin/sh", "-c", command).start)
    with pytest.raises(HostUnreachable, match="could not check that Echo on node1 is yours"):
        connects(listeners, _service(listening))


def test_a_command_that_cannot_be_started_is_no_proof(listening: int) -> None:
    for error in (CommandFailed("no", 1, ""), SchedulerError("no"), HostUnreachable("no")):

        def start(_: Service, error: Exception = error) -> Command:
            raise error

        with pytest.raises(HostUnreachable, match="could not check"):
            connects(Listeners(start), _service(listening))


def all_at_once(work: Callable[[], None], number: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_one_command_serves_all_and_is_started_again(listening: int) -> None:
    node = Node()
    listeners = Listeners(node.start)
    all_at_once(lambda: connects(listeners, _service(listening)), 20)
    assert node.started == 1
    os.killpg(node.processes[0].pid, signal.SIGKILL)
    wait_until(node.has_ended)
    connects(listeners, _service(listening))
    assert node.started == 2
    listeners.forget(OWNER)


def test_commands_are_few_and_kept_while_their_services_are_in_use(
    listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node()
    listeners = Listeners(node.start)
    services = [replace(_service(listening), node=f"node{n}") for n in range(5)]

    def begun(*asked: Service) -> int:
        before = node.started
        for service in asked:
            connects(listeners, service)
        return node.started - before

    assert begun(*services) == 5
    assert begun(*services[2:]) == 0  # the last three
    assert begun(services[0]) == 1  # in place of services[2]
    assert begun(services[3], services[4], services[0]) == 0
    listeners.close_unused([])  # they have just been asked
    assert begun(services[0]) == 0
    monkeypatch.setattr(listeners_module, "UNUSED_SECONDS", 0.0)
    listeners.close_unused(services[:1])
    assert begun(services[0]) == 0
    assert begun(services[3]) == 1
    listeners.forget(OWNER)
    assert node.has_ended()


def test_a_command_that_fails_is_not_tried_by_everybody(listening: int) -> None:
    node = Node("/bin/sh", "-c", "sleep 0.5; exit 1")
    listeners = Listeners(node.start)
    refused: list[str] = []

    def asks() -> None:
        with pytest.raises(HostUnreachable) as error:
            connects(listeners, _service(listening))
        refused.append(error.value.message)

    all_at_once(asks, 10)
    assert len(refused) == 10
    assert node.started == 1
    with pytest.raises(HostUnreachable):  # another job's is
        connects(listeners, replace(_service(listening), job_id="8"))
    assert node.started == 2


def test_signing_out_ends_a_command_that_is_only_starting(listening: int) -> None:
    node = Node()

    def start(service: Service) -> Command:
        listeners.forget(OWNER)
        return node.start(service)

    listeners = Listeners(start)
    with pytest.raises(HostUnreachable):
        connects(listeners, _service(listening))
    wait_until(lambda: node.started == 1 and node.has_ended())


def test_signing_out_ends_questions_that_wait(listening: int) -> None:
    node = Node("/bin/sh", "-c", "exec sleep 60")
    listeners = Listeners(node.start)
    refused: list[str] = []

    def asks(port: int) -> None:
        with pytest.raises(HostUnreachable) as error:
            connects(listeners, _service(port))
        refused.append(error.value.detail)

    def questions() -> int:
        runs = [each._run for each in listeners._nodes.values()]
        return sum(len(run.waiting) + len(run.under_way) for run in runs if run)

    threads = [threading.Thread(target=asks, args=(listening + n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: node.started == 1 and questions() == 3)
    before = time.monotonic()
    listeners.forget(OWNER)
    for thread in threads:
        thread.join()
    assert time.monotonic() - before < 10  # and not as long as an answer may take
    assert len(refused) == 3
    assert all("signed out" in why for why in refused)
    wait_until(node.has_ended)


def test_a_command_that_says_nothing_is_ended(
    listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners_module, "FIRST_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(listeners_module, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(listeners_module, "FAILED_SECONDS", 60.0)
    silent = Node("/bin/sh", "-c", "exec sleep 60")
    listeners = Listeners(silent.start)
    for _ in range(2):
        with pytest.raises(HostUnreachable, match="could not check"):
            connects(listeners, _service(listening))
        wait_until(silent.has_ended)
    assert silent.started == 1  # the second time, it was too early to try again
    monkeypatch.setattr(listeners_module, "FAILED_SECONDS", 0.0)
    monkeypatch.setattr(listeners_module, "FIRST_ANSWER_SECONDS", 15.0)
    silent.prefix = ()
    connects(listeners, _service(listening))
    os.killpg(silent.processes[-1].pid, signal.SIGSTOP)
    connects(listeners, _service(listening))  # the last one answered, so the next starts at once
    assert silent.started == 3
    assert silent.processes[1].poll() is not None
    listeners.forget(OWNER)


def test_questions_do_not_queue(listening: int) -> None:
    """However many ask at the same time, they wait for a question or two."""
    node = Node()
    slow = ARGV[2].replace("  awk ", "  sleep 0.2; awk ")
    node.argv = ("/bin/sh", "-c", slow)
    listeners = Listeners(node.start)
    connects(listeners, _service(listening))
    before = time.monotonic()
    all_at_once(lambda: connects(listeners, _service(listening)), 100)
    assert time.monotonic() - before < 12  # one after the other, they would take 20 seconds
    assert node.started == 1
    listeners.forget(OWNER)
