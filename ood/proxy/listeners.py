"""Proof that a service is its owner's, for every new connection to it.

`connection.yml` names a port, and anybody who may use the node can listen there before the service
does, or once it has ended. So nothing is sent on a new connection before a command on the node has
said whose sockets listen at that port. It runs within the job, as its owner. The same sockets of
the owner's, before the connection was opened and after it, are what was reached.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ood.errors import CommandFailed, HostError, HostUnreachable, PortalError, ServiceRefused
from ood.hosts.base import Command, Stream
from ood.sessions.service import Service

# Seconds.
ANSWER = 5.0
FIRST_ANSWER = 10.0
"""The scheduler has to start the command first."""
TURN = 5.0  # to wait for the questions before this one
FAILED = 3.0  # for which a command that could not be started is not tried again
UNASKED = 30.0  # after which a command is ended, unless its service is in use

MAX_ANSWER = 64 * 1024  # bytes, with what start-up files print
KEPT = 3
"""Commands of one user at a time: each takes a place among the channels of an SSH connection."""

# Each line that comes in is MARK PORT, the port as /proc/net/tcp has it (proc(5)); each answer is
# MARK and what listens there: `own` and the sockets' inodes, `other` or `none`. State 0A is LISTEN.
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

Key = tuple[str, str, str]
"""User, cluster and node."""


class Listeners:
    """Who listens on the nodes of all users' jobs. `start` starts `ARGV` on the node of a service,
    within its job; it raises `PortalError`."""

    def __init__(self, start: Callable[[Service], Command]) -> None:
        self._start = start
        self._lock = threading.Lock()  # for the dict, not for what is in it
        self._nodes: dict[Key, _Node] = {}

    def connect(self, service: Service, dial: Callable[[], Stream]) -> Stream:
        """Open a connection to a service with `dial`, and make sure that it is its owner's.

        Raises `ServiceRefused` when somebody else listens at its port too, `HostUnreachable` when
        nobody does or that cannot be found out, and what `dial` raises.
        """
        node = self._node(service)
        before = node.last.get(service.port) or self._own(node, service)
        for _ in range(2):  # it may have begun to listen anew
            stream = dial()
            try:
                after = self._own(node, service)
            except PortalError:
                stream.close()
                raise
            if after == before:
                return stream
            stream.close()
            before = after
        raise HostUnreachable(f"{service.title} on {service.node} was starting. Try again.")

    def close_unused(self, in_use: Iterable[Service]) -> None:
        """End the commands that nobody needs any more, now that these services are in use."""
        used = {_key(service) for service in in_use}
        with self._lock:
            unused = [node for key, node in self._nodes.items() if key not in used]
        for node in unused:
            node.close_if_unasked(UNASKED)

    def forget(self, user: str) -> None:
        """End the commands of a user who signed out."""
        with self._lock:
            theirs = [self._nodes.pop(key) for key in list(self._nodes) if key[0] == user]
        for node in theirs:
            node.close()

    def _node(self, service: Service) -> _Node:
        with self._lock:
            return self._nodes.setdefault(_key(service), _Node())

    def _own(self, node: _Node, service: Service) -> str:
        """The owner's sockets that listen at the port of a service, as one word of their inodes."""
        try:
            found = node.ask(service, self._start_one)
        except PortalError as error:
            raise HostUnreachable(
                f"The portal could not check that {service.title} on {service.node} is yours, so "
                "it did not connect. If this happens again, tell your administrator.",
                f"{error.message} {error.detail}",
            ) from error
        if found == "other":
            raise ServiceRefused(
                f"Another user's program listens at port {service.port} of {service.node}, so the "
                f"portal does not connect to it. Cancel the session and launch it again."
            )
        if not found.startswith("own "):
            raise HostUnreachable(f"Nothing answers at port {service.port} of {service.node}.")
        return found

    def _start_one(self, service: Service) -> Command:
        """Start a command, in place of the one of this user that was asked least recently."""
        with self._lock:
            theirs = [node for key, node in self._nodes.items() if key[0] == service.user]
        running = sorted((n for n in theirs if n.is_running), key=lambda node: node.asked_at)
        for node in running[: max(0, len(running) - KEPT + 1)]:
            node.close_if_unasked(0.0)
        return self._start(service)


def _key(service: Service) -> Key:
    return service.user, service.cluster_id, service.node


class _Node:
    """The command on one node, which answers one question at a time."""

    def __init__(self) -> None:
        # Held for the time of a question. Only questions of the same user about this node wait.
        self._asking = threading.Lock()
        self._command: Command | None = None
        self._failure = ("", 0.0)  # the job for which a command could not be started, and when
        self._closed = False
        self.asked_at = 0.0
        self.last: dict[int, str] = {}
        """The last answer for each port, when it was the owner's."""

    @property
    def is_running(self) -> bool:
        return self._command is not None

    def ask(self, service: Service, start: Callable[[Service], Command]) -> str:
        """What listens at the port of a service. Raises `PortalError`."""
        with self._turn(TURN):
            self.asked_at = time.monotonic()
            answer = self._answer(service, start)
            self.last.pop(service.port, None)
            if answer.startswith("own "):
                self.last[service.port] = answer
            return answer

    def _answer(self, service: Service, start: Callable[[Service], Command]) -> str:
        """Requires: holding `_asking`."""
        if self._command is not None:
            try:
                return _ask(self._command, service.port, ANSWER)
            except HostError as error:  # its job has ended, for one, and another goes on here
                log.debug("asking again who listens: %s %s", error, error.detail)
                self._end()
        job_id, failed_at = self._failure
        if job_id == service.job_id and time.monotonic() - failed_at < FAILED:
            raise HostUnreachable("It could not be found out a moment ago.")
        try:
            self._command = start(service)
            if self._closed:
                raise HostUnreachable("You have signed out.")
            return _ask(self._command, service.port, FIRST_ANSWER)
        except PortalError:
            self._failure = service.job_id, time.monotonic()
            self._end()
            raise

    def close_if_unasked(self, seconds: float) -> None:
        """End the command, unless it is being asked or was not so long ago."""
        if time.monotonic() - self.asked_at >= seconds and self._asking.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._asking.release()

    def close(self) -> None:
        """End the command for good, and whatever question it is being asked."""
        self._closed = True
        if (command := self._command) is not None:
            command.close()

    def _end(self) -> None:
        """Requires: holding `_asking`."""
        assert self._asking.locked()
        if self._command is not None:
            self._command.close()
        self._command = None

    @contextmanager
    def _turn(self, seconds: float) -> Iterator[None]:
        if not self._asking.acquire(timeout=seconds):
            raise HostUnreachable("There are too many questions at once.")
        try:
            yield
        finally:
            self._asking.release()


def _ask(command: Command, port: int, seconds: float) -> str:
    mark = secrets.token_hex(8)
    # A command that says nothing is closed, which ends `read`.
    too_late = threading.Timer(seconds, command.close)
    too_late.start()
    try:
        command.write(f"{mark} {port:04X}\n".encode())
        printed = b""
        while len(printed) < MAX_ANSWER:
            part = command.read(4096)
            if not part:
                raise CommandFailed("It gave no answer.", -1, command.stderr.strip()[-500:])
            printed += part
            for line in printed.split(b"\n")[:-1]:
                said, _, words = line.partition(b" ")
                if said == mark.encode():
                    return words.decode("ascii", "replace").strip()
        raise CommandFailed("It gave no answer.", -1, "it printed too much")
    finally:
        too_late.cancel()
