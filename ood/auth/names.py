"""Which accounts may sign in: those of people, not root or services."""

import pwd
import re

PEOPLE = (range(1000, 60001), range(65536, 2**32))
"""User IDs of people. The others belong to system accounts, such as `nobody`."""
USER_NAME = re.compile(r"(?![0-9]+\Z)[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
"""Directory services have names such as `J.Doe` and `user@domain`. A name of digits only would be a
user ID to commands such as `squeue`."""


def is_possible(name: str) -> bool:
    """Whether the portal can use an account with this name."""
    return USER_NAME.fullmatch(name) is not None


def is_for_a_person(name: str) -> bool:
    """Whether a name is possible, and not that of root or a service on this machine. The user ID on
    the portal host is checked at sign-in."""
    if not is_possible(name) or name == "root" or name.startswith("systemd-"):
        return False
    try:
        return is_a_persons(pwd.getpwnam(name).pw_uid)
    except KeyError:
        return True


def is_a_persons(uid: int) -> bool:
    return any(uid in numbers for numbers in PEOPLE)
