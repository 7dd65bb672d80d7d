"""What opens the SSH connections of those who are signed in: their password, or a certificate.

Either is in memory only, from sign-in to the end of it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import paramiko
from pydantic import SecretStr

from ood.auth.authority import LIFETIME, UserAuthority
from ood.errors import SignInExpired

Credential = SecretStr | paramiko.PKey
"""A password, or a key with a certificate."""
RENEWED = 60  # seconds before a certificate ends: a connection takes a while to open


@dataclass
class _Kept:
    credential: Credential
    until: float  # monotonic


class Credentials:
    """By user. With an authority, passwords are not kept."""

    def __init__(self, authority: UserAuthority | None = None) -> None:
        self._authority = authority
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    @property
    def by_certificate(self) -> bool:
        return self._authority is not None

    def certify(self, user: str) -> Credential:
        """A new certificate, which is not kept. Raises `SignInExpired`."""
        assert self._authority is not None
        return self._authority.certify(user)

    def remember(self, user: str, credential: Credential) -> None:
        """`user` is signed in, and this opens their connections."""
        until = time.monotonic() + LIFETIME - RENEWED if self.by_certificate else float("inf")
        with self._lock:
            self._kept[user] = _Kept(credential, until)

    def of(self, user: str) -> Credential:
        """What opens connections of `user` now. Raises `SignInExpired` when they are signed out."""
        with self._lock:
            kept = self._kept.get(user)
            if kept is None:
                raise SignInExpired("You are signed out. Sign in again.")
            if time.monotonic() >= kept.until:
                kept.credential = self.certify(user)
                kept.until = time.monotonic() + LIFETIME - RENEWED
            return kept.credential

    def forget(self, user: str) -> None:
        with self._lock:
            self._kept.pop(user, None)
