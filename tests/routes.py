"""All addresses of the portal, for tests that check rules on each of them. Add a line for each new
address."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flask import Flask

OPEN = "open to everybody"
PAGE = "for those who are signed in; changes nothing"
CHANGE = "for those who are signed in; needs the CSRF token"
OPEN_CHANGE = "open to everybody; needs the CSRF token"
SOCKET = "for those who are signed in; demands the portal's own Origin (test_shell.py)"
SERVICE = "leads to services, which have an origin and guards of their own (test_proxy.py)"

RULES = {
    "static": OPEN,
    "home.health": OPEN,
    "home.index": PAGE,
    "home.changes": PAGE,
    "theme.colours": OPEN,
    "theme.logo": OPEN,
    "theme.choose_theme": OPEN_CHANGE,
    "signin.login": OPEN,
    "signin.check_password": OPEN_CHANGE,
    "signin.new_address": OPEN_CHANGE,
    "signin.logout": OPEN_CHANGE,
    "apps.index": PAGE,
    "apps.form": PAGE,
    "apps.launch_app": CHANGE,
    "sessions.index": PAGE,
    "sessions.poll": CHANGE,
    "sessions.show": PAGE,
    "sessions.poll_one": CHANGE,
    "sessions.cancel": CHANGE,
    "sessions.delete": CHANGE,
    "sessions.relaunch": CHANGE,
    "sessions.log": PAGE,
    "jobs.index": PAGE,
    "jobs.changes": PAGE,
    "jobs.show": PAGE,
    "jobs.cancel": CHANGE,
    "files.index": PAGE,
    "files.home": PAGE,
    "files.show": PAGE,
    "shell.index": PAGE,
    "shell.home": PAGE,
    "shell.show": PAGE,
    "help.index": PAGE,
    "help.troubleshooting": PAGE,
    "files.change": CHANGE,
    "shell.close": CHANGE,
    "shell.socket": SOCKET,
    "uploads.post": CHANGE,
    "uploads.part": CHANGE,
    "uploads.cancel": CHANGE,
    "archives.send": CHANGE,
    "transfers.begin": CHANGE,
    "transfers.index": PAGE,
    "transfers.changes": PAGE,
    "transfers.cancel": CHANGE,
    "transfers.dismiss": CHANGE,
    "node.http": SERVICE,
    "node.websocket": SERVICE,
    "entering.connect": SERVICE,
    "entering.enter": SERVICE,
}


@dataclass(frozen=True)
class Address:
    kind: str
    method: str
    path: str
    of_a_session: bool


def addresses(app: Flask, session_id: str = "x") -> list[Address]:
    """All addresses that the portal serves, with `session_id` in those of sessions."""
    found = []
    for rule in app.url_map.iter_rules():
        path = re.sub("<[^>]*session_id>", session_id, rule.rule)
        path = re.sub("<[^>]+>", "x", path)
        for method in (rule.methods or set()) - {"OPTIONS"}:
            of_a_session = "session_id" in rule.arguments
            found.append(Address(RULES[rule.endpoint], method, path, of_a_session))
    return found
