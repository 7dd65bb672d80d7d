"""Where sessions are kept: the user's own `ondemand` directory, in Open OnDemand's layout."""

from __future__ import annotations

import json
import logging

from ood.errors import FileFailed, FileMissing
from ood.hosts.base import FileEntry, Host
from ood.sessions.checked_json import mapping, text
from ood.sessions.places import Place
from ood.sessions.record import SESSION_ID, SessionRecord, parse_record

ROOT = "ondemand/data/sys/dashboard/batch_connect"
MAX_RECORD = 65_536  # bytes
MAX_FORM = 1024 * 1024  # bytes

log = logging.getLogger(__name__)


class SessionStore:
    """The session files of one user, on the portal host.

    Only what changed since the last look is read again. Not safe for two threads: its owner locks.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._files = host.files
        self.root = f"{host.home}/{ROOT}"
        self._read: dict[str, tuple[tuple[float, int], SessionRecord | None]] = {}

    def relative_path(self, record: SessionRecord) -> str:
        """The job context directory of a session, below the home on any host."""
        return f"{ROOT}/{record.token}/output/{record.id}"

    def place(self, record: SessionRecord) -> Place:
        """The job context directory on the portal host."""
        return Place(self._host, self.relative_path(record))

    def context_directory(self, record: SessionRecord) -> str:
        return self.place(record).path

    def records(self) -> list[SessionRecord]:
        """All sessions of the user, newest first."""
        try:
            entries = self._files.list(f"{self.root}/db")
        except FileMissing:
            entries = []
        names = {entry.name for entry in entries}
        self._read = {name: known for name, known in self._read.items() if name in names}
        for entry in entries:
            self._look_at(entry)
        found = [record for _, record in self._read.values() if record is not None]
        return sorted(found, key=lambda record: (record.created_at, record.id), reverse=True)

    def write(self, record: SessionRecord) -> None:
        """Write a session's record in one step."""
        directory = f"{self.root}/db"
        try:
            self._files.replace(f"{directory}/{record.id}", record.to_json(), 0o600)
        except FileMissing:
            self._files.make_directories(directory, 0o700)
            self._files.replace(f"{directory}/{record.id}", record.to_json(), 0o600)
        self._read.pop(record.id, None)

    def remove(self, record: SessionRecord) -> None:
        """Remove a session's record, if it is there: its card goes, its files stay."""
        try:
            self._files.remove(f"{self.root}/db/{record.id}")
        except FileMissing:
            pass  # deleted in another window

    def replace(self, record: SessionRecord, name: str, data: bytes) -> None:
        self._files.replace(f"{self.context_directory(record)}/{name}", data, 0o600)

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

    def _look_at(self, entry: FileEntry) -> None:
        version = (entry.modified, entry.size)
        if not SESSION_ID.fullmatch(entry.name) or not entry.is_file or entry.size > MAX_RECORD:
            return
        if entry.name in self._read and self._read[entry.name][0] == version:
            return
        try:
            data = self._files.read(f"{self.root}/db/{entry.name}", MAX_RECORD)
        except FileFailed:  # deleted in another tab, or not to be read
            return
        record = parse_record(entry.name, data)
        if record is None:
            log.warning("%s: %s/db/%s is no session record", self._host.user, self.root, entry.name)
        self._read[entry.name] = (version, record)
