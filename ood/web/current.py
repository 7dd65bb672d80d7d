"""What a request stands on: the portal, its user, and what kind of answer is wanted."""

from __future__ import annotations

from typing import cast

from flask import Response, current_app, redirect, request
from flask_login import current_user
from werkzeug.wrappers import Response as BaseResponse

from ood.auth.signins import SignIn
from ood.portal import Portal
from ood.sessions.board import Board


def portal() -> Portal:
    return cast(Portal, current_app.extensions["portal"])


def user() -> str:
    """The signed-in user's name. For pages that demand one."""
    return cast(SignIn, current_user).user


def groups() -> frozenset[str]:
    """The groups of the signed-in user."""
    return cast(SignIn, current_user).groups


def note(event: str, user: str, **facts: str | int) -> None:
    """Write what this request did into the audit log."""
    portal().audit.note(event, user, address=request.remote_addr or "", **facts)


def board() -> Board:
    """The signed-in user's job cards."""
    return portal().board(user())


class ServiceResponse(Response):
    """The answer of a session's service, which is passed on as it is."""


def on_services_origin() -> bool:
    """Whether the browser asks an origin of the services, and not the portal's."""
    origins = portal().origins
    return origins is not None and origins.hold(request.host)


def wants_json() -> bool:
    return request.accept_mimetypes.best_match(["text/html", "application/json"]) == (
        "application/json"
    )


def asked_page() -> int:
    """The number of the page of a long table that is asked for; 1 for what is none."""
    given = request.args.get("page", "1")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 9 else 1


def from_htmx() -> bool:
    return request.headers.get("HX-Request") == "true"


def go_to(address: str) -> BaseResponse:
    """Lead the browser to another page, after a POST. HTMX would fetch it and keep it to itself."""
    if from_htmx():
        return Response(status=204, headers={"HX-Redirect": address})
    return redirect(address, 303)
