"""The reverse proxy: the way to the service of one's own session.

On the portal's origin, `/node/<session id>/` leads the owner to the same address on the services'
origin, by a ticket. There, and only there, requests are passed on.
"""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    g,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_login import current_user
from werkzeug.datastructures import Headers as ResponseHeaders
from werkzeug.exceptions import Forbidden
from werkzeug.routing import PathConverter
from werkzeug.wrappers import Response as BaseResponse

from ood.auth.signins import SignIn
from ood.errors import HostUnreachable, NotFound, PortalError, ServiceNotThere
from ood.proxy.bodies import Held, body_of
from ood.proxy.entry import Entry
from ood.proxy.headers import SERVICE_COOKIE, Headers, to_browser, to_service
from ood.proxy.services import Reached
from ood.proxy.upstream import Answer, ServiceSilent
from ood.schedulers.base import JobStatus
from ood.sessions.service import service_path
from ood.web.here import ServiceResponse, note, on_services_origin, portal
from ood.web.upgrades import connection_of_request, take_over

bp = Blueprint("node", __name__)
log = logging.getLogger(__name__)

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Seconds until a service has to begin its answer.
PATIENCE = 300.0  # some think for minutes
PAGE_PATIENCE = 6.0  # somebody looks at an empty page meanwhile; then it is asked whether it lives
SILENT_PATIENCE = 2.0  # it did not answer the last time either
UPGRADE_PATIENCE = 20.0  # JupyterLab first waits for its kernel


class Rest(PathConverter):
    """The rest of an address, whatever a service makes of it: `//`, line ends."""

    regex = r"[\s\S]+?"
    part_isolating = False


def init_app(app: Flask) -> None:
    app.url_map.converters["rest"] = Rest
    app.register_blueprint(bp)


# ---- The portal's side


@bp.route("/node/<session_id>/", defaults={"path": ""}, methods=METHODS, merge_slashes=False)
@bp.route("/node/<session_id>/<rest:path>", methods=METHODS, merge_slashes=False)
def http(session_id: str, path: str) -> BaseResponse:  # noqa: ARG001 - passed on as it came
    if on_services_origin():
        return _pass_on(_entry(session_id))
    if not current_user.is_authenticated:
        return _signed_out()
    return _connect(session_id)


def _connect(session_id: str) -> BaseResponse:
    """Lead the owner of a session to its service, with a ticket."""
    if request.method not in ("GET", "HEAD"):
        raise NotFound("There is no such page.")
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode not in (None, "navigate"):  # a ticket is for somebody who goes there
        raise Forbidden("This request came from another site.")
    origin = portal().settings.apps_origin
    if origin is None:
        raise PortalError(
            "This portal has no address for services: tell your administrator to set apps_origin."
        )
    sign_in: SignIn = current_user._get_current_object()
    try:
        portal().services.reach(sign_in.user, session_id)
    except ServiceNotThere as error:
        return _waiting(sign_in.user, session_id, error.message, url_for("sessions.index"))
    entry = Entry(sign_in, session_id, request.host_url.rstrip("/"))
    ticket = portal().entries.ticket(entry, _target(session_id))
    return _by_ticket(f"{origin}{url_for('node.enter')}?ticket={ticket}")


def _by_ticket(address: str) -> BaseResponse:
    response = redirect(address, 303)
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _signed_out() -> BaseResponse:
    """As if there were no such session; somebody whose sign-in has ended finds the way back."""
    here = request.full_path.removesuffix("?")
    page = render_template("node/signed_out.html", signin=url_for("signin.login", next=here))
    return make_response(page, 404)


# ---- The services' side


@bp.get("/enter")
def enter() -> BaseResponse:
    """Exchange a ticket for the cookie that lets into one session's service."""
    exchanged = portal().entries.exchange(request.args.get("ticket", ""))
    if exchanged is None:
        raise NotFound(
            "This way in works only once. Go back to the portal and press Connect again."
        )
    cookie, entry, path = exchanged
    note("connect", entry.user, object=entry.session_id)
    response = _by_ticket(path)
    response.set_cookie(
        SERVICE_COOKIE,
        cookie,
        path=service_path(entry.session_id),
        secure=request.is_secure or current_app.config["SESSION_COOKIE_SECURE"],
        httponly=True,
        samesite="Lax",
    )
    return response


@bp.route("/node/<session_id>/", defaults={"path": ""}, websocket=True, merge_slashes=False)
@bp.route("/node/<session_id>/<rest:path>", websocket=True, merge_slashes=False)
def websocket(session_id: str, path: str) -> BaseResponse:  # noqa: ARG001
    """Join the browser's connection to one of the service's, after the service agreed."""
    entry = _entry(session_id, upgrading=True)
    connection = connection_of_request()
    reached = portal().services.reach(entry.user, session_id)
    headers = [*_headers(reached), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    patience = SILENT_PATIENCE if reached.silent else UPGRADE_PATIENCE
    with portal().services.place(reached):
        answer = reached.upstream.upgrade(_target(session_id), headers, patience)
    if answer.status != 101:
        return ServiceResponse(status=answer.status if 400 <= answer.status < 600 else 502)
    browser = take_over(connection)
    browser.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    passed = to_browser(answer.headers, reached.service.prefix)
    lines = [f"{name}: {value}" for name, value in passed]
    head = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", *lines]
    browser.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + answer.first)
    alive = portal().sign_ins.find
    portal().tunnels.join(
        entry.user,
        browser,
        answer.stream,
        lambda: alive(entry.sign_in.id, sign_of_life=False) is not None,
    )
    return Response()  # to nobody: the connection is the tunnel's now


def _entry(session_id: str, upgrading: bool = False) -> Entry:
    """The right to this session's service that the request brings, for HTTP and WebSockets alike.

    Raises `NotFound`, and `Forbidden` for what another site's page does. With the password added
    on the way in, the service no longer checks that itself (CVE-2024-28179 was the lack of it).
    """
    entry = None
    going_there = request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    if on_services_origin():
        cookies = request.cookies.getlist(SERVICE_COOKIE)
        # A notebook left open asks for this and that all night.
        sign_of_life = going_there or upgrading or request.method not in ("GET", "HEAD")
        entry = portal().entries.find(cookies, session_id, sign_of_life)
        g.entered_as = entry.user if entry else portal().entries.whose(cookies)
    if entry is None:
        raise NotFound(
            "There is no such session, or you are signed out. Go to the portal and press Connect "
            "again."
        )
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    if origin != portal().settings.apps_origin and (origin is not None or upgrading):
        raise Forbidden("This request came from another site.")
    if site not in (None, "none", "same-origin") and not going_there:
        raise Forbidden("This request came from another site.")
    return entry


def _target(session_id: str) -> str:
    """The address as it came, for the service to read it as it was meant."""
    target: str = request.environ.get("RAW_URI", "")
    if not target.startswith(service_path(session_id)):
        raise NotFound("There is no such page.")
    return target


def _headers(reached: Reached) -> Headers:
    return to_service(request.headers, {"Host": request.host, **reached.service.headers})


def _pass_on(entry: Entry) -> BaseResponse:
    """Pass a request on, and the answer back."""
    services = portal().services
    try:
        reached = services.reach(entry.user, entry.session_id)
        with ExitStack() as held:
            held.enter_context(services.place(reached))
            answer = _ask(reached, _target(entry.session_id))
            held.callback(answer.body.close)
            body = Held(answer.body, held.pop_all().close)
        response = ServiceResponse(body, f"{answer.status} {answer.reason}")
        response.headers = ResponseHeaders(to_browser(answer.headers, reached.service.prefix))
        return response
    except (ServiceNotThere, HostUnreachable) as error:
        log.info("%s %s: %s %s", request.method, entry.session_id, error, error.detail)
        if request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            return Response(f"{error.message}\n", 504, mimetype="text/plain")
        sessions = entry.portal + url_for("sessions.index")
        return _waiting(entry.user, entry.session_id, error.message, sessions)


def _ask(reached: Reached, target: str) -> Answer:
    headers, body = _headers(reached), body_of(request.environ)
    if request.environ.get("CONTENT_LENGTH"):
        headers.append(("Content-Length", request.environ["CONTENT_LENGTH"]))
    mode = request.headers.get("Sec-Fetch-Mode", "navigate")  # none where there is no https
    asks_again = request.method in ("GET", "HEAD") and body is None and mode == "navigate"
    patience = PAGE_PATIENCE if asks_again else PATIENCE
    try:
        return reached.upstream.request(
            request.method,
            target,
            headers,
            body,
            SILENT_PATIENCE if reached.silent else patience,
        )
    except ServiceSilent:
        if not asks_again or not portal().services.probe(reached):
            raise
    # It lives: this page takes it longer.
    return reached.upstream.request(request.method, target, headers, None, PATIENCE)


def _waiting(user: str, session_id: str, message: str, sessions: str) -> BaseResponse:
    """The page of a service that is not there, which tries again by itself while there is hope.

    `sessions` is the address of the job cards.
    """
    card = portal().board(user).find(session_id)
    ended = card.status is JobStatus.COMPLETED
    page = render_template("node/waiting.html", card=card, message=message, sessions=sessions)
    response = make_response(page, 410 if ended else 503)
    if not ended:
        response.headers["Refresh"] = "3"
        response.headers["Retry-After"] = "3"
    return response
