"""Which names may be those of a person who signs in."""

from __future__ import annotations

import pwd
import re

PEOPLE = (range(1000, 60001), range(65536, 2**32))
"""The numbers of people's accounts: below, and in between, are the system's own, as `nobody`."""
USER_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,31}")


def is_for_a_person(name: str) -> bool:
    """Whether somebody may sign in by this name, so far as this machine can tell: it is well
    formed and not that of root or a service. (What hosts know of it is asked later.)"""
    if not USER_NAME.fullmatch(name) or name == "root" or name.startswith("systemd-"):
        return False
    try:
        return is_a_persons(pwd.getpwnam(name).pw_uid)
    except KeyError:
        return True


def is_a_persons(uid: int) -> bool:
    return any(uid in numbers for numbers in PEOPLE)
