"""Home, what open pages ask of it, and whether the portal is alive."""

from __future__ import annotations

import json
import time

from flask import Blueprint, Flask, Response, make_response, render_template, request

from ood.errors import PortalError, SignInExpired
from ood.schedulers.base import JobStatus
from ood.sessions.card import Card
from ood.web.current import board, portal
from ood.web.menus import file_shortcuts, recently_used
from ood.web.security import POLLS
from ood.web.theme import message_of_the_day

bp = Blueprint("home", __name__)

SHOWN = 5
"""Sessions at a glance."""
TOLD = 30
"""Sessions whose standing is told to pages: web servers take headers of some KiB."""
ENDED_LATELY = 600  # seconds
ENDS_SOON = 600  # seconds


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)
    app.after_request(_tell_how_sessions_stand)


@bp.get("/")
def index() -> str:
    file_shortcuts()  # asked for, and known by the time the menus are made
    cards, problem = _cards()
    return render_template(
        "home/index.html",
        recent=recently_used(cards),
        motd=message_of_the_day(),
        **_at_a_glance(cards, problem),
    )


@bp.get("/changes")
def changes() -> Response:
    """What is new for a page: for Home its sessions, unless it `have`s them; for all pages how
    sessions stand (below)."""
    if "have" not in request.args:
        return make_response("", 204)
    cards, problem = _cards()
    now = render_template("home/_now.html", **_at_a_glance(cards, problem))
    return make_response(now, 200 if now.strip() else 204)


@bp.get("/healthz")
def health() -> tuple[str, int, dict[str, str]]:
    """For the site's monitoring: 503 while the audit log cannot be written."""
    if portal().audit.broken:
        return "the audit log cannot be written\n", 503, {"Content-Type": "text/plain"}
    return "ok\n", 200, {"Content-Type": "text/plain"}


def _cards() -> tuple[list[Card], str]:
    """The user's cards, and what is wrong: Home is there even when their home directory is not."""
    try:
        return board().cards(), ""
    except SignInExpired:
        raise
    except PortalError as error:
        return [], error.message


def _at_a_glance(cards: list[Card], problem: str) -> dict[str, object]:
    live = [card for card in cards if card.status is not JobStatus.COMPLETED]
    return {
        "live": live[:SHOWN],
        "more": len(live) - SHOWN,
        "ended": len(cards) - len(live),
        "problem": problem,
        "have": request.args.get("have", ""),
    }


def _tell_how_sessions_stand(response: Response) -> Response:
    """Whatever a page polls, the answer says besides how the user's sessions stand, as an event for
    notices.js: `[id, created at, standing]` of each that lives, or ended lately."""
    if request.endpoint not in POLLS or response.status_code not in (200, 204):
        return response
    try:
        cards = board().cards()
    except PortalError:  # which the page's own answer tells, where it matters
        return response
    now = int(time.time())
    told = [
        (card.record.id, card.record.created_at, standing(card))
        for card in cards
        if now - (card.record.completed_at or now) < ENDED_LATELY
        and card.status is not JobStatus.UNDETERMINED
    ]
    event = {"sessions": {"at": now, "sessions": told[:TOLD]}}
    response.headers["HX-Trigger"] = json.dumps(event, separators=(",", ":"))
    return response


def standing(card: Card) -> str:
    """In one word what a notice would be about: `queued`, `running`, `ending`, or an outcome."""
    if card.outcome is not None:
        return card.outcome
    if card.status is not JobStatus.RUNNING:
        return JobStatus.QUEUED
    soon = card.time_left is not None and card.time_left <= ENDS_SOON
    return "ending" if soon else JobStatus.RUNNING
