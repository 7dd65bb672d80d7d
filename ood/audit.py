"""Who did what to whose: one JSON line each, for those who have to answer for it.

The lines go to the site's `audit_log`, or else among the portal's own log; never a secret among
them. The file is opened for each line, so the site may rotate it as it likes.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from ood.errors import ConfigError

LONGEST = 1000  # characters of a value: names are others' to choose

log = logging.getLogger("audit")


class AuditLog:
    """The events. `broken` says that the last one could not be written, to a full disk for one."""

    def __init__(self, path: Path | None) -> None:
        """Raises `ConfigError` when the file cannot be written."""
        self._path = path
        self.broken = False
        if path is not None and not self._write(b""):
            raise ConfigError(f"{path}: the audit log cannot be written")

    def note(self, event: str, user: str, **facts: str | int) -> None:
        """Write down an event: who, from which address, on which host, on which object."""
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        found = {"time": when, "event": event, "user": user, **facts}
        line = json.dumps({name: _cut(value) for name, value in found.items()})
        if self._path is None:
            log.info("%s", line)
            return
        before = "\n" if self.broken else ""  # what was cut off ends here
        self.broken = not self._write(f"{before}{line}\n".encode())
        if self.broken:
            log.error("not in the audit log: %s", line)

    def _write(self, data: bytes) -> bool:
        assert self._path is not None
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                return os.write(file, data) == len(data)
            finally:
                os.close(file)
        except OSError as error:
            log.error("%s: %s", self._path, error)
            return False


def _cut(value: str | int) -> str | int:
    return value[:LONGEST] if isinstance(value, str) else value
