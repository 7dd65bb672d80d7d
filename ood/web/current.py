"""The current request: the portal, the user, and the kind of response that it asks for."""

from typing import cast
from wsgiref.types import WSGIEnvironment

from flask import Response, current_app, g, redirect, request
from flask_login import current_user
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Response as BaseResponse

from ood.auth.signins import SignIn
from ood.portal import Portal
from ood.sessions.board import Board
from ood.sessions.card import Card


def portal() -> Portal:
    return cast(Portal, current_app.extensions["portal"])


def user() -> str:
    """The name of the signed-in user. Only for pages that require sign-in."""
    return cast(SignIn, current_user).user


def groups() -> frozenset[str]:
    return cast(SignIn, current_user).groups


def note(event: str, user: str, **facts: str | int) -> None:
    """Write an event of this request to the audit log."""
    portal().audit.note(event, user, address=request.remote_addr or "", **facts)


def board() -> Board:
    """The signed-in user's job cards."""
    return portal().board(user())


def cards() -> list[Card]:
    """All job cards of the user, asked for once in a request: after its action, if it has one."""
    if "cards" not in g:
        g.cards = board().cards()
    return cast(list[Card], g.cards)


class ExactResponse(Response):
    """A response whose addresses stay as they are. Werkzeug would change unusual ones, and fail on
    some."""

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:  # noqa: ARG002
        headers = Headers(self.headers)
        if self.status_code in (204, 304):
            headers.remove("Content-Length")
        elif self.is_sequence:
            headers["Content-Length"] = str(sum(map(len, self.iter_encoded())))
        return headers


class ProxiedResponse(ExactResponse):
    """The response of a session's service, which the portal passes on unchanged."""


def on_services_origin() -> bool:
    """Whether the request came to an origin of the services, and not to the portal's."""
    origins = portal().origins
    return origins is not None and origins.hold(request.host)


def wants_json() -> bool:
    best = request.accept_mimetypes.best_match(["text/html", "application/json"])
    return best == "application/json"


def from_htmx() -> bool:
    return request.headers.get("HX-Request") == "true"


def go_to(address: str) -> BaseResponse:
    """Send the browser to another page after a POST. HTMX would follow a plain redirect itself."""
    if from_htmx():
        return Response(status=204, headers={"HX-Redirect": address})
    return redirect(address, 303)
