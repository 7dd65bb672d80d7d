"""All SSH hosts in use: one for each user and address, closed when idle and at sign-out."""

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from ood.auth.credentials import Credential, Credentials
from ood.auth.names import is_a_persons
from ood.errors import CommandFailed, HostError, SignInExpired
from ood.hosts.base import Host
from ood.hosts.known_hosts import SSH_PORT
from ood.hosts.local import LocalHost
from ood.hosts.ssh import SSHHost
from ood.hosts.ssh_connect import Dial

IDLE_SECONDS = 600.0
CHECK_EVERY = 60.0  # seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Account:
    """Who a user is on a host. `name` is the account's own spelling of the user name."""

    name: str
    uid: int
    groups: frozenset[str]


def account_of(host: Host) -> Account:
    """Ask a host for its user's account. Raises `SignInExpired` when the account cannot run
    commands, as service accounts cannot."""
    try:
        # `id` fails for a group without a name, but prints all others.
        printed = host.run(["sh", "-c", "id -un && id -u && { id -Gnz || true; }"]).text
        name, uid, groups = printed.split("\n", 2)
        return Account(name, int(uid), frozenset(filter(None, groups.split("\0"))))
    except (CommandFailed, ValueError) as error:
        raise SignInExpired(
            "Your account cannot run commands on this host. Ask your administrator for access.",
            str(error),
        ) from error


class HostPool:
    def __init__(
        self, portal_host: str | None, known_hosts: Path | None, credentials: Credentials
    ) -> None:
        self._portal_host = portal_host
        self._known_hosts = known_hosts
        self._credentials = credentials
        self._local = LocalHost()
        self._lock = threading.Lock()  # guards `_hosts`
        self._hosts: dict[tuple[str, str], SSHHost] = {}
        if portal_host is not None:
            threading.Thread(target=self._close_idle, name="idle-hosts", daemon=True).start()

    def portal_host(self, user: str) -> Host:
        """The portal host as this user: where their `ondemand` directory is."""
        return self._local if self._portal_host is None else self.host(user, self._portal_host)

    def host(self, user: str, address: str) -> SSHHost:
        """A machine (`name` or `name:port`) as this user."""
        return self._host(user, address, address)

    def node(self, user: str, name: str, login_host: str) -> SSHHost:
        """A node of a cluster as this user, reached through the log-in host, which knows the names
        of its nodes."""
        key = f"{name} by {login_host}"
        return self._host(user, key, name, lambda: self.host(user, login_host).dial(name, SSH_PORT))

    def sign_in(self, user: str, password: SecretStr | None = None) -> Account:
        """Open the user's connection to the portal host, and remember the credential for other
        hosts. Without `password`, the caller has authenticated the user, and a certificate is used.

        Raises `SignInExpired` when the password is wrong or the account is not a person's,
        `HostRefused` when the certificate is not accepted, and `HostUnreachable`.
        """
        assert self._portal_host is not None
        credential: Credential
        if self._credentials.by_certificate:
            if password is not None:
                self._candidate(user, password).close()  # the password is correct
            credential = self._credentials.certify(user)
        else:
            assert password is not None
            credential = password
        candidate = self._candidate(user, credential)
        try:
            account = account_of(candidate)
            if not is_a_persons(account.uid):
                raise SignInExpired(
                    "Your account cannot use this portal. Ask your administrator for access.",
                    f"uid {account.uid}",
                )
        except HostError:
            candidate.close()
            raise
        if password is not None:  # a front end uses its own spelling in every request
            user = account.name
        self._credentials.remember(user, credential)
        self.host(user, self._portal_host).adopt(candidate)
        return account

    def _candidate(self, user: str, credential: Credential) -> SSHHost:
        assert self._portal_host is not None
        assert self._known_hosts is not None
        is_password = isinstance(credential, SecretStr)
        candidate = SSHHost(
            self._portal_host,
            user,
            lambda: credential,
            self._known_hosts,
            opens_the_portal=is_password,  # so a wrong one raises `SignInExpired`
        )
        candidate.connect()
        return candidate

    def forget(self, user: str) -> None:
        """Forget the user's credential, and close all their connections."""
        self._credentials.forget(user)
        with self._lock:
            theirs = [key for key in self._hosts if key[0] == user]
            closing = [self._hosts.pop(key) for key in theirs]
        for host in closing:
            host.close()

    def _host(self, user: str, key: str, address: str, dial: Dial | None = None) -> SSHHost:
        assert self._known_hosts is not None
        with self._lock:
            found = self._hosts.get((user, key))
            if found is None:
                found = self._hosts[user, key] = SSHHost(
                    address,
                    user,
                    lambda: self._credentials.of(user),
                    self._known_hosts,
                    opens_the_portal=key == self._portal_host,
                    dial=dial,
                )
            return found

    def _close_idle(self) -> None:
        while True:
            time.sleep(CHECK_EVERY)
            with self._lock:
                hosts = list(self._hosts.values())
            for host in hosts:
                try:
                    host.close_if_idle(IDLE_SECONDS)
                except Exception:
                    log.exception("could not close the idle connection to %s", host.name)
