"""Reading `app_defs/<app>/`: manifest.yml, form.yml, submit.yml.j2 and the job's templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic import Field as Setting

from ood.apps.directives import changes, unasked
from ood.apps.fields import Field
from ood.apps.known_fields import KNOWN_FIELDS, job_options
from ood.apps.templates import check_template, render
from ood.config import Acl, Cluster
from ood.errors import ConfigError, InvalidForm, LaunchFailed
from ood.help_topics import HelpTopic
from ood.schedulers.limits import Limits
from ood.yaml_files import mistake, mistakes, read_yaml

APP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
CLUSTER_FIELD = "cluster"
ICONS = frozenset({"box", "notebook", "terminal", "chart", "desktop", "file", "jobs"})
"""Of static/icons.svg, for tiles."""


ServicePath = Annotated[str, Setting(pattern=r"^([A-Za-z0-9_.~-][A-Za-z0-9_.~/-]*)?$")]


def _known_icon(given: Any) -> Any:
    """Open OnDemand's `fa://desktop` and the like are of a set of icons that is not here."""
    return given if given in ICONS else "box"


class ServiceOptions(BaseModel):
    """`service` of manifest.yml: the app runs something to connect to.

    The card's button says "Connect to `title`" and leads to `path` below the service's own address;
    `alive` below it is what the portal asks for every few seconds to see whether it answers.
    `headers` are added to each request that the portal passes on; `{password}` in them stands for
    the one in connection.yml, which no browser ever gets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    path: ServicePath = ""
    alive: ServicePath = ""
    headers: dict[str, str] = {}
    connection_timeout: int = Setting(default=1200, ge=1)
    """Seconds from the start of the job, after which a service that does not answer is given up."""


class Manifest(BaseModel):
    """manifest.yml, with Open OnDemand's keys plus `service` and, as clusters have them, `acls`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    description: str = ""
    category: str = "Apps"
    subcategory: str = ""
    metadata: dict[str, Any] = {}
    """What the site likes to tell of an app, such as its version: shown among all apps."""
    icon: Annotated[str, BeforeValidator(_known_icon)] = "box"
    service: ServiceOptions | None = None
    acls: tuple[Acl, ...] = ()


class ScriptOptions(BaseModel):
    """The `script` section of submit.yml, with Open OnDemand's keys plus `memory_gib`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_name: str | None = None
    output_path: str = "output.log"
    """Relative to the job context directory."""
    wall_time: int | None = Setting(default=None, ge=60)  # seconds
    queue_name: str | None = None
    cores: int = Setting(default=1, ge=1)
    memory_gib: int | None = Setting(default=None, ge=1)
    gpus_per_node: int = Setting(default=0, ge=0)
    accounting_id: str | None = None
    email_on_started: bool = False
    native: list[str] = []


@dataclass(frozen=True)
class AppDefinition:
    """One app. `fields` are in the order of the form, `fixed` are those with a value of the app's
    or site's own; the cluster field, if any, is in neither: its options are the back-ends the user
    may use."""

    name: str
    directory: Path
    manifest: Manifest
    fields: tuple[Field, ...]
    fixed: tuple[Field, ...] = ()
    clusters: tuple[str, ...] = ("*",)
    """Patterns of the back-ends it is for, by id."""

    def runs_on(self, cluster: str) -> bool:
        """Whether it is for this back-end."""
        return any(fnmatchcase(cluster, pattern) for pattern in self.clusters)

    @property
    def secrets(self) -> tuple[Field, ...]:
        return tuple(field for field in (*self.fields, *self.fixed) if field.is_secret)

    @property
    def token(self) -> str:
        return f"sys/{self.name}"

    def read_form(self, typed: Mapping[str, str]) -> dict[str, Any]:
        """Return the values of what was typed, by field. Raises `InvalidForm` with all mistakes."""
        values: dict[str, Any] = {}
        mistakes: dict[str, str] = {}
        changed = changes(self.fields, typed)
        for field in self.fields:
            change = changed[field.name]
            try:
                values[field.name] = (
                    unasked(field)
                    if change.hide
                    else change.applied(field).read(typed.get(field.name, ""))
                )
            except ValueError as mistake:
                mistakes[field.name] = str(mistake)
        if mistakes:
            raise InvalidForm(mistakes)
        return values | {field.name: field.read(field.value) for field in self.fixed}

    def script_options(self, values: Mapping[str, Any]) -> ScriptOptions:
        """Render submit.yml.j2. Raises `ConfigError`: a mistake in it is the app author's."""
        path = self.directory / "submit.yml.j2"
        try:
            found = yaml.safe_load(render(path, **values)) or {}
            script = found.get("script") or {}
            if isinstance(script, dict):
                script = job_options(values.get("context") or {}) | script
            return ScriptOptions.model_validate(script)
        except (yaml.YAMLError, AttributeError) as error:
            raise ConfigError(f"{path}: {error}") from error
        except ValidationError as error:
            lines = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigError("\n".join(f"{path}: script.{line}" for line in lines)) from None

    def job_files(self, values: Mapping[str, Any]) -> dict[str, bytes]:
        """Render `template/`: file name -> content. Raises `ConfigError`."""
        root = self.directory / "template"
        if not root.is_dir():
            raise ConfigError(f"{root}: there is no such directory")
        files: dict[str, bytes] = {}
        for path in sorted(root.iterdir()):
            if path.suffix == ".j2":
                files[path.name.removesuffix(".j2")] = render(path, **values).encode()
            else:
                files[path.name] = path.read_bytes()
        return files

    def markdown(self, name: str, values: Mapping[str, Any]) -> str:
        """Render `info.md.j2` or `completed.md.j2`; empty when the app has none."""
        path = self.directory / f"{name}.md.j2"
        return render(path, **values) if path.exists() else ""


def load_apps(
    directory: Path, site_values: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, AppDefinition], list[ConfigError]]:
    """Read all apps. A broken one is left out, and all that is wrong with it told in the second
    value."""
    apps: dict[str, AppDefinition] = {}
    problems: list[ConfigError] = []
    if not directory.is_dir():
        problems.append(ConfigError(f"{directory}: there is no such directory"))
    for path in app_directories(directory):
        app, wrong = _load(path, site_values.get(path.name, {}))
        problems += wrong
        if not wrong and app is not None:
            apps[path.name] = app
    return apps, problems


def app_directories(directory: Path) -> list[Path]:
    """The directories of apps: those with a manifest."""
    return [
        path
        for path in sorted(directory.glob("*"))
        if APP_NAME.fullmatch(path.name) and (path / "manifest.yml").exists()
    ]


def _load(
    directory: Path, site_values: Mapping[str, Any]
) -> tuple[AppDefinition | None, list[ConfigError]]:
    """One app and all that is wrong with it."""
    problems: list[ConfigError] = []
    manifest = None
    try:
        manifest = _manifest(directory / "manifest.yml")
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
    if manifest is None:
        return None, problems
    fixed = tuple(field for field in fields if field.fixed)
    shown = tuple(field for field in fields if not field.fixed)
    app = AppDefinition(directory.name, directory, manifest, shown, fixed, clusters)
    return app, problems


def _manifest(path: Path) -> Manifest:
    try:
        return Manifest.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigError(mistakes(path, error)) from None


def _form(path: Path) -> tuple[list[str], dict[str, Any], tuple[str, ...]]:
    """The names of a form's fields in their order, the attributes, and the clusters it is for."""
    form = read_yaml(path)
    names, attributes = form.get("form") or [], form.get("attributes") or {}
    if not isinstance(names, list):
        raise ConfigError(mistake(path, "a list of names is expected", ["form"]))
    if not isinstance(attributes, dict):
        what = "a key for each field is expected"
        raise ConfigError(mistake(path, what, ["attributes"]))
    clusters = form.get("cluster") or "*"
    if not isinstance(clusters, str | list):
        raise ConfigError(mistake(path, "a name, or a list of names, is expected", ["cluster"]))
    clusters = [clusters] if isinstance(clusters, str) else clusters
    return [str(name) for name in names], attributes, tuple(map(str, clusters))


def _field(path: Path, name: str, given: Any, site_values: Mapping[str, Any]) -> Field:
    if isinstance(given, str | int | float):  # how Open OnDemand writes a value nobody is asked for
        given = {"value": given, "fixed": True}
    where = ["attributes", name]
    if not isinstance(given, dict | None):
        raise ConfigError(mistake(path, "keys are expected, as in `label: …`", where))
    keys = {"label": name.replace("_", " ").capitalize(), **KNOWN_FIELDS.get(name, {})}
    keys |= {**(given or {}), "name": name}
    if name in site_values:
        keys["value"] = site_values[name]
    try:
        field = Field.model_validate(keys)
    except ValidationError as error:
        raise ConfigError(mistakes(path, error, where)) from None
    try:
        if field.fixed:
            field.read(field.value)
    except ValueError as error:
        raise ConfigError(mistake(path, f"{field.value!r}: {error}", [*where, "value"])) from None
    return field


def check_limits(options: ScriptOptions, cluster: Cluster, limits: Limits) -> None:
    """Raise `InvalidForm` when a job asks for more than its back-end has."""
    mistakes: dict[str, str] = {}
    if limits.cores is not None and options.cores > limits.cores:
        cores = "1 core" if limits.cores == 1 else f"{limits.cores} cores"
        mistakes["cores"] = f"{cluster.label} has {cores}. Ask for no more."
    memory = options.memory_gib
    if limits.memory_gib is not None and memory and memory > limits.memory_gib:
        mistakes["memory"] = (
            f"{cluster.label} has {limits.memory_gib} GiB of memory. Ask for no more."
        )
    if limits.gpus is not None and options.gpus_per_node > limits.gpus:
        mistakes["gpu"] = (
            f"{cluster.label} has no GPU. Switch this off, or choose another cluster."
            if not limits.gpus
            else f"{cluster.label} has {limits.gpus} GPUs for one job. Ask for no more."
        )
    if mistakes:
        raise InvalidForm(mistakes)
    if limits.seconds is not None and (options.wall_time or 0) > limits.seconds:
        raise LaunchFailed(
            f"{cluster.label} allows jobs of at most {limits.seconds // 60} minutes, and this asks "
            f"for {(options.wall_time or 0) // 60}. Ask for less time.",
            topic=HelpTopic.TOO_MUCH,
        )
