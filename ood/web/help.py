"""Getting started and troubleshooting, for this site's own apps and back-ends."""

from __future__ import annotations

import logging

from flask import Blueprint, Flask, render_template

from ood.apps.definition import AppDefinition
from ood.errors import HostError
from ood.schedulers.limits import Limits
from ood.web.apps import limits_of
from ood.web.current import groups, portal

log = logging.getLogger(__name__)
bp = Blueprint("help", __name__, url_prefix="/help")

EXAMPLE_IMAGE = "hello-tre"


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.get("")
def index() -> str:
    """Getting started: the way through the site's own apps, on the user's back-ends."""
    clusters = portal().job_clusters(groups())
    limits = dict.fromkeys(clusters, Limits())
    try:
        limits = limits_of(clusters)
    except HostError as error:  # help is wanted most when something does not work
        log.warning("limits for the help page: %s %s", error.message, error.detail)
    apps = portal().apps_for(groups())
    roots = portal().settings.files.roots
    return render_template(
        "help/index.html",
        apps=apps,
        clusters=[(cluster, limits[id]) for id, cluster in clusters.items()],
        elsewhere=[cluster for cluster in clusters.values() if cluster.home == "unsynched"],
        shows_home=not roots or "~" in roots,
        example=_starts_with_the_example(apps.get("container_app")),
    )


@bp.get("/troubleshooting")
def troubleshooting() -> str:
    """What can go wrong and what to do, with a part for each `HelpTopic`."""
    return render_template("help/troubleshooting.html")


def _starts_with_the_example(app: AppDefinition | None) -> bool:
    """Whether Run Container's form comes filled in with the image that the page tells about."""
    fields = {field.name: field for field in (app.fields if app else ())}
    return "container_url" in fields and EXAMPLE_IMAGE in fields["container_url"].value
