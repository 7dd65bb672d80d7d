"""The job context directory of one session: what it holds, read once and again when it changed.

All in it may have been changed by the user or by what ran in the job, so every file is read with a
limit and only if it is a plain file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ood.apps.definition import CLUSTER_FIELD, AppDefinition
from ood.apps.fields import CHECKED, MAX_LENGTH
from ood.hosts.base import FileEntry
from ood.sessions import facts as names
from ood.sessions.facts import Facts, parse_exit_code, parse_facts, parse_started_job
from ood.sessions.record import SessionRecord
from ood.sessions.service import MAX_CONNECTION, Connection, parse_connection
from ood.sessions.store import SessionStore
from ood.sessions.untrusted import mapping, text

TAIL_LINES = 20
TAIL_BYTES = 8192
MAX_SENTENCE = 500  # characters
MAX_TYPED = 1024 * 1024  # bytes
OUTPUTS = re.compile(r"outputs-[0-9]+")
# Terminal control sequences (ECMA-48) and the other characters that a page cannot show.
CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class ContextDirectory:
    """What is known of one job context directory. Call `look` first; it says what is there now."""

    def __init__(
        self, store: SessionStore, record: SessionRecord, app: AppDefinition | None
    ) -> None:
        self._store = store
        self._record = record
        self._app = app
        self._files: Mapping[str, FileEntry] = {}
        self._facts: Facts | None = None
        self._facts_version: tuple[int, float] | None = None
        self._typed: dict[str, str] | None = None
        self._log_version: tuple[int, float] | None = None
        self._connection_version: tuple[int, float] | None = None
        self.connection: Connection | None = None
        self.connection_changed = False
        """connection.yml is no longer what it was when it first came."""
        self.log_name = ""
        self.log_tail = ""
        self.outputs = ""

    def look(self) -> None:
        """List the directory, and read the end of the log if it has grown."""
        self._files = self._store.context_files(self._record)
        written = self._files.get(names.PORTAL)
        if written is not None and (written.size, written.modified) != self._facts_version:
            self._facts = None  # another portal may write it too
            self._facts_version = (written.size, written.modified)
        self._look_at_log()
        if self._app is not None and self._app.manifest.service is not None:
            self._look_at_connection()
        if not self.outputs:
            name = (self._read("outputs_directory") or b"").decode("ascii", "replace").strip()
            self.outputs = name if OUTPUTS.fullmatch(name) else ""

    @property
    def there(self) -> bool:
        """Whether there is a directory at all: users may remove it."""
        return bool(self._files)

    @property
    def connected(self) -> bool:
        return "connection.yml" in self._files

    @property
    def exit_code(self) -> int | None:
        return parse_exit_code(self._read(names.OUTCOME))

    @property
    def failure(self) -> str:
        """The one sentence that the job left about why it failed; empty when it left none."""
        line = (self._read("failure") or b"").decode("utf-8", "replace").partition("\n")[0]
        return CONTROLS.sub("", line).strip()[:MAX_SENTENCE]

    @property
    def started_job(self) -> str | None:
        return parse_started_job(self._read(names.STARTED))

    @property
    def facts(self) -> Facts:
        if self._facts is None:
            self._facts = parse_facts(self._read(names.PORTAL))
        return self._facts

    def add_facts(self, **known: Any) -> None:
        """Write down facts beside those known. Raises `FileFailed`, and knows them even then."""
        self._facts = replace(self.facts, **known)
        self._store.replace(self._record, names.PORTAL, self._facts.to_json())

    @property
    def typed(self) -> dict[str, str]:
        """What was typed into the form, without secrets."""
        if self._typed is None:
            found = mapping(self._read("user_defined_context.json", MAX_TYPED))
            self._typed = {
                text(name, 100): text(str(value), MAX_LENGTH) for name, value in found.items()
            }
        return self._typed

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """What was typed, as (label, value) for the card; empty fields and the cluster left out."""
        fields = {field.name: field for field in self._app.fields} if self._app else {}
        rows = []
        for name, value in self.typed.items():
            if name == CLUSTER_FIELD or value == "":
                continue
            field = fields.get(name)
            if field is not None and field.widget == "check_box":
                value = "yes" if value == CHECKED else "no"
            rows.append((field.label if field else name, value))
        return tuple(rows)

    def remove_secrets(self) -> None:
        """Remove the secrets that the job has not removed itself."""
        for field in self._app.secrets if self._app else ():
            if secret_file(field.name) in self._files:
                self._store.remove_file(self._record, secret_file(field.name))

    def _look_at_log(self) -> None:
        if not self.log_name:
            options = mapping(self._read("job_script_options.json", MAX_TYPED))
            path = text(options.get("output_path"), 4096) or "output.log"
            self.log_name = path.rpartition("/")[2]
        found = self._files.get(self.log_name)
        if found is None or not found.is_file:
            return
        version = (found.size, found.modified)
        if version != self._log_version:
            start = max(0, found.size - TAIL_BYTES)
            data = self._store.read(self._record, self.log_name, TAIL_BYTES, start) or b""
            self.log_tail = tail_of(data, cut=start > 0)
            self._log_version = version

    def _look_at_connection(self) -> None:
        found = self._files.get("connection.yml")
        if found is None:  # not yet, or the job was requeued
            self._connection_version, self.connection = None, None
            self.connection_changed = False
            return
        version = (found.size, found.modified)
        if version == self._connection_version:
            return
        connection = parse_connection(self._read("connection.yml", MAX_CONNECTION))
        if self._connection_version is None:
            self.connection = connection
        elif connection != self.connection:
            self.connection_changed = True
        self._connection_version = version

    def _read(self, name: str, limit: int = names.MAX_SIZE) -> bytes | None:
        """At most `limit` bytes of a plain file: opening a pipe would wait for ever."""
        found = self._files.get(name)
        if found is None or not found.is_file:
            return None
        return self._store.read(self._record, name, limit)


def secret_file(field: str) -> str:
    """The name of the file that carries a secret field to the job, which removes it."""
    return f"secret_{field}"


def tail_of(data: bytes, *, cut: bool) -> str:
    """The last lines of a log as plain text; `cut`: the data begins in the middle of a line.

    Of a line that was overwritten with carriage returns (a progress bar), the last state is kept.
    """
    lines = data.decode("utf-8", "replace").split("\n")
    if cut and len(lines) > 1:
        lines = lines[1:]
    if not lines[-1]:
        lines.pop()
    shown = (line.rstrip("\r").rpartition("\r")[2] for line in lines[-TAIL_LINES:])
    return "\n".join(CONTROLS.sub("", line) for line in shown)
