"""Which accounts may sign in: those of people, not root or services."""

import pwd
import re

PEOPLE = (range(1000, 60001), range(65536, 2**32))
"""User IDs of people. The others belong to system accounts, such as `nobody`."""
USER_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,31}")


def is_for_a_person(name: str) -> bool:
    """Whether a name is valid, and not that of root or a service on this machine. The user ID on
    the portal host is checked at sign-in."""
    if not USER_NAME.fullmatch(name) or name == "root" or name.startswith("systemd-"):
        return False
    try:
        return is_a_persons(pwd.getpwnam(name).pw_uid)
    except KeyError:
        return True


def is_a_persons(uid: int) -> bool:
    return any(uid in numbers for numbers in PEOPLE)
