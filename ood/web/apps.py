"""The page of all apps, and the forms that launch them."""

import logging
from collections.abc import Iterable, Mapping

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from ood.apps.definition import CLUSTER_FIELD, AppDefinition
from ood.apps.directives import changes, limit_directives
from ood.apps.fields import CHECKED
from ood.config import Cluster
from ood.errors import InvalidForm, NotFound, PortalError, SignInExpired
from ood.schedulers.limits import Limits
from ood.sessions.launch import cluster_of, launch, remember_form
from ood.web.current import board, groups, note, portal, user

log = logging.getLogger(__name__)
bp = Blueprint("apps", __name__, url_prefix="/apps")

TYPE_AGAIN = "Enter this again. It is never saved."


@bp.get("")
def index() -> str:
    clusters = portal().job_clusters(groups())
    limits = limits_by_cluster(clusters)
    shown = [(cluster, limits[id]) for id, cluster in clusters.items()]
    return render_template("apps/index.html", clusters=shown)


@bp.get("/<name>")
def form(name: str) -> str:
    """The form, filled in with the values of a past session (`?from=`) or of the last launch."""
    app = find_app(name)
    source = request.args.get("from")
    if source:
        files = board().portal_files(source)
        known, again = files.typed, files.facts.withheld
    else:
        known, again = board().store.last_values(app.token), ()
    values = {field.name: field.value for field in app.fields}
    values |= {name: value for name, value in known.items() if name in (*values, CLUSTER_FIELD)}
    return _page(app, values, dict.fromkeys(again, TYPE_AGAIN), None)


@bp.post("/<name>")
def launch_app(name: str) -> Response | tuple[str, int]:
    """Launch the app. If that fails, show the form with all that was typed except secrets."""
    app = find_app(name)
    typed = read_typed(app, request.form)
    try:
        start(app, typed)
        remember_form(board(), app, typed)
        return redirect(url_for("sessions.index"), 303)
    except SignInExpired:
        raise
    except PortalError as error:
        said = f"{error.message} {error.detail}"
        log.warning("could not launch %s for %s: %s", name, user(), said)
        secrets = (field.name for field in app.fields if field.is_secret and typed.get(field.name))
        mistakes = dict.fromkeys(secrets, TYPE_AGAIN)
        if isinstance(error, InvalidForm):
            mistakes |= error.fields
        return _page(app, typed, mistakes, error), error.http_status


def find_app(name: str) -> AppDefinition:
    """An app that the user may launch. Raises `NotFound` for all others."""
    try:
        return portal().apps_for(groups())[name]
    except KeyError:
        raise NotFound("App not found.") from None


def clusters_for(app: AppDefinition) -> dict[str, Cluster]:
    """The clusters on which the user may launch an app."""
    found = portal().job_clusters(groups())
    return {id: cluster for id, cluster in found.items() if app.runs_on(id)}


def start(app: AppDefinition, typed: Mapping[str, str]) -> None:
    """Launch an app and record it in the audit log. Raises what `launch` raises."""
    cluster = cluster_of(clusters_for(app), typed)
    session_id = launch(board(), app, cluster, typed)
    note("launch", user(), host=cluster.id, object=session_id, app=app.name)


def limits_by_cluster(clusters: Iterable[str]) -> dict[str, Limits]:
    """The limits of the user's jobs on these clusters. Queries all clusters at once."""
    monitors = {id: board().monitors[id] for id in clusters}
    for monitor in monitors.values():
        monitor.start_limits()
    return {id: monitor.limits() for id, monitor in monitors.items()}


def read_typed(app: AppDefinition, given: Mapping[str, str]) -> dict[str, str]:
    """The values that were typed into the app's own fields."""
    names = [CLUSTER_FIELD, *(field.name for field in app.fields)]
    # Browsers send line ends in text areas as CR LF.
    typed = {name: given.get(name, "").replace("\r\n", "\n") for name in names}
    for field in app.fields:
        if field.widget == "check_box":
            typed[field.name] = CHECKED if given.get(field.name) else "0"
    changed = changes(app.fields, typed)
    for field in app.fields:
        # The browser does not send hidden fields. Keep their values for the next form.
        if changed[field.name].hide and not field.is_secret:
            typed[field.name] = field.text_if_hidden
    return typed


def _page(
    app: AppDefinition,
    values: Mapping[str, str],
    mistakes: dict[str, str],
    problem: PortalError | None,
) -> str:
    clusters = clusters_for(app)
    limits = {
        id: {field.name: limit_directives(field, its) for field in app.fields}
        for id, its in limits_by_cluster(clusters).items()
    }
    chosen = values.get(CLUSTER_FIELD)
    if chosen not in clusters:  # the browser then shows the first option
        chosen = next(iter(clusters), "")
    return render_template(
        "apps/form.html",
        app=app,
        values=values,
        mistakes=mistakes,
        problem=problem,
        clusters=clusters.values(),
        limits=limits,
        chosen=chosen,
        changed=changes(app.fields, {**values, CLUSTER_FIELD: chosen}),
    )
