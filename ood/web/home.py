"""Home, and whether the portal is alive."""

from __future__ import annotations

from flask import Blueprint, Flask, render_template

from ood.web.here import groups, portal

bp = Blueprint("home", __name__)


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.get("/")
def index() -> str:
    return render_template("home/index.html", apps=portal().apps_for(groups()).values())


@bp.get("/healthz")
def health() -> tuple[str, int, dict[str, str]]:
    """For the site's monitoring: 503 while the audit log cannot be written."""
    if portal().audit.broken:
        return "the audit log cannot be written\n", 503, {"Content-Type": "text/plain"}
    return "ok\n", 200, {"Content-Type": "text/plain"}
