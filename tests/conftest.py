"""Fixtures for the real parts that tests use: the devcluster, running portals and browsers."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import urlopen

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.busy import patience
from tests.firefox import Firefox, FirefoxPage, running_firefox
from tests.sshd import PrivateSshd, private_sshd

ROOT = Path(__file__).resolve().parent.parent
SCREENSHOTS = ROOT / "var" / "screenshots"


class Devcluster:
    """The one-machine site, with its own Slurm, sshd, registry and users."""

    state = Path(os.environ.get("DEVCLUSTER_STATE", "/var/tmp/ood-devcluster"))

    def up(self) -> None:
        """Start the hosts and services that are not running."""
        subprocess.run([ROOT / "devcluster/up"], check=True, timeout=900)

    def host(self, host: str, *argv: str, check: bool = True) -> str:
        """Run a command as root inside a host."""
        return _output([ROOT / "devcluster/host", host, *argv], check)

    def as_user(self, user: str, host: str, command: str, check: bool = True) -> str:
        """Run a shell command over SSH, with the user's key."""
        return _output([ROOT / "devcluster/as", user, host, command], check)


def _output(argv: list[str | Path], check: bool) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last lines of the portals' logs to the report of a failure."""
    report = yield
    if report.failed:
        for portal in RunningPortal.running:
            report.sections.append(
                (str(portal.log), portal.log.read_text("utf-8", "replace")[-4000:])
            )
    return report


def pytest_configure() -> None:
    """Restore the default handling of signals. Processes in the background or under nohup ignore
    these signals, and the processes that tests start and then signal would inherit that."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


NOT_FAST = frozenset({"devcluster", "browser", "firefox", "embedded_home"})
"""Tests with one of these fixtures are slow. A parametrised fixture that asks for one of them by
`request.getfixturevalue` marks those parameters itself, with SLOW."""
SLOW = pytest.mark.slow


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if NOT_FAST.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(SLOW)


@pytest.fixture(scope="session")
def devcluster() -> Iterator[Devcluster]:
    was_up = subprocess.run([ROOT / "devcluster/host", "registry", "true"], capture_output=True)
    site = Devcluster()
    site.up()
    # What earlier runs left takes cores, makes pages long and slow, or opens a home to others.
    for host in ("alpha-login", "beta-login"):
        for user in ("alice", "bob", "carol"):
            site.host(host, "scancel", "--user", user)
        site.host(host, "sh", "-c", "rm -rf /home/*/ondemand /home/*/outputs-*; chmod 700 /home/*")
    yield site
    if was_up.returncode != 0:
        subprocess.run([ROOT / "devcluster/down"], check=True, timeout=60)


@pytest.fixture
def start_sshd(devcluster: Devcluster) -> Iterator[Callable[..., PrivateSshd]]:
    """Start an sshd for this test only, with the given lines in its sshd_config."""
    with ExitStack() as undo:
        yield lambda *options: undo.enter_context(private_sshd(devcluster, *options))


class RunningPortal:
    """A portal under gunicorn, as in production, on its own port."""

    image = "localhost/hello-tre:1.0"
    registry_username = ""
    running: ClassVar[list[RunningPortal]] = []

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        if "OOD_PORTAL_CONFIG" in environment:
            self.image = "10.78.0.5:5000/lab/hello-tre:1.0"
            self.registry_username = "alice"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "portal.log"
        self._environment = {**os.environ, **environment, "PORT": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "app:app"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.running.append(self)
        try:
            wait_until(self.answers, 20)
        except AssertionError:
            self.kill()
            pytest.fail("the portal does not start: " + self.log.read_text()[-2000:])

    def answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/healthz", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    @property
    def arbiter(self) -> int:
        """The pid of gunicorn's own process, which starts the worker."""
        assert self._process is not None
        return self._process.pid

    @property
    def worker(self) -> int:
        """The pid of the process that serves requests."""
        children = Path(f"/proc/{self.arbiter}/task/{self.arbiter}/children")
        return int(children.read_text().split()[0])

    @property
    def address(self) -> str:
        """The newest one-time sign-in address printed in the terminal."""
        wait_until(lambda: "Open this address: " in self.log.read_text(), 10)
        return self.log.read_text().rpartition("Open this address: ")[2].split()[0]

    def kill(self) -> None:
        """Kill all its processes with SIGKILL."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._ended()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
            self._ended()
        except subprocess.TimeoutExpired:
            self.kill()

    def _ended(self) -> None:
        self._process = None
        self.running.remove(self)


@pytest.fixture(scope="session")
def embedded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory for this machine's user, prepared as by `make run`."""
    home = tmp_path_factory.mktemp("home")
    subprocess.run(
        [ROOT / "embedded/prepare", home / "state"],
        env={**os.environ, "HOME": str(home)},
        check=True,
        timeout=600,
    )
    return home


@pytest.fixture(scope="module")
def embedded(
    embedded_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPortal]:
    """A portal with the default configuration: this machine, this user, a one-time address."""
    settings = embedded_home / "state" / "containers.conf"
    portal = RunningPortal(
        tmp_path_factory.mktemp("embedded"),
        {
            "HOME": str(embedded_home),
            "PATH": f"{ROOT}/embedded/bin:{ROOT}/ces/bin:{os.environ['PATH']}",
            **({"CONTAINERS_CONF": str(settings)} if settings.exists() else {}),
        },
    )
    portal.start()
    yield portal
    portal.stop()


@pytest.fixture(scope="session")
def site_config(devcluster: Devcluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the devcluster's portal.yml, clusters.d and known_hosts, for tests to change."""
    directory = tmp_path_factory.mktemp("site")
    for name in ("portal.yml", "known_hosts"):
        shutil.copy(devcluster.state / name, directory)
    shutil.copytree(devcluster.state / "clusters.d", directory / "clusters.d")
    return directory


@pytest.fixture(scope="module")
def site(site_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """A portal for the devcluster, where users sign in with their passwords."""
    portal = RunningPortal(
        tmp_path_factory.mktemp("portal"), {"OOD_PORTAL_CONFIG": str(site_config / "portal.yml")}
    )
    portal.start()
    yield portal
    portal.stop()


@pytest.fixture
def start_site(site_config: Path, tmp_path: Path) -> Iterator[Callable[..., RunningPortal]]:
    """Start a portal for the devcluster with these additional settings. Its audit log is
    `audit.log` in the directory of its own log."""
    with ExitStack() as undo:

        def start(**settings: Any) -> RunningPortal:
            directory = tmp_path / f"portal-{secrets.token_hex(4)}"
            shutil.copytree(site_config, directory)
            path = directory / "portal.yml"
            found = yaml.safe_load(path.read_text()) | {"audit_log": "audit.log"} | settings
            path.write_text(yaml.safe_dump(found))
            portal = RunningPortal(directory, {"OOD_PORTAL_CONFIG": str(path)})
            portal.start()
            undo.callback(portal.stop)
            return portal

        yield start


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Chromium gives up requests when network interfaces appear: the devcluster's come first.
        request.getfixturevalue("devcluster")
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=[
                "--no-sandbox",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of a new browser profile. A screenshot is saved at the end."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.bring_to_front()  # a tab behind another one is not painted
    path = SCREENSHOTS / f"{request.node.name}.png"
    page.screenshot(path=path, full_page=True, timeout=60_000)  # a long page on a busy machine
    context.close()


def wait_until(condition: object, seconds: float = 30, message: str = "") -> None:
    """Wait for `condition()` to be true."""
    assert callable(condition)
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < patience(seconds), message or "waited too long"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def firefox() -> Iterator[Firefox]:
    with running_firefox() as started:
        yield started


@pytest.fixture
def firefox_page(firefox: Firefox, request: pytest.FixtureRequest) -> Iterator[FirefoxPage]:
    """A page of a new Firefox profile. A screenshot is saved at the end."""
    with firefox.new_page() as page:
        yield page
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(SCREENSHOTS / f"{request.node.name}.png")
