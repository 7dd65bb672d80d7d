"""Session records and form values in the user's `ondemand` directory, in Open OnDemand's layout."""

import json
import logging
import threading

from ood.errors import FileFailed, FileMissing
from ood.hosts.base import FileEntry, Host
from ood.sessions.checked_json import mapping, text
from ood.sessions.context_directory import ContextDirectory, Version
from ood.sessions.record import SESSION_ID, SessionRecord, parse_record

ROOT = "ondemand/data/sys/dashboard/batch_connect"
MAX_RECORD = 65_536  # bytes
MAX_FORM = 1024 * 1024  # bytes

Known = tuple[Version, SessionRecord | None]  # None if the file is not a valid record

log = logging.getLogger(__name__)


class SessionStore:
    """The session files of one user, on the portal host. For all threads."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._files = host.files
        self._lock = threading.Lock()  # guards the two fields below
        self._known: dict[str, Known] = {}  # by file name
        self._writes = 0

    @property
    def root(self) -> str:
        return f"{self._host.home}/{ROOT}"

    def relative_path(self, record: SessionRecord) -> str:
        """The job context directory of a session, below the home directory of any host."""
        return f"{ROOT}/{record.token}/output/{record.id}"

    def directory(self, record: SessionRecord) -> ContextDirectory:
        """The job context directory on the portal host."""
        return ContextDirectory(self._host, self.relative_path(record))

    def records(self) -> list[SessionRecord]:
        """All sessions of the user, newest first. Only files that have changed are read."""
        with self._lock:
            writes, known = self._writes, dict(self._known)
        try:
            entries = self._files.list(f"{self.root}/db")
        except FileMissing:
            entries = []
        found = {
            entry.name: pair
            for entry in entries
            if (pair := self._read(entry, known.get(entry.name))) is not None
        }
        with self._lock:
            # A file written meanwhile can have the size and time of the file that was read.
            self._known = found if writes == self._writes else {}
        records = [record for _, record in found.values() if record is not None]
        return sorted(records, key=lambda record: (record.created_at, record.id), reverse=True)

    def write(self, record: SessionRecord) -> None:
        """Write a session's record in one step."""
        directory = f"{self.root}/db"
        try:
            self._files.replace(f"{directory}/{record.id}", record.to_json(), 0o600)
        except FileMissing:
            self._files.make_directories(directory, 0o700)
            self._files.replace(f"{directory}/{record.id}", record.to_json(), 0o600)
        with self._lock:
            self._writes += 1
            self._known.pop(record.id, None)

    def remove(self, record: SessionRecord) -> None:
        """Remove a session's record, if it exists, and none of its other files."""
        try:
            self._files.remove(f"{self.root}/db/{record.id}")
        except FileMissing:
            pass  # deleted in another window

    def last_values(self, token: str) -> dict[str, str]:
        """What the user last typed into an app's form (Open OnDemand's cache file)."""
        try:
            found = mapping(self._files.read(self._cache_path(token), MAX_FORM))
        except FileFailed:
            return {}
        return {text(name, 100): text(str(value), MAX_FORM) for name, value in found.items()}

    def remember_values(self, token: str, values: dict[str, str]) -> None:
        path = self._cache_path(token)
        self._files.make_directories(path.rpartition("/")[0], 0o700)
        self._files.replace(path, json.dumps(values, indent=2).encode(), 0o600)

    def _cache_path(self, token: str) -> str:
        return f"{self.root}/cache/{token.replace('/', '_')}.json"

    def _read(self, entry: FileEntry, known: Known | None) -> Known | None:
        version = (entry.size, entry.modified)
        if not SESSION_ID.fullmatch(entry.name) or not entry.is_file or entry.size > MAX_RECORD:
            return None
        if known is not None and known[0] == version:
            return known
        try:
            data = self._files.read(f"{self.root}/db/{entry.name}", MAX_RECORD)
        except FileMissing:  # deleted meanwhile
            return None
        except FileFailed as error:
            log.warning("could not read a session record: %s %s", error.message, error.detail)
            return known
        record = parse_record(entry.name, data)
        if record is None:
            log.warning("%s/db/%s is not a valid session record", self.root, entry.name)
        return version, record
