"""Who holds which connection: one live host per (user, address), closed when idle or signed out."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from pydantic import SecretStr

from ood.errors import SignInExpired
from ood.hosts.base import Host
from ood.hosts.local import LocalHost
from ood.hosts.ssh import SSHHost

IDLE_SECONDS = 600.0
LOOK_EVERY = 60.0  # seconds


class HostPool:
    """Hosts of all signed-in users.

    Passwords live here and nowhere else, in memory, from `remember` to `forget`.
    """

    def __init__(self, portal_host: str | None, known_hosts: Path | None) -> None:
        self._portal_host = portal_host
        self._known_hosts = known_hosts
        self._local = LocalHost()
        self._lock = threading.Lock()
        self._passwords: dict[str, SecretStr] = {}
        self._hosts: dict[tuple[str, str], SSHHost] = {}
        if portal_host is not None:
            threading.Thread(target=self._close_idle, name="idle-hosts", daemon=True).start()

    def portal_host(self, user: str) -> Host:
        """The portal host as this user: where their `ondemand` directory is."""
        return self._local if self._portal_host is None else self.host(user, self._portal_host)

    def submit_host(self, user: str, address: str | None) -> Host:
        """The host scheduler commands run on; `address` is the cluster's `v2.job.submit_host`."""
        return self.portal_host(user) if address is None else self.host(user, address)

    def host(self, user: str, address: str) -> Host:
        """A machine (`name` or `name:port`) as this user."""
        with self._lock:
            found = self._hosts.get((user, address))
            if found is None:
                found = self._hosts[user, address] = self._new(user, address)
            return found

    def sign_in(self, user: str, password: SecretStr) -> None:
        """Open the user's own connection to the portal host; keep the password if that works.

        Raises `SignInExpired` when the password is wrong, `HostUnreachable` when nobody answers.
        """
        assert self._portal_host is not None
        assert self._known_hosts is not None
        candidate = SSHHost(self._portal_host, user, lambda: password, self._known_hosts)
        candidate.connect()
        with self._lock:
            self._passwords[user] = password
            kept = self._hosts.setdefault(
                (user, self._portal_host), self._new(user, self._portal_host)
            )
        kept.adopt(candidate)

    def forget(self, user: str) -> None:
        """Forget the user's password and close all their connections."""
        with self._lock:
            self._passwords.pop(user, None)
            theirs = [key for key in self._hosts if key[0] == user]
            closing = [self._hosts.pop(key) for key in theirs]
        for host in closing:
            host.close()

    def _new(self, user: str, address: str) -> SSHHost:
        assert self._known_hosts is not None
        return SSHHost(address, user, lambda: self._password(user), self._known_hosts)

    def _password(self, user: str) -> SecretStr:
        with self._lock:
            password = self._passwords.get(user)
        if password is None:
            raise SignInExpired("You are signed out. Sign in again.")
        return password

    def _close_idle(self) -> None:
        while True:
            time.sleep(LOOK_EVERY)
            with self._lock:
                hosts = list(self._hosts.values())
            for host in hosts:
                host.close_if_idle(IDLE_SECONDS)
