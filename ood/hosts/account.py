"""Who a user is on a host."""

from __future__ import annotations

from dataclasses import dataclass

from ood.errors import CommandFailed, SignInExpired
from ood.hosts.base import Host


@dataclass(frozen=True)
class Account:
    uid: int
    groups: frozenset[str]


def account_of(host: Host) -> Account:
    """Ask a host who its user is there. Raises `SignInExpired` when the account runs no commands,
    as those of services do not."""
    try:
        # It fails for a group that has no name, and still prints all others.
        said = host.run(["sh", "-c", "id -u && { id -Gnz || true; }"]).stdout
        uid, _, groups = said.decode("utf-8", "replace").partition("\n")
        return Account(int(uid), frozenset(filter(None, groups.split("\0"))))
    except (CommandFailed, ValueError) as error:
        raise SignInExpired("This account runs no commands.", str(error)) from error
