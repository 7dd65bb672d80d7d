"""How busy the machine is: other workers and other people use it too."""

import os
from pathlib import Path


def busy() -> float:
    """How many times as long things may take now as on a machine with nothing else to do."""
    last_minute, *_, processes, _ = Path("/proc/loadavg").read_text().split()
    now = processes.partition("/")[0]
    return max(1.0, max(float(last_minute), float(now)) / (os.cpu_count() or 1))


def patience(seconds: float) -> float:
    """How long to wait for what takes less than `seconds` on a machine with nothing else to do. No
    measure knows of the load that is still to come, so this is generous: only failures take it."""
    return 3 * seconds * busy()
