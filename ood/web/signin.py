"""Signing in and out."""

import math
import time

from flask import Blueprint, Response, g, redirect, render_template, request, session, url_for
from flask_login import current_user, login_user, logout_user
from pydantic import SecretStr
from werkzeug.wrappers import Response as BaseResponse

from ood.auth.names import is_for_a_person, is_possible
from ood.errors import HostError, HostRefused, SignInExpired
from ood.hosts.pool import account_of
from ood.proxy.origins import session_of
from ood.web.current import note, portal
from ood.web.filters import duration
from ood.web.front_end import USER
from ood.web.security import policy_with

bp = Blueprint("signin", __name__)

WRONG = "The user name or password is wrong. Try again."
WRONG_FORM = (
    "The portal does not accept user names of this form. Enter the name that you use with ssh. If "
    "that is the name, ask your administrator for another one."
)
NOT_KNOWN = "Your account cannot use this portal. Ask your administrator for access."
NOBODY = "no-such-account"
"""Replaces names that the portal itself refuses, so that refusing them takes as long as others."""
REFUSAL_SECONDS = 2.0  # at least, as with PAM, because sshd refuses some names at once


@bp.get("/login")
def login() -> BaseResponse:
    """The sign-in page. With `auth: token`, the terminal shows this address with a token. With
    `auth: header`, a user whom the front end names is signed in at once."""
    target = safe_next(request.args.get("next"))
    if current_user.is_authenticated:
        return redirect(target)
    settings = portal().settings
    if settings.auth == "ssh":
        return _password_page(target)
    if settings.auth == "header":
        if "signed_out" in request.args:
            return Response(render_template("signin/header.html", next=target))
        return _sign_in_by_header(target)
    given = request.args.get("token")
    if given is None:
        return Response(render_template("signin/token.html", used=False))
    if portal().token.use(given):
        host = portal().pool.portal_host("")
        _sign_in(host.user, account_of(host).groups)
        return redirect(target)
    _note_failure("", "unknown token")
    return Response(render_template("signin/token.html", used=True), 401)


@bp.post("/login")
def check_password() -> BaseResponse:
    """Check a user name and password by opening the user's own SSH connection."""
    if portal().settings.auth != "ssh":
        return redirect(url_for("signin.login"))
    name = request.form.get("username", "").strip()
    password = SecretStr(request.form.get("password", ""))
    # Other names are not logged: somebody may have typed a password into the wrong field.
    known = name if is_for_a_person(name) else ""
    counted, address = name[:64], request.remote_addr or ""
    wait = portal().attempts.begin(counted, address)
    if wait:
        _note_failure(known, "too many attempts")
        return _too_many(name, wait)
    if name and not is_possible(name):
        _note_failure("", "a user name of a form that the portal does not accept")
        return _again(name, WRONG_FORM, 401)
    begun = time.monotonic()
    try:
        account = portal().pool.sign_in(known or NOBODY, password)
    except SignInExpired as error:
        _note_failure(known, error.detail or error.message)
        time.sleep(max(0.0, REFUSAL_SECONDS - (time.monotonic() - begun)))
        return _again(name, WRONG, 401)
    except HostError as error:
        portal().attempts.did_not_fail(counted, address, forgiven=False)
        _note_failure(known, f"{error.message} {error.detail}")
        return _again(name, error.message, error.http_status)
    portal().attempts.did_not_fail(counted, address, forgiven=True)
    _sign_in(account.name, account.groups)
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
    by_header = portal().settings.auth == "header"  # which would sign the user in again at once
    return redirect(url_for("signin.login", signed_out="1" if by_header else None), 303)


def print_address(base: str) -> None:
    """Print the sign-in address on standard output, which is the terminal."""
    print(f"Open this address: {base}login?token={portal().token.new()}", flush=True)


def safe_next(given: str | None) -> str:
    """`given` if it is a path on this portal, otherwise the home page. To browsers, `//host` and
    `/\\host` are addresses of another host, and they drop tabs and newlines."""
    given = given or ""
    if given.startswith("/") and not given.startswith(("//", "/\\")) and min(given) >= " ":
        return given
    return url_for("home.index")


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
    return Response(page, status)


def _note_failure(name: str, reason: str) -> None:
    g.sign_in_failed = True
    note("sign-in-failed", name, reason=reason)


def _too_many(name: str, wait: float) -> Response:
    delay = duration(math.ceil(wait))
    response = _again(name, f"Too many failed attempts. Wait {delay} and try again.", 429)
    response.headers["Retry-After"] = str(math.ceil(wait))
    return response


def _again(name: str, problem: str, status: int) -> Response:
    """The sign-in page again, with the user name that was typed."""
    target = safe_next(request.form.get("next"))
    return _password_page(target, status, name=name, wrong=problem)


def _password_page(target: str, status: int = 200, **given: str) -> Response:
    """The sign-in page. Its policy also applies to the redirects after the form is sent, which go
    to a service if the user came from there."""
    response = Response(render_template("signin/password.html", next=target, **given), status)
    session_id, origins = session_of(target), portal().origins
    if session_id is not None and origins is not None:
        policy = policy_with("form-action", origins.of(session_id))
        response.headers["Content-Security-Policy"] = policy
    return response


def _sign_in(user: str, groups: frozenset[str]) -> None:
    """Sign in, and end an earlier sign-in of this browser, for services too."""
    earlier = current_user.id if current_user.is_authenticated else None
    session.clear()
    login_user(portal().sign_ins.add(user, groups, request.remote_addr or ""))
    note("sign-in", user)
    if earlier is not None:  # after `add`, so that connections of the same user stay open
        portal().sign_ins.remove(earlier, "signed in again")
