"""Which secrets other users of a machine can read. A process's command line is open to them until
the process ends or replaces it. Its environment is not."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import yaml

from ood.apps.definition import AppDefinition
from ood.config import ROOT
from tests.conftest import SLOW, RunningPortal, wait_until
from tests.echo import HereUser, asked
from tests.shells import Line
from tests.test_apps import container_app, job_files  # noqa: F401 - a fixture
from tests.test_transfers import Copier
from tests.test_uploads import Uploader
from tests.webuser import WebUser

BIN = ROOT / "ces" / "bin"
HERE = "this machine"
NOBODY = 65534
TOKEN = "reg-alice"
# Reads what /proc shows of every process, again and again, until its standard input ends.
WATCHER = """
import os, select
seen = set()
print("watching", flush=True)
while not select.select([0], [], [], 0.0005)[0]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                file = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
                try:
                    seen.add(os.read(file, 1 << 20))
                finally:
                    os.close(file)
            except OSError:
                pass
print(*seen, sep="\\n")
"""


class Watch:
    """Another user, who watches the processes of a machine."""

    def __init__(self, *argv: str | Path, uid: int | None = None) -> None:
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "watching\n"

    def ends(self) -> str:
        """Stop watching; all that was seen."""
        if self._process.returncode is None:
            self._seen, _ = self._process.communicate(timeout=120)
        return self._seen


@dataclass
class Stack:
    """A portal, one of its users, and other users who watch the machines."""

    portal: RunningPortal
    signs_in: Callable[[], WebUser]
    cluster: str
    node: str
    home: str
    run: Callable[[str], str]
    """Run a script on the back-end as the user. The script is not on a command line."""
    copies_to: str
    """The host and the directory that a file is copied to."""
    directory: str
    watches: dict[str, Watch]
    outcome_of_a_wrong_token: str = "succeeded"
    known: dict[str, str] = field(default_factory=dict)
    """Secrets that are the same in all tests, which other processes of this machine may show."""

    def launches(self, user: WebUser, app: str, **fields: str) -> str:
        """Launch an app; return the id of its session."""
        known = {session["id"] for session in user.sessions()}
        form = {"cluster": self.cluster, "cores": "1", "memory": "1", **fields}
        status, text = user.post(f"/apps/{app}", form, f"/apps/{app}")
        assert status == 303, text
        (new,) = {session["id"] for session in user.sessions()} - known
        return str(new)


def output(argv: list[str | Path], script: str, env: dict[str, str] | None = None) -> str:
    """What a command prints that is given a script on its standard input."""
    return subprocess.run(
        argv, input=script, env=env, capture_output=True, text=True, timeout=60
    ).stdout


@pytest.fixture
def watches() -> Iterator[dict[str, Watch]]:
    """By machine: this one is watched."""
    watches = {HERE: Watch("/usr/bin/python3", "-c", WATCHER, uid=NOBODY)}
    yield watches
    for watch in watches.values():
        watch.ends()


@pytest.fixture(params=[pytest.param(each, marks=SLOW) for each in (HERE, "devcluster")])
def stack(request: pytest.FixtureRequest, watches: dict[str, Watch]) -> Stack:
    if request.param == HERE:
        embedded: RunningPortal = request.getfixturevalue("embedded")
        home = str(request.getfixturevalue("embedded_home"))
        subprocess.run([ROOT / "ces/images/have", "jupyterlab"], check=True, timeout=600)
        env = {"HOME": home, "PATH": f"{ROOT}/embedded/bin:{ROOT}/ces/bin:{os.environ['PATH']}"}
        return Stack(
            embedded,
            lambda: HereUser(embedded),
            "this_machine",
            HERE,
            home,
            lambda script: output(["bash", "-s"], script, env),
            "portal",
            f"{home}/safe_data",
            watches,
        )
    request.getfixturevalue("devcluster")
    site: RunningPortal = request.getfixturevalue("site")
    for host in ("desktop01", "portal-host", "alpha-login"):
        command = f"exec python3 -c '{WATCHER}'"
        watches[host] = Watch(ROOT / "devcluster/as", "bob", host, command)
    alice: list[str | Path] = [ROOT / "devcluster/as", "alice", "desktop01", "bash -s"]
    return Stack(
        site,
        lambda: WebUser(site, "alice"),
        "desktop",
        "desktop01",
        "/home/alice",
        lambda script: output(alice, script),
        "beta",
        "/home/alice",
        watches,
        "failed",
        {"password": "alice-pw", "registry's token": TOKEN},
    )


def test_nobody_else_sees_a_secret(stack: Stack) -> None:
    portal, user = stack.portal, stack.signs_in()
    secret = {name: f"{name}-{secrets.token_hex(12)}" for name in ("environment", "shell", "file")}
    secret["cookie"] = user.cookie.partition("=")[2]
    secret["CSRF token"] = user.csrf_token("/apps/container_app")

    # The watchers are quick enough to see what a command line holds for a few milliseconds.
    shown = [f"shown-{secrets.token_hex(12)}" for _ in range(5)]
    for token in shown:
        stack.run(f"ces-pull podman alice {token} localhost/none:1")

    lab = stack.launches(user, "jupyter_app")
    secret |= {f"token {n}": f"token-{secrets.token_hex(12)}" for n in range(3)}
    containers = [
        stack.launches(
            user,
            "container_app",
            container_url=portal.image,
            runner="podman",
            registry_username="alice",
            registry_token=token,
            environment=f"HELLO_TRE={secret['environment']}",
        )
        for token in [TOKEN, *(secret[f"token {n}"] for n in range(3))]
    ]

    name = f"secret-{secrets.token_hex(4)}.txt"
    uploads = Uploader(user, stack.home)
    assert uploads.uploads(name, secret["file"].encode())[0] == 200
    archive = asked(
        portal,
        "POST",
        f"/archives/portal{stack.home}",
        {
            "Host": f"127.0.0.1:{portal.port}",
            "Cookie": user.cookie,
            "Content-Type": "application/x-www-form-urlencoded",
        },
        urlencode({"csrf_token": secret["CSRF token"], "name": quote(name)}).encode(),
    )
    assert archive.one("Content-Type") == "application/zip"
    copier = Copier(user)
    copier.goes(f"portal{stack.home}", name, to=stack.directory, to_host=stack.copies_to)
    assert "Copied." in copier.waits()

    with Line(user, f"/shell/{stack.cluster}") as line:
        line.type(f": {secret['shell']}\n")
        line.answers()

    def card(id: str) -> dict[str, Any]:
        (found,) = [card for card in user.sessions() if card["id"] == id]
        return found

    wait_until(lambda: all(card(id)["status"] == "completed" for id in containers), 120)
    outcomes = ["succeeded", *[stack.outcome_of_a_wrong_token] * 3]
    assert [card(id)["outcome"] for id in containers] == outcomes
    assert secret["environment"] in user.request("GET", f"/sessions/{containers[0]}/log")[1]

    wait_until(lambda: card(lab)["connect_url"], 120)
    connection = stack.run(f"cat {card(lab)['context_directory']}/connection.yml")
    secret["JupyterLab's password"] = yaml.safe_load(connection)["password"]
    arrival = user.comes_to(f"/node/{lab}/lab")
    secret["code"] = arrival.path.partition("=")[2]
    secret["nonce"] = arrival.nonce.partition("=")[2]
    cookie = user.enters(f"/node/{lab}/lab")
    secret["entry cookie"] = cookie.partition("=")[2]
    host = arrival.origin.removeprefix("http://")
    own = {"Cookie": cookie, "Host": host, "Origin": arrival.origin}
    assert asked(portal, "POST", f"/node/{lab}/api/kernels", own, b"{}").status == 201
    assert user.post(f"/sessions/{lab}/cancel", {})[0] == 303
    wait_until(lambda: card(lab)["status"] == "completed", 30)

    seen = {machine: watch.ends() for machine, watch in stack.watches.items()}
    assert any(token in seen[stack.node] for token in shown)
    assert min(map(len, secret.values())) > 8, secret
    assert [
        f"{what} on {machine}"
        for machine, text in seen.items()
        for what, value in (secret if machine == HERE else {**secret, **stack.known}).items()
        if value in text
    ] == []


# ---- The tools of a site's own


@dataclass
class Node:
    """A machine that has tools of its own. Its `timeout` waits for three seconds only."""

    directory: Path

    def has(self, name: str, script: str) -> None:
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def runs(self, script: bytes, token: str) -> subprocess.CompletedProcess[str]:
        (self.directory / "secret_registry_token").write_text(token)
        (self.directory / "script.sh").write_bytes(script)
        return subprocess.run(
            ["bash", "script.sh"],
            cwd=self.directory,
            env={"PATH": f"{self.directory}/bin:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def given(self) -> tuple[list[str], str] | None:
        """The command line and the standard input of ces-pull, when it has been run."""
        path = self.directory / "given"
        if not path.exists():
            return None
        return path.read_text().split("\0")[:-1], (self.directory / "input").read_text()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.has("timeout", 'shift; exec /usr/bin/timeout 3 "$@"')
    node.has("ces-run", "exit 0")
    return node


NASTY_TOKEN = "tok en\"'$(id)`x`\\é"
IMAGE = "registry.example/lab/x:1"


@pytest.mark.parametrize(
    ("for_help", "user", "given"),
    [
        (f"exec {BIN}/ces-pull --help", "ada", (["podman", "ada", "-", IMAGE], NASTY_TOKEN + "\n")),
        (f"exec {BIN}/ces-pull --help", "", (["podman", "", "", IMAGE], "")),
        (
            "echo 'ces-pull RUNNER USER TOKEN IMAGE'",
            "ada",
            (["podman", "ada", NASTY_TOKEN, IMAGE], ""),
        ),
        ("echo 'no such option' >&2; exit 2", "ada", (["podman", "ada", NASTY_TOKEN, IMAGE], "")),
        ("read -r x; echo $x; sleep 20 & exit", "ada", None),
        ("trap '' TERM; sleep 20", "ada", None),
        ("sleep 20", "", (["podman", "", "", IMAGE], "")),
    ],
    ids=["ours", "ours, no user", "no word of it", "no help", "left behind", "deaf", "no user"],
)
def test_ces_pull_of_a_site(
    container_app: AppDefinition,  # noqa: F811
    node: Node,
    for_help: str,
    user: str,
    given: tuple[list[str], str] | None,
) -> None:
    """A tool gets the token on standard input if its --help says that it reads it there. Any other
    tool gets it on its command line, but a tool that does not answer --help gets no token."""
    node.has(
        "ces-pull",
        f'[[ $1 != --help ]] || {{ {for_help}; exit; }}; printf "%s\\0" "$@" > given; cat > input',
    )
    files = job_files(container_app, container_url=IMAGE, registry_username=user)
    done = node.runs(files["script.sh"], NASTY_TOKEN)
    assert not (node.directory / "secret_registry_token").exists()
    assert node.given == given
    if given:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 75
        assert "your token was not sent to it" in (node.directory / "failure").read_text()
    assert NASTY_TOKEN not in done.stdout + done.stderr
