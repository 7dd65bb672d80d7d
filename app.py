"""Wiring only: `gunicorn app:app`, `flask --app app run` and the tests start here."""

from __future__ import annotations

import logging
import secrets

from flask import Flask
from flask_wtf.csrf import CSRFProtect
from htmx_flask import Htmx

from ood import cli
from ood.config import PortalSettings, load_settings
from ood.portal import Portal
from ood.web import (
    apps,
    entering,
    errors,
    filters,
    help,
    home,
    jobs,
    menus,
    node,
    security,
    sessions,
    shell,
    signin,
    theme,
)
from ood.web.addresses import Rest
from ood.web.files import archives, copies, pages, uploads
from ood.web.front_end import FrontEnd


def create_app(settings: PortalSettings | None = None) -> Flask:
    """Return the portal as a WSGI application. Raises `ConfigError` for a broken portal.yml."""
    settings = settings or load_settings()
    app = Flask(__name__)
    secure = settings.auth != "token" and settings.secure_cookies
    app.config.update(
        # Sign-ins are in memory, so a key that outlives the process would be of no use.
        SECRET_KEY=secrets.token_bytes(32),
        # Browsers take a cookie of the first name from this very host only, and over TLS.
        SESSION_COOKIE_NAME="__Host-ood_portal" if secure else "ood_portal",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=secure,
        WTF_CSRF_TIME_LIMIT=None,  # a form may stay open as long as its user is signed in
        WTF_CSRF_SSL_STRICT=False,  # not all browsers send Referer; Origin is looked at
        MAX_CONTENT_LENGTH=1024 * 1024,
        MAX_FORM_MEMORY_SIZE=1024 * 1024,
    )
    app.extensions["portal"] = Portal(settings)
    app.url_map.converters["rest"] = Rest
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    security.init_app(app)  # first: the CSRF check reads the whole form, of whoever sends it
    csrf = CSRFProtect(app)
    csrf.exempt(node.bp)  # services check the requests to them
    csrf.exempt(uploads.bp)  # they check it themselves, before the body has come
    Htmx(app)
    for room in (
        errors,
        filters,
        theme,
        menus,
        signin,
        home,
        apps,
        sessions,
        jobs,
        pages,
        shell,
        help,
        uploads,
        archives,
        copies,
        entering,
        node,
    ):
        room.init_app(app)
    app.cli.add_command(cli.check)
    app.wsgi_app = FrontEnd(app.wsgi_app, settings)  # type: ignore[method-assign]
    return app


def create_checker() -> Flask:
    """All that `flask --app app check` needs: what it looks for may prevent a portal."""
    app = Flask(__name__)
    app.cli.add_command(cli.check)
    return app


logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
# What it calls errors, such as a port where nobody listens, is raised to those who asked.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)
app = create_checker() if cli.asked_to_check() else create_app()
