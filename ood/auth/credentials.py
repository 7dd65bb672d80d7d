"""The credentials that open users' SSH connections: a password or a certificate.

They are only in memory, from sign-in to sign-out.
"""

import threading
import time
from dataclasses import dataclass

import paramiko
from pydantic import SecretStr

from ood.auth.authority import LIFETIME, UserAuthority
from ood.errors import SignInExpired

Credential = SecretStr | paramiko.PKey
"""A password, or a key with a certificate."""
RENEW_BEFORE = 60  # seconds before a certificate expires


@dataclass
class _Stored:
    credential: Credential
    until: float  # monotonic


class Credentials:
    """The credentials of all users. With an authority, passwords are not stored."""

    def __init__(self, authority: UserAuthority | None = None) -> None:
        self._authority = authority
        self._lock = threading.Lock()  # guards `_by_user`
        self._by_user: dict[str, _Stored] = {}

    @property
    def by_certificate(self) -> bool:
        return self._authority is not None

    def certify(self, user: str) -> Credential:
        """Return a new certificate, without storing it. Raises `SignInExpired`."""
        assert self._authority is not None
        return self._authority.certify(user)

    def remember(self, user: str, credential: Credential) -> None:
        until = time.monotonic() + LIFETIME - RENEW_BEFORE if self.by_certificate else float("inf")
        with self._lock:
            self._by_user[user] = _Stored(credential, until)

    def of(self, user: str) -> Credential:
        """Return the credential of `user`, renewed if need be. Raises `SignInExpired`."""
        with self._lock:
            stored = self._by_user.get(user)
            if stored is None:
                raise SignInExpired("You are signed out. Sign in again.")
            if time.monotonic() >= stored.until:
                stored.credential = self.certify(user)
                stored.until = time.monotonic() + LIFETIME - RENEW_BEFORE
            return stored.credential

    def forget(self, user: str) -> None:
        with self._lock:
            self._by_user.pop(user, None)
