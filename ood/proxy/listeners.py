"""Proof that a service is its owner's, for every new connection to it.

`connection.yml` names a port, and once a service has ended any user of the node may listen there.
So after each connection has been opened, and before anything is sent on it, a command on the node
says whose sockets listen at that port: it runs within the job, as its owner, for as long as it is
being asked. Whoever accepted the connection was listening before, so a listener of the owner's
after it is the one that was reached.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable

from ood.errors import CommandFailed, HostError, HostUnreachable, SchedulerError, ServiceRefused
from ood.hosts.base import Command
from ood.sessions.service import Service

ANSWER_SECONDS = 5.0
FIRST_ANSWER_SECONDS = 15.0  # the scheduler has to start the command
MAX_ANSWER = 64 * 1024  # bytes, with what start-up files print
IDLE = 30.0  # seconds, after which the command is ended

# Each line that comes in is MARK PORT, the port as /proc/net/tcp has it (proc(5)); each answer is
# MARK and one word. State 0A is LISTEN.
WATCH = r"""
me=$(id -u)
while read -r mark port; do
  awk -v mark="$mark" -v port=":$port" -v me="$me" '
    $4 == "0A" && substr($2, length($2) - 4) == port { if ($8 == me) own++; else other++ }
    END { print mark, other ? "other" : own ? "own" : "none" }
  ' /proc/net/tcp $(ls /proc/net/tcp6 2> /dev/null)
done
"""
ARGV = ("/bin/sh", "-c", WATCH)

log = logging.getLogger(__name__)


class Listeners:
    """Who listens on the nodes of all users' jobs. `start` starts `ARGV` on the node of a service,
    within its job; it raises `PortalError`."""

    def __init__(self, start: Callable[[Service], Command]) -> None:
        self._start = start
        self._lock = threading.Lock()  # for the dict, not for what is in it
        self._nodes: dict[tuple[str, str, str], _Node] = {}

    def demand_own(self, service: Service) -> None:
        """Make sure that only the owner of a service listens at its port.

        Raises `ServiceRefused` when somebody else does, and `HostUnreachable` when nobody does, or
        that cannot be found out.
        """
        key = (service.user, service.cluster_id, service.node)
        with self._lock:
            node = self._nodes.setdefault(key, _Node())
        try:
            found = node.ask(service.port, lambda: self._start(service))
        except (HostError, SchedulerError) as error:
            raise HostUnreachable(
                f"The portal could not check that {service.title} on {service.node} is yours, so "
                "it does not connect to it.",
                f"{error.message} {error.detail}",
            ) from error
        if found == "other":
            raise ServiceRefused(
                f"Another user's program listens at port {service.port} of {service.node}, so the "
                f"portal does not connect to it. Cancel the session and launch it again."
            )
        if found != "own":
            raise HostUnreachable(f"Nothing answers at port {service.port} of {service.node}.")

    def close_idle(self, seconds: float = IDLE) -> None:
        """End the commands that nobody has asked for so long."""
        with self._lock:
            nodes = list(self._nodes.values())
        for node in nodes:
            node.close_if_idle(seconds)

    def forget(self, user: str) -> None:
        """End the commands of a user who signed out."""
        with self._lock:
            theirs = [self._nodes.pop(key) for key in list(self._nodes) if key[0] == user]
        for node in theirs:
            node.close()


class _Node:
    """The command on one node, which answers one question at a time."""

    def __init__(self) -> None:
        # Held for the time of a question. Only questions of the same user about this node wait.
        self._asking = threading.Lock()
        self._command: Command | None = None
        self._used_at = 0.0
        self._closed = False

    def ask(self, port: int, start: Callable[[], Command]) -> str:
        """Whose sockets listen at a port: `own`, `other` or `none`. Raises `PortalError`."""
        with self._asking:
            self._used_at = time.monotonic()
            if self._command is not None:
                try:
                    return _ask(self._command, port, ANSWER_SECONDS)
                except HostError as error:  # its job has ended, for one, and another goes on here
                    log.debug("asking again who listens: %s %s", error, error.detail)
                    self._end()
            if self._closed:
                raise HostUnreachable("You have signed out.")
            self._command = start()
            try:
                return _ask(self._command, port, FIRST_ANSWER_SECONDS)
            except HostError:
                self._end()
                raise

    def close_if_idle(self, seconds: float) -> None:
        if time.monotonic() - self._used_at < seconds or not self._asking.acquire(blocking=False):
            return
        try:
            self._end()
        finally:
            self._asking.release()

    def close(self) -> None:
        """End the command, and whatever question it is being asked."""
        self._closed = True
        if (command := self._command) is not None:
            command.close()

    def _end(self) -> None:
        """Requires: holding `_asking`."""
        assert self._asking.locked()
        if self._command is not None:
            self._command.close()
        self._command = None


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
                raise CommandFailed("It gave no answer.", -1, command.said.strip()[-500:])
            printed += part
            for line in printed.split(b"\n")[:-1]:
                said, _, word = line.partition(b" ")
                if said == mark.encode():
                    return word.decode("ascii", "replace").strip()
        raise CommandFailed("It gave no answer.", -1, "it printed too much")
    finally:
        too_late.cancel()
