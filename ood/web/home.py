"""The home page, the event that open pages poll for, and the health check."""

import json
import time

from flask import Blueprint, Response, render_template, request

from ood.errors import PortalError, SignInExpired
from ood.schedulers.base import JobStatus
from ood.sessions.card import Card
from ood.web.current import cards, portal
from ood.web.menus import file_shortcuts, recently_used
from ood.web.security import POLLS
from ood.web.theme import message_of_the_day

bp = Blueprint("home", __name__)

SHOWN = 5  # sessions on the home page
MAX_IN_EVENT = 30  # sessions: web servers limit headers to a few KiB
RECENTLY_ENDED = 600  # seconds
ENDING_SOON = 600  # seconds


@bp.get("/")
def index() -> str:
    file_shortcuts()  # starts the query whose answer the menus need
    cards, problem = _cards()
    return render_template(
        "home/index.html",
        recent=recently_used(cards),
        motd=message_of_the_day(),
        **_at_a_glance(cards, problem),
    )


@bp.get("/changes")
def changes() -> Response:
    """All pages poll this for the event below. The home page also gets its list of sessions, unless
    that has not changed since `have`."""
    if "have" not in request.args:
        return Response(status=204)
    cards, problem = _cards()
    now = render_template("home/_now.html", **_at_a_glance(cards, problem))
    return Response(now, 200 if now.strip() else 204)


@bp.get("/healthz")
def health() -> tuple[str, int, dict[str, str]]:
    """For the site's monitoring: 503 while the audit log cannot be written, otherwise 200."""
    if portal().audit.broken:
        return "the audit log cannot be written\n", 503, {"Content-Type": "text/plain"}
    return "ok\n", 200, {"Content-Type": "text/plain"}


def _cards() -> tuple[list[Card], str]:
    """The user's cards, or an error message: the home page must work without a home directory."""
    try:
        return cards(), ""
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


@bp.after_app_request
def _add_session_event(response: Response) -> Response:
    """Add an event for notices.js to every response that a page polls for. It lists `[id, created
    at, status]` for each session that has not ended, or ended recently."""
    if request.endpoint not in POLLS or response.status_code not in (200, 204):
        return response
    try:
        found = cards()
    except PortalError:  # the page's own answer has the message
        return response
    now = int(time.time())
    sessions = [
        (card.record.id, card.record.created_at, notice_status(card))
        for card in found
        if now - (card.record.completed_at or now) < RECENTLY_ENDED
        and card.status is not JobStatus.UNDETERMINED
    ]
    event = {"sessions": {"at": now, "sessions": sessions[:MAX_IN_EVENT]}}
    response.headers["HX-Trigger"] = json.dumps(event, separators=(",", ":"))
    return response


def notice_status(card: Card) -> str:
    """A session's status in the event: `queued`, `running`, `ending` or an outcome."""
    if card.outcome is not None:
        return card.outcome
    if card.status is not JobStatus.RUNNING:
        return JobStatus.QUEUED
    soon = card.time_left is not None and card.time_left <= ENDING_SOON
    return "ending" if soon else JobStatus.RUNNING
