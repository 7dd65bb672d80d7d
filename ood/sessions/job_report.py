"""What a session's job reports, in files of its context directory on the back-end.

A file is read again only if it has changed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ood.errors import FileMissing
from ood.help_topics import NO_REASON, Reason, known_topic
from ood.hosts.base import Host
from ood.sessions.context_directory import ContextDirectory, Listing, Version
from ood.sessions.facts import OUTCOME, STARTED, parse_exit_code, parse_started_job
from ood.sessions.service import MAX_CONNECTION, Connection, parse_connection

TAIL_LINES = 20
TAIL_BYTES = 8192
MAX_SENTENCE = 500  # characters
OUTPUTS = re.compile(r"outputs-[0-9]+")
FILES = (STARTED, OUTCOME, "failure", "result", "connection.yml", "outputs_directory")
# Terminal control sequences (ECMA-48) and the other characters that a page cannot show.
CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class JobReport:
    """`started_job` is the job ID that the job wrote down and `exit_code` that of the outcome file.
    `failure` is the job's own sentence about why it failed, `result` about what it did. `secrets`
    names the secret files that still exist."""

    started_job: str | None = None
    exit_code: int | None = None
    failure: Reason = NO_REASON
    result: str = ""
    connected: bool = False
    connection: Connection | None = None
    connection_changed: bool = False
    """connection.yml is not what the job first wrote."""
    log_tail: str = ""
    outputs: str = ""
    secrets: tuple[str, ...] = ()
    versions: Mapping[str, Version] = field(default_factory=dict)


NO_REPORT = JobReport()


def read_report(
    listing: Listing, last: JobReport, log_name: str, secrets: tuple[str, ...]
) -> JobReport:
    """Read what has changed since the `last` report."""
    changed = {
        name: version
        for name in (*FILES, log_name)
        if (version := listing.version(name)) != last.versions.get(name)
    }
    found = replace(
        last,
        connected=listing.version("connection.yml") is not None,
        secrets=tuple(name for name in secrets if name in listing.files),
        versions={
            **{name: at for name, at in last.versions.items() if name not in changed},
            **{name: at for name, at in changed.items() if at is not None},
        },
    )
    if STARTED in changed:
        found = replace(found, started_job=parse_started_job(listing.read(STARTED)))
    if OUTCOME in changed:
        found = replace(found, exit_code=parse_exit_code(listing.read(OUTCOME)))
    if "failure" in changed:
        found = replace(found, failure=parse_failure(listing.read("failure")))
    if "result" in changed:
        found = replace(found, result=_sentence(listing.read("result")))
    if "outputs_directory" in changed:
        name = (listing.read("outputs_directory") or b"").decode("ascii", "replace").strip()
        found = replace(found, outputs=name if OUTPUTS.fullmatch(name) else "")
    if "connection.yml" in changed:
        found = _with_connection(found, last, listing)
    version = changed.get(log_name)
    if version is not None:
        start = max(0, version[0] - TAIL_BYTES)
        data = listing.read(log_name, TAIL_BYTES, start) or b""
        found = replace(found, log_tail=tail_of(data, cut=start > 0))
    return found


@dataclass(frozen=True)
class Wanted:
    """A session whose report is wanted. `over`: its job has ended, so its secrets are removed."""

    session_id: str
    relative: str
    log_name: str
    secrets: tuple[str, ...]
    over: bool


def read_reports(
    host: Host, wanted: Iterable[Wanted], last: Mapping[str, JobReport] | None
) -> dict[str, JobReport]:
    """Read the reports of many sessions, by session ID. Raises `HostError`."""
    found = {}
    for session in wanted:
        directory = ContextDirectory(host, session.relative)
        known = (last or {}).get(session.session_id, NO_REPORT)
        report = read_report(Listing(directory), known, session.log_name, session.secrets)
        found[session.session_id] = remove_secrets(directory, report) if session.over else report
    return found


def remove_secrets(directory: ContextDirectory, report: JobReport) -> JobReport:
    """Remove the secrets that the job has not removed itself."""
    for name in report.secrets:
        try:
            directory.host.files.remove(f"{directory.path}/{name}")
        except FileMissing:
            pass  # the job has removed it meanwhile
    return replace(report, secrets=())


def secret_file(name: str) -> str:
    """The name of the file with a secret for the job, which removes it."""
    return f"secret_{name}"


def tail_of(data: bytes, *, cut: bool) -> str:
    """The last lines of a log as plain text. `cut`: the data begins in the middle of a line.

    Of a line overwritten with carriage returns (a progress bar), the last state remains.
    """
    lines = data.decode("utf-8", "replace").split("\n")
    if cut and len(lines) > 1:
        lines = lines[1:]
    if not lines[-1]:
        lines.pop()
    shown = (line.rstrip("\r").rpartition("\r")[2] for line in lines[-TAIL_LINES:])
    return "\n".join(CONTROLS.sub("", line) for line in shown)


def _with_connection(found: JobReport, last: JobReport, listing: Listing) -> JobReport:
    if not found.connected:  # not yet, or the job was requeued
        return replace(found, connection=None, connection_changed=False)
    connection = parse_connection(listing.read("connection.yml", MAX_CONNECTION))
    if not last.connected:
        return replace(found, connection=connection)
    changed = last.connection_changed or connection != last.connection
    return replace(found, connection_changed=changed)


def parse_failure(data: bytes | None) -> Reason:
    """The first line is a sentence; the second line may name its help topic."""
    lines = (data or b"").split(b"\n", 2)
    topic = lines[1].decode("ascii", "replace").strip() if len(lines) > 1 else ""
    return Reason(_sentence(data), known_topic(topic))


def _sentence(data: bytes | None) -> str:
    line = (data or b"").decode("utf-8", "replace").partition("\n")[0]
    return CONTROLS.sub("", line).strip()[:MAX_SENTENCE]
