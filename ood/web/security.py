"""Checks and headers for every request: sign-in, same origin, and the security headers."""

from flask import Flask, Response, g, redirect, request
from flask_login import LoginManager, current_user
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response as BaseResponse

from ood.auth.signins import SignIn
from ood.errors import NotFound
from ood.web.current import ProxiedResponse, note, on_services_origin, portal
from ood.web.errors import sign_in_again, this_page
from ood.web.front_end import USER
from ood.web.shares import take_share

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


def policy_with(directive: str, source: str) -> str:
    """The policy for a page that needs one more source in a directive."""
    return CONTENT_SECURITY_POLICY.replace(f"{directive} 'self'", f"{directive} 'self' {source}")


PERMISSIONS_POLICY = "camera=(), display-capture=(), geolocation=(), microphone=(), usb=()"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PUBLIC_PAGES = frozenset(
    {"static", "home.health", "theme.colours", "theme.logo", "theme.choose_theme"}
    | {"node.http", "entering.connect"}  # which say that the session does not exist
    | {"signin.login", "signin.check_password", "signin.new_address", "signin.logout"}
)
"""The pages that do not require sign-in. All others redirect to the sign-in page."""
SERVICE_PAGES = frozenset(
    {"node.http", "node.websocket", "entering.enter", "static", "home.health", "theme.colours"}
)
"""All pages of the services' origin, where the code of services runs in browsers. They have a
cookie of their own (`ood.web.entering`)."""
POLLS = frozenset(
    {"home.changes", "sessions.poll", "sessions.poll_one", "jobs.changes", "transfers.changes"}
)
"""What open pages request by themselves. The responses also report the user's sessions
(`ood.web.home`)."""
AUTOMATIC = POLLS | {"shell.socket"}  # typing in a shell prolongs it, but connecting does not
"""Requests without any action of the user, which do not prolong the sign-in."""
REFUSALS = frozenset({400, 401, 403, 404, 405, 429})
ONLY_ON_SERVICES_ORIGIN = frozenset({"node.websocket", "entering.enter"})


def init_app(app: Flask) -> None:
    manager = LoginManager(app)
    manager.session_protection = None  # it would sign out users whose address changes
    manager.user_loader(_sign_in)
    app.before_request(_keep_origins_apart)
    app.before_request(_demand_same_origin)
    app.before_request(_demand_sign_in)
    app.before_request(take_share)
    app.after_request(_note_refusal)
    app.after_request(_add_headers)


def _sign_in(sign_in_id: str) -> SignIn | None:
    sign_of_life = request.endpoint not in AUTOMATIC
    found = portal().sign_ins.find(sign_in_id, sign_of_life)
    if portal().settings.auth == "header" and found and request.environ.get(USER) != found.user:
        if request.environ.get(USER):
            portal().sign_ins.remove(sign_in_id, "another user signed in")
        return None
    return found


def _keep_origins_apart() -> BaseResponse | None:
    g.on_services_origin = on_services_origin()
    if g.on_services_origin and request.endpoint in SERVICE_PAGES:
        if "Service-Worker" in request.headers and request.endpoint != "node.http":
            # The worker's scope could cover the services of several sessions.
            raise Forbidden("A service worker must stay within its session.")
        return None
    name, _, port = request.host.partition(":")
    on_this_machine = portal().settings.portal_origin == f"http://127.0.0.1:{port}"
    if name == "localhost" and on_this_machine and request.method == "GET":
        # The user typed `localhost`. The cookies of sign-ins are for 127.0.0.1.
        return redirect(f"http://127.0.0.1:{port}{this_page()}")
    if g.on_services_origin:
        raise NotFound(
            "This address is only for services such as JupyterLab. Open a service from its "
            "job card in the portal."
        )
    if request.endpoint in ONLY_ON_SERVICES_ORIGIN:
        raise NotFound("Page not found.")
    return None


def _demand_sign_in() -> BaseResponse | None:
    if g.on_services_origin or request.endpoint in PUBLIC_PAGES or current_user.is_authenticated:
        return None
    return sign_in_again("You are signed out. Sign in again.")


def _demand_same_origin() -> None:
    """Refuse requests that change something and come from a page of another origin.

    Browsers send Sec-Fetch-Site, or at least Origin, with every such request. A client that sends
    neither is not a browser, so it has no cookies to abuse. The CSRF token is checked as well.
    """
    if request.method in SAFE_METHODS or g.on_services_origin:
        return
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin")
    another_origin = origin is not None and origin.partition("://")[2] != request.host
    if another_origin or site not in ("same-origin", "none"):
        raise Forbidden("This request came from another site.")


def _note_refusal(response: Response) -> Response:
    """Log refusals, except those by services and failed sign-ins, which are logged elsewhere."""
    logged = isinstance(response, ProxiedResponse) or g.get("sign_in_failed", False)
    if response.status_code in REFUSALS and not logged:
        who = current_user.user if current_user.is_authenticated else g.get("entered_as", "")
        note(
            "refusal",
            who,
            object=request.path,
            method=request.method,
            status=response.status_code,
            reason=g.get("said", ""),
        )
    return response


def _add_headers(response: Response) -> Response:
    if isinstance(response, ProxiedResponse):
        return response
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response
