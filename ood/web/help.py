"""The pages Getting started and Troubleshooting."""

import logging

from flask import Blueprint, render_template

from ood.errors import HostError
from ood.schedulers.limits import Limits
from ood.web.apps import limits_by_cluster
from ood.web.current import groups, portal

log = logging.getLogger(__name__)
bp = Blueprint("help", __name__, url_prefix="/help")

EXAMPLE_IMAGE = "hello-tre"  # the image that Getting started runs


@bp.get("")
def index() -> str:
    """Getting started with the apps and back-ends that the user may use."""
    clusters = portal().job_clusters(groups())
    limits = dict.fromkeys(clusters, Limits())
    try:
        limits = limits_by_cluster(clusters)
    except HostError as error:  # this page must work even when hosts fail
        log.warning("could not get the limits for Help: %s %s", error.message, error.detail)
    apps = portal().apps_for(groups())
    fields = apps["container_app"].fields if "container_app" in apps else ()
    images = [field.value for field in fields if field.name == "container_url"]
    roots = portal().settings.files.roots
    return render_template(
        "help/index.html",
        apps=apps,
        clusters=[(cluster, limits[id]) for id, cluster in clusters.items()],
        elsewhere=[cluster for cluster in clusters.values() if cluster.home == "unsynched"],
        shows_home=not roots or "~" in roots,
        example=any(EXAMPLE_IMAGE in image for image in images),
    )


@bp.get("/troubleshooting")
def troubleshooting() -> str:
    """Problems and their solutions, with a section for each `HelpTopic`."""
    return render_template("help/troubleshooting.html")
