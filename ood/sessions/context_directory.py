"""The job context directory of a session, and the portal's own files in it.

Users and their jobs can change everything in it. So every file is read with a limit, and only if it
is a regular file, and every value in it is checked.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ood.apps.definition import CLUSTER_FIELD, AppDefinition, JobFiles
from ood.apps.fields import CHECKED, MAX_LENGTH
from ood.errors import FileMissing
from ood.help_topics import HelpTopic, known_topic
from ood.hosts.base import FileEntry, Host
from ood.schedulers.base import Outcome
from ood.sessions.checked_json import integer, mapping, text

FACTS = "portal.json"
MAX_SIZE = 65_536  # bytes of a file
MAX_TYPED = 1024 * 1024  # bytes of a file with the values of a form

Version = tuple[int, float]  # size and time of change


@dataclass(frozen=True)
class ContextDirectory:
    """A directory below the user's home on a host. `path` asks the host for its home directory."""

    host: Host
    relative: str

    @property
    def path(self) -> str:
        return f"{self.host.home}/{self.relative}"

    def write(self, files: JobFiles) -> None:
        """Make the directory (0700), and write new files into it."""
        path = self.path
        with self.host.home_is_used(path):
            self.host.files.make_directories(path, 0o700)
            for name, (content, mode) in files.items():
                if name.endswith("/"):
                    self.host.files.make_directories(f"{path}/{name}".rstrip("/"), mode)
                    continue
                self.host.files.write(f"{path}/{name}", content, mode)

    def remove(self) -> None:
        self.host.run(["rm", "-rf", "--", self.path])


class Listing:
    """The files of a context directory at one moment. Empty if the directory does not exist. Its
    methods raise `FileFailed` if the file system does not say what is there."""

    def __init__(self, directory: ContextDirectory) -> None:
        self._directory = directory
        try:
            entries = directory.host.files.list(directory.path)
        except FileMissing:  # the user removed it
            entries = []
        self.files: Mapping[str, FileEntry] = {entry.name: entry for entry in entries}

    def version(self, name: str) -> Version | None:
        """A value that changes when a regular file does; None if there is no such file."""
        found = self.files.get(name)
        return (found.size, found.modified) if found and found.is_file else None

    def read(self, name: str, limit: int = MAX_SIZE, offset: int = 0) -> bytes | None:
        """At most `limit` bytes of a file. None if it is not a regular file: a pipe would block."""
        if self.version(name) is None:
            return None
        try:
            directory = self._directory
            return directory.host.files.read(f"{directory.path}/{name}", limit, offset)
        except FileMissing:
            return None


@dataclass(frozen=True)
class Facts:
    """What the portal records about a session in portal.json, which Open OnDemand does not have.

    `withheld` names the secret fields that the user filled in: a relaunch asks for them again.
    `cancelled_at` is in seconds since the epoch, `time_limit` in seconds. `topic` is the help for
    `reason`. `directory` is where the job's files are on an unsynched back-end.
    """

    withheld: tuple[str, ...] = ()
    cancelled_at: int | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    reason: str = ""
    host: str = ""
    time_limit: int | None = None
    directory: str = ""
    topic: HelpTopic | None = None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def parse_facts(data: bytes | None) -> Facts:
    found = mapping(data)
    outcome, withheld = found.get("outcome"), found.get("withheld")
    return Facts(
        withheld=tuple(map(str, withheld)) if isinstance(withheld, list) else (),
        cancelled_at=integer(found.get("cancelled_at")),
        outcome=Outcome(outcome) if outcome in list(Outcome) else None,
        exit_code=integer(found.get("exit_code")),
        reason=text(found.get("reason"), 1000),
        host=text(found.get("host"), 200),
        time_limit=integer(found.get("time_limit")),
        directory=text(found.get("directory"), 4096),
        topic=known_topic(found.get("topic")),
    )


class PortalFiles:
    """The files that the portal wrote into a context directory on the portal host: the values of
    the form, and `Facts`. Call `update` before anything else.

    `exist`: the directory has files, which users may remove. `log_name` is the name of the log,
    which the scheduler writes into the same directory. `job_name` is what the job was submitted
    with, empty if that is not known. `typed` is what was typed into the form, without secrets.
    """

    def __init__(self, directory: ContextDirectory, app: AppDefinition | None) -> None:
        self.directory = directory
        self.app = app
        self.exist = False
        self.facts = Facts()
        self.log_name = "output.log"
        self.job_name = ""
        self.typed: dict[str, str] = {}
        self._facts_version: Version | None = None
        self._is_read = False

    def update(self, listing: Listing) -> None:
        """Read the files in this listing that have changed. Raises `FileFailed`; then everything
        stays as it was."""
        facts, version = self.facts, listing.version(FACTS)
        if version is not None and version != self._facts_version:  # by another portal, perhaps
            facts = parse_facts(listing.read(FACTS))
        if not self._is_read:
            data = listing.read("job_script_options.json", MAX_TYPED)
            options = mapping(data)
            typed = mapping(listing.read("user_defined_context.json", MAX_TYPED))
            path = text(options.get("output_path"), 4096)
            self.log_name = path.rpartition("/")[2] or self.log_name
            self.job_name = text(options.get("job_name"), 1024)
            self.typed = {
                text(name, 100): text(str(value), MAX_LENGTH) for name, value in typed.items()
            }
            self._is_read = data is not None
        self.exist = bool(listing.files)
        self.facts = facts
        self._facts_version = version or self._facts_version

    def add_facts(self, **known: Any) -> None:
        """Add facts and save them. Raises `FileFailed`, but `facts` has them even then."""
        self.facts = replace(self.facts, **known)
        path = f"{self.directory.path}/{FACTS}"
        self.directory.host.files.replace(path, self.facts.to_json(), 0o600)

    def values(self, *, display: bool) -> tuple[tuple[str, str], ...]:
        """What was typed, as (label, value), without the cluster. With `display`, only the fields
        that form.yml shows on the card itself; else all others that are not empty."""
        fields = {field.name: field for field in self.app.fields} if self.app else {}
        rows = []
        for name, value in self.typed.items():
            field = fields.get(name)
            if name == CLUSTER_FIELD or display != (field is not None and field.display):
                continue
            if value == "" and (field is None or not display or field.hide_when_empty):
                continue
            if field is not None and field.widget == "check_box":
                value = "yes" if value == CHECKED else "no"
            elif field is not None:
                value = next((each.label for each in field.options if each.value == value), value)
            rows.append((field.label if field else name, value))
        return tuple(rows)
