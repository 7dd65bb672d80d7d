"""The time of a launch compared with submitting by hand, and the portal's memory afterwards.

Measured alternately, in one run on the devcluster: `ssh back-end sbatch job.sh` with a key
(connection, login shell and sbatch), and pressing Launch (check the form, write the files, run
sbatch, respond) as a signed-in user. `make bench` runs it, and asserts no goals.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.conftest import Devcluster, RunningPortal  # noqa: E402
from tests.webuser import WebUser  # noqa: E402

ROUNDS = 10


def main() -> None:
    site = Devcluster()
    site.up()
    site.as_user("alice", "alpha-login", "printf '#!/bin/sh\\nsleep 1\\n' > job.sh")
    with tempfile.TemporaryDirectory() as directory:
        config = {"OOD_PORTAL_CONFIG": str(site.state / "portal.yml")}
        portal = RunningPortal(Path(directory), config)
        portal.start()
        try:
            measure(portal)
        finally:
            portal.stop()
            site.as_user("alice", "alpha-login", "scancel -u alice")


def measure(portal: RunningPortal) -> None:
    alice = WebUser(portal, "alice")
    alice.sessions()
    token = alice.csrf_token("/apps/container_app")
    by_hand, by_portal = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run(
            [ROOT / "devcluster/as", "alice", "alpha-login", "sbatch --parsable job.sh"],
            check=True,
            capture_output=True,
        )
        by_hand.append(time.perf_counter() - start)
        start = time.perf_counter()
        assert alice.launch(token, container_arguments="-d 1") == 303
        by_portal.append(time.perf_counter() - start)
    ratios = [ours / theirs for ours, theirs in zip(by_portal, by_hand, strict=True)]
    print(f"ssh back-end sbatch job.sh  {_spread(by_hand, 1000, ' ms')}")
    print(f"Launch                      {_spread(by_portal, 1000, ' ms')}")
    print(f"ratio, per pair             {_spread(ratios, 1, '')}")
    for name, pid in {"worker": portal.worker, "arbiter": portal.arbiter}.items():
        memory = _memory(pid)
        print(f"memory of the {name}: {memory['Rss']} MB resident, {memory['Pss']} MB proportional")


def _spread(values: list[float], scale: float, unit: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    digits = 0 if unit else 2
    shown = (f"{value * scale:.{digits}f}{unit}" for value in (low, middle, high))
    return "min {}, median {}, max {}".format(*shown)


def _memory(pid: int) -> dict[str, int]:
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {row.split()[0].rstrip(":"): int(row.split()[1]) for row in rows}
    return {name: round(kilobytes[name] / 1000) for name in ("Rss", "Pss")}


if __name__ == "__main__":
    main()
