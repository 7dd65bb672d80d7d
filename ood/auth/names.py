"""Which names may be those of a person who signs in."""

from __future__ import annotations

import pwd
import re

FIRST_UID, LAST_UID = 1000, 60000
"""The numbers of people's accounts on this machine: below are the system's, above `nobody`."""
USER_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,31}")


def is_for_a_person(name: str) -> bool:
    """Whether somebody may sign in by this name, so far as this machine can tell: it is well
    formed and not that of root or a service. (What hosts know of it is asked later.)"""
    if not USER_NAME.fullmatch(name) or name == "root" or name.startswith("systemd-"):
        return False
    try:
        return FIRST_UID <= pwd.getpwnam(name).pw_uid < LAST_UID
    except KeyError:
        return True
