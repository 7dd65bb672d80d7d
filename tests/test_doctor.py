"""`flask --app app doctor`, for administrators."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, SLOW, Devcluster
from tests.sshd import PrivateSshd


def examine(config: Path, user: str, password: str = "", **settings: str) -> tuple[int, str]:
    """Run it as on the command line. Returns the exit code and what it prints."""
    path = config / "portal.yml"
    found = yaml.safe_load(path.read_text()) | settings
    (config / "doctor.yml").write_text(yaml.safe_dump(found))
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "doctor"],
        input=f"{user}\n{password or user + '-pw'}\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OOD_PORTAL_CONFIG": str(config / "doctor.yml"), "PORT": "8000"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


@SLOW
def test_all_is_well(site_config: Path, devcluster: Devcluster) -> None:  # noqa: ARG001
    code, said = examine(site_config, "alice")
    assert (code, "MISTAKE" in said, "Warning" in said) == (0, False, False), said
    for text in (
        "10.78.0.10: ok: alice signs in",
        "10.78.0.21: ok: the home directory is /home/alice",
        "gpu: ok: slurm",
        "gpu: ok: squeue: answers",
        "beta: ok: sacct: answers",
        "desktop: ok: a test job found the container tools, home and safe data",
    ):
        assert text in said, said


@SLOW
def test_an_untidy_account(site_config: Path, devcluster: Devcluster) -> None:  # noqa: ARG001
    code, said = examine(site_config, "eve")
    assert code == 0, said
    assert "The login shell is /bin/tcsh" in said
    assert "10.78.0.10: Warning: start-up files print" in said
    assert "10.78.0.10: Warning: sshd’s SFTP does not work for this account" in said
    assert "the home directory is /srv/u/eve, a link to /home/eve" in said


@SLOW
@pytest.mark.parametrize(
    ("user", "password", "text"),
    [
        ("otto", "", "Your password on 10.78.0.10 has expired"),
        ("alice", "wrong", "did not accept your user name and password"),
        ("nora", "", "the home directory /home/nora cannot be used: File not found"),
    ],
)
def test_what_is_wrong_with_an_account(
    site_config: Path,
    devcluster: Devcluster,  # noqa: ARG001
    user: str,
    password: str,
    text: str,
) -> None:
    code, said = examine(site_config, user, password)
    assert (code, text in said) == (1, True), said


@SLOW
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["AuthenticationMethods password,publickey"], "also asks for a second factor"),
        (["MaxSessions 4"], "sshd allows 4 sessions on a connection"),
        (["AllowTcpForwarding no"], "Set AllowTcpForwarding"),
        (["Subsystem sftp /bin/false"], "there is no such subsystem"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_host(
    site_config: Path,
    start_sshd: Callable[..., PrivateSshd],
    tmp_path: Path,
    options: list[str],
    text: str,
) -> None:
    sshd = start_sshd(*options)
    cluster = {"v2": {"login": {"host": sshd.address}, "job": {"adapter": "slurm"}}}
    clusters = tmp_path / "clusters"
    clusters.mkdir()
    (clusters / "one.yml").write_text(yaml.safe_dump(cluster))
    known_hosts = sshd.known_hosts(tmp_path / "known")
    _, said = examine(
        site_config,
        "alice",
        portal_host=sshd.address,
        known_hosts=str(known_hosts),
        clusters=str(clusters),
    )
    assert text in said, said
