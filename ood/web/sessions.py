"""My Interactive Sessions: the job cards and their actions."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, BinaryIO, cast

from flask import Blueprint, Flask, Response, jsonify, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import InvalidForm, NotFound
from ood.schedulers.base import JobStatus
from ood.sessions.card import Card
from ood.sessions.context_directory import Listing
from ood.web.apps import find_app, start
from ood.web.current import board, cards, from_htmx, go_to, groups, note, portal, user, wants_json
from ood.web.filters import fingerprint

bp = Blueprint("sessions", __name__, url_prefix="/sessions")

LOG_PAGE_BYTES = 1024 * 1024
COPY_BYTES = 256 * 1024
RENDERED_CARDS = 2000  # of all users, some KiB each


def init_app(app: Flask) -> None:
    @lru_cache(maxsize=RENDERED_CARDS)
    def rendered(card: Card, _groups: frozenset[str]) -> Markup:
        module: Any = app.jinja_env.get_template("sessions/_card.html").module
        return cast(Markup, module.card_body(card))

    def card_html(card: Card) -> Markup:
        """HTML of a card, which depends on the user's groups. It is cached, because every poll
        needs it and it changes only with the card."""
        return rendered(card, groups())

    app.jinja_env.filters.update(card_notes=card_notes, card_html=card_html)


@bp.get("")
def index() -> str | Response:
    found = cards()
    if wants_json():
        return jsonify(sessions=[as_json(card) for card in found])
    return render_template("sessions/index.html", cards=found, poll=url_for("sessions.poll"))


@bp.post("")
def poll() -> Response:
    """Send the parts that are new. `have`, the parts that the page shows, is too long for an
    address if there are many cards, hence POST."""
    return _changes(cards())


@bp.get("/<session_id>")
def show(session_id: str) -> str | Response:
    card = board().find(session_id)
    if wants_json():
        return jsonify(as_json(card))
    poll = url_for("sessions.poll_one", session_id=session_id)
    return render_template("sessions/show.html", cards=[card], poll=poll)


@bp.post("/<session_id>")
def poll_one(session_id: str) -> Response:
    return _changes([board().find(session_id)])


@bp.post("/<session_id>/cancel")
def cancel(session_id: str) -> BaseResponse:
    board().cancel(session_id)
    note("cancel", user(), object=session_id)
    return _back()


@bp.post("/<session_id>/delete")
def delete(session_id: str) -> BaseResponse:
    board().delete(session_id)
    note("delete", user(), object=session_id)
    return _back()


@bp.post("/<session_id>/relaunch")
def relaunch(session_id: str) -> BaseResponse:
    """Launch again with the same values, or show the form if the user must type secrets again."""
    app = find_app(board().find(session_id).record.app_name)
    form = f"{url_for('apps.form', name=app.name)}?from={session_id}"
    files = board().portal_files(session_id)
    if files.facts.withheld:
        return go_to(form)
    try:
        start(app, files.typed)
    except InvalidForm:  # the app has changed since; the form shows what is wrong
        return go_to(form)
    return _back()


@bp.get("/<session_id>/log")
def log(session_id: str) -> str | Response:
    """The complete log as plain text if the request prefers that, else a page with its end."""
    card = board().find(session_id)
    directory = board().job_directory(card.record)
    listing = Listing(directory)
    version = listing.version(card.log_name)
    if version is None:
        raise NotFound("There is no log yet. It appears when the job starts.")
    path = f"{directory.path}/{card.log_name}"
    note("file-read", user(), host=directory.host.name, object=path)
    best = request.accept_mimetypes.best_match(["text/html", "text/plain"])
    if best == "text/plain":
        return _as_text(directory.host.files.open(path, "rb"))
    start = max(0, version[0] - LOG_PAGE_BYTES)
    text = (listing.read(card.log_name, LOG_PAGE_BYTES, start) or b"").decode("utf-8", "replace")
    return render_template("sessions/log.html", card=card, path=path, text=text, cut=start > 0)


def _as_text(file: BinaryIO) -> Response:
    def parts() -> Iterator[bytes]:
        with file:
            while data := file.read(COPY_BYTES):
                yield data

    return Response(parts(), content_type="text/plain; charset=utf-8")


def _changes(cards: list[Card]) -> Response:
    """The parts of these cards that a page does not show yet; 204 if it shows all."""
    have = set(request.form.getlist("have"))
    order = fingerprint(" ".join(card.record.id for card in cards))
    if order not in have:
        all_cards = render_template("sessions/_cards.html", cards=cards)
        return Response(all_cards, headers={"HX-Retarget": "#cards", "HX-Reswap": "outerHTML"})
    parts = render_template("sessions/_changes.html", cards=cards, have=have).strip()
    return Response(parts, 200 if parts else 204)


def _back() -> BaseResponse:
    """The response to an action: the current cards."""
    if from_htmx():
        return _changes(cards())
    return redirect(url_for("sessions.index"), 303)


def card_notes(card: Card) -> str:
    """The app's own notes about a card, as Markdown; empty if the app no longer exists."""
    app = portal().apps.get(card.record.app_name)
    if app is None:
        return ""
    name = "completed" if card.status is JobStatus.COMPLETED else "info"
    return app.markdown(name, {"session": card}).strip()


def as_json(card: Card) -> dict[str, Any]:
    """The facts of a card. Times are in seconds."""
    record = card.record
    return {
        "id": record.id,
        "app": record.app_name,
        "title": record.title,
        "cluster": record.cluster_id,
        "job_id": record.job_id,
        "status": card.status,
        "outcome": card.outcome,
        "exit_code": card.exit_code,
        "reason": card.reason,
        "host": card.host,
        "created_at": record.created_at,
        "time_limit": card.time_limit,
        "time_remaining": card.time_left,
        "context_directory": card.context_directory,
        "connect_url": card.connect_path or None,
    }
