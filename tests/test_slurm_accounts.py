"""Slurm on the devcluster, used by an account whose start-up files set what its commands obey."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ood.apps.templates import render
from ood.config import Cluster
from ood.hosts.ssh import SSHHost
from ood.schedulers.base import Job, JobRequest, JobStatus, Outcome
from ood.schedulers.slurm.scheduler import Slurm
from ood.sessions.launch import JOB_ENVIRONMENT
from tests.conftest import Devcluster, wait_until
from tests.test_hosts import LOGIN_HOST, ssh

USER = "user43"
HOME = f"/home/{USER}"
TOLD = {
    "SQUEUE_PARTITION": "desktop",
    "SQUEUE_ACCOUNT": "nobody",
    "SQUEUE_USERS": "bob",
    "SQUEUE_STATES": "PENDING",
    "SQUEUE_SORT": "nonsense",
    "SQUEUE_FORMAT2": "JobID",
    "SACCT_FORMAT": "JobID",
    "SINFO_PARTITION": "desktop",
    "SCANCEL_STATE": "PENDING",
    "SBATCH_ARRAY_INX": "0-3",
    "SBATCH_WAIT": "1",
    "SBATCH_ERROR": "/tmp/elsewhere",
    "SBATCH_EXPORT": "NONE",
    "SBATCH_REQUEUE": "1",
    "SBATCH_TIMELIMIT": "1",
    "SBATCH_HOLD": "1",
    "SLURM_CLUSTERS": "other",
    "SLURM_JSON": "1",
    "SLURM_JOB_ID": "4711",
    "SRUN_DEBUG": "9",
}


@dataclass(frozen=True)
class Account:
    site: Devcluster
    host: SSHHost
    slurm: Slurm

    def starts_with(self, *lines: str, file: str = ".bashrc") -> None:
        text = "\n".join(lines) + "\n"
        script = 'printf %s "$1" | cat - "$2" > "$2.new"; mv "$2.new" "$2"'
        self.site.host("alpha-login", "sh", "-c", script, "sh", text, f"{HOME}/{file}")

    def submits(self, script: str, *native: str) -> JobRequest:
        request = JobRequest(
            content=f"#!/bin/bash\n{render(JOB_ENVIRONMENT, work_dir=HOME)}\n{script}\n",
            workdir=HOME,
            output_path=f"{HOME}/output.log",
            job_name="probe",
            comment=f"ood-session:{uuid.uuid4()}",
            queue_name="gpu",
            native=list(native),
        )
        self.slurm.submit(request)
        return request

    def job(self, request: JobRequest) -> Job:
        (found,) = (job for job in self.slurm.jobs() if job.comment == request.comment)
        return found

    def output(self, request: JobRequest) -> str:
        wait_until(lambda: self.job(request).status is JobStatus.COMPLETED, 30)
        return self.site.host("alpha-login", "cat", request.output_path)


@pytest.fixture
def account(devcluster: Devcluster) -> Iterator[Account]:
    job = {"adapter": "slurm", "submit_host": LOGIN_HOST, "bin": "/usr/bin"}
    cluster = Cluster.model_validate({"id": "gpu", "v2": {"job": job}})
    assert cluster.job is not None
    host = ssh(devcluster, USER, LOGIN_HOST)
    devcluster.host("alpha-login", "sh", "-ec", f"rm -rf {HOME}.kept; cp -a {HOME} {HOME}.kept")
    try:
        yield Account(devcluster, host, Slurm(cluster, cluster.job, host))
    finally:
        host.close()
        devcluster.host("alpha-login", "scancel", "--user", USER)
        devcluster.host("alpha-login", "sh", "-ec", f"rm -rf {HOME}; mv {HOME}.kept {HOME}")


def test_variables_in_start_up_files_change_neither_questions_nor_submissions(
    account: Account,
) -> None:
    account.starts_with(*(f"export {name}={value}" for name, value in TOLD.items()))
    request = account.submits("echo submitted; exec sleep 300")
    wait_until(lambda: account.job(request).status is JobStatus.RUNNING, 30)
    job = account.job(request)
    assert (job.name, job.partition, job.time_limit) == ("probe", "gpu", 3600)
    assert {each.name for each in account.slurm.partitions()} >= {"desktop", "gpu"}
    account.slurm.cancel(job.id)
    wait_until(lambda: account.slurm.ended([job.id]) != [], 30, "accounting does not know the job")
    (ended,) = account.slurm.ended([job.id])
    assert ended.outcome is Outcome.CANCELLED
    assert account.output(request).startswith("submitted\n")


def test_a_job_has_the_environment_that_it_would_have_without_the_portal(account: Account) -> None:
    of_the_host = {"XDG_RUNTIME_DIR": "/run/user/0", "DISPLAY": ":3", "TMP": "/of-this-host"}
    account.starts_with('module() { echo "module $*"; }; export -f module', file=".profile")
    account.starts_with(
        "export LANG=de_DE.UTF-8 MINE=1 SLURM_MPI_TYPE=pmix",
        '[[ "$HOSTNAME" != alpha-login ]] || export '
        + " ".join(f"{name}={value}" for name, value in of_the_host.items()),
    )
    by_hand = "cd; sbatch -Q -W -p gpu -J probe -o by-hand --wrap 'exec env' && cat by-hand"
    expected = account.site.as_user(USER, "alpha-login", by_hand)
    printed = account.output(account.submits("module load x\nexec env"))
    said, _, printed = printed.partition("\n")
    assert said == "module load x"

    def variables(text: str) -> dict[str, str]:
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line[1:])

    found, expected_ones = variables(printed), variables(expected)
    assert (found["LANG"], found["MINE"], found["SLURM_MPI_TYPE"]) == ("de_DE.UTF-8", "1", "pmix")
    for name in (*of_the_host, "SSH_CONNECTION", "LC_ALL", "SLURM_TIME_FORMAT", "TZ"):
        assert name not in found
    missing = expected_ones.keys() - found.keys() - of_the_host.keys()
    assert missing <= {"SSH_CLIENT", "SSH_CONNECTION", "_"}
    added = found.keys() - expected_ones.keys()
    assert {name for name in added if not name.startswith("SLURM_")} == {"BASH_FUNC_module%%"}


def test_a_job_on_several_nodes_is_reached_on_each_of_them(account: Account) -> None:
    both = ("PartitionName=both", "Nodes=desktop01,gpu01")
    account.site.host("alpha-login", "scontrol", "create", *both)
    try:
        request = account.submits("exec sleep 300", "--nodes=2", "--partition=both")
        wait_until(lambda: account.job(request).status is JobStatus.RUNNING, 30)
        job = account.job(request)
        assert (job.nodes, job.host) == (2, "desktop01,gpu01")
        nodes = account.slurm.nodes_of(job.host)
        assert {node.name: node.hosts for node in nodes} == {
            "desktop01": ("desktop01", "10.78.0.12"),
            "gpu01": ("gpu01", "10.78.0.13"),
        }
        for node in nodes:
            with account.slurm.start_on_node(job.id, node.name, ["hostname"]) as command:
                assert command.read(100) == f"{node.name}\n".encode()
        account.slurm.cancel(job.id)
        wait_until(lambda: account.job(request).status is JobStatus.COMPLETED, 30)
    finally:
        account.site.host("alpha-login", "scontrol", "delete", both[0], check=False)
