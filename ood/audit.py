"""Who did what to whose: one JSON line each, for those who have to answer for it.

The lines go to the logger `audit`; never a secret among them.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

log = logging.getLogger("audit")


def note(event: str, user: str, **facts: str | int) -> None:
    """Write down an event. `facts` say from which address and on which object."""
    when = datetime.now(UTC).isoformat(timespec="milliseconds")
    log.info("%s", json.dumps({"time": when, "event": event, "user": user, **facts}))
