"""Run JupyterLab as its researchers do it, in a browser, on this machine and on the devcluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Locator, Page, Response, Route, expect
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.conftest import ROOT, SCREENSHOTS, Devcluster, RunningPortal, wait_until
from tests.researcher import Researcher, accessible, looks

SINE = """\
import numpy as np, matplotlib.pyplot as plt
x = np.linspace(0, 7, 200)
plt.plot(x, np.sin(x))
plt.savefig("/safe_data/sine.png")"""
SHOWS = """\
import matplotlib.pyplot as plt
plt.plot([1, 2])"""
LARGE_OUTPUT = """\
from IPython.display import display
display({"text/plain": "sent", "application/x-large": "x" * 20_000_000}, raw=True)"""


@dataclass
class Place:
    """A back-end, its user and the portal in front of it."""

    researcher: Researcher
    cluster: str
    home: str
    safe_data: str
    devcluster: Devcluster | None = None
    node: str = ""
    login: str = ""

    def root(self, *argv: str, check: bool = True) -> str:
        """Run a command as root where the container runs."""
        if self.devcluster:
            return self.devcluster.host(self.node, *argv, check=check)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def containers(self) -> str:
        podman = "podman ps -a --format '{{.Names}}'"
        return self.root("sh", "-c", f'su - alice -c "{podman}"' if self.devcluster else podman)

    def launches(self, **fields: str) -> Locator:
        return self.researcher.launches_jupyterlab(cluster=self.cluster, **fields)


PLACES = ["this machine", "devcluster", "unsynched"]


@pytest.fixture(params=PLACES)
def place(page: Page, request: pytest.FixtureRequest) -> Iterator[Place]:
    found = _place(page, request)
    yield found
    assert found.researcher.complaints == []


def _place(page: Page, request: pytest.FixtureRequest) -> Place:
    if request.param != "this machine":
        site: RunningPortal = request.getfixturevalue("site")
        devcluster: Devcluster = request.getfixturevalue("devcluster")
        researcher = Researcher(page, site)
        researcher.signs_in("alice")
        cluster, where = "desktop", ("desktop01", "alpha-login")
        if request.param == "unsynched":
            cluster, where = "beta", ("beta-login", "beta-login")
        return Place(researcher, cluster, "/home/alice", "/safe_data/trial", devcluster, *where)
    embedded: RunningPortal = request.getfixturevalue("embedded")
    home: Path = request.getfixturevalue("embedded_home")
    # What `make run` starts in the background.
    subprocess.run([ROOT / "ces/images/have", "jupyterlab"], check=True, timeout=600)
    researcher = Researcher(page, embedded)
    researcher.signs_in()
    return Place(researcher, "this_machine", str(home), f"{home}/safe_data")


@dataclass
class Shared:
    """A JupyterLab that several tests use, and all that its browser has sent and received."""

    place: Place
    card: Locator
    heard: list[str]


@pytest.fixture(scope="module", params=PLACES)
def running(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Shared]:
    heard: list[str] = []

    def hear(answer: Response) -> None:
        heard.append(f"{answer.url} {answer.headers} {answer.request.headers}")

    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        context.on("response", hear)
        page = context.new_page()
        page.set_default_timeout(60_000)
        place = _place(page, request)
        card = place.launches()
        place.researcher.watches(card, "running", 120)
        yield Shared(place, card, heard)
        _signs_in_again(place)
        card.get_by_role("button", name="Cancel").click()
        place.researcher.watches(card, "completed", 10)


@pytest.fixture
def shared(running: Shared) -> Iterator[Shared]:
    _signs_in_again(running.place)
    yield running
    assert running.place.researcher.complaints == []


def _signs_in_again(place: Place) -> None:
    """Another test may have restarted the portal since."""
    ada = place.researcher
    ada.page.goto("about:blank")
    ada.page.context.clear_cookies()
    ada.complaints.clear()
    ada.signs_in()
    ada.page.goto(f"{ada.portal.url}/sessions")


def _container(place: Place, card: Locator) -> str:
    found = re.search(r"--name (\S+)", place.researcher.reads_the_log(card))
    assert found
    return found[1]


def _is_over(place: Place, card: Locator) -> None:
    """Within one poll, and nothing of it is left but the outputs."""
    poll = 10
    place.researcher.watches(card, "completed", poll)
    container = _container(place, card)
    wait_until(lambda: container not in place.containers(), 10)
    scratch = place.researcher.outputs(card).replace("outputs-", "scratch-")
    assert place.root("ls", "-d", f"{place.home}/{scratch}", check=False) == ""
    expect(card.get_by_role("link", name="Connect to JupyterLab")).to_have_count(0)


def test_a_working_day(place: Place, tmp_path: Path) -> None:
    ada = place.researcher
    card = place.launches(container_name="day")
    ada.watches(card, "running", 120)
    assert _container(place, card).startswith("day-")
    assert _container(place, card) in place.containers()
    lab = ada.connects(card)
    assert lab.page.url.startswith(f"{ada.service(card)}/lab")
    outputs = f"{place.home}/{ada.outputs_in_the_log(card)}"

    lab.opens_a_notebook()
    place.root("rm", "-f", f"{place.safe_data}/sine.png")
    expect(lab.runs(SINE).locator("img")).to_be_visible()
    place.root("test", "-s", f"{place.safe_data}/sine.png")
    lab.runs("kept = 6 * 7")
    lab.saves()
    assert "kept = 6 * 7" in place.root("cat", f"{outputs}/Untitled.ipynb")

    busy = lab.types_and_presses("import time; time.sleep(600)")
    expect(busy.locator(".jp-InputPrompt")).to_have_text("[*]:")
    lab.interrupts()
    expect(busy.locator(".jp-OutputArea")).to_contain_text("KeyboardInterrupt")
    expect(lab.runs("print(kept)")).to_contain_text("42")

    before = lab.received
    expect(lab.runs(LARGE_OUTPUT)).to_contain_text("sent")
    assert lab.received - before > 20_000_000

    lab.restarts()
    expect(lab.runs("print(kept)")).to_contain_text("NameError")

    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(200_000_000))
    lab.uploads(large)
    assert lab.downloads(large.name).read_bytes() == large.read_bytes()

    lab.opens_a_terminal()
    lab.types("echo $((6*7)) > /safe_outputs/answer; stat -c %a /safe_data")
    wait_until(lambda: place.root("cat", f"{outputs}/answer", check=False) == "42\n", 20)
    lab.page.screenshot(path=SCREENSHOTS / f"jupyterlab-{place.cluster}.png")

    assert lab.complaints == []
    lab.shuts_down()
    _is_over(place, card)
    assert card.get_attribute("data-outcome") == "succeeded"
    place.root("rm", "-r", outputs)  # 200 MB
    place.root("rm", f"{place.safe_data}/sine.png")


def test_coming_back_finds_the_kernel_as_it_was(place: Place) -> None:
    ada = place.researcher
    card = place.launches(container_name="back")
    ada.watches(card, "running", 120)
    lab = ada.connects(card)
    lab.opens_a_notebook()
    lab.runs("kept = 6 * 7")
    lab.saves()
    lab.page.close()  # closed the tab

    lab = ada.connects(card)
    lab.opens_the_notebook_again("Untitled.ipynb")
    expect(lab.runs("print(kept)")).to_contain_text("42")

    ada.signs_out()  # and its tab is still open
    wait_until(lambda: lab.asks("/api/kernels")[0] == 404, 10)
    asked: list[str] = []
    lab.page.on("request", lambda request: asked.append(request.url))
    # By an event: JupyterLab may be saying in a dialog that it has lost its server.
    with lab.page.expect_request("**"):
        lab.page.locator("[data-command='filebrowser:refresh']").first.dispatch_event("click")
    lab.page.wait_for_timeout(1000)  # it asked 100 times a second when it was answered 404
    assert 1 <= len(asked) < 20, asked
    lab.page.close()
    ada.signs_in()
    ada.page.goto(f"{ada.portal.url}/sessions")
    lab = ada.connects(card)
    lab.opens_the_notebook_again("Untitled.ipynb")
    expect(lab.runs("print(kept + 1)")).to_contain_text("43")
    lab.page.close()

    ada.portal.kill()
    ada.portal.start()
    ada.signs_in()
    ada.page.goto(f"{ada.portal.url}/sessions")
    assert ada.watches(card, "running", 20)
    lab = ada.connects(card)
    lab.opens_the_notebook_again("Untitled.ipynb")
    expect(lab.runs("print(kept + 2)")).to_contain_text("44")

    ada.page.bring_to_front()
    ada.complaints.clear()  # the page polled while there was no portal
    card.get_by_role("button", name="Cancel").click()
    _is_over(place, card)
    assert card.get_attribute("data-outcome") == "cancelled"


def test_a_thousand_executions_lose_no_message(shared: Shared) -> None:
    ada, card = shared.place.researcher, shared.card
    lab = ada.connects(card)
    base = ada.service(card)
    kernel = lab.asks("/api/kernels", "POST")[1]["id"]
    printed: list[int] = []
    replied = 0
    with connect(
        f"{base.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels",
        sock=socket.create_connection(("127.0.0.1", ada.portal.port), 10),
        additional_headers={"Cookie": lab.cookies},
        origin=Origin(base[: base.index("/node")]),
        max_size=None,
    ) as channel:
        for n in range(1000):
            channel.send(json.dumps(_execute(f"print({n})")))
        while replied < 1000 or len(printed) < 1000:
            message = json.loads(channel.recv(timeout=60))
            if message["msg_type"] == "stream":
                printed += [int(n) for n in message["content"]["text"].split()]
            elif message["msg_type"] == "execute_reply":
                assert message["content"]["status"] == "ok"
                replied += 1
    assert printed == list(range(1000))
    assert replied == 1000
    lab.page.close()


def _execute(code: str) -> dict[str, object]:
    """https://jupyter-client.readthedocs.io/en/stable/messaging.html#execute"""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    return {
        "header": {**header, "session": "test", "username": "test"},
        "channel": "shell",
        "parent_header": {},
        "metadata": {},
        "content": content,
    }


def test_a_preview_of_html_shows_its_pictures(shared: Shared) -> None:
    """It is in a sandbox, before and after it is trusted."""
    ada = shared.place.researcher
    lab = ada.connects(shared.card)
    outputs = f"{shared.place.home}/{ada.outputs_in_the_log(shared.card)}"
    picture = '<svg xmlns="http://www.w3.org/2000/svg" width="42" height="7"/>'
    write = f"cd {outputs}; echo '{picture}' > fig.svg; echo '<img src=fig.svg>' > report.html"
    shared.place.root("sh", "-c", write)
    lab.shows_files()
    lab.page.locator("[data-command='filebrowser:refresh']").first.dispatch_event("click")
    lab.file("report.html").dblclick()
    preview = lab.page.locator(".jp-HTMLViewer iframe")
    shown = preview.content_frame.locator("img")
    expect(preview).not_to_have_attribute("sandbox", re.compile("allow-scripts"))
    expect(shown).to_have_js_property("naturalWidth", 42)
    lab.page.get_by_role("button", name="Trust HTML").click()
    expect(preview).to_have_attribute("sandbox", re.compile("allow-scripts"))
    expect(shown).to_have_js_property("naturalWidth", 42)
    assert lab.complaints == []
    lab.page.close()


def test_nobody_sees_the_password(shared: Shared) -> None:
    place, card = shared.place, shared.card
    ada = place.researcher
    directory = str(ada.context_directory(card))
    connection = f"{directory}/connection.yml"
    password = yaml.safe_load(place.root("cat", connection))["password"]
    assert len(password) >= 32
    assert place.root("stat", "-c", "%a", connection).strip() == "600"
    lab = ada.connects(card)
    lab.opens_a_terminal()
    lab.types("env | grep -c TOKEN > /safe_outputs/there")  # in the container it is no secret
    places = {
        "pages": ada.page.content() + lab.page.content(),
        "what the browser heard and said": "\n".join(shared.heard),
        "cookies": str(ada.page.context.cookies()),
        "the job's log": ada.reads_the_log(card),
        "the portal's log": ada.portal.log.read_text(),
        "the process list": place.root("ps", "axww", "-o", "args"),
    }
    if place.devcluster:
        job_id = re.sub(r"\D", "", card.get_by_role("heading").inner_text())
        told = f"scontrol -d show job {job_id}; scontrol write batch_script {job_id} -; squeue -l"
        places["the scheduler"] = place.devcluster.as_user("alice", place.login, told)
    for where, text in places.items():
        assert text, where
        assert password not in text, where
    files = place.root("grep", "-rl", password, f"{place.home}/ondemand", check=False).split()
    assert files == [connection]
    lab.page.close()


def test_jupyterlab_where_all_services_share_an_origin(
    start_site: Callable[..., RunningPortal], page: Page
) -> None:
    """Within the policy that keeps its pages to its own session."""
    ada = Researcher(page, start_site(apps_origin="http://localhost:${PORT}"))
    ada.signs_in("alice")
    card = ada.launches_jupyterlab(cluster="desktop", container_name="shared")
    ada.watches(card, "running", 120)
    lab = ada.connects(card)
    assert lab.page.url.startswith(f"http://localhost:{ada.portal.port}/node/")
    lab.opens_a_notebook()
    expect(lab.runs(SHOWS).locator("img")).to_be_visible()
    lab.saves()
    lab.opens_a_terminal()
    lab.types("echo $((6*7)) > /safe_outputs/answer")
    lab.shows_files()
    expect(lab.file("answer")).to_be_visible()
    assert lab.downloads("answer").read_text() == "42\n"
    assert lab.complaints == []
    lab.shuts_down()
    ada.watches(card, "completed", 20)


@pytest.fixture
def other_apps(site_config: Path, tmp_path: Path) -> Iterator[RunningPortal]:
    """A portal whose Run JupyterLab waits only five seconds."""
    shutil.copytree(ROOT / "app_defs", tmp_path / "app_defs")
    manifest = tmp_path / "app_defs/jupyter_app/manifest.yml"
    manifest.write_text(re.sub("timeout: .*", "timeout: 5", manifest.read_text()))
    shutil.copytree(site_config, tmp_path / "site")
    config = tmp_path / "site/portal.yml"
    settings = yaml.safe_load(config.read_text())
    settings["app_defs"] = str(tmp_path / "app_defs")
    settings["form_values"]["jupyter_app"] = settings["form_values"]["container_app"]
    config.write_text(yaml.safe_dump(settings))
    portal = RunningPortal(tmp_path, {"OOD_PORTAL_CONFIG": str(config)})
    portal.start()
    yield portal
    portal.stop()


def test_a_service_that_does_not_answer_ends_and_says_why(
    other_apps: RunningPortal, page: Page, tmp_path: Path
) -> None:
    script = tmp_path / "app_defs/jupyter_app/template/before.sh.j2"
    script.write_text(f"{script.read_text()}\necho '-d 600' > container_arguments\n")
    alice = Researcher(page, other_apps)
    alice.signs_in("alice")
    card = alice.launches_jupyterlab(cluster="desktop", container_name="mute")
    assert "running" not in alice.watches(card, "completed", 40)
    assert card.get_attribute("data-outcome") == "failed"
    expect(card.locator(".message")).to_contain_text(
        "JupyterLab did not answer within 5 seconds. See the end of the log."
    )


def test_somebody_elses_page_is_not_shown_as_this_one(
    other_apps: RunningPortal, page: Page, tmp_path: Path, devcluster: Devcluster
) -> None:
    port = "18999"
    script = tmp_path / "app_defs/jupyter_app/template/before.sh.j2"
    script.write_text(f"find_port() {{ echo {port}; }}\n{script.read_text()}")
    script = tmp_path / "app_defs/jupyter_app/template/script.sh.j2"
    script.write_text("sleep 600\n")
    answers = (
        "from http.server import *\n"
        "class Yes(BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_response(200); self.end_headers()\n"
        f"HTTPServer(('', {port}), Yes).serve_forever()"
    )
    host = [str(ROOT / "devcluster/host"), "desktop01", "python3", "-c", answers]
    with subprocess.Popen(host) as roots:
        try:
            alice = Researcher(page, other_apps)
            alice.signs_in("alice")
            card = alice.launches_jupyterlab(cluster="desktop")
            assert "running" not in alice.watches(card, "completed", 40)
            expect(card.locator(".message")).to_contain_text(
                "Another user’s program is listening on port 18999"
            )
        finally:
            roots.terminate()
            devcluster.host("desktop01", "pkill", "-f", "HTTPServer", check=False)


def test_pages_are_accessible(page: Page, embedded: RunningPortal) -> None:
    ada = Researcher(page, embedded)
    ada.signs_in()
    page.goto(f"{embedded.url}/apps/jupyter_app")
    _accessible(page, "form")
    card = ada.launches_jupyterlab()
    service = f"{embedded.url}/node/{card.get_attribute('data-session-id')}/lab"
    address = f"{ada.service(card)}/lab"
    page.route(service, _stays)
    page.goto(service)
    expect(page.get_by_role("heading", name="JupyterLab")).to_be_visible()
    _accessible(page, "waiting")
    page.unroute(service)
    page.goto(f"{embedded.url}/sessions")
    ada.watches(card, "running", 120)
    _accessible(page, "card")
    card.get_by_role("button", name="Cancel").click()
    ada.watches(card, "completed", 20)
    page.goto(service)
    _accessible(page, "ended")
    page.context.clear_cookies()
    page.goto(address)
    _accessible(page, "stranger")


def _stays(route: Route) -> None:
    """Without the header by which a page that waits for a service reloads itself."""
    answer = route.fetch()
    headers = {name: value for name, value in answer.headers.items() if name != "refresh"}
    route.fulfill(response=answer, headers=headers)


def _accessible(page: Page, name: str) -> None:
    for look in looks(page):
        accessible(page, f"jupyterlab-{name}-{look}")
