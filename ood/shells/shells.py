"""All open shells of all users."""

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ood.auth.signins import SignIn, SignIns
from ood.errors import NotFound, PortalError
from ood.hosts.base import Host
from ood.shells.expiry import End, Expiry
from ood.shells.pump import Pump, Work
from ood.shells.shell import Shell, Where
from ood.shells.websocket import WebSocket

MAX_SHELLS = 40  # of one user
MAX_OPENING = 16  # at the same time, of all users


class Shells:
    """A shell belongs to the sign-in whose page showed it last, and ends when that ends. `on_end`
    is called with each shell that has ended; `idle` and `absolute` are limits in seconds."""

    def __init__(
        self,
        sign_ins: SignIns,
        idle: float,
        absolute: float,
        on_end: Callable[[Shell, End], None],
    ) -> None:
        self._sign_ins = sign_ins
        self._expiry = Expiry(idle, absolute, sign_ins.ends_at)
        self._on_end = on_end
        # Guards the two dictionaries. A thread that holds it may take a pump's lock.
        self._lock = threading.Lock()
        self._by_id: dict[str, Shell] = {}
        self._pumps: dict[str, Pump] = {}
        self.openers = ThreadPoolExecutor(MAX_OPENING, "shells-open")
        """Threads that wait for hosts, so that the threads for pages do not."""

    def of(self, user: str) -> list[Shell]:
        """A user's shells, the oldest first."""
        with self._lock:
            return [shell for shell in self._by_id.values() if shell.user == user]

    def find(self, user: str, id: str) -> Shell:
        """One of the user's shells. Raises `NotFound`, also for another user's shell."""
        with self._lock:
            shell = self._by_id.get(id)
        if shell is None or shell.user != user:
            raise NotFound("This shell has ended. Open another one.")
        return shell

    def open(
        self, sign_in: SignIn, host: Host, where: Where, columns: int, rows: int, intro: str = ""
    ) -> Shell:
        """Start a shell, whose output begins with `intro`. Raises `HostError`, and `PortalError`
        when the user has too many shells."""
        if len(self.of(sign_in.user)) >= MAX_SHELLS:
            raise PortalError(f"You have {MAX_SHELLS} shells open. Close one and try again.")
        terminal = host.terminal(where.path, columns, rows)
        shell = Shell(secrets.token_urlsafe(16), sign_in, where, host.name, terminal)
        if intro:
            shell.history.add(f"{intro}\r\n".encode())
        with self._lock:
            self._by_id[shell.id] = shell
        self._do(shell, lambda pump: pump.add(shell))
        return shell

    def show(
        self, shell: Shell, sign_in: SignIn, websocket: WebSocket, seen: int | None = None
    ) -> None:
        """Show a shell only on this sign-in's page, which has `seen` output up to an offset."""
        shell.sign_in = sign_in
        self._do(shell, lambda pump: pump.show(shell, websocket, seen))

    def close(self, shell: Shell) -> None:
        self._do(shell, lambda pump: pump.end(shell, End.CLOSED))

    def sign_in_ended(self, sign_in: SignIn) -> None:
        for shell in self.of(sign_in.user):
            if shell.sign_in is sign_in:
                self._do(shell, partial(Pump.end, shell=shell, end=End.SIGNED_OUT))

    def _do(self, shell: Shell, work: Work) -> None:
        """Run `work` in the thread of the user's pump."""
        with self._lock:
            pump = self._pumps.get(shell.user)
            if pump is None or not pump.do(work):
                self._pumps[shell.user] = Pump(
                    shell.user, work, self._expiry, self._sign_ins, self._ended
                )

    def _ended(self, shell: Shell, end: End) -> None:
        with self._lock:
            self._by_id.pop(shell.id, None)
        self._on_end(shell, end)
