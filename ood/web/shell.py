"""The Shell: a terminal in the browser, on the portal host, a back-end, or the host of a job."""

from __future__ import annotations

from flask import Blueprint, Flask, render_template

from ood.config import Cluster
from ood.errors import NotFound
from ood.web.here import groups, portal
from ood.web.node import Rest
from ood.web.paths import PORTAL, asked_path, shell_address

bp = Blueprint("shell", __name__, url_prefix="/shell")


def init_app(app: Flask) -> None:
    app.url_map.converters["rest"] = Rest
    app.register_blueprint(bp)
    app.jinja_env.globals.update(shell_address=shell_address, shell_hosts=shell_hosts)


def shell_hosts() -> dict[str, str]:
    """The hosts that the user may open a shell on, and what to call them, by their names in
    addresses; none where the site has turned shells off."""
    if not portal().settings.shell.enabled:
        return {}
    clusters = portal().clusters_for(groups()).values()
    own = {cluster.id: cluster.label for cluster in clusters if has_shell(cluster)}
    return {PORTAL: "Portal host"} | own


def has_shell(cluster: Cluster) -> bool:
    """Whether there is a host of this back-end to log in to."""
    is_here = cluster.job is not None and cluster.job.adapter == "local"
    return is_here or cluster.login_host is not None


@bp.before_request
def _demand_enabled() -> None:
    if not portal().settings.shell.enabled:
        raise NotFound("There are no shells on this portal.")


@bp.get("")
@bp.get("/")
def index() -> str:
    """The hosts to open a shell on."""
    return render_template("shell/index.html", hosts=shell_hosts())


@bp.get("/<host>")
def home(host: str) -> str:
    return _page(host, "")


@bp.get("/<host>/", defaults={"path": ""}, merge_slashes=False)
@bp.get("/<host>/<rest:path>", merge_slashes=False)
def show(host: str, path: str) -> str:  # noqa: ARG001 - Werkzeug has lost some bytes of it
    return _page(host, asked_path())


def _page(host: str, path: str) -> str:
    hosts = shell_hosts()
    if host not in hosts:
        raise NotFound("There is no such host.")
    return render_template("shell/show.html", host=host, title=hosts[host], path=path)
