"""A real sshd of one test, on the devcluster's portal host."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Devcluster

PORTAL_HOST = "10.78.0.10"


@dataclass(frozen=True)
class PrivateSshd:
    devcluster: Devcluster
    directory: str
    port: int

    @property
    def address(self) -> str:
        return f"{PORTAL_HOST}:{self.port}"

    @property
    def log(self) -> str:
        return self.devcluster.host("portal-host", "cat", f"{self.directory}/log")

    def will_die_during_sign_in(self) -> None:
        """Kill sshd after the next connection, before PAM answers, which takes 2 seconds for a
        wrong password."""
        script = f"""
            cd {self.directory} && pid=$(cat pid)
            {{
              until grep -q 'Connection from' log; do sleep 0.05; done
              sleep 0.5
              kill -9 $(pgrep -P $pid) $pid
            }} >/dev/null 2>&1 &
            """
        self.devcluster.host("portal-host", "sh", "-c", script)

    def known_hosts(self, path: Path, key: str = "") -> Path:
        key = key or self.devcluster.host("portal-host", "cat", f"{self.directory}/key.pub")
        path.write_text(f"[{PORTAL_HOST}]:{self.port} {key}\n")
        return path


@contextmanager
def private_sshd(devcluster: Devcluster, *options: str) -> Iterator[PrivateSshd]:
    """Start one with these lines in its sshd_config; `DIR` in them is its directory."""
    sshd = PrivateSshd(
        devcluster, f"/run/sshd-{secrets.token_hex(4)}", random.randrange(20000, 30000)
    )
    config = [
        f"Port {sshd.port}",
        "HostKey DIR/key",
        "PidFile DIR/pid",
        *options,  # sshd uses the first of several values
        "UsePAM yes",
        "KbdInteractiveAuthentication no",
        *(
            []
            if any("Subsystem" in option for option in options)
            else ["Subsystem sftp internal-sftp"]
        ),
        "LogLevel VERBOSE",
    ]
    text = "\n".join(config).replace("DIR", sshd.directory)
    script = f"""
        mkdir {sshd.directory} && cd {sshd.directory}
        ssh-keygen -q -t ed25519 -N "" -f key
        touch revoked
        echo '{text}' >config
        /usr/sbin/sshd -f $PWD/config -E $PWD/log
        until [ -s pid ]; do sleep 0.05; done # it listens
        """
    devcluster.host("portal-host", "sh", "-ec", script)
    try:
        yield sshd
    finally:
        stop = f"cd {sshd.directory} && kill $(cat pid); rm -r $PWD"
        devcluster.host("portal-host", "sh", "-c", stop)
