"""portal.yml and clusters.d/*.yml as frozen, validated settings.

Clusters follow Open OnDemand's v2 schema
(https://osc.github.io/ood-documentation/latest/reference/files/cluster-yaml.html), whose unknown
keys are ignored. The portal's own keys are below `v2.custom.portal`. docs/configuration.md
describes all keys.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasPath, BeforeValidator, Field, model_validator

from ood.appearance import Announcement, Colours
from ood.errors import ConfigError
from ood.yaml_files import (
    Settings,
    SharedSettings,
    Text,
    mistake_at,
    read_yaml,
    validated,
    without_empty,
)

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "embedded" / "portal.yml"
PORT = os.environ.get("PORT", "8000")
WRAPPED = re.compile("%[%s]")  # in `script_wrapper`: a percent sign, or the job's script
CLUSTER_ID = re.compile(r"(?!portal$)[A-Za-z0-9_][A-Za-z0-9_.-]*")

FrontEnd = Annotated[
    str, BeforeValidator(lambda value: value if value == "unix" else str(ip_address(value)))
]


def _origin(value: Any) -> Any:
    """An origin as browsers write it, without the default port of its scheme."""
    if not isinstance(value, str):
        return value
    return re.sub(
        r"^(http(?=:.*:80$)|https(?=:.*:443$))(.*):\d+$", r"\1\2", value.replace("${PORT}", PORT)
    )


def _user_directory(value: str) -> str:
    names = value.split("/")
    if names[0] not in ("", "~") or value in ("", "~/") or ".." in names or "\0" in value:
        raise ValueError("must be `~` or begin with `/` or `~/`, and must not contain `..`")
    return value


UserDirectory = Annotated[str, AfterValidator(_user_directory)]
"""A directory on users' hosts. `~` stands for the user's home directory, `{project}` for each
project named by the user's groups."""


class ShellSettings(Settings):
    """`shell` of portal.yml. The times limit shells as those of `PortalSettings` limit sign-ins."""

    enabled: bool = True
    idle_minutes: float = Field(default=120, gt=0)
    absolute_hours: float = Field(default=12, gt=0)


class FilesSettings(Settings):
    """`files` of portal.yml: what users may do in the File Manager, and where."""

    upload: bool = True
    download: bool = True
    """If false, the portal still shows text and images."""
    edit: bool = True
    """Whether users may create, change, rename, copy and delete files and directories."""
    roots: tuple[UserDirectory, ...] = ()
    """Users can open only these directories, even through links. No limit if empty."""
    favourites: tuple[UserDirectory, ...] = ("~", "~/safe_data", "/safe_data/{project}")
    """The File Manager has shortcuts to those of these directories that exist."""


class PortalSettings(Settings):
    """portal.yml. Relative paths are relative to the file. A misspelt key is an error."""

    title: str = "Open OnDemand"
    auth: Literal["token", "ssh", "header"] = "token"
    credentials: Literal["password", "certificate"] = "password"
    """What authenticates users' SSH connections: the password that they sign in with, or a
    certificate that the portal signs with `user_ca`."""
    user_ca: Path | None = None
    """OpenSSH private key."""
    front_ends: tuple[FrontEnd, ...] = ()
    """IP addresses of reverse proxies, or `unix` for the portal's Unix socket. The portal trusts
    their `X-Forwarded-For`, `X-Forwarded-Proto` and, with `auth: header`, `user_header`."""
    user_header: str = Field(default="X-Remote-User", pattern=r"^[A-Za-z][A-Za-z0-9-]*$")
    idle_minutes: float = Field(default=480, gt=0)
    """A sign-in ends after this time without activity, and in any case after `absolute_hours`."""
    absolute_hours: float = Field(default=24, gt=0)
    audit_log: Path | None = None
    """A file with one JSON line for each event. By default, events go to the portal's own log."""
    portal_origin: Annotated[str | None, BeforeValidator(_origin)] = Field(
        default=None, pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$"
    )
    """Where browsers open the portal. `${PORT}` stands for the port that the portal listens on.
    Without this setting, nobody can connect to a service."""
    apps_origin: Annotated[str | None, BeforeValidator(_origin)] = Field(
        default=None, pattern=r"^https?://(\*\.)?[A-Za-z0-9.-]+(:[0-9]{1,5})?$"
    )
    """Where browsers open services: another host name than the portal's, so that the pages of
    services cannot use the portal. With `*.`, each session has a host name of its own. Without this
    setting, nobody can connect to a service."""
    portal_host: str | None = None
    """`name` or `name:port` of the machine with the users' homes; by default, this machine."""
    known_hosts: Path | None = None
    clusters: Path = Path("clusters.d")
    app_defs: Path = ROOT / "app_defs"
    secure_cookies: bool = True
    """Set to false only if browsers reach the portal without TLS, for example for a test."""
    files: FilesSettings = FilesSettings()
    form_values: Mapping[str, dict[str, Any]] = {}
    """App name -> field name -> the site's initial value."""
    logo: Path | None = None
    colours: Colours = Colours()
    announcements: tuple[Announcement, ...] = ()
    motd: Path | None = None
    """The message of the day: text, or Markdown if the name ends in `.md`."""
    shell: ShellSettings = ShellSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> PortalSettings:
        wrong = []
        if self.auth != "token" and (self.portal_host is None or self.known_hosts is None):
            wrong.append(f"`auth: {self.auth}` needs `portal_host` and `known_hosts`")
        if self.auth == "header" and self.credentials != "certificate":
            wrong.append("`auth: header` needs `credentials: certificate`: there is no password")
        if self.auth == "header" and not self.front_ends:
            wrong.append("`auth: header` needs `front_ends`, the peers that may name the user")
        if (self.credentials == "certificate") != (self.user_ca is not None):
            wrong.append("set both `credentials: certificate` and `user_ca`, or neither")
        portal, apps = (
            (origin or "").rpartition("/")[2].partition(":")[0].lower()
            for origin in (self.portal_origin, self.apps_origin)
        )
        if portal and (portal == apps or (apps.startswith("*.") and portal.endswith(apps[1:]))):
            wrong.append("the host name of `portal_origin` must not match `apps_origin`")
        if self.auth == "token" and (self.portal_host is not None or self.user_ca is not None):
            wrong.append(
                "`auth: token` is for this machine only: remove `portal_host` and `user_ca`"
            )
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


class Acl(SharedSettings):
    """A rule about groups, as in Open OnDemand. An allowlist admits the members of its groups, a
    blocklist everyone else. The other two are their old names."""

    adapter: Literal["group"]
    groups: tuple[Text, ...]
    type: Literal["allowlist", "blocklist", "whitelist", "blacklist"] = "allowlist"

    def admits(self, groups: AbstractSet[str]) -> bool:
        allows = self.type in ("allowlist", "whitelist")
        return groups.isdisjoint(self.groups) != allows


def permit(acls: Iterable[Acl], groups: AbstractSet[str]) -> bool:
    """Whether all rules admit a member of these groups."""
    return all(acl.admits(groups) for acl in acls)


class JobSettings(SharedSettings):
    """`v2.job` of a cluster."""

    adapter: Literal["slurm", "local"]
    cluster: Text | None = None
    conf: Text | None = None
    bin: Text | None = None
    bin_overrides: Mapping[str, Text] = {}
    submit_host: Text | None = None
    acls: tuple[Acl, ...] = ()
    """Who may run jobs, in addition to the cluster's own `acls`."""


def _script_wrapper(value: str) -> str:
    if WRAPPED.findall(value).count("%s") != 1:
        what = "must contain `%s` once, which stands for the job's script. Write any other as `%%s`"
        raise ValueError(what)
    return value


def _v2(*keys: str, default: Any = None, at_least: int | None = None) -> Any:
    """A field that is read from these keys below `v2`."""
    return Field(default=default, ge=at_least, validation_alias=AliasPath("v2", *keys))


class Cluster(SharedSettings):
    """A file in clusters.d: one back-end. `job` is None if users can only log in there."""

    id: str
    title: Text = _v2("metadata", "title", default="")
    hidden: bool = _v2("metadata", "hidden", default=False)
    login_host: Text | None = _v2("login", "host")
    job: JobSettings | None = _v2("job")
    script_wrapper: Annotated[str, AfterValidator(_script_wrapper)] = _v2(
        "batch_connect", "basic", "script_wrapper", default="%s"
    )
    set_host: str = _v2("batch_connect", "basic", "set_host", default="host=$(hostname)")
    home: Literal["synched", "unsynched"] = _v2("custom", "portal", "home", default="synched")
    partition: Text | None = _v2("custom", "portal", "partition")
    max_cores: int | None = _v2("custom", "portal", "max_cores", at_least=1)
    max_memory_gib: int | None = _v2("custom", "portal", "max_memory_gib", at_least=1)
    gpus: int | None = _v2("custom", "portal", "gpus", at_least=0)
    acls: tuple[Acl, ...] = _v2("acls", default=())

    @model_validator(mode="after")
    def _fits_together(self) -> Cluster:
        if self.home == "unsynched" and self.job is not None and self.login_host is None:
            raise ValueError(
                "`v2.custom.portal.home: unsynched` needs `v2.login.host`, the host with the homes"
            )
        return self

    @property
    def label(self) -> str:
        return self.title or self.id

    @property
    def scheduler_key(self) -> str:
        """Equal for back-ends that share a scheduler, such as the partitions of one cluster."""
        return self.job.model_dump_json(exclude={"acls"}) if self.job is not None else ""

    def wrapped(self, script: str) -> str:
        """The script of a job inside `script_wrapper`."""
        return WRAPPED.sub(lambda found: {"%s": script}.get(found[0], "%"), self.script_wrapper)

    @property
    def unsynched(self) -> bool:
        """Whether its home directories are not those of the portal host."""
        return self.home == "unsynched" and self.login_host is not None

    @property
    def is_local(self) -> bool:
        """Whether its jobs are processes of the submit host, without Slurm."""
        return self.job is not None and self.job.adapter == "local"

    def on_this_machine(self) -> Cluster:
        """This cluster. If its jobs run on this machine, the machine's own limits replace those
        that the file does not set."""
        if self.job is None or self.job.adapter != "local" or self.job.submit_host is not None:
            return self
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limits = {
            "max_cores": self.max_cores or len(os.sched_getaffinity(0)),
            "max_memory_gib": self.max_memory_gib or max(1, round(memory / 2**30)),
            "gpus": self.gpus or 0,
        }
        return self.model_copy(update=limits)


def load_settings(path: Path | None = None) -> PortalSettings:
    """Read portal.yml: `path`, else `$OOD_PORTAL_CONFIG`, else the embedded configuration. Raises
    `ConfigError` with a line for each mistake."""
    path = path or Path(os.environ.get("OOD_PORTAL_CONFIG", EMBEDDED))
    settings = validated(PortalSettings, read_yaml(path), path)
    paths = {
        key: path.parent / value
        for key in ("known_hosts", "user_ca", "clusters", "app_defs", "audit_log", "logo", "motd")
        if (value := getattr(settings, key)) is not None
    }
    return settings.model_copy(update=paths)


def load_clusters(directory: Path) -> tuple[dict[str, Cluster], list[ConfigError]]:
    """Read clusters.d. Returns the valid clusters by ID, and the mistakes in the other files."""
    clusters: dict[str, Cluster] = {}
    problems: list[ConfigError] = []
    for path in sorted([*directory.glob("*.yml"), *directory.glob("*.yaml")]):
        try:
            if not CLUSTER_ID.fullmatch(path.stem):
                what = "a cluster's file name must begin with a letter, digit or _, contain only"
                raise ConfigError(
                    f"{path}: {what} letters, digits, _, . and -, and not be `portal`"
                )
            found = without_empty(read_yaml(path))
            if not isinstance(found.get("v2"), dict):
                raise ConfigError(mistake_at(path, "missing or empty", ["v2"]))
            clusters[path.stem] = validated(Cluster, {**found, "id": path.stem}, path)
        except ConfigError as error:
            problems.append(error)
    if not directory.is_dir():
        problems.append(ConfigError(f"{directory}: directory not found"))
    return clusters, problems
