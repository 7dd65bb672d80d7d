"""What a session's job reports in files of its context directory.

The job's `started.json` has its `job_id`, `outcome.json` its `exit_code`. The user can change all
files. A file is read again only if it has changed.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ood.errors import FileFailed, FileMissing
from ood.help_topics import NO_REASON, Reason, known_topic
from ood.hosts.base import Host
from ood.sessions.checked_json import integer, mapping, text
from ood.sessions.context_directory import ContextDirectory, Listing, Version
from ood.sessions.record import JOB_ID
from ood.sessions.service import MAX_CONNECTION, Connection, parse_connection

TAIL_LINES = 20
TAIL_BYTES = 8192
MAX_SENTENCE = 500  # characters
OUTPUTS = re.compile(r"outputs-[0-9]+")
# Terminal control sequences (ECMA-48) and the other characters that a page cannot show.
CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobReport:
    """`started_job` is the job ID in started.json, `exit_code` that in outcome.json. `failure` is
    the job's own sentence about why it failed, `result` about what it did. `connected`:
    connection.yml exists. `outputs` is the name of the directory with the job's outputs. `secrets`
    names the secret files that still exist. `unread` is why some or all of it could not be
    read now: what could not be is as last reported."""

    started_job: str | None = None
    exit_code: int | None = None
    failure: Reason = NO_REASON
    result: str = ""
    connected: bool = False
    connection: Connection | None = None
    connection_changed: bool = False
    """Whether connection.yml differs from what the job first wrote."""
    log_tail: str = ""
    outputs: str = ""
    secrets: tuple[str, ...] = ()
    unread: str = ""
    versions: Mapping[str, Version] = field(default_factory=dict)


NO_REPORT = JobReport()


def read_report(
    listing: Listing, last: JobReport, log_name: str, secrets: tuple[str, ...]
) -> JobReport:
    """Read what has changed since the `last` report. What cannot be read stays as it was."""
    names = (*PARSERS, "connection.yml", log_name)
    versions = {name: at for name in names if (at := listing.version(name)) is not None}
    log_start = max(0, versions.get(log_name, (0, 0))[0] - TAIL_BYTES)
    parts = {"connection.yml": (MAX_CONNECTION, 0), log_name: (TAIL_BYTES, log_start)}
    problem: FileFailed | None = None
    changed: dict[str, bytes | None] = {}
    for name in names:
        if versions.get(name) == last.versions.get(name):
            continue
        try:
            changed[name] = listing.read(name, *parts.get(name, ()))
        except FileFailed as error:
            problem = error
            del versions[name]
            if name in last.versions:
                versions[name] = last.versions[name]
    found = replace(
        last,
        connected="connection.yml" in versions,
        secrets=tuple(name for name in secrets if name in listing.files),
        versions=versions,
    )
    for name in changed.keys() & PARSERS.keys():
        key, parse = PARSERS[name]
        found = replace(found, **{key: parse(changed[name])})
    if "connection.yml" in changed:
        found = _with_connection(found, last, changed["connection.yml"])
    if changed.get(log_name) is not None:
        found = replace(found, log_tail=tail_of(changed[log_name] or b"", cut=log_start > 0))
    return unread(found, problem) if problem is not None else replace(found, unread="")


@dataclass(frozen=True)
class ReportRequest:
    """A session whose report to read. If its job has `ended`, its secrets are removed."""

    session_id: str
    relative: str
    log_name: str
    secrets: tuple[str, ...]
    ended: bool


def read_reports(
    host: Host, requests: Iterable[ReportRequest], last: Mapping[str, JobReport] | None
) -> dict[str, JobReport]:
    """Read the reports of many sessions, by session ID. Raises `HostError`."""
    found = {}
    for each in requests:
        directory = ContextDirectory(host, each.relative)
        known = (last or {}).get(each.session_id, NO_REPORT)
        try:
            report = read_report(Listing(directory), known, each.log_name, each.secrets)
            found[each.session_id] = remove_secrets(directory, report) if each.ended else report
        except FileFailed as error:
            found[each.session_id] = unread(known, error)
    return found


def unread(report: JobReport, error: FileFailed) -> JobReport:
    """The last known report of what cannot be read now."""
    text = f"The portal could not read what the job reported. {error.message}"
    if text != report.unread:  # once
        log.warning("could not read a job's report: %s %s", error.message, error.detail)
    return replace(report, unread=text)


def remove_secrets(directory: ContextDirectory, report: JobReport) -> JobReport:
    """Remove the secrets that the job has not removed itself."""
    for name in report.secrets:
        try:
            directory.host.files.remove(f"{directory.path}/{name}")
        except FileMissing:
            pass  # the job has removed it meanwhile
    return replace(report, secrets=())


def secret_file(name: str) -> str:
    """The name of the file that passes the secret field `name` to the job, which removes it."""
    return f"secret_{name}"


def tail_of(data: bytes, *, cut: bool) -> str:
    """The last lines of a log as plain text. `cut`: the data begins in the middle of a line. If
    carriage returns overwrite a line, as in a progress bar, only its last state remains."""
    lines = data.decode("utf-8", "replace").split("\n")
    if cut and len(lines) > 1:
        lines = lines[1:]
    if not lines[-1]:
        lines.pop()
    shown = (line.rstrip("\r").rpartition("\r")[2] for line in lines[-TAIL_LINES:])
    return "\n".join(CONTROLS.sub("", line) for line in shown)


def _with_connection(found: JobReport, last: JobReport, data: bytes | None) -> JobReport:
    if not found.connected:  # not yet, or the job was requeued
        return replace(found, connection=None, connection_changed=False)
    connection = parse_connection(data)
    if not last.connected:
        return replace(found, connection=connection)
    changed = last.connection_changed or connection != last.connection
    return replace(found, connection_changed=changed)


def parse_started_job(data: bytes | None) -> str | None:
    """The job ID in started.json; None if it is missing or not valid."""
    job_id = text(mapping(data).get("job_id"), 100)
    return job_id if JOB_ID.fullmatch(job_id) else None


def parse_exit_code(data: bytes | None) -> int | None:
    """The exit code in outcome.json; None if it is missing or not a number."""
    return integer(mapping(data).get("exit_code"))


def parse_failure(data: bytes | None) -> Reason:
    """The reason in `failure`: its first line is a sentence, its second line may name a topic."""
    lines = (data or b"").split(b"\n", 2)
    topic = lines[1].decode("ascii", "replace").strip() if len(lines) > 1 else ""
    return Reason(_sentence(data), known_topic(topic))


def _sentence(data: bytes | None) -> str:
    line = (data or b"").decode("utf-8", "replace").partition("\n")[0]
    return CONTROLS.sub("", line).strip()[:MAX_SENTENCE]


def _outputs(data: bytes | None) -> str:
    name = (data or b"").decode("ascii", "replace").strip()
    return name if OUTPUTS.fullmatch(name) else ""


PARSERS: dict[str, tuple[str, Callable[[bytes | None], Any]]] = {
    "started.json": ("started_job", parse_started_job),
    "outcome.json": ("exit_code", parse_exit_code),
    "failure": ("failure", parse_failure),
    "result": ("result", _sentence),
    "outputs_directory": ("outputs", _outputs),
}
"""For each file, the field of `JobReport` and the function that reads it."""
