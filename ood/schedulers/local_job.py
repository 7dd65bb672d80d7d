"""The command line of the local scheduler: `local_job.py DIRECTORY submit|list|cancel ID`.

It uses the standard library only. `submit` reads a `JobRequest` as JSON from standard input, starts
a supervisor that is detached from the portal, and prints the job ID. The supervisor runs the script
with bash in a process group of its own, ends it at its time limit, and records the outcome.

A job is a directory `DIRECTORY/<id>` with `script.sh` and `job.json`, which holds `id` `name`
`comment` `host` `state` (RUNNING COMPLETED FAILED CANCELLED TIMEOUT) `exit_code` `started` `ended`
`time_limit`, the request's `cores` `memory_gib` `gpus` `work_dir`, and the PID and start time of
both processes. The pair identifies a process until the next boot.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

GRACE = 10  # seconds between TERM and KILL
REQUIRED = "id name comment host state exit_code started time_limit boot supervisor script"
"""The keys of every complete job.json."""
REMEMBERED = 30 * 24 * 3600.0  # seconds for which the record of a job is kept


def submit(directory: Path) -> str:
    """Start a job, and return its ID once the supervisor has recorded that it is running."""
    request = json.load(sys.stdin)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    job = new_job(directory)
    forget_old(directory)  # after `new_job`, so that no number is reused
    (job / "script.sh").write_text(request["content"], "utf-8")
    record = {
        "id": job.name,
        "name": request["job_name"],
        "comment": request["comment"],
        "host": socket.gethostname(),
        "state": "RUNNING",
        "exit_code": None,
        "started": time.time(),
        "ended": None,
        "time_limit": request["wall_time"],
        "cores": request["cores"],
        "memory_gib": request["memory_gib"],
        "gpus": request["gpus_per_node"],
        "work_dir": request["workdir"],
        "boot": boot_id(),
    }
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(reading)
            supervise(job, record, request, writing)
        os._exit(0)
    os.close(writing)
    os.wait()
    with os.fdopen(reading, "rb") as ready:
        if ready.read() != b"started":
            raise SystemExit("The job could not be started.")
    return job.name


def new_job(directory: Path) -> Path:
    """Make a directory named with the next free number."""
    number = max((int(name) for name in os.listdir(directory) if name.isdigit()), default=0)
    while True:
        number += 1
        job = directory / str(number)
        try:
            job.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return job


def supervise(job: Path, record: dict[str, Any], request: dict[str, Any], ready: int) -> None:
    """Run the script to its end. Does not return."""
    end_states: list[str] = []  # the first counts
    try:
        with open(request["output_path"], "ab") as output, open(os.devnull, "r+b") as nothing:
            for standard in (0, 1, 2):
                os.dup2(nothing.fileno(), standard)
            # Otherwise a job of a portal that ignores SIGHUP would ignore it too.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            process = subprocess.Popen(
                ["/bin/bash", str(job / "script.sh")],
                stdout=output,
                stderr=output,
                cwd=request["workdir"],
                env={**os.environ, "LOCAL_JOB_ID": job.name},
                start_new_session=True,
            )

            def end(state: str, *, kill: bool = False) -> None:
                """Send TERM to the script's process group, and KILL after GRACE seconds."""
                end_states.append(state)
                signal_group(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
                signal.alarm(GRACE)

            def on_alarm(*_: object) -> None:
                if not end_states:
                    os.write(output.fileno(), b"The job reached its time limit and was ended.\n")
                end("TIMEOUT", kill=bool(end_states))

            signal.signal(signal.SIGTERM, lambda *_: end("CANCELLED"))
            signal.signal(signal.SIGALRM, on_alarm)
            signal.alarm(request["wall_time"])
            record["supervisor"] = [os.getpid(), start_time(os.getpid())]
            record["script"] = [process.pid, start_time(process.pid)]
            write(job, record)
            os.write(ready, b"started")
            os.close(ready)
            code = process.wait()
            signal.alarm(0)
            signal_group(process.pid, signal.SIGKILL)  # processes that the script left behind
        record["state"] = end_states[0] if end_states else ("FAILED" if code else "COMPLETED")
        record["exit_code"] = code if code >= 0 else None
        record["ended"] = time.time()
        write(job, record)
    except OSError as error:
        print(error, file=sys.stderr)
    finally:
        os._exit(0)


def signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def list_jobs(directory: Path) -> list[dict[str, Any]]:
    """The records of all jobs, with `time_left`. A running job without processes is LOST."""
    found = []
    for name in os.listdir(directory) if directory.is_dir() else []:
        record = read(directory / name)
        if record is None:
            continue
        if record["state"] == "RUNNING" and not (
            alive(record, "supervisor") or alive(record, "script")
        ):
            # The supervisor may have recorded the outcome and ended since the first read.
            record = read(directory / name) or record
            if record["state"] == "RUNNING":
                record["state"] = "LOST"
        record["time_left"] = max(int(record["started"] + record["time_limit"] - time.time()), 0)
        found.append(record)
    return found


def cancel(directory: Path, job_id: str) -> None:
    """End a running job: ask its supervisor or, if that is gone, signal the script itself."""
    record = read(directory / job_id)
    if record is None or record["state"] != "RUNNING":
        return
    if alive(record, "supervisor"):
        os.kill(record["supervisor"][0], signal.SIGTERM)
    elif alive(record, "script"):
        signal_group(record["script"][0], signal.SIGTERM)


def forget_old(directory: Path) -> None:
    for record in list_jobs(directory):
        if record["state"] != "RUNNING" and time.time() - record["started"] > REMEMBERED:
            shutil.rmtree(directory / record["id"], ignore_errors=True)


def read(job: Path) -> dict[str, Any] | None:
    """A job's record; None if it is missing, not yet written, or broken."""
    try:
        found = json.loads((job / "job.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    complete = isinstance(found, dict) and found.keys() >= {*REQUIRED.split()}
    return found if complete and job.name == found["id"] else None


def write(job: Path, record: dict[str, Any]) -> None:
    aside = job / "job.json.new"
    aside.write_text(json.dumps(record), "utf-8")
    aside.rename(job / "job.json")


def alive(record: dict[str, Any], which: str) -> bool:
    pid, started = record[which]
    return bool(record["boot"] == boot_id() and start_time(pid) == started)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def start_time(pid: int) -> int | None:
    """When a process started, in ticks since boot (proc(5), field 22); None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def main(arguments: list[str]) -> None:
    directory = Path(arguments[0])
    match arguments[1:]:
        case ["submit"]:
            print(submit(directory))
        case ["list"]:
            print(json.dumps(list_jobs(directory)))
        case ["cancel", job_id]:
            cancel(directory, job_id)
        case _:
            raise SystemExit("usage: local_job.py DIRECTORY submit|list|cancel ID")


if __name__ == "__main__":
    main(sys.argv[1:])
