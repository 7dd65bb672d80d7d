"""A separate process that cleans up after ces-run, however ces-run ends.

Python 3.8 or later, standard library only.
"""

from __future__ import annotations

import os
import signal
import time

import ces_common as ces


def start_janitor(runner: str, scratch: str) -> tuple[int, int]:
    """Start a process that cleans up when this process ends, however it ends, or closes the pipe.

    Returns the process ID and a pipe to the process. Write the runner's process ID to the pipe and,
    once the runner has ended by itself, the word " ended".
    """
    reader, pipe = os.pipe()
    janitor = os.fork()
    if janitor:
        os.close(reader)
        return janitor, pipe
    try:
        os.setsid()
        for signum in ces.ENDING_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.close(pipe)
        with open(reader, encoding="ascii") as orders:
            pid, _, ended = orders.read().partition(" ")
        clean_up(runner, 0 if ended else int(pid or 0), scratch)
    except Exception as error:
        ces.complain(f"{scratch} could not be cleaned up ({error}). Delete it yourself.")
    finally:
        os._exit(0)


def clean_up(runner: str, pid: int, scratch: str) -> None:
    """End the runner (unless `pid` is 0) and its container, and remove the scratch directory."""
    podman = runner == "podman"
    if pid:
        stopped = podman and stop_containers(scratch)
        signal_group(pid, 0 if stopped else signal.SIGTERM, 1.5)
        signal_group(pid, signal.SIGKILL, 1)
    if podman:
        stop_containers(scratch)  # again, for a container that podman was still creating
    # Directories may be read-only, and rootless podman may leave files of subordinate users.
    rm = ("rm", "-rf", "--one-file-system", "--", scratch)
    for argv in (rm, ("chmod", "-Rf", "u+rwX", "--", scratch), rm, ("podman", "unshare", *rm)):
        if os.path.lexists(scratch):
            try:
                ces.quiet(*argv, timeout=600)
            except OSError:
                continue  # podman is not installed
    if os.path.lexists(scratch):
        ces.complain(f"{scratch} could not be removed on {ces.HOST}. Delete it yourself.")


def stop_containers(scratch: str) -> bool:
    """Stop and remove this run's container, found by its label. Returns whether there was one."""
    find = ("podman", "ps", "--all", "--quiet", f"--filter=label=ces.run={scratch}")
    found = ces.quiet(*find).stdout.split()
    if found:
        ces.quiet("podman", "stop", "--time=1", *found)
        ces.quiet("podman", "rm", "--force", *found)
    return bool(found)


def signal_group(pid: int, signum: int, seconds: float) -> None:
    """Send a signal (0: none) to a process group, and wait up to `seconds` for it to end."""
    deadline = time.monotonic() + seconds
    try:
        os.killpg(pid, signum)
        while time.monotonic() < deadline:
            time.sleep(0.02)
            os.killpg(pid, 0)
    except OSError:
        pass  # the processes have ended
