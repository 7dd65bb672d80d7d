"""The portal's own part of a job context directory: what was typed, and the facts it keeps.

All in it may have been changed by the user, so every file is read with a limit and only if it is a
plain file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ood.apps.definition import CLUSTER_FIELD, AppDefinition
from ood.apps.fields import CHECKED, MAX_LENGTH
from ood.sessions.checked_json import mapping, text
from ood.sessions.facts import MAX_SIZE, PORTAL, Facts, parse_facts
from ood.sessions.places import Listing, Version
from ood.sessions.record import SessionRecord
from ood.sessions.store import SessionStore

MAX_TYPED = 1024 * 1024  # bytes


class ContextDirectory:
    """What the portal wrote down about a session. Call `look` first, with what is there now."""

    def __init__(
        self, store: SessionStore, record: SessionRecord, app: AppDefinition | None
    ) -> None:
        self._store = store
        self._record = record
        self._app = app
        self._listing: Listing | None = None
        self._facts: Facts | None = None
        self._facts_version: Version | None = None
        self._typed: dict[str, str] | None = None
        self._log_name = ""

    def look(self, listing: Listing) -> None:
        """Take what is there now, listed at the portal host."""
        self._listing = listing
        version = listing.version(PORTAL)
        if version is not None and version != self._facts_version:
            self._facts = None  # another portal may write it too
            self._facts_version = version

    @property
    def there(self) -> bool:
        """Whether there is a directory at all: users may remove it."""
        return self._listing is not None and bool(self._listing.files)

    @property
    def log_name(self) -> str:
        """The file that the scheduler writes the job's output to, in the same directory."""
        if not self._log_name:
            data = self._read("job_script_options.json", MAX_TYPED)
            path = text(mapping(data).get("output_path"), 4096) or "output.log"
            if data is None:
                return path
            self._log_name = path.rpartition("/")[2]
        return self._log_name

    @property
    def facts(self) -> Facts:
        if self._facts is None:
            self._facts = parse_facts(self._read(PORTAL))
        return self._facts

    def add_facts(self, **known: Any) -> None:
        """Write down facts beside those known. Raises `FileFailed`, and knows them even then."""
        self._facts = replace(self.facts, **known)
        self._store.replace(self._record, PORTAL, self._facts.to_json())

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
        """What was typed, as (label, value) for the card; empty fields, the cluster, and what is
        `displayed` left out."""
        return self._rows(display=False)

    @property
    def displayed(self) -> tuple[tuple[str, str], ...]:
        """What was typed into the fields that form.yml has on the card itself: (label, value)."""
        return self._rows(display=True)

    def _rows(self, *, display: bool) -> tuple[tuple[str, str], ...]:
        fields = {field.name: field for field in self._app.fields} if self._app else {}
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

    def _read(self, name: str, limit: int = MAX_SIZE) -> bytes | None:
        return self._listing.read(name, limit) if self._listing is not None else None
