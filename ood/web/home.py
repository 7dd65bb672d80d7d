"""Home, and whether the portal is alive."""

from __future__ import annotations

from flask import Blueprint, Flask, render_template

from ood.web.here import portal

bp = Blueprint("home", __name__)


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.get("/")
def index() -> str:
    return render_template("home/index.html", apps=portal().apps.values())


@bp.get("/healthz")
def health() -> tuple[str, dict[str, str]]:
    return "ok\n", {"Content-Type": "text/plain"}
