"""The reverse proxy: the way to the service of one's own session.

On the portal's origin, `/node/<session id>/` leads the owner to the same address on the services'
origin. There, and only there, requests are passed on. `ood/proxy/tickets.py` says how one enters.
"""

from __future__ import annotations

import logging
import re
import socket
from contextlib import ExitStack

from flask import (
    Blueprint,
    Flask,
    Response,
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
from ood.errors import HostUnreachable, NotFound, PortalError, ServiceNotThere, ServiceRefused
from ood.proxy.bodies import Held, body_of
from ood.proxy.fence import CLEAR, fenced, from_another_session, stays
from ood.proxy.headers import ENTRY_COOKIE, NONCE_COOKIE, Headers, to_browser, to_service
from ood.proxy.origins import session_of
from ood.proxy.services import Reached
from ood.proxy.tickets import Grant, new_nonce, state_of
from ood.proxy.upstream import ServiceSilent, UpstreamResponse
from ood.schedulers.base import JobStatus
from ood.sessions.service import service_path
from ood.web.current import ServiceResponse, note, on_services_origin, portal
from ood.web.upgrades import connection_of_request, take_over

bp = Blueprint("node", __name__)
log = logging.getLogger(__name__)

NONCE_SECONDS = 600  # somebody may have to sign in meanwhile
STATE = re.compile(r"[0-9a-f]{64}")
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
        return _serve(session_id)
    target = _target(session_id)
    if not current_user.is_authenticated:
        return _signed_out(target)
    return _check(session_id) or _go_on(f"{_origin(session_id)}{url_for('node.enter', to=target)}")


@bp.get("/connect")
def connect() -> BaseResponse:
    """Tell the services' origin, by a code, who is signed in at this browser."""
    state, target = request.args.get("state", ""), request.args.get("to", "")
    session_id = _session_of(target)
    if not current_user.is_authenticated:
        return _signed_out(target)
    if not STATE.fullmatch(state):
        raise NotFound("There is no such page.")
    if not_there := _check(session_id):
        return not_there
    sign_in: SignIn = current_user._get_current_object()
    code = portal().tickets.code(Grant(sign_in, session_id), state, target)
    return _go_on(f"{_origin(session_id)}{url_for('node.enter', code=code)}")


def _check(session_id: str) -> BaseResponse | None:
    """Make sure that this is the signed-in user's own session, and a visit in a window. Return the
    page to show while the service is not there (yet); None when it is."""
    if request.method not in ("GET", "HEAD"):
        raise NotFound("There is no such page.")
    if not _is_visit():
        raise Forbidden("This request came from another site.")
    try:
        portal().services.reach(current_user.user, session_id)
    except ServiceNotThere as error:
        sessions = url_for("sessions.index")
        return _waiting(current_user.user, session_id, error.message, sessions)
    return None


def _is_visit() -> bool:
    """Whether this is a visit to an address in a window: nothing else may enter. (Without TLS,
    browsers do not send these headers.)"""
    return (
        request.method in ("GET", "HEAD")
        and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
        and request.headers.get("Sec-Fetch-Dest", "document") == "document"
        and "prefetch" not in request.headers.get("Sec-Purpose", "")
    )


def _origin(session_id: str) -> str:
    """Where a session's service is served. Raises `PortalError`."""
    origins = portal().origins
    if origins is None or portal().settings.portal_origin is None:
        raise PortalError(
            "This portal is not set up to connect to services. Ask your administrator to set "
            "portal_origin and apps_origin."
        )
    return origins.of(session_id)


def _session_of(target: str) -> str:
    """The session whose service has this path. Raises `NotFound`."""
    session_id = session_of(target)
    if session_id is None:
        raise NotFound("There is no such page.")
    return session_id


def _go_on(address: str) -> BaseResponse:
    response = redirect(address, 303)
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _signed_out(target: str) -> BaseResponse:
    """As if there were no such session; somebody whose sign-in has ended finds the way back."""
    page = render_template("node/signed_out.html", signin=url_for("signin.login", next=target))
    return make_response(page, 404)


# ---- The services' side


@bp.get("/enter")
def enter() -> BaseResponse:
    """Where a browser enters: it is sent to the portal, and comes back from there with a code."""
    if not _is_visit():
        raise Forbidden("This request came from another site.")
    if "code" in request.args:
        return _admit(request.args["code"])
    target = request.args.get("to", "")
    if not _serves(_session_of(target)):
        raise NotFound("There is no such page.")
    return _ask_portal(target)


def _ask_portal(target: str) -> BaseResponse:
    nonce = new_nonce()
    state = state_of(nonce)
    to_portal = url_for("node.connect", state=state, to=target)
    response = _go_on(f"{portal().settings.portal_origin}{to_portal}")
    _set_cookie(response, _cookie_name(NONCE_COOKIE) + state[:8], nonce, NONCE_SECONDS)
    return response


def _admit(code: str) -> BaseResponse:
    prefix = _cookie_name(NONCE_COOKIE)
    nonces = [value for name, value in request.cookies.items(True) if name.startswith(prefix)]
    admission = portal().tickets.exchange(code, request.host, nonces, _entry_cookies())
    note("connect", admission.entry.user, object=admission.entry.session_id)
    response = _go_on(admission.path)
    _set_cookie(response, _cookie_name(ENTRY_COOKIE), admission.cookie)
    _set_cookie(response, prefix + admission.state[:8], "", 0)  # other tabs still need theirs
    if admission.new_user:
        response.headers["Clear-Site-Data"] = CLEAR
    return response


def _cookie_name(name: str) -> str:
    """Browsers take a cookie with this prefix from this very host only, for all paths, with Secure,
    and never from a page's script (RFC 6265bis, 4.1.3): no service can plant one."""
    return f"__Host-Http-{name}" if _secure() else name


def _secure() -> bool:
    origins = portal().origins
    return origins is not None and origins.secure


def _set_cookie(response: BaseResponse, name: str, value: str, seconds: int | None = None) -> None:
    response.set_cookie(
        name, value, max_age=seconds, secure=_secure(), httponly=True, samesite="Lax"
    )


def _entry_cookies() -> list[str]:
    return request.cookies.getlist(_cookie_name(ENTRY_COOKIE))


def _serves(session_id: str) -> bool:
    """Whether the service of this session is served at the host name that was asked."""
    origins = portal().origins
    return origins is not None and origins.serve(request.host, session_id)


def _base(session_id: str) -> str:
    """The address of a session's service."""
    return f"{_origin(session_id)}{service_path(session_id)}"


@bp.route("/node/<session_id>/", defaults={"path": ""}, websocket=True, merge_slashes=False)
@bp.route("/node/<session_id>/<rest:path>", websocket=True, merge_slashes=False)
def websocket(session_id: str, path: str) -> BaseResponse:  # noqa: ARG001
    """Join the browser's connection to one of the service's, after the service agreed."""
    entry = _entry(session_id, upgrading=True)
    if entry is None:
        raise _no_entry()
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


def _entry(session_id: str, upgrading: bool = False) -> Grant | None:
    """The right to this session's service that the request brings, for HTTP and WebSockets alike.

    Raises `NotFound`, and `Forbidden` for what another site's or session's page does. With the
    password added on the way in, the service no longer checks that itself (CVE-2024-28179 was the
    lack of it).
    """
    if not _serves(session_id):
        raise _no_entry()
    cookies = _entry_cookies()
    going_there = "Sec-Fetch-Mode" in request.headers and _is_visit()
    # A notebook left open asks for this and that all night.
    sign_of_life = going_there or upgrading or request.method not in ("GET", "HEAD")
    entry = portal().tickets.find(cookies, session_id, sign_of_life)
    g.entered_as = entry.user if entry else portal().tickets.whose(cookies)
    if entry is None:
        return None
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    if origin != _origin(session_id) and (origin is not None or upgrading):
        raise Forbidden("This request came from another site.")
    if site not in (None, "none", "same-origin") and not going_there:
        raise Forbidden("This request came from another site.")
    if site == "same-origin" and _comes_from_another(session_id):
        raise Forbidden("This request came from another session.")
    return entry


def _comes_from_another(session_id: str) -> bool:
    """Whether a page of another session asks, where they share an origin."""
    origins = portal().origins
    shared = origins is not None and origins.shared
    return shared and from_another_session(request.referrer, _base(session_id))


def _no_entry() -> NotFound:
    return NotFound(
        "There is no such session, or you are signed out. Go to the portal and press Connect again."
    )


def _serve(session_id: str) -> BaseResponse:
    """Answer for a session's service, or send a browser without an entry to the portal for one."""
    try:
        entry = _entry(session_id)
        if entry is not None:
            return _pass_on(entry)
        if _is_visit():
            return _ask_portal(_target(session_id))
        raise _no_entry()
    except NotFound as error:
        if _is_from_own_page():
            # The page would take 404 for its service's answer. JupyterLab then asks for its top
            # directory again at once, and never stops.
            error.http_status = 403
        raise


def _is_from_own_page() -> bool:
    """Whether a page of this origin asks by a script."""
    return request.headers.get("Sec-Fetch-Site") == "same-origin" and not _is_visit()


def _target(session_id: str) -> str:
    """The address as it came, for the service to read it as it was meant."""
    target: str = request.environ.get("RAW_URI", "")
    if not target.startswith(service_path(session_id)):
        raise NotFound("There is no such page.")
    return target


def _headers(reached: Reached) -> Headers:
    return to_service(request.headers, {"Host": request.host, **reached.service.headers})


def _pass_on(entry: Grant) -> BaseResponse:
    """Pass a request on, and the answer back."""
    services = portal().services
    try:
        reached = services.reach(entry.user, entry.session_id)
        with ExitStack() as held:
            held.enter_context(services.place(reached))
            answer = _ask(reached, _target(entry.session_id))
            held.callback(answer.body.close)
            headers = _to_browser(answer.headers, entry.session_id)
            body = Held(answer.body, held.pop_all().close)
        response = ServiceResponse(body, f"{answer.status} {answer.reason}")
        response.headers = ResponseHeaders(headers)
        return response
    except (ServiceNotThere, HostUnreachable) as error:
        log.info("%s %s: %s %s", request.method, entry.session_id, error, error.detail)
        if request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            return Response(f"{error.message}\n", 504, mimetype="text/plain")
        sessions = f"{portal().settings.portal_origin}{url_for('sessions.index')}"
        return _waiting(entry.user, entry.session_id, error.message, sessions)


def _to_browser(given: Headers, session_id: str) -> Headers:
    """The headers of a service's answer as the browser gets them. Raises `ServiceRefused`."""
    origins = portal().origins
    assert origins is not None
    base, here = _base(session_id), _origin(session_id) + _target(session_id)
    passed = to_browser(given, service_path(session_id))
    for name, value in passed:
        if origins.shared and name.lower() == "location" and not stays(value, here, base):
            raise ServiceRefused(
                "This service redirected to an address outside its session. The portal stopped it."
            )
    return fenced(passed, base, origins.shared)


def _ask(reached: Reached, target: str) -> UpstreamResponse:
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


def _waiting(user: str, session_id: str, message: str, sessions: str) -> Response:
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
    elif on_services_origin():  # nobody needs any more what the service left in the browser
        response.headers["Clear-Site-Data"] = CLEAR
    return response
