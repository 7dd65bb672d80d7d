"""Signing in and out."""

import math
import time

from flask import (
    Blueprint,
    Flask,
    Response,
    g,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask_login import current_user, login_user, logout_user
from pydantic import SecretStr
from werkzeug.wrappers import Response as BaseResponse

from ood.auth.names import is_for_a_person
from ood.errors import HostError, HostRefused, SignInExpired
from ood.hosts.pool import account_of
from ood.proxy.origins import session_of
from ood.web.current import note, portal
from ood.web.front_end import USER
from ood.web.security import policy_with_form_to

bp = Blueprint("signin", __name__)

WRONG = "The user name or password is wrong. Try again."
NOT_KNOWN = "Your account cannot use this portal. Ask your administrator for access."
NOBODY = "no-such-account"
"""Replaces names that the portal refuses itself, so that those take as long as others."""
REFUSAL_SECONDS = 2.0  # at least, as with PAM: sshd refuses some names at once


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.get("/login")
def login() -> BaseResponse:
    """The sign-in page. With `auth: token`, this is the address that is printed in the terminal;
    with `auth: header`, a user whom the front end names is signed in at once."""
    target = safe_next(request.args.get("next"))
    if current_user.is_authenticated:
        return redirect(target)
    settings = portal().settings
    if settings.auth == "ssh":
        return _password_page(target)
    if settings.auth == "header":
        if "signed_out" in request.args:
            return make_response(render_template("signin/header.html", next=target))
        return _sign_in_by_header(target)
    given = request.args.get("token")
    if given is not None and portal().token.use(given):
        host = portal().pool.portal_host("")
        _sign_in(host.user, account_of(host).groups)
        return redirect(target)
    if given is not None:
        _note_failure("", "unknown token")
    page = render_template("signin/token.html", used=given is not None)
    return make_response(page, 401 if given is not None else 200)


@bp.post("/login")
def check_password() -> BaseResponse:
    """Check a user name and password by opening the user's own SSH connection."""
    if portal().settings.auth != "ssh":
        return redirect(url_for("signin.login"))
    name = request.form.get("username", "").strip()
    password = SecretStr(request.form.get("password", ""))
    known = is_for_a_person(name)
    counted = name[:64]
    address = request.remote_addr or ""
    wait = portal().attempts.begin(counted, address)
    if wait:
        _note_failure(name if known else "", "too many attempts")
        return _too_many(name, wait)
    begun = time.monotonic()
    try:
        account = portal().pool.sign_in(name if known else NOBODY, password)
    except SignInExpired as error:
        # If it is not a user name, it may be a password typed into the wrong field.
        _note_failure(name if known else "", error.detail or error.message)
        time.sleep(max(0.0, REFUSAL_SECONDS - (time.monotonic() - begun)))
        return _again(name, WRONG, 401)
    except HostError as error:
        portal().attempts.did_not_fail(counted, address, forgiven=False)
        _note_failure(name if known else "", f"{error.message} {error.detail}")
        return _again(name, error.message, error.http_status)
    portal().attempts.did_not_fail(counted, address, forgiven=True)
    _sign_in(name, account.groups)
    return redirect(safe_next(request.form.get("next")), 303)


@bp.post("/login/new-address")
def new_address() -> BaseResponse:
    """Print a new one-time address in the terminal, for a user who is signed out."""
    if portal().settings.auth == "token":
        print_address(request.host_url)
    return redirect(url_for("signin.login"), 303)


@bp.post("/logout")
def logout() -> BaseResponse:
    if current_user.is_authenticated:
        portal().sign_ins.remove(current_user.id, "signed out")
        logout_user()
    session.clear()
    by_header = portal().settings.auth == "header"  # else signed in again at once
    return redirect(url_for("signin.login", signed_out="1" if by_header else None), 303)


def print_address(base: str) -> None:
    """Print the sign-in address on standard output, which is the terminal."""
    print(f"Open this address: {base}login?token={portal().token.new()}", flush=True)


def safe_next(given: str | None) -> str:
    """`given` if it is a path of this portal, otherwise the home page.

    Browsers take `//host` and `/\\host` for an address of another host, and drop tabs and newlines.
    """
    home = url_for("home.index")
    if not given or not given.startswith("/") or given.startswith(("//", "/\\")):
        return home
    if any(ord(character) < 0x20 for character in given):
        return home
    return given


def _sign_in_by_header(target: str) -> BaseResponse:
    name = request.environ.get(USER, "")
    problem, status = NOT_KNOWN, 403
    try:
        if is_for_a_person(name):
            _sign_in(name, portal().pool.sign_in(name).groups)
            return redirect(target)
        reason = "not the name of a person's account" if name else "no front end named the user"
    except (SignInExpired, HostRefused) as error:
        reason = error.detail or error.message
    except HostError as error:
        problem, status, reason = error.message, error.http_status, error.detail
    _note_failure(name, reason)
    page = render_template("signin/header.html", next=target, problem=problem)
    return make_response(page, status)


def _note_failure(name: str, reason: str) -> None:
    g.sign_in_failed = True
    note("sign-in-failed", name, reason=reason)


def _too_many(name: str, wait: float) -> Response:
    minutes = math.ceil(wait / 60)
    unit = "minute" if minutes == 1 else "minutes"
    response = _again(name, f"Too many failed attempts. Wait {minutes} {unit} and try again.", 429)
    response.headers["Retry-After"] = str(math.ceil(wait))
    return response


def _again(name: str, problem: str, status: int) -> Response:
    """The sign-in page again, with the user name that was typed."""
    target = safe_next(request.form.get("next"))
    return _password_page(target, status, name=name, wrong=problem)


def _password_page(target: str, status: int = 200, **given: str) -> Response:
    """The sign-in page. Its policy also holds for the redirects after the form is sent, which go on
    to a service if the user came from there."""
    response = make_response(render_template("signin/password.html", next=target, **given), status)
    session_id, origins = session_of(target), portal().origins
    if session_id is not None and origins is not None:
        policy = policy_with_form_to(origins.of(session_id))
        response.headers["Content-Security-Policy"] = policy
    return response


def _sign_in(user: str, groups: frozenset[str]) -> None:
    """Sign in. An earlier sign-in of this browser ends, for services too."""
    earlier = current_user.id if current_user.is_authenticated else None
    session.clear()
    login_user(portal().sign_ins.add(user, groups, request.remote_addr or ""))
    note("sign-in", user)
    if earlier is not None:  # after `add`, so that connections of the same user stay open
        portal().sign_ins.remove(earlier, "signed in again")
