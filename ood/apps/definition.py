"""Reading `app_defs/<app>/`: manifest.yml, form.yml, submit.yml.j2 and the templates of the job."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from stat import S_IXUSR
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator
from pydantic import Field as Setting

from ood.apps.directives import changes, value_if_hidden
from ood.apps.fields import KNOWN_FIELDS, Field, job_options
from ood.apps.templates import check_template, render
from ood.config import Acl, Cluster
from ood.errors import ConfigError, InvalidForm, LaunchFailed
from ood.help_topics import HelpTopic
from ood.schedulers.limits import Limits
from ood.yaml_files import (
    Settings,
    SharedSettings,
    Text,
    mistake_at,
    parse_yaml,
    read_yaml,
    validated,
    without_empty,
)

APP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
CLUSTER_FIELD = "cluster"
SWAP_FILE = ".*.swp"  # of an editor; Open OnDemand leaves it out, too
JobFiles = dict[str, tuple[bytes, int]]
"""Path in the job context directory -> (content, mode). The paths of directories end in `/`."""
ICONS = frozenset({"box", "notebook", "terminal", "chart", "desktop", "file", "jobs"})
"""The icons for apps in static/icons.svg, which has none of Open OnDemand's, as in `fa://desktop`."""
Icon = Annotated[str, BeforeValidator(lambda given: given if given in ICONS else "box")]
ServicePath = Annotated[str, Setting(pattern=r"^([A-Za-z0-9_.~-][A-Za-z0-9_.~/-]*)?$")]


class ServiceOptions(Settings):
    """`service` of manifest.yml, for an app that users connect to.

    The card's button "Connect to `title`" opens `path` on the service's origin. The portal requests
    the path `alive` every few seconds to see whether the service answers. It adds `headers` to each
    request that it passes on, with `{password}` replaced by the password in connection.yml. No
    browser gets that password.
    """

    title: str
    path: ServicePath = ""
    alive: ServicePath = ""
    headers: Mapping[str, str] = {}
    connection_timeout: int = Setting(default=1200, ge=1)
    """Seconds from the start of the job within which the service must answer."""


class Manifest(SharedSettings):
    """manifest.yml, with Open OnDemand's keys, `service`, and `acls` as in cluster files."""

    name: Text
    description: Text = ""
    category: Text = "Apps"
    subcategory: Text = ""
    metadata: Mapping[str, Any] = {}
    """Details such as the app's version. The page All Apps shows them."""
    icon: Icon = "box"
    service: ServiceOptions | None = None
    acls: tuple[Acl, ...] = ()


class BatchConnectOptions(SharedSettings):
    """The `batch_connect` section of submit.yml."""

    template: Literal["basic"] = "basic"


class ScriptOptions(Settings):
    """The `script` section of submit.yml, with Open OnDemand's keys plus `memory_gib`."""

    job_name: Text | None = None
    output_path: str = "output.log"
    """Relative to the job context directory."""
    wall_time: int | None = Setting(default=None, ge=60)  # seconds
    queue_name: Text | None = None
    cores: int = Setting(default=1, ge=1)
    memory_gib: int | None = Setting(default=None, ge=1)
    gpus_per_node: int = Setting(default=0, ge=0)
    accounting_id: Text | None = None
    email_on_started: bool = False
    native: list[Text] = Setting(default=[])


@dataclass(frozen=True)
class AppDefinition:
    """One app. The form shows `fields` in this order. The app or the site sets the values of the
    `fixed` fields. Neither contains the cluster field, as its options depend on the user."""

    name: str
    directory: Path
    manifest: Manifest
    fields: tuple[Field, ...]
    fixed: tuple[Field, ...] = ()
    clusters: tuple[str, ...] = ("*",)
    """Patterns for the IDs of the clusters that the app runs on."""

    def runs_on(self, cluster: str) -> bool:
        return any(fnmatchcase(cluster, pattern) for pattern in self.clusters)

    @property
    def secrets(self) -> tuple[Field, ...]:
        return tuple(field for field in (*self.fields, *self.fixed) if field.is_secret)

    @property
    def token(self) -> str:
        return f"sys/{self.name}"

    def read_form(self, typed: Mapping[str, str]) -> dict[str, Any]:
        """The values of all fields by name. Raises `InvalidForm` with all mistakes."""
        values: dict[str, Any] = {}
        mistakes: dict[str, str] = {}
        changed = changes(self.fields, typed)
        for field in self.fields:
            change, text = changed[field.name], typed.get(field.name, "")
            try:
                value = value_if_hidden(field) if change.hide else change.applied(field).read(text)
                values[field.name] = value
            except ValueError as mistake:
                mistakes[field.name] = str(mistake)
        if mistakes:
            raise InvalidForm(mistakes)
        return values | {field.name: field.read(field.value) for field in self.fixed}

    def submit_yml(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Render submit.yml.j2. Raises `ConfigError`."""
        path = self.directory / "submit.yml.j2"
        return cast(dict[str, Any], without_empty(parse_yaml(render(path, **values), path)))

    def script_options(self, values: Mapping[str, Any]) -> ScriptOptions:
        """What submit.yml.j2 requests. Raises `ConfigError` for mistakes in it."""
        path, found = self.directory / "submit.yml.j2", self.submit_yml(values)
        validated(BatchConnectOptions, found.get("batch_connect", {}), path, ["batch_connect"])
        script = found.get("script", {})
        if isinstance(script, dict):
            script = job_options(values.get("context") or {}) | script
        return validated(ScriptOptions, script, path, ["script"])

    def job_files(self, values: Mapping[str, Any]) -> JobFiles:
        """Render `template/`. Raises `ConfigError`."""
        root = self.directory / "template"
        if not root.is_dir():
            raise ConfigError(f"{root}: directory not found")
        found: JobFiles = {}
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if path.is_dir():
                found[f"{name}/"] = b"", 0o700
            elif not fnmatchcase(path.name, SWAP_FILE):
                is_template = path.suffix == ".j2"
                data = render(path, **values).encode() if is_template else path.read_bytes()
                found[name.removesuffix(".j2")] = data, 0o600 | path.stat().st_mode & S_IXUSR
        return found

    def markdown(self, name: str, values: Mapping[str, Any]) -> str:
        """Render `info.md.j2` or `completed.md.j2`; empty if the app does not have it."""
        path = self.directory / f"{name}.md.j2"
        return render(path, **values) if path.exists() else ""


def load_apps(
    directory: Path, site_values: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, AppDefinition], list[ConfigError]]:
    """Read all apps. Returns the valid ones by name, and the mistakes in the others."""
    apps: dict[str, AppDefinition] = {}
    problems: list[ConfigError] = []
    if not directory.is_dir():
        problems.append(ConfigError(f"{directory}: directory not found"))
    for path in app_directories(directory):
        found = _load(path, site_values.get(path.name, {}))
        if isinstance(found, AppDefinition):
            apps[path.name] = found
        else:
            problems += found
    return apps, problems


def app_directories(directory: Path) -> list[Path]:
    """The subdirectories that have a manifest."""
    return [
        path
        for path in sorted(directory.glob("*"))
        if APP_NAME.fullmatch(path.name) and (path / "manifest.yml").exists()
    ]


def _load(directory: Path, site_values: Mapping[str, Any]) -> AppDefinition | list[ConfigError]:
    """One app, or all mistakes in it."""
    problems: list[ConfigError] = []
    manifest, path = None, directory / "manifest.yml"
    try:
        manifest = validated(Manifest, without_empty(read_yaml(path)), path)
    except ConfigError as error:
        problems.append(error)
    fields: list[Field] = []
    path = directory / "form.yml"
    try:
        names, attributes, clusters = _form(path)
    except ConfigError as error:
        problems.append(error)
        names, attributes, clusters = [], {}, ()
    for name in names:
        try:
            if name != CLUSTER_FIELD:
                fields.append(_field(path, name, attributes.get(name), site_values))
        except ConfigError as error:
            problems.append(error)
    for template in sorted(directory.rglob("*.j2")):
        problems += map(ConfigError, check_template(template))
    for path in sorted((directory / "template").rglob("*")):
        if not path.is_file() and (path.is_symlink() or not path.is_dir()):
            what = "only files, directories and links to files can be copied"
            problems.append(ConfigError(mistake_at(path, what)))
    if manifest is None or problems:
        return problems
    fixed = tuple(field for field in fields if field.fixed)
    shown = tuple(field for field in fields if not field.fixed)
    return AppDefinition(directory.name, directory, manifest, shown, fixed, clusters)


def _form(path: Path) -> tuple[list[str], dict[str, Any], tuple[str, ...]]:
    """The names of a form's fields in order, their attributes, and patterns of cluster IDs."""
    form = without_empty(read_yaml(path))
    names, attributes = form.get("form") or [], form.get("attributes") or {}
    if not isinstance(names, list):
        raise ConfigError(mistake_at(path, "expected a list of names", ["form"]))
    if not isinstance(attributes, dict):
        raise ConfigError(mistake_at(path, "expected a key for each field", ["attributes"]))
    clusters = form.get("cluster") or "*"
    if not isinstance(clusters, str | list):
        raise ConfigError(mistake_at(path, "expected a name or a list of names", ["cluster"]))
    clusters = [clusters] if isinstance(clusters, str) else clusters
    return [str(name) for name in names], attributes, tuple(map(str, clusters))


def _field(path: Path, name: str, given: Any, site_values: Mapping[str, Any]) -> Field:
    if isinstance(given, str | int | float):  # Open OnDemand's notation for a fixed value
        given = {"value": given, "fixed": True}
    where = ["attributes", name]
    if not isinstance(given, dict | None):
        raise ConfigError(mistake_at(path, "expected keys such as `label`", where))
    keys = {"label": name.replace("_", " ").capitalize(), **KNOWN_FIELDS.get(name, {})}
    keys |= {**(given or {}), "name": name}
    if name in site_values:
        keys["value"] = site_values[name]
    field = validated(Field, keys, path, where)
    try:
        if field.fixed:
            field.read(field.value)
    except ValueError as error:
        what = f"{field.value!r}: {error}"
        raise ConfigError(mistake_at(path, what, [*where, "value"])) from None
    return field


def check_limits(options: ScriptOptions, cluster: Cluster, limits: Limits) -> None:
    """Raise `InvalidForm` or `LaunchFailed` if a job requests more than its back-end allows."""
    mistakes: dict[str, str] = {}
    if limits.cores is not None and options.cores > limits.cores:
        mistakes["cores"] = f"{cluster.label} allows at most {limits.cores}."
    if limits.memory_gib is not None and (options.memory_gib or 0) > limits.memory_gib:
        mistakes["memory"] = f"{cluster.label} allows at most {limits.memory_gib} GiB."
    if limits.gpus is not None and options.gpus_per_node > limits.gpus:
        no_gpu = f"{cluster.label} has no GPU. Switch this off, or choose another back-end."
        mistakes["gpu"] = (
            f"{cluster.label} allows at most {limits.gpus}." if limits.gpus else no_gpu
        )
    if mistakes:
        raise InvalidForm(mistakes)
    if limits.seconds is not None and (options.wall_time or 0) > limits.seconds:
        raise LaunchFailed(
            f"{cluster.label} allows at most {limits.seconds // 60} minutes for one "
            f"job, but this job requests {(options.wall_time or 0) // 60}. Request less time.",
            topic=HelpTopic.TOO_MUCH,
        )
