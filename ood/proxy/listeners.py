"""Proof, for every new connection, that a service belongs to its owner.

The port is named in `connection.yml`, and anybody who may use the node can listen on it before the
service starts or once it has ended. So the portal sends nothing on a new connection until a command
on the node has said whose sockets listen on that port. The command runs within the job, as its
owner. The connection is the owner's if the same sockets, all of them the owner's, listened before
the connection was opened and after.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from ood.errors import CommandFailed, HostError, HostUnreachable, PortalError, ServiceRefused
from ood.help_topics import HelpTopic
from ood.hosts.base import Command, Stream
from ood.sessions.service import Service

# Seconds.
ANSWER_SECONDS = 5.0
FIRST_ANSWER_SECONDS = 15.0  # the scheduler has to start the command first
FAILED_SECONDS = 3.0  # between attempts to start a command that gave no answer
UNUSED_SECONDS = 30.0  # until an unused command is ended, unless its service is in use

MAX_OUTPUT = 64 * 1024  # bytes for one batch of questions, with what start-up files print
MAX_COMMANDS = 3  # of one user at a time: each takes a channel of an SSH connection

# Each line of input is MARK PORT, with the port as in /proc/net/tcp (proc(5)). Each answer is MARK
# and what listens there: `own` and the inodes of the sockets, `other`, or `none`. 0A is LISTEN.
WATCH = r"""
me=$(id -u)
while read -r mark port; do
  awk -v mark="$mark" -v port=":$port" -v me="$me" '
    $4 != "0A" || substr($2, length($2) - 4) != port { next }
    $8 == me { own = own " " $10; next }
    { other++ }
    END { print mark, other ? "other" : own ? "own" own : "none" }
  ' /proc/net/tcp $(ls /proc/net/tcp6 2> /dev/null)
done
"""
ARGV = ("/bin/sh", "-c", WATCH)

log = logging.getLogger(__name__)

Key = tuple[str, str, str]  # user, cluster and node


class Listeners:
    """Finds out who listens on the nodes of all users' jobs. `start` runs `ARGV` on the node of a
    service, within its job; it raises `PortalError`."""

    def __init__(self, start: Callable[[Service], Command]) -> None:
        self._start = start
        self._lock = threading.Lock()  # guards _nodes; each node has a lock of its own
        self._nodes: dict[Key, _Node] = {}  # most recently used last

    def connect(self, service: Service, dial: Callable[[], Stream]) -> Stream:
        """Open a connection to a service with `dial`, and make sure that it is its owner's.

        Raises `ServiceRefused` when another user listens on its port, `HostUnreachable` when nobody
        does or the portal cannot find out, and what `dial` raises.
        """
        key = _key(service)
        with self._lock:
            node = self._nodes[key] = self._nodes.pop(key, _Node(self._start_one))
        before = node.last_owner(service.port) or self._owner(node, service)
        for _ in range(2):  # the service may have started to listen in between
            stream = dial()
            try:
                after = self._owner(node, service)
            except PortalError:
                stream.close()
                raise
            if after == before:
                return stream
            stream.close()
            before = after
        raise HostUnreachable(
            f"{service.title} on {service.node} is still starting. Try again in a moment.",
            topic=HelpTopic.SERVICE,
        )

    def close_unused(self, in_use: Iterable[Service]) -> None:
        """End the commands on nodes where none of these services runs."""
        used = {_key(service) for service in in_use}
        with self._lock:
            unused = [node for key, node in self._nodes.items() if key not in used]
        for node in unused:
            node.end_if_unused(UNUSED_SECONDS)

    def forget(self, user: str) -> None:
        """End the commands of a user who signed out."""
        with self._lock:
            theirs = [self._nodes.pop(key) for key in list(self._nodes) if key[0] == user]
        for node in theirs:
            node.close()

    def _owner(self, node: _Node, service: Service) -> str:
        """The owner's sockets that listen on the port of a service: `own` and their inodes."""
        try:
            found = node.ask(service)
        except PortalError as error:
            raise HostUnreachable(
                f"The portal could not check that {service.title} on {service.node} is yours, so "
                "it did not connect. If this happens again, tell your administrator.",
                f"{error.message} {error.detail}",
            ) from error
        if found == "other":
            raise ServiceRefused(
                f"Another user’s program is listening on port {service.port} of {service.node}, so "
                "the portal did not connect to it. Cancel the job and launch it again."
            )
        if not found.startswith("own "):
            raise HostUnreachable(
                f"Nothing is listening on port {service.port} of {service.node}.",
                topic=HelpTopic.SERVICE,
            )
        return found

    def _start_one(self, service: Service) -> Command:
        """Start a command. If this user has too many, it replaces the least recently used."""
        with self._lock:
            theirs = [(key, node) for key, node in self._nodes.items() if key[0] == service.user]
        others = [node for key, node in theirs if key != _key(service) and node.is_running()]
        for node in others[: max(0, len(others) - MAX_COMMANDS + 1)]:
            node.end_if_unused(0.0)
        return self._start(service)


def _key(service: Service) -> Key:
    return service.user, service.cluster_id, service.node


@dataclass(eq=False)
class _Run:
    """One run of the command, and its questions by port. Guarded by its node's lock."""

    job_id: str
    command: Command | None = None
    waiting: dict[int, Future[str]] = field(default_factory=dict)
    under_way: dict[int, Future[str]] = field(default_factory=dict)
    answered: bool = False
    ended_at: float | None = None  # monotonic


class _Node:
    """The command on one node. While it runs, a thread sends it the waiting questions in batches
    and passes on its answers."""

    def __init__(self, start: Callable[[Service], Command]) -> None:
        self._start = start
        self._lock = threading.Lock()  # guards all that follows, and the fields of the run
        self._changed = threading.Condition(self._lock)
        self._run: _Run | None = None
        self._last: dict[int, str] = {}  # the last answer for each port, if it was the owner's
        self._closed = False
        self._asked_at = 0.0  # monotonic

    def is_running(self) -> bool:
        with self._lock:
            return self._run is not None and self._run.ended_at is None

    def last_owner(self, port: int) -> str | None:
        """The last answer for a port, if it was the owner's."""
        with self._lock:
            return self._last.get(port)

    def ask(self, service: Service) -> str:
        """What listens on the port of a service now. Raises `PortalError`."""
        may_ask_again = True
        while True:
            with self._lock:
                run = self._current_run(service)
                answered_before = run.answered
                answer = run.waiting.setdefault(service.port, Future())
                self._asked_at = time.monotonic()
                self._changed.notify_all()
            try:
                return answer.result(ANSWER_SECONDS if answered_before else FIRST_ANSWER_SECONDS)
            except TimeoutError:
                error: HostError = CommandFailed("The command did not answer in time.", -1, "")
                self._end(run, error)
            except HostError as failure:
                error = failure
            if not answered_before or not may_ask_again:
                raise error
            # The job of the command may have ended while another one runs on this node.
            log.debug("checking again who listens: %s %s", error, error.detail)
            may_ask_again = False

    def end_if_unused(self, seconds: float) -> None:
        """End the command, unless it has questions or got one in the last `seconds`."""
        with self._lock:
            run = self._run
            if run is None or run.waiting or run.under_way:
                return
            if time.monotonic() - self._asked_at < seconds:
                return
            self._run = None
        self._end(run, HostUnreachable("The command was not used."))

    def close(self) -> None:
        """End the command for good. Its questions fail."""
        with self._lock:
            self._closed = True
            run = self._run
        if run is not None:
            self._end(run, HostUnreachable("You are signed out."))

    def _current_run(self, service: Service) -> _Run:
        """The run of a command that has not ended; starts one if need be. Raises `HostUnreachable`.

        Requires: holding `_lock`.
        """
        assert self._lock.locked()
        run = self._run
        if self._closed:
            raise HostUnreachable("You are signed out.")
        if run is not None:
            if run.ended_at is None:
                return run
            failed = not run.answered and run.job_id == service.job_id
            if failed and time.monotonic() - run.ended_at < FAILED_SECONDS:
                raise HostUnreachable("The portal tried a moment ago.")
        run = self._run = _Run(service.job_id)
        work = (run, service)
        threading.Thread(target=self._work, args=work, name="listeners", daemon=True).start()
        return run

    def _work(self, run: _Run, service: Service) -> None:
        """What the thread of a run does."""
        why: PortalError = HostUnreachable("The command has ended.")
        try:
            command = self._start(service)
            with self._lock:
                run.command = command
            while ports := self._next(run):
                self._put(run, command, ports)
        except PortalError as error:
            why = error
        except Exception:
            log.exception("could not check who listens on %s for %s", service.node, service.user)
        self._end(run, why)

    def _next(self, run: _Run) -> list[int]:
        """Wait for questions and mark them as under way. Return their ports, or an empty list when
        the run has ended."""
        with self._lock:
            self._changed.wait_for(lambda: run.waiting or run.ended_at is not None)
            run.under_way, run.waiting = run.waiting, {}
            return list(run.under_way)

    def _put(self, run: _Run, command: Command, ports: list[int]) -> None:
        """Put questions to the command and give out the answers. Raises `HostError`."""
        marks = {secrets.token_hex(8): port for port in ports}
        lines = [f"{mark} {port:04X}\n" for mark, port in marks.items()]
        command.write("".join(lines).encode())
        size, rest = 0, b""
        while marks:
            part = command.read(4096)
            size += len(part)
            if not part or size > MAX_OUTPUT:
                detail = "it printed too much" if part else command.stderr.strip()[-500:]
                raise CommandFailed("The command did not answer.", -1, detail)
            *printed, rest = (rest + part).split(b"\n")
            for line in printed:
                mark, _, words = line.decode("ascii", "replace").partition(" ")
                if mark in marks:
                    self._answer(run, marks.pop(mark), words.strip())

    def _answer(self, run: _Run, port: int, words: str) -> None:
        with self._lock:
            run.answered = True
            self._last.pop(port, None)
            if words.startswith("own "):
                self._last[port] = words
            if (asked := run.under_way.pop(port, None)) is not None:  # else it has ended
                asked.set_result(words)

    def _end(self, run: _Run, why: PortalError) -> None:
        """End a run. Its questions fail with `why`."""
        with self._lock:
            if run.ended_at is None:
                run.ended_at = time.monotonic()
            for asked in (*run.waiting.values(), *run.under_way.values()):
                asked.set_exception(why)
            run.waiting, run.under_way = {}, {}
            command, run.command = run.command, None
            self._changed.notify_all()
        if command is not None:
            command.close()
