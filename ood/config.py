"""portal.yml and clusters.d/*.yml, as frozen, validated settings.

Clusters follow Open OnDemand's v2 schema
(https://osc.github.io/ood-documentation/latest/reference/files/cluster-yaml.html); what the portal
adds lives under `v2.custom.portal`. Unknown keys there are ignored, as Open OnDemand does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ood.appearance import Announcement, Colours
from ood.errors import ConfigError
from ood.yaml_files import mistake, mistakes, read_yaml

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "embedded" / "portal.yml"
PORT = os.environ.get("PORT", "8000")
CLUSTER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

Text = Annotated[
    str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)
]


def _peer(value: Any) -> Any:
    return value if value == "unix" else str(ip_address(value))


FrontEnd = Annotated[str, BeforeValidator(_peer)]


def _origin(value: Any) -> Any:
    """An origin as browsers write it: without the port that its scheme has anyway."""
    if not isinstance(value, str):
        return value
    return re.sub(
        r"^(http(?=:.*:80$)|https(?=:.*:443$))(.*):\d+$", r"\1\2", value.replace("${PORT}", PORT)
    )


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ShellSettings(_Settings):
    """`shell` of portal.yml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    idle_minutes: float = Field(default=120, gt=0)
    """A shell ends after so long without anybody typing in it."""
    absolute_hours: float = Field(default=12, gt=0)
    """A shell ends after so long, whatever happens."""


def _place(value: str) -> str:
    names = value.split("/")
    if names[0] not in ("", "~") or value in ("", "~/") or ".." in names or "\0" in value:
        raise ValueError("must begin with `/` or `~/` (or be `~`), and go up nowhere")
    return value


Place = Annotated[str, AfterValidator(_place)]
"""A directory on users' hosts. `~` stands for the user's home directory, `{project}` for each
project that their groups name."""


class FilesSettings(_Settings):
    """`files` of portal.yml: what the File Manager lets users do, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload: bool = True
    """Whether files may come from browsers."""
    download: bool = True
    """Whether files may go to browsers, alone or as archives; text and pictures are shown."""
    edit: bool = True
    """Whether files and directories may be changed: written, made, renamed, copied, deleted."""
    roots: tuple[Place, ...] = ()
    """What is in none of these is not shown, links followed; empty: no limit."""
    favourites: tuple[Place, ...] = ("~", "~/safe_data", "/safe_data/{project}")
    """Shortcuts, where they exist."""


class PortalSettings(_Settings):
    """portal.yml. Relative paths are relative to the file; a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = "Open OnDemand"
    auth: Literal["token", "ssh", "header"] = "token"
    credentials: Literal["password", "certificate"] = "password"
    """What opens the users' SSH connections: the password they signed in with, or certificates that
    the portal signs with `user_ca`."""
    user_ca: Path | None = None
    """OpenSSH private key; back-ends name its public half in `TrustedUserCAKeys`."""
    front_ends: tuple[FrontEnd, ...] = ()
    """Peers that pass on what browsers ask: their word is taken for a browser's address and scheme
    (`X-Forwarded-For`, `X-Forwarded-Proto`) and, with `auth: header`, for who the user is. `unix`
    stands for whoever may open the portal's Unix socket."""
    user_header: str = Field(default="X-Remote-User", pattern=r"^[A-Za-z][A-Za-z0-9-]*$")
    idle_minutes: float = Field(default=480, gt=0)
    """A sign-in ends after so long without anybody doing anything with it."""
    absolute_hours: float = Field(default=24, gt=0)
    """A sign-in ends after so long, whatever happens."""
    audit_log: Path | None = None
    """One JSON line per event; absent: among the portal's own log."""
    portal_origin: Annotated[str | None, BeforeValidator(_origin)] = Field(
        default=None, pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$"
    )
    """Where browsers open the portal. Services send those who have no entry yet back to it.
    `${PORT}` stands for the port the portal was started on. Absent: nothing can be connected to."""
    apps_origin: Annotated[str | None, BeforeValidator(_origin)] = Field(
        default=None, pattern=r"^https?://(\*\.)?[A-Za-z0-9.-]+(:[0-9]{1,5})?$"
    )
    """Where services such as JupyterLab are served: other host names than the portal's, so that
    what they do in a browser cannot reach it. With `*.` before the name, each session has a name of
    its own. `${PORT}` as above. Absent: nothing can be connected to."""
    portal_host: str | None = None
    """`name` or `name:port` of the machine with the users' homes; absent: this machine."""
    known_hosts: Path | None = None
    clusters: Path = Path("clusters.d")
    app_defs: Path = ROOT / "app_defs"
    secure_cookies: bool = True
    """Set to false only where the portal is reached without TLS, on one's own machine."""
    files: FilesSettings = FilesSettings()
    form_values: dict[str, dict[str, Any]] = {}
    """App name -> field name -> the site's own value to prefill that field with."""
    logo: Path | None = None
    colours: Colours = Colours()
    announcements: tuple[Announcement, ...] = ()
    motd: Path | None = None
    """The message of the day: text, or markdown in a file whose name ends in `.md`."""
    shell: ShellSettings = ShellSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> PortalSettings:
        needed = self.portal_host is None or self.known_hosts is None
        header, token = self.auth == "header", self.auth == "token"
        wrong = [
            what
            for is_wrong, what in (
                (
                    not token and needed,
                    f"`auth: {self.auth}` needs `portal_host` and `known_hosts`",
                ),
                (
                    header and self.credentials != "certificate",
                    "`auth: header` needs `credentials: certificate`: there is no password",
                ),
                (
                    header and not self.front_ends,
                    "`auth: header` needs `front_ends`: whose word is to be taken?",
                ),
                (
                    (self.credentials == "certificate") != (self.user_ca is not None),
                    "`credentials: certificate` and `user_ca` go together",
                ),
                (
                    self.portal_origin is not None and self._serves_itself(self.portal_origin),
                    "the host name of `portal_origin` must not be one that `apps_origin` covers",
                ),
                (
                    token and (self.portal_host is not None or self.user_ca is not None),
                    "`auth: token` serves this machine only: remove `portal_host` and `user_ca`",
                ),
            )
            if is_wrong
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _serves_itself(self, portal_origin: str) -> bool:
        """Whether the portal's own host name is one for services."""
        name = portal_origin.rpartition("/")[2].partition(":")[0].lower()
        apps = (self.apps_origin or "").rpartition("/")[2].partition(":")[0].lower()
        return name == apps or (apps.startswith("*.") and name.endswith(apps[1:]))


class Acl(_Settings):
    """One rule on groups, as Open OnDemand writes it: a whitelist lets in those in any of its
    groups, a blacklist those in none."""

    adapter: Literal["group"]
    groups: tuple[Text, ...]
    type: Literal["whitelist", "blacklist"] = "whitelist"


def permit(acls: Iterable[Acl], groups: AbstractSet[str]) -> bool:
    """Whether all rules let in somebody who is in these groups."""
    return all((not groups.isdisjoint(acl.groups)) == (acl.type == "whitelist") for acl in acls)


class JobSettings(_Settings):
    """`v2.job` of a cluster."""

    adapter: Literal["slurm", "local"]
    cluster: str | None = None
    conf: str | None = None
    bin: str | None = None
    bin_overrides: dict[str, str] = {}
    submit_host: str | None = None


class Cluster(_Settings):
    """One file of clusters.d: a back-end. `job` is None where one can only log in."""

    id: str
    title: Text = Field(default="", validation_alias=AliasPath("v2", "metadata", "title"))
    hidden: bool = Field(default=False, validation_alias=AliasPath("v2", "metadata", "hidden"))
    login_host: str | None = Field(default=None, validation_alias=AliasPath("v2", "login", "host"))
    job: JobSettings | None = Field(default=None, validation_alias=AliasPath("v2", "job"))
    script_wrapper: str = Field(
        default="%s",
        validation_alias=AliasPath("v2", "batch_connect", "basic", "script_wrapper"),
    )
    set_host: str = Field(
        default="host=$(hostname)",
        validation_alias=AliasPath("v2", "batch_connect", "basic", "set_host"),
    )
    home: Literal["synched", "unsynched"] = Field(
        default="synched", validation_alias=AliasPath("v2", "custom", "portal", "home")
    )
    partition: str | None = Field(
        default=None, validation_alias=AliasPath("v2", "custom", "portal", "partition")
    )
    max_cores: int | None = Field(
        default=None, ge=1, validation_alias=AliasPath("v2", "custom", "portal", "max_cores")
    )
    max_memory_gib: int | None = Field(
        default=None, ge=1, validation_alias=AliasPath("v2", "custom", "portal", "max_memory_gib")
    )
    gpus: int | None = Field(
        default=None, ge=0, validation_alias=AliasPath("v2", "custom", "portal", "gpus")
    )
    acls: tuple[Acl, ...] = Field(default=(), validation_alias=AliasPath("v2", "acls"))

    @model_validator(mode="after")
    def _fits_together(self) -> Cluster:
        if self.home == "unsynched" and self.job is not None and self.login_host is None:
            raise ValueError(
                "`v2.custom.portal.home: unsynched` needs `v2.login.host`: where are its homes?"
            )
        return self

    @property
    def label(self) -> str:
        return self.title or self.id

    @property
    def scheduler_key(self) -> str:
        """What back-ends have in common that are partitions of one cluster: it is the same
        scheduler that is asked about jobs, in the same way."""
        return self.job.model_dump_json() if self.job is not None else ""

    @property
    def unsynched(self) -> bool:
        """Whether its home directories are not those of the portal host."""
        return self.home == "unsynched" and self.login_host is not None

    @property
    def is_local(self) -> bool:
        """Whether its jobs are processes of the submit host, without Slurm."""
        return self.job is not None and self.job.adapter == "local"

    def on_this_machine(self) -> Cluster:
        """With this machine's own limits where the file names none and jobs run here."""
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
    """Read portal.yml: `path`, else `$OOD_PORTAL_CONFIG`, else the embedded default.

    Raises `ConfigError` naming the file, and line and key of each mistake.
    """
    path = path or Path(os.environ.get("OOD_PORTAL_CONFIG", EMBEDDED))
    found = read_yaml(path)
    try:
        settings = PortalSettings.model_validate(found)
    except ValidationError as error:
        raise ConfigError(mistakes(path, error)) from None
    beside = {
        key: path.parent / value
        for key in ("known_hosts", "user_ca", "clusters", "app_defs", "audit_log", "logo", "motd")
        if (value := getattr(settings, key)) is not None
    }
    return settings.model_copy(update=beside)


def load_clusters(directory: Path) -> tuple[dict[str, Cluster], list[ConfigError]]:
    """Read clusters.d. A broken file disables that one cluster and is told in the second value."""
    clusters: dict[str, Cluster] = {}
    problems: list[ConfigError] = []
    for path in sorted([*directory.glob("*.yml"), *directory.glob("*.yaml")]):
        try:
            if not CLUSTER_ID.fullmatch(path.stem):
                raise ConfigError(f"{path}: a cluster's file name holds letters, digits, _ and -")
            found = read_yaml(path)
            if not isinstance(found.get("v2"), dict):
                raise ConfigError(mistake(path, "is missing, or holds no keys", ["v2"]))
            clusters[path.stem] = Cluster.model_validate({**found, "id": path.stem})
        except ConfigError as error:
            problems.append(error)
        except ValidationError as error:
            problems.append(ConfigError(mistakes(path, error)))
    if not directory.is_dir():
        problems.append(ConfigError(f"{directory}: there is no such directory"))
    return clusters, problems
