"""Reading JSON that users or their jobs can change: every value is checked."""

import json
from typing import Any

LAST_SECOND = 253_402_300_799  # of the year 9999, the last that Python's dates have


def mapping(data: bytes | None) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError):  # not JSON, or nested too deeply
        return {}
    return found if isinstance(found, dict) else {}


def integer(value: Any) -> int | None:
    """A whole number that can also be seconds since the epoch; None for anything else."""
    good = isinstance(value, int) and not isinstance(value, bool)
    return value if good and -LAST_SECOND <= value <= LAST_SECOND else None


def text(value: Any, limit: int) -> str:
    """Text that a page can show, of at most `limit` characters; empty for anything else."""
    if not isinstance(value, str):
        return ""
    return value[:limit].encode("utf-8", "replace").decode()
