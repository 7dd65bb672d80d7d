"""`flask --app app check` lists all mistakes in portal.yml, clusters.d and app_defs.

It also finds mistakes that only a launch would reveal, and warns about keys and files that the
portal ignores although the site may rely on them.
"""

import contextlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from pydantic import AliasPath

from ood import config
from ood.apps.definition import (
    CLUSTER_FIELD,
    AppDefinition,
    BatchConnectOptions,
    Manifest,
    ServiceOptions,
    app_directories,
    load_apps,
)
from ood.apps.directives import without_effect
from ood.apps.fields import KNOWN_FIELDS, Field
from ood.apps.names_check import Known
from ood.apps.templates import check_template
from ood.errors import ConfigError
from ood.hosts.known_hosts import SSH_PORT, HostKeyPolicy, read_lines
from ood.proxy.origins import ServiceOrigins
from ood.sessions.card import Card
from ood.sessions.record import SessionRecord
from ood.yaml_files import Keys, given_twice, mistake_at, read_yaml

SIMILARITY = 0.7  # similarity, from 0 to 1, from which a name counts as a misspelling of another
IGNORED_KEYS = {
    "manifest": {"role", "url", "new_window", "caption", "layout"},
    "form": {"form", "attributes", CLUSTER_FIELD, "title", "description", "cacheable", "submit"},
    "attribute": {
        "checked_value",
        "unchecked_value",
        "placeholder",
        "readonly",
        "id",
        "skip_label",
    },
    "v2.metadata": {"url", "priority", "private"},
    "v2.login": {"default"},
    "v2.job": {"host", "lib", "libdir", "version", "site_timeout", "copy_environment"},
    "v2.batch_connect": {"vnc", "vnc_container", "wayvnc", "ssh_allow"},
}
"""Keys that Open OnDemand knows and this portal ignores."""
IGNORED_FILES = ("*.erb", "view.html*.j2", "info.html*", "form.js")
PORTAL_KEYS = "v2.custom.portal"
BASIC_KEYS = "v2.batch_connect.basic"


@click.command("check")
@click.argument("portal_yml", type=click.Path(path_type=Path), required=False)
def check(portal_yml: Path | None) -> None:
    """List all mistakes in portal.yml, clusters.d and app_defs, with file, line and key.

    PORTAL_YML defaults to $OOD_PORTAL_CONFIG, or else to the embedded configuration. The exit code
    is 1 if there are mistakes. Warnings do not change it.
    """
    path = portal_yml or Path(os.environ.get("OOD_PORTAL_CONFIG", config.EMBEDDED))
    mistakes, warnings = check_all(path)
    for line in mistakes:
        click.echo(line)
    for line in warnings:
        click.echo(f"Warning: {line}")
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        click.echo(f"{count} found in {path} or the files it names.", err=True)
        sys.exit(1)
    click.echo(f"No mistakes found in {path} or the files it names.")


def check_all(path: Path) -> tuple[list[str], list[str]]:
    """The mistakes and the warnings in a portal.yml and the files it names, one line for each."""
    settings, wrong = _settings(path)
    clusters, broken_clusters = config.load_clusters(settings.clusters)
    apps, broken_apps = load_apps(settings.app_defs, settings.form_values)
    wrong += [
        line for error in (*broken_clusters, *broken_apps) for line in error.message.splitlines()
    ]
    warnings = [*_origins(path, settings), *_form_values(path, settings, apps)]
    if settings.known_hosts is not None and settings.known_hosts.is_file():
        warnings += _host_keys(settings.known_hosts, {settings.portal_host}, clusters.values())
    for file in sorted(settings.clusters.glob("*.y*ml")):
        wrong += given_twice(file)
        warnings += _misspelt_in_cluster(file)
    for directory in app_directories(settings.app_defs):
        wrong += _app(directory, apps.get(directory.name))
        warnings += _ignored_in_app(directory)
    for app in apps.values():
        warnings += [*_ignored_in_submit(app), *_directives(app)]
        if clusters and not any(app.runs_on(id) for id, each in clusters.items() if each.job):
            what = "clusters.d has no matching cluster that runs jobs"
            warnings.append(mistake_at(app.directory / "form.yml", what, [CLUSTER_FIELD]))
    return [*dict.fromkeys(wrong)], [*dict.fromkeys(warnings)]


# ---- portal.yml


def _settings(path: Path) -> tuple[config.PortalSettings, list[str]]:
    """The settings, as far as they are valid, and the mistakes in them."""
    try:
        settings = config.load_settings(path)
        wrong = []
    except ConfigError as error:
        wrong = error.message.splitlines()
        settings = _usable_settings(path)
    for key in ("known_hosts", "user_ca", "logo", "motd"):
        file = getattr(settings, key)
        if file is not None and not file.exists():
            wrong.append(mistake_at(path, f"{file} not found", [key]))
    return settings, [*wrong, *given_twice(path)]


def _usable_settings(path: Path) -> config.PortalSettings:
    """The settings of a portal.yml with mistakes, for finding the other files."""
    try:
        found = read_yaml(path)
    except ConfigError:
        found = {}
    clusters, app_defs = found.get("clusters"), found.get("app_defs")
    return config.PortalSettings.model_construct(
        clusters=path.parent / (clusters if isinstance(clusters, str) else "clusters.d"),
        app_defs=path.parent / app_defs if isinstance(app_defs, str) else config.ROOT / "app_defs",
    )


def _origins(path: Path, settings: config.PortalSettings) -> Iterator[str]:
    apps, portal = settings.apps_origin, settings.portal_origin
    if (apps is None) != (portal is None):
        missing = "apps_origin" if apps is None else "portal_origin"
        yield mistake_at(path, "missing: without it, nobody can connect to a service", [missing])
    if apps is not None and not ServiceOrigins(apps).secure:
        what = "without https, browsers do not protect the cookies that give access to services"
        yield mistake_at(path, what, ["apps_origin"])
    if apps is not None and not apps.partition("://")[2].startswith("*."):
        what = "all services share this origin, so one session's pages can reach parts of others."
        what += " Put `*.` before the host name: see docs/admin.md"
        yield mistake_at(path, what, ["apps_origin"])


def _host_keys(
    path: Path, named: set[str | None], clusters: Iterable[config.Cluster]
) -> Iterator[str]:
    """Lines of known_hosts that the portal skips, and hosts without a key."""
    for line in read_lines(path):
        if line.problem:
            yield mistake_at(path, f"this line is skipped: {line.problem}", line=line.number)
    for cluster in clusters:
        named |= {cluster.login_host, cluster.job.submit_host if cluster.job else None}
    for address in sorted(filter(None, named)):
        name, _, port = address.partition(":")
        if not HostKeyPolicy(path, name, int(port or SSH_PORT)).algorithms:
            yield mistake_at(path, f"there is no key for {address}, to which the portal connects")


def _form_values(
    path: Path, settings: config.PortalSettings, apps: Mapping[str, AppDefinition]
) -> Iterator[str]:
    """Warnings about values for unknown apps or fields."""
    known = {directory.name for directory in app_directories(settings.app_defs)}
    for name, values in settings.form_values.items():
        if name not in known:
            yield mistake_at(path, _unknown(name, known, "app"), ["form_values", name])
        elif name in apps:
            app = apps[name]
            names = {field.name for field in (*app.fields, *app.fixed)}
            for key in values.keys() - names:
                yield mistake_at(path, _unknown(key, names, "field"), ["form_values", name, key])


# ---- clusters.d


def _misspelt_in_cluster(path: Path) -> Iterator[str]:
    known: dict[str, set[str]] = {"": {"v2"}}
    for field in config.Cluster.model_fields.values():
        if isinstance(field.validation_alias, AliasPath):
            names = [str(name) for name in field.validation_alias.path]
            for depth in range(1, len(names)):
                known.setdefault(".".join(names[:depth]), set()).add(names[depth])
    known["v2.job"] = {*config.JobSettings.model_fields}
    cluster = _read(path)
    for where, keys in known.items():
        above = where.split(".") if where else []
        found = cluster
        for key in above:
            found = _mapping(found.get(key))
        if where == BASIC_KEYS:
            yield from _without_effect(path, found, above, keys)
        else:
            known_here = keys | IGNORED_KEYS.get(where, set())
            yield from _misspelt(path, found, above, known_here, where == PORTAL_KEYS)
    v2 = _mapping(cluster.get("v2"))
    for above, found in ((["v2"], v2), (["v2", "job"], _mapping(v2.get("job")))):
        for number, acl in enumerate(_list(found.get("acls"))):
            at: Keys = [*above, "acls", number]
            yield from _misspelt(path, _mapping(acl), at, config.Acl.model_fields)
    if _mapping(v2.get("batch_connect")).get("ssh_allow") is False:
        what = "users can still open shells on the nodes of their jobs"
        yield mistake_at(path, what, ["v2", "batch_connect", "ssh_allow"])


# ---- app_defs


def _app(directory: Path, app: AppDefinition | None) -> Iterator[str]:
    """The mistakes that only a launch would reveal. `app` is None if it has other mistakes."""
    form = _read(directory / "form.yml")
    names = {*map(str, _list(form.get("form")))}
    attributes = _mapping(form.get("attributes"))
    secrets = {
        name for name in names if _mapping(attributes.get(name)).get("widget") == "password_field"
    }
    job: dict[str, Collection[str] | None] = {
        "context": names - secrets - {CLUSTER_FIELD},
        "session": {"id", "run_id", "secrets", "service_path", "log"},
        "session.secrets": secrets,
        "app": {*Manifest.model_fields},
        "app.service": {*ServiceOptions.model_fields},
        "cluster": {*config.Cluster.model_fields, "label"},
        "user": None,
    }
    card: Known = {
        "session": {field.name for field in fields(Card)},
        "session.record": {field.name for field in fields(SessionRecord)},
    }
    for template in sorted(directory.rglob("*.j2")):
        yield from check_template(template, card if template.name.endswith(".md.j2") else job)
    for file in ("manifest.yml", "form.yml"):
        yield from given_twice(directory / file)
    for needed in ("form.yml", "submit.yml.j2", "template"):
        if not (directory / needed).exists():
            yield mistake_at(directory / needed, "missing")
    template = directory / "template"
    if template.is_dir() and not [*template.glob("script.sh"), *template.glob("script.sh.j2")]:
        yield mistake_at(template / "script.sh.j2", "missing: this is the script of the job")
    if app is not None and (directory / "submit.yml.j2").exists():
        yield from _submit(app)


def _example(app: AppDefinition) -> dict[str, Any]:
    """Values for rendering submit.yml, with the form's initial values."""
    session = {"id": "0", "run_id": "0", "secrets": {}, "service_path": "/node/0/"}
    context = {field.name: field.example() for field in (*app.fields, *app.fixed)}
    cluster = config.Cluster.model_construct(id="example")
    known = {"app": app.manifest, "context": context, "session": session}
    return {**known, "cluster": cluster, "user": "user"}


def _submit(app: AppDefinition) -> Iterator[str]:
    """The mistakes in submit.yml."""
    try:
        app.script_options(_example(app))
    except ConfigError as error:
        yield from error.message.splitlines()


def _ignored_in_submit(app: AppDefinition) -> Iterator[str]:
    """Warnings about keys of Open OnDemand in submit.yml."""
    path = app.directory / "submit.yml.j2"
    with contextlib.suppress(ConfigError):
        found = app.submit_yml(_example(app))
        yield from _without_effect(path, found, [], {"batch_connect", "script"})
        options = _mapping(found.get("batch_connect"))
        yield from _without_effect(
            path, options, ["batch_connect"], BatchConnectOptions.model_fields
        )


def _ignored_in_app(directory: Path) -> Iterator[str]:
    """Warnings about keys and files that the portal ignores although the site may rely on them."""
    path = directory / "manifest.yml"
    yield from _misspelt(path, _read(path), [], {*Manifest.model_fields} | IGNORED_KEYS["manifest"])
    path = directory / "form.yml"
    form = _read(path)
    yield from _misspelt(path, form, [], IGNORED_KEYS["form"])
    names, attributes = _list(form.get("form")), _mapping(form.get("attributes"))
    bare = {str(name) for name in names if name not in attributes}
    for name, given in attributes.items():
        known = {*Field.model_fields} - {"name"} | IGNORED_KEYS["attribute"]
        yield from _misspelt(path, _mapping(given), ["attributes", str(name)], known)
        if name not in names and (close := get_close_matches(str(name), bare, 1, SIMILARITY)):
            what = f"`form` has no such field. Did you mean `{close[0]}`?"
            yield mistake_at(path, what, ["attributes", str(name)])
    for name in sorted(bare - {*KNOWN_FIELDS}):
        if name.startswith(("auto_", "bc_")):
            what = "this portal does not fill in this field: set its `widget`, or remove it"
            yield mistake_at(path, what, ["form", names.index(name)])
    for file in sorted(path for name in IGNORED_FILES for path in directory.rglob(name)):
        yield mistake_at(file, "this portal does not use this file: see docs/from-open-ondemand.md")


def _directives(app: AppDefinition) -> Iterator[str]:
    names = [CLUSTER_FIELD, *(field.name for field in app.fields)]
    for name, key in without_effect(app.fields, names):
        what = "this directive has no effect: no such directive, or the form has no such field"
        yield mistake_at(app.directory / "form.yml", what, ["attributes", name, key])


def _misspelt(
    path: Path, found: Mapping[Any, Any], above: Keys, known: Iterable[str], all_: bool = False
) -> Iterator[str]:
    """Warnings about keys that look like known ones or, with `all_`, about all unknown keys."""
    names = {*known}
    for key in map(str, found):
        if key not in names and (all_ or get_close_matches(key, names, 1, SIMILARITY)):
            yield mistake_at(path, _unknown(key, names, "key"), [*above, key])


def _without_effect(
    path: Path, found: Mapping[Any, Any], above: Keys, known: Iterable[str]
) -> Iterator[str]:
    """Warnings about all keys except those in `known`."""
    for key in map(str, found):
        if key not in {*known}:
            yield mistake_at(path, "this key has no effect in this portal", [*above, key])


def _unknown(name: str, known: Iterable[str], what: str) -> str:
    close = get_close_matches(name, [*known], 1, SIMILARITY)
    return f"unknown {what}" + (f". Did you mean `{close[0]}`?" if close else "")


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path)
    except ConfigError:
        return {}


def _mapping(found: Any) -> dict[Any, Any]:
    return found if isinstance(found, dict) else {}


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []
