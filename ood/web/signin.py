"""Signing in and out."""

from __future__ import annotations

import logging
import re

from flask import Blueprint, Flask, redirect, render_template, request, session, url_for
from flask_login import current_user, login_user, logout_user
from pydantic import SecretStr
from werkzeug.wrappers import Response

from ood.errors import HostError, SignInExpired
from ood.web.here import portal

bp = Blueprint("signin", __name__)
log = logging.getLogger(__name__)

USER_NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
WRONG = "The user name or the password is not right."


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.get("/login")
def login() -> str | Response | tuple[str, int]:
    """The sign-in page; with `auth: token`, the address printed in the terminal leads here."""
    target = safe_next(request.args.get("next"))
    if current_user.is_authenticated:
        return redirect(target)
    if portal().settings.auth == "ssh":
        return render_template("signin/password.html", next=target)
    given = request.args.get("token")
    if given is not None and portal().token.use(given):
        _sign_in(portal().pool.portal_host("").user)
        return redirect(target)
    used = given is not None
    return render_template("signin/token.html", used=used), 401 if used else 200


@bp.post("/login")
def check_password() -> Response | tuple[str, int]:
    """Check a user name and password by opening the user's own SSH connection."""
    if portal().settings.auth != "ssh":
        return redirect(url_for("signin.login"))
    name = request.form.get("username", "").strip()
    target = safe_next(request.form.get("next"))
    try:
        if not USER_NAME.fullmatch(name) or name == "root":
            raise SignInExpired(WRONG)
        portal().pool.sign_in(name, SecretStr(request.form.get("password", "")))
    except SignInExpired:
        log.info("sign-in refused for %r from %s", name[:32], request.remote_addr)
        return render_template("signin/password.html", next=target, name=name, wrong=WRONG), 401
    except HostError as error:
        log.warning("sign-in of %r: %s %s", name[:32], error, error.detail)
        shown = render_template("signin/password.html", next=target, name=name, wrong=error.message)
        return shown, error.http_status
    _sign_in(name)
    return redirect(target, 303)


@bp.post("/login/new-address")
def new_address() -> Response:
    """Print another one-time address in the terminal, for a browser that lost its session."""
    if portal().settings.auth == "token":
        print_address(request.host_url)
    return redirect(url_for("signin.login"), 303)


@bp.post("/logout")
def logout() -> Response:
    if current_user.is_authenticated:
        portal().sign_ins.remove(current_user.id)
        logout_user()
    session.clear()
    return redirect(url_for("signin.login"), 303)


def print_address(base: str) -> None:
    """Print the one sign-in address on standard output, which is the terminal's."""
    print(f"Open this address: {base}login?token={portal().token.new()}", flush=True)


def safe_next(given: str | None) -> str:
    """`given` if it is a path of this portal, else the home page.

    Browsers read `//host` and `/\\host` as another host's address, and drop tabs and line ends.
    """
    home = url_for("home.index")
    if not given or not given.startswith("/") or given.startswith(("//", "/\\")):
        return home
    if any(ord(character) < 0x20 for character in given):
        return home
    return given


def _sign_in(user: str) -> None:
    session.clear()
    login_user(portal().sign_ins.add(user))
    log.info("%s signed in from %s", user, request.remote_addr)
