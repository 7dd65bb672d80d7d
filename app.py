"""The WSGI application, which `gunicorn app:app` and `flask --app app run` start."""

import logging
import secrets

import click
from flask import Flask
from flask.cli import FlaskGroup
from flask_wtf.csrf import CSRFProtect
from htmx_flask import Htmx

from ood.check import check
from ood.config import PortalSettings, load_settings
from ood.doctor import doctor
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
from ood.web.shares import Shares


def create_app(settings: PortalSettings | None = None) -> Flask:
    """Return the portal as a WSGI application. Raises `ConfigError` for a broken portal.yml."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Paramiko logs failures that it also raises, and the portal handles those.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    settings = settings or load_settings()
    app = Flask(__name__)
    secure = settings.auth != "token" and settings.secure_cookies
    app.config.update(
        # Sign-ins are kept in memory, so the key is not needed after the process ends.
        SECRET_KEY=secrets.token_bytes(32),
        # Browsers accept a `__Host-` cookie only over TLS and only from the host itself.
        SESSION_COOKIE_NAME="__Host-ood_portal" if secure else "ood_portal",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=secure,
        WTF_CSRF_TIME_LIMIT=None,  # a form is valid for as long as its user is signed in
        WTF_CSRF_SSL_STRICT=False,  # not all browsers send Referer; security.py checks Origin
        MAX_CONTENT_LENGTH=1024 * 1024,
        MAX_FORM_MEMORY_SIZE=1024 * 1024,
    )
    app.extensions["portal"] = Portal(settings)
    app.url_map.converters["rest"] = Rest
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    security.init_app(app)  # before CSRFProtect, which reads the whole form of any sender
    csrf = CSRFProtect(app)
    csrf.exempt(node.bp)  # services check the requests that the proxy passes on
    csrf.exempt(uploads.bp)  # uploads check the token before they read the body
    Htmx(app)
    for module in (errors, filters, theme, menus, sessions):
        module.init_app(app)
    file_manager = (pages, uploads, archives, copies)
    others = (theme, signin, home, apps, sessions, jobs, shell, help, entering, node)
    for module in (*file_manager, *others):
        app.register_blueprint(module.bp)
    shares = Shares(app.wsgi_app, app.extensions["portal"].request_quota)
    app.wsgi_app = FrontEnd(shares, settings)  # type: ignore[method-assign]
    return app


def __getattr__(name: str) -> Flask:
    """Make `app` on first use, so that importing this module starts nothing.

    While the `flask` command looks up a subcommand, `app` has only the subcommands: `check` must
    work when portal.yml is broken.
    """
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    context = click.get_current_context(silent=True)
    if context is not None and isinstance(context.command, FlaskGroup):
        app = Flask(__name__)
        app.cli.add_command(check)
        app.cli.add_command(doctor)
    else:
        app = globals()["app"] = create_app()
    return app
