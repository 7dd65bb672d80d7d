"""How a browser gets to a service: tickets and the entry cookie.

On the portal's origin, `/node/<session id>/` redirects the owner to the same path on the services'
origin. `ood/proxy/tickets.py` describes the steps between the two.
"""

import re
from typing import Any

from flask import Blueprint, Response, g, render_template, request, url_for
from flask_login import current_user
from werkzeug.exceptions import Forbidden
from werkzeug.utils import redirect
from werkzeug.wrappers import Response as BaseResponse

from ood.auth.signins import SignIn
from ood.errors import NotFound, PortalError, ServiceNotThere
from ood.proxy.fence import CLEAR, from_another_session
from ood.proxy.headers import ENTRY_COOKIE, NONCE_COOKIE
from ood.proxy.origins import session_of
from ood.proxy.tickets import Grant, new_nonce, state_of
from ood.schedulers.base import JobStatus
from ood.sessions.service import service_path
from ood.web.current import ExactResponse, note, on_services_origin, portal

bp = Blueprint("entering", __name__)

NONCE_SECONDS = 600  # the user may have to sign in meanwhile
STATE = re.compile(r"[0-9a-f]{64}")


# ---- On the portal's origin


def go_to_service(session_id: str, path: str) -> BaseResponse:
    """Send the signed-in owner of a session to its service. `path` begins with `/node/`."""
    if not current_user.is_authenticated:
        return _signed_out(path)
    return _check(session_id) or _go_on(session_id, to=path)


@bp.get("/connect")
def connect() -> BaseResponse:
    """Send the browser back to the services' origin, with a ticket for the signed-in user."""
    state, path = request.args.get("state", ""), request.args.get("to", "")
    session_id = _session_of(path)
    if not current_user.is_authenticated:
        return _signed_out(path)
    if not STATE.fullmatch(state):
        raise NotFound("Page not found.")
    if not_there := _check(session_id):
        return not_there
    sign_in: SignIn = current_user._get_current_object()
    return _go_on(session_id, code=portal().tickets.issue(Grant(sign_in, session_id), state, path))


def _check(session_id: str) -> BaseResponse | None:
    """The page to show if the service is not running, otherwise None. Raises an error unless the
    session is the signed-in user's and the request is a visit."""
    if request.method not in ("GET", "HEAD"):
        raise NotFound("Page not found.")
    _demand_visit()
    try:
        portal().services.find(current_user.user, session_id)
    except ServiceNotThere as error:
        return waiting(current_user.user, session_id, error.message)
    return None


def is_visit() -> bool:
    """Whether the browser opens this address in a window. Only visits may enter. (Without TLS,
    browsers do not send these headers.)"""
    return (
        request.method in ("GET", "HEAD")
        and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
        and request.headers.get("Sec-Fetch-Dest", "document") == "document"
        and "prefetch" not in request.headers.get("Sec-Purpose", "")
    )


def _demand_visit() -> None:
    if not is_visit():
        raise Forbidden("This request came from another site.")


def origin_of(session_id: str) -> str:
    """The origin of a session's service. Raises `PortalError`."""
    origins = portal().origins
    if origins is None or portal().settings.portal_origin is None:
        raise PortalError(
            "This portal is not set up to connect to services. Ask your administrator to set "
            "portal_origin and apps_origin."
        )
    return origins.of(session_id)


def _session_of(path: str) -> str:
    """The ID of the session whose service has this path. Raises `NotFound`."""
    if (session_id := session_of(path)) is None:
        raise NotFound("Page not found.")
    return session_id


def _go_on(session_id: str, **arguments: Any) -> BaseResponse:
    """Redirect to `/enter` on the services' origin."""
    return _redirect(f"{origin_of(session_id)}{url_for('entering.enter', **arguments)}")


def _redirect(address: str) -> BaseResponse:
    response = redirect(address, 303, ExactResponse)
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _signed_out(path: str) -> BaseResponse:
    """The page for a session that does not exist, with a link to the sign-in page."""
    page = render_template("node/signed_out.html", signin=url_for("signin.login", next=path))
    return Response(page, 404)


# ---- On the services' origin


@bp.get("/enter")
def enter() -> BaseResponse:
    """Redirect the browser to the portal, and admit it when it comes back with a ticket."""
    _demand_visit()
    if "code" in request.args:
        return _admit(request.args["code"])
    path = request.args.get("to", "")
    if not _is_origin_of(_session_of(path)):
        raise NotFound("Page not found.")
    return ask_portal(path)


def ask_portal(path: str) -> BaseResponse:
    """Redirect to the portal for a ticket to the service with this path."""
    nonce = new_nonce()
    state = state_of(nonce)
    to_portal = url_for("entering.connect", state=state, to=path)
    response = _redirect(f"{portal().settings.portal_origin}{to_portal}")
    _set_cookie(response, _cookie_name(NONCE_COOKIE) + state[:8], nonce, NONCE_SECONDS)
    return response


def _admit(ticket: str) -> BaseResponse:
    prefix = _cookie_name(NONCE_COOKIE)
    nonces = [value for name, value in request.cookies.items(True) if name.startswith(prefix)]
    admission = portal().tickets.exchange(ticket, request.host, nonces, _entry_cookies())
    note("connect", admission.grant.user, object=admission.grant.session_id)
    response = _redirect(admission.path)
    _set_cookie(response, _cookie_name(ENTRY_COOKIE), admission.cookie)
    _set_cookie(response, prefix + admission.state[:8], "", 0)  # other tabs keep theirs
    if admission.new_user:
        response.headers["Clear-Site-Data"] = CLEAR
    return response


def _cookie_name(name: str) -> str:
    """The full name of a cookie. Browsers accept the prefix only from this host, for all paths and
    with Secure, and never from a script (RFC 6265bis, 4.1.3), so no service can set the cookie."""
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


def _is_origin_of(session_id: str) -> bool:
    """Whether the request came to the origin of this session's service."""
    origins = portal().origins
    return origins is not None and origins.serve(request.host, session_id)


def grant_of_request(session_id: str, upgrading: bool = False) -> Grant | None:
    """The right to this session's service that the request's cookies grant, if any.

    Raises `NotFound`, and `Forbidden` for requests from pages of other sites or sessions. The
    service cannot check this, because the portal adds the password to everything that it passes on
    (without such a check: CVE-2024-28179).
    """
    if not _is_origin_of(session_id):
        raise no_entry()
    cookies = _entry_cookies()
    visit = "Sec-Fetch-Mode" in request.headers and is_visit()
    # A notebook that is left open sends GET requests all night.
    sign_of_life = visit or upgrading or request.method not in ("GET", "HEAD")
    grant = portal().tickets.find(cookies, session_id, sign_of_life)
    g.entered_as = grant.user if grant else portal().tickets.whose(cookies)
    if grant is None:
        return None
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    another_origin = origin != origin_of(session_id) and (origin is not None or upgrading)
    if another_origin or (site not in (None, "none", "same-origin") and not visit):
        raise Forbidden("This request came from another site.")
    origins = portal().origins
    shared = origins is not None and origins.shared
    another_session = from_another_session(request.referrer, service_address(session_id))
    if site == "same-origin" and shared and another_session:
        raise Forbidden("This request came from another session.")
    return grant


def service_address(session_id: str) -> str:
    """The address of a session's service."""
    return f"{origin_of(session_id)}{service_path(session_id)}"


def no_entry() -> NotFound:
    return NotFound("Session not found, or you are signed out. Click Connect in the portal again.")


# ---- On both origins


def waiting(user: str, session_id: str, message: str) -> Response:
    """The page for a service that is not running. It reloads until the session has ended."""
    card = portal().board(user).find(session_id)
    ended = card.status is JobStatus.COMPLETED
    sessions = url_for("sessions.index")
    if on_services_origin():
        sessions = f"{portal().settings.portal_origin}{sessions}"
    page = render_template("node/waiting.html", card=card, message=message, sessions=sessions)
    response = Response(page, 410 if ended else 503)
    if not ended:
        response.headers["Refresh"] = "3"
        response.headers["Retry-After"] = "3"
    elif on_services_origin():  # removes what the service stored in the browser
        response.headers["Clear-Site-Data"] = CLEAR
    return response
