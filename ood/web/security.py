"""What holds for every request and response: sign-in, same origin, and the security headers."""

from __future__ import annotations

from flask import Flask, Response, g, redirect, request
from flask_login import LoginManager, current_user
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response as BaseResponse

from ood.auth.signins import SignIn
from ood.errors import NotFound
from ood.web.current import ServiceResponse, note, on_services_origin, portal
from ood.web.errors import sign_in_again, this_page
from ood.web.front_end import USER

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


def policy_with_styles(nonce: str) -> str:
    """The policy for a page whose scripts make style elements with this nonce."""
    return CONTENT_SECURITY_POLICY.replace("style-src 'self'", f"style-src 'self' 'nonce-{nonce}'")


def policy_with_form_to(origin: str) -> str:
    """The policy for a page whose form leads on to another origin in the end."""
    return CONTENT_SECURITY_POLICY.replace("form-action 'self'", f"form-action 'self' {origin}")


PERMISSIONS_POLICY = "camera=(), display-capture=(), geolocation=(), microphone=(), usb=()"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PUBLIC_PAGES = frozenset(
    {"static", "home.health", "theme.colours", "theme.logo", "theme.choose_theme"}
    | {"node.http", "node.connect"}  # which answer as if there were no such session
    | {"signin.login", "signin.check_password", "signin.new_address", "signin.logout"}
)
"""All that somebody signed out may ask for. Any other address, known or not, leads to sign-in."""
SERVICE_PAGES = frozenset(
    {"node.http", "node.websocket", "node.enter", "static", "home.health"} | {"theme.colours"}
)
"""All that there is on the services' origin, where the code of services runs in browsers: none of
the portal's pages. They let in by a cookie of their own (`ood.web.node`)."""
POLLS = frozenset(
    {"home.changes", "sessions.poll", "sessions.poll_one", "jobs.changes", "transfers.changes"}
)
"""What open pages ask by themselves. The answers tell besides how the user's sessions stand
(`ood.web.home`)."""
ASKED_BY_PAGES = POLLS | {"shell.socket"}  # whoever types there gives a sign of life with it
"""What happens without anybody doing anything: no sign of life of who is signed in."""
REFUSALS = frozenset({400, 401, 403, 404, 405, 429})
PORTAL_HAS_NOT = frozenset({"node.websocket", "node.enter"})


def init_app(app: Flask) -> None:
    manager = LoginManager(app)
    manager.session_protection = None  # addresses of a remote desktop change; the id is enough

    manager.user_loader(_sign_in)
    app.before_request(_keep_origins_apart)
    app.before_request(_demand_same_origin)
    app.before_request(_demand_sign_in)
    app.after_request(_note_refusal)
    app.after_request(_add_headers)


def _sign_in(sign_in_id: str) -> SignIn | None:
    sign_of_life = request.endpoint not in ASKED_BY_PAGES
    found = portal().sign_ins.find(sign_in_id, sign_of_life)
    if portal().settings.auth == "header" and found and request.environ.get(USER) != found.user:
        if request.environ.get(USER):
            portal().sign_ins.remove(sign_in_id, "somebody else came")
        return None
    return found


def _keep_origins_apart() -> BaseResponse | None:
    g.on_services_origin = on_services_origin()
    if g.on_services_origin and request.endpoint in SERVICE_PAGES:
        if "Service-Worker" in request.headers and request.endpoint != "node.http":
            # Its scope could cover more than one session's service.
            raise Forbidden("A service worker must stay within its own session.")
        return None
    name, _, port = request.host.partition(":")
    on_this_machine = portal().settings.portal_origin == f"http://127.0.0.1:{port}"
    if name == "localhost" and on_this_machine and request.method == "GET":
        # Somebody typed `localhost`. Sign-ins belong to 127.0.0.1.
        return redirect(f"http://127.0.0.1:{port}{this_page()}")
    if g.on_services_origin:
        raise NotFound("This address is for services only. The portal has another one.")
    if request.endpoint in PORTAL_HAS_NOT:
        raise NotFound("There is no such page.")
    return None


def _demand_sign_in() -> BaseResponse | None:
    if g.on_services_origin:
        return None
    if request.endpoint in PUBLIC_PAGES or current_user.is_authenticated:
        return None
    return sign_in_again("You are signed out. Sign in again.")


def _demand_same_origin() -> None:
    """Refuse to change anything for a page of another origin.

    Browsers set Sec-Fetch-Site, or at least Origin, on every such request; what sends neither is
    no browser, and has no cookies to abuse. The CSRF token is checked besides.
    """
    if request.method in SAFE_METHODS or g.on_services_origin:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None and site not in ("same-origin", "none"):
        raise Forbidden("This request came from another site.")
    if origin is not None and origin.partition("://")[2] != request.host:
        raise Forbidden("This request came from another site.")


def _note_refusal(response: Response) -> Response:
    """Write down what was refused. (A failed sign-in has its line; services keep their own.)"""
    told = isinstance(response, ServiceResponse) or g.get("sign_in_failed", False)
    if response.status_code in REFUSALS and not told:
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
    if isinstance(response, ServiceResponse):
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
