"""Who a user is on a host."""

from dataclasses import dataclass

from ood.errors import CommandFailed, SignInExpired
from ood.hosts.base import Host


@dataclass(frozen=True)
class Account:
    uid: int
    groups: frozenset[str]


def account_of(host: Host) -> Account:
    """Ask a host for its user's account. Raises `SignInExpired` when the account cannot run
    commands, as service accounts cannot."""
    try:
        # `id` fails for a group without a name, but prints all others.
        printed = host.run(["sh", "-c", "id -u && { id -Gnz || true; }"]).stdout
        uid, _, groups = printed.decode("utf-8", "replace").partition("\n")
        return Account(int(uid), frozenset(filter(None, groups.split("\0"))))
    except (CommandFailed, ValueError) as error:
        raise SignInExpired("This account cannot run commands.", str(error)) from error
