"""`flask --app app doctor` signs in as a user and tries what the portal needs, host by host.

It says what is wrong with an account or a host, and what to do about it. `check` does the same for
the portal's own files.
"""

import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import click
from pydantic import SecretStr

from ood import config
from ood.auth.authority import UserAuthority
from ood.auth.credentials import Credentials
from ood.config import Cluster, JobSettings, PortalSettings
from ood.errors import CommandFailed, ConfigError, FileFailed, HostError, PortalError
from ood.hosts.base import Host
from ood.hosts.pool import HostPool
from ood.hosts.roles import HostRoles
from ood.hosts.ssh import SSHHost
from ood.schedulers.slurm.scheduler import Slurm

SLOW = 2.0  # seconds for a command that does nothing
CLOCK_SKEW = 30.0  # seconds
SESSIONS = 10  # on a connection, which stock sshd allows
ON_A_NODE = """
for tool in ces-pull ces-run; do command -v $tool >/dev/null || echo "no $tool"; done
command -v podman >/dev/null || command -v apptainer >/dev/null || echo "no podman or apptainer"
[ -d "$1" ] || echo "no home"
for data in /safe_data/* "$1"/safe_data/*; do [ ! -r "$data" ] || exit 0; done
echo "no safe data"
"""
NODE_FINDINGS = {
    "no ces-pull": "ces-pull is not on the PATH of jobs. Install ces/bin there.",
    "no ces-run": "ces-run is not on the PATH of jobs. Install ces/bin there.",
    "no podman or apptainer": "There is neither Podman nor Apptainer, so no container can run.",
    "no home": "The user's home directory is missing, or is under another path.",
    "no safe data": "The user can read no safe data there, in /safe_data or ~/safe_data.",
}
STARTS_WITHIN = 30  # seconds for a test job


class Level(StrEnum):
    OK = "ok"
    WARNING = "Warning"
    MISTAKE = "MISTAKE"


class Finding(NamedTuple):
    where: str
    level: Level
    text: str


@click.command("doctor")
@click.argument("user", required=False)
def doctor(user: str | None) -> None:
    """Try the hosts and schedulers as USER, and say what is wrong and what to do.

    Prompts for the user name and the password. With `user_ca`, no password is needed. Writes one
    small file to each home directory and deletes it, and runs one short job on each back-end. The
    exit code is 1 if there are mistakes.
    """
    path = Path(os.environ.get("OOD_PORTAL_CONFIG", config.EMBEDDED))
    try:
        settings = config.load_settings(path)
        authority = UserAuthority(settings.user_ca) if settings.user_ca is not None else None
    except ConfigError as error:
        raise click.ClickException(error.message) from error
    clusters, broken = config.load_clusters(settings.clusters)
    for problem in broken:
        click.echo(problem.message, err=True)
    pool = HostPool(settings.portal_host, settings.known_hosts, Credentials(authority))
    mistakes = 0
    for where, level, text in _findings(settings, clusters, pool, user):
        click.echo(f"{where}: {level}: {text}")
        mistakes += level is Level.MISTAKE
    click.echo(f"Mistakes found: {mistakes}." if mistakes else "No mistakes found.")
    sys.exit(1 if mistakes else 0)


def _findings(
    settings: PortalSettings, clusters: Mapping[str, Cluster], pool: HostPool, user: str | None
) -> Iterator[Finding]:
    yield from _services_name(settings)
    if settings.portal_host is None:
        user = pool.portal_host("").user
    else:
        user = user or click.prompt("User name")
        by_certificate = settings.user_ca is not None
        secret = None if by_certificate else SecretStr(click.prompt("Password", hide_input=True))
        where = settings.portal_host
        try:
            account = pool.sign_in(user, secret)
        except HostError as error:
            yield Finding(where, Level.MISTAKE, _words(error))
            return
        yield Finding(where, Level.OK, f"{account.name} signs in, with user ID {account.uid}")
        user = account.name
    hosts: dict[str, Host] = {settings.portal_host or "this machine": pool.portal_host(user)}
    roles = HostRoles(pool)
    dialling = set()
    for cluster in clusters.values():
        if cluster.job is not None:
            host = roles.submit_host(user, cluster)
            hosts[host.name] = host
            dialling.add(cluster.login_host or host.name)
        if cluster.login_host is not None:
            hosts[cluster.login_host] = pool.host(user, cluster.login_host)
    for name, host in hosts.items():
        yield from _host(name, host, name in dialling)
    for cluster in clusters.values():
        if cluster.job is not None and not cluster.is_local:
            yield from _back_end(cluster, cluster.job, roles.submit_host(user, cluster))


def _services_name(settings: PortalSettings) -> Iterator[Finding]:
    """Whether the names of services' origins lead somewhere."""
    name = urlsplit(settings.apps_origin or "").hostname or ""
    if not name.startswith("*.") or name.endswith(".localhost"):
        return
    name = name.replace("*", secrets.token_hex(8))
    try:
        socket.getaddrinfo(name, None)
        yield Finding("apps_origin", Level.OK, f"{name} has an address")
    except OSError as error:
        remedy = "Browsers need a DNS record for all these names (docs/admin.md)."
        yield Finding("apps_origin", Level.MISTAKE, f"{name} has no address: {error}. {remedy}")


def _host(where: str, host: Host, dials: bool) -> Iterator[Finding]:
    """What the portal needs of a host and of the user's account there."""
    try:
        yield from _account(where, host)
        yield from _home(where, host)
        if isinstance(host, SSHHost):
            yield from _sshd(where, host, dials)
    except HostError as error:
        yield Finding(where, Level.MISTAKE, _words(error))


def _account(where: str, host: Host) -> Iterator[Finding]:
    began = time.monotonic()
    shell, now = host.run(["sh", "-c", 'echo "$SHELL"; date +%s.%N']).text.splitlines()
    took = time.monotonic() - began
    yield Finding(where, Level.OK, f"runs commands. The login shell is {shell}")
    if took > SLOW:
        text = f"a command takes {took:.1f} s. Look at the start-up files of the account"
        yield Finding(where, Level.WARNING, text)
    skew = float(now) - time.time()
    if abs(skew) > CLOCK_SKEW:
        text = f"its clock differs by {skew:.0f} s. Times and certificates go by it: use NTP"
        yield Finding(where, Level.MISTAKE, text)
    if isinstance(host, SSHHost) and (size := host.greeting_size()):
        text = f"start-up files print {size} bytes before each command, which the portal skips"
        yield Finding(where, Level.WARNING, text)


def _home(where: str, host: Host) -> Iterator[Finding]:
    home = host.home
    try:
        real = host.files.resolve(home)
        host.files.list(home)
    except FileFailed as error:
        text = f"the home directory {home} cannot be used: {_words(error)}"
        yield Finding(where, Level.MISTAKE, text)
        return
    linked = f", a link to {real}" if real != home else ""
    yield Finding(where, Level.OK, f"the home directory is {home}{linked}")
    path, data = f"{home}/.ood-doctor.{secrets.token_hex(4)}", secrets.token_bytes(256 * 1024)
    try:
        host.files.write(path, data, 0o600)
        if host.files.read(path, len(data) + 1) != data:
            text = "a file that was written to the home directory has other bytes when it is read"
            yield Finding(where, Level.MISTAKE, text)
    except FileFailed as error:
        text = f"{_words(error)} Is the disk full, or a quota used up?"
        yield Finding(where, Level.MISTAKE, text)
    finally:
        with suppress(FileFailed):
            host.files.remove(path)


def _sshd(where: str, host: SSHHost, dials: bool) -> Iterator[Finding]:
    version = host.version
    yield Finding(where, Level.OK, f"its SSH server is {version}")
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) >= (9, 8):
        yield Finding(
            where,
            Level.WARNING,
            "this sshd refuses an address for a time after wrong passwords. All users of the "
            "portal share its address: set PerSourcePenaltyExemptList (docs/admin.md)",
        )
    if not host.sftp_by_itself:
        text = (
            "sshd’s SFTP does not work for this account, because start-up files print text or "
            "there is no such subsystem. The portal starts an SFTP server as a command instead"
        )
        yield Finding(where, Level.WARNING, text)
    sessions = host.free_channels(SESSIONS - 1) + 1  # SFTP is using one
    if sessions < SESSIONS:
        text = f"sshd allows {sessions} sessions on a connection. Set MaxSessions to 10 or more"
        yield Finding(where, Level.WARNING, text)
    if dials and not host.forwards():
        text = "sshd forwards no connections to services. Set AllowTcpForwarding to yes or local"
        yield Finding(where, Level.MISTAKE, text)


def _back_end(cluster: Cluster, job: JobSettings, host: Host) -> Iterator[Finding]:
    """What the portal needs of a Slurm cluster, and of the machines that run its jobs."""
    where, slurm = cluster.id, Slurm(cluster, job, host)
    try:
        yield Finding(where, Level.OK, slurm.version())
    except PortalError as error:
        yield Finding(where, Level.MISTAKE, f"sbatch does not run: {_words(error)}")
        return
    questions: dict[str, Callable[[], object]] = {
        "squeue": slurm.jobs,
        "sinfo and scontrol": slurm.partitions,
        "sacct": slurm.recent,
    }
    for command, ask in questions.items():
        try:
            ask()
            yield Finding(where, Level.OK, f"{command}: answers")
        except PortalError as error:
            yield Finding(where, Level.MISTAKE, f"{command}: {_words(error)}")
    try:
        printed = slurm.run_on_node(["sh", "-c", ON_A_NODE, "sh", host.home], STARTS_WITHIN)
    except PortalError as error:
        text = f"a test job did not run within {STARTS_WITHIN} s: {_words(error)}"
        yield Finding(where, Level.WARNING, text)
        return
    problems = [NODE_FINDINGS[line] for line in printed.splitlines() if line in NODE_FINDINGS]
    for problem in problems:
        yield Finding(where, Level.WARNING, problem)
    if not problems:
        yield Finding(where, Level.OK, "a test job found the container tools, home and safe data")


def _words(error: PortalError) -> str:
    """What an error says, with what it says in the log."""
    detail = " ".join(error.detail.split())
    if isinstance(error, CommandFailed) or not detail:
        return f"{error.message} {detail}".strip()
    return f"{error.message} ({detail})"
