"""The audit log: one JSON line for each event, without secrets.

Lines go to the site's `audit_log`, or else to the portal's own log. The file is opened for each
line, so the site can rotate it at any time.
"""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from ood.errors import ConfigError

MAX_LENGTH = 1000  # characters of a value

log = logging.getLogger("audit")


class AuditLog:
    """Writes events. `broken`: the last event could not be written, for example to a full disk."""

    def __init__(self, path: Path | None) -> None:
        """Raises `ConfigError` when the file cannot be written."""
        self._path = path
        self.broken = False
        if path is not None and not self._write(b""):
            raise ConfigError(f"{path}: the audit log cannot be written")

    def note(self, event: str, user: str, **facts: str | int) -> None:
        """Write an event. Facts are `address`, `host`, `object` and others."""
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        found = {"time": when, "event": event, "user": user, **facts}
        line = json.dumps(
            {name: v[:MAX_LENGTH] if isinstance(v, str) else v for name, v in found.items()}
        )
        if self._path is None:
            log.info("%s", line)
            return
        before = "\n" if self.broken else ""  # ends a line that was cut off
        self.broken = not self._write(f"{before}{line}\n".encode())
        if self.broken:
            log.error("could not write to the audit log: %s", line)

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
