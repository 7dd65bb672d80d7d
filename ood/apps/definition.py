"""Reading `app_defs/<app>/`: manifest.yml, form.yml, submit.yml.j2 and the job's templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic import Field as Setting

from ood.apps.fields import Field
from ood.apps.templates import check, render
from ood.config import Acl, Cluster, describe, read_yaml
from ood.errors import ConfigError, InvalidForm, LaunchFailed
from ood.schedulers.limits import Limits

APP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
CLUSTER_FIELD = "cluster"
ICONS = frozenset({"box", "notebook", "terminal", "chart", "desktop"})
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
        for field in self.fields:
            try:
                values[field.name] = field.read(typed.get(field.name, ""))
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
            return ScriptOptions.model_validate(found.get("script") or {})
        except (yaml.YAMLError, AttributeError) as error:
            raise ConfigError(f"{path}: {error}") from error
        except ValidationError as error:
            raise ConfigError(describe(path, error)) from None

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
    """Read all apps. A broken one is left out and told in the second value."""
    apps: dict[str, AppDefinition] = {}
    problems: list[ConfigError] = []
    if not directory.is_dir():
        problems.append(ConfigError(f"{directory}: there is no such directory"))
    for path in sorted(directory.glob("*")):
        if not APP_NAME.fullmatch(path.name) or not (path / "manifest.yml").exists():
            continue
        try:
            apps[path.name] = _load(path, site_values.get(path.name, {}))
        except ConfigError as error:
            problems.append(error)
    return apps, problems


def _load(directory: Path, site_values: Mapping[str, Any]) -> AppDefinition:
    path = directory / "manifest.yml"
    try:
        manifest = Manifest.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigError(describe(path, error)) from None
    path = directory / "form.yml"
    form = read_yaml(path)
    names, attributes = form.get("form") or [], form.get("attributes") or {}
    if not isinstance(names, list) or not isinstance(attributes, dict):
        raise ConfigError(f"{path}: `form` is a list of names, `attributes` has a key for each")
    fields = []
    for name in map(str, names):
        if name != CLUSTER_FIELD:
            fields.append(_field(path, name, attributes.get(name), site_values))
    for template in directory.rglob("*.j2"):
        check(template)
    fixed = tuple(field for field in fields if field.fixed)
    shown = tuple(field for field in fields if not field.fixed)
    return AppDefinition(directory.name, directory, manifest, shown, fixed)


def _field(path: Path, name: str, given: Any, site_values: Mapping[str, Any]) -> Field:
    if isinstance(given, str | int | float):  # how Open OnDemand writes a value nobody is asked for
        given = {"value": given, "fixed": True}
    if not isinstance(given, dict | None):
        raise ConfigError(f"{path}: attributes.{name}: keys are expected, as in `label: …`")
    keys = {"label": name.replace("_", " ").capitalize(), **(given or {}), "name": name}
    if name in site_values:
        keys["value"] = site_values[name]
    try:
        field = Field.model_validate(keys)
        if field.fixed:
            field.read(field.value)
        return field
    except ValidationError as error:
        raise ConfigError(describe(path, error, f"attributes.{name}.")) from None
    except ValueError as error:
        raise ConfigError(f"{path}: attributes.{name}: {field.value!r}: {error}") from None


def directives(field: Field, limits: Limits) -> dict[str, str]:
    """What choosing a back-end does to a field, by the names of Open OnDemand's directives `label`,
    `max` and `hide`; nothing for most fields."""
    if field.name == "gpu":
        return {"hide": "false" if limits.gpus else "true"}
    if field.name not in ("cores", "memory"):
        return {}
    its = limits.cores if field.name == "cores" else limits.memory_gib
    known = [limit for limit in (its, field.max) if limit is not None]
    if not known:
        return {"label": field.label, "max": ""}
    most = f"{min(known):.15g}"
    unit = " GiB" if field.name == "memory" else ""
    return {"label": f"{field.label} (max {most}{unit})", "max": most}


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
            f"for {(options.wall_time or 0) // 60}. Ask for less time."
        )
