"""The devcluster does what the portal's tests and trials take for granted."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Devcluster, wait_until

DEVCLUSTER = Path(__file__).parent.parent / "devcluster"
IMAGE = "10.78.0.5:5000/lab/hello-tre:1.0"
PULL = f"podman pull -q --creds alice:reg-alice {IMAGE}"


def run(tool: str, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DEVCLUSTER / tool, *args], input=stdin, capture_output=True, text=True, timeout=600
    )


def on_alpha(user: str, *argv: str, stdin: str = "") -> str:
    done = run("as", user, "alpha-login", shlex.join(argv), stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def on_desktop(*argv: str) -> str:
    return run("as", "alice", "desktop01", shlex.join(argv)).stdout.strip()


def submit(script: str, *options: str, user: str = "alice") -> str:
    return on_alpha(
        user,
        "sbatch",
        "--parsable",
        "--mem=256M",
        "-o",
        "%j.log",
        *options,
        stdin=f"#!/bin/bash\n{script}\n",
    )


def state(job: str) -> str:
    return on_alpha("alice", "squeue", "-h", "-t", "all", "-j", job, "-o", "%T")


def finished_log(job: str) -> str:
    wait_until(lambda: state(job) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"))
    return on_alpha("alice", "cat", f"{job}.log")


pytestmark = pytest.mark.usefixtures("devcluster")


def test_container_runs_as_the_user_pulled_with_credentials() -> None:
    job = submit(f"{PULL} && podman run --rm -e 'HELLO_TRE=Hello there' {IMAGE} -d 1 -n Ada")
    log = finished_log(job)
    assert "Hello there Ada!" in log
    assert "Goodbye Ada!" in log
    wait_until(lambda: "COMPLETED" in on_alpha("alice", "sacct", "-nX", "-j", job, "-o", "state"))


def test_wrong_registry_token_is_refused() -> None:
    job = submit(f"podman pull -q --creds alice:wrong {IMAGE}")
    assert "unauthorized: authentication required" in finished_log(job)


def test_epilog_removes_what_a_cancelled_job_left_in_podman() -> None:
    job = submit(f"{PULL}; podman run -d --label ces.job=$SLURM_JOB_ID {IMAGE} -d 300; sleep 300")
    containers = ("podman", "ps", "-aq", "--filter", f"label=ces.job={job}")
    wait_until(lambda: on_desktop(*containers))
    on_alpha("alice", "scancel", job)
    wait_until(lambda: not on_desktop(*containers))


def test_gpu_job_sees_the_gpu_it_asked_for() -> None:
    job = submit(
        f"echo CUDA=$CUDA_VISIBLE_DEVICES; {PULL}; "
        f"podman run --rm --device nvidia.com/gpu=all --entrypoint ls {IMAGE} /dev/",
        *("-p", "gpu", "--gres=gpu:1"),
    )
    log = finished_log(job)
    assert "CUDA=0" in log
    assert "nvidia0" in log


def test_impossible_request_is_refused() -> None:
    done = run("as", "alice", "alpha-login", "sbatch --mem=20G --wrap hostname")
    assert done.returncode != 0
    assert "Memory specification can not be satisfied" in done.stderr


def test_users_do_not_see_each_others_files() -> None:
    assert on_alpha("bob", "stat", "-c", "%a", "/home/alice") == "700"
    assert run("as", "alice", "desktop01", "cat /safe_data/trial/README.txt").returncode == 0
    for secret in (
        "/safe_data/trial/README.txt",
        "/etc/munge/munge.key",
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/shadow",
    ):
        done = run("as", "bob", "desktop01", f"cat {secret}")
        assert "Permission denied" in done.stderr


def test_up_leaves_alone_what_runs() -> None:
    since = ("host", "portal-host", "stat", "-c", "%Z", "/run/devcluster-ready")
    before = run(*since).stdout
    assert before
    assert run("up").returncode == 0
    assert run(*since).stdout == before


def test_up_heals_a_host_that_died_and_a_service_that_died() -> None:
    run("host", "alpha-login", "pkill", "-x", "slurmctld")
    pid = subprocess.run(
        ["pgrep", "-o", "-u", "0", "-f", f"{Devcluster.state}/bin/hostinit desktop01 "],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    os.kill(int(pid), 9)
    done = run("up")
    assert done.returncode == 0, done.stderr
    assert "desktop01" in finished_log(submit("hostname"))
