"""The walkthrough that researchers are given, step by step, on the devcluster.

From the job to its files and log, Active Jobs, JupyterLab and its end; every step leaves a picture
in `var/screenshots/walkthrough`. README and guides show some of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import SCREENSHOTS, Devcluster, RunningPortal
from tests.researcher import HELLO, Researcher
from tests.test_shell import Shell

PICTURES = SCREENSHOTS / "walkthrough"
FIELDS = (
    "Cluster",
    "Container/image URL in container registry",
    "Container registry username",
    "Container registry password/access token",
    "Container runner",
    "Container name",
    "Cores",
    "Memory in GiB",
    "Command-line options to pass to container runner",
    "Environment variables to pass to container",
    "Arguments to pass to container",
)


class Walk:
    """Somebody who follows the walkthrough, and takes a picture at each step."""

    def __init__(self, page: Page, portal: RunningPortal, name: str) -> None:
        self.researcher = Researcher(page, portal)
        self.page = page
        self._name = name
        self._steps = 0

    def step(self, what: str, page: Page | None = None) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self._steps += 1
        path = PICTURES / f"{self._name}-{self._steps:02}-{what}.png"
        (page or self.page).screenshot(path=path)

    def chooses(self, menu: str, item: str) -> None:
        """Choose an item of a menu at the top."""
        bar = self.page.get_by_role("banner")
        bar.locator("summary", has_text=menu).click()
        self.step(f"menu-{menu.lower()}")
        bar.get_by_role("link", name=item, exact=True).click()

    def clicks_the_app(self, name: str) -> None:
        self.page.get_by_role("banner").get_by_role("link", name="Devcluster").click()
        self.page.locator("a.tile", has_text=name).click()
        expect(self.page.get_by_role("heading", level=1, name=name)).to_be_visible()

    def opens(self, name: str) -> None:
        """Open an entry of the File Manager's table."""
        self.page.locator(f"tr[data-name='{name}']").get_by_role("link", name=name).first.click()

    def logs_into(self, back_end: str) -> Shell:
        self.chooses("Clusters", f"{back_end} Shell Access")
        shell = Shell(self.page)
        shell.is_ready()
        return shell

    def row(self, job: str) -> Locator:
        return self.page.locator(f"tr[data-job-id='{job}']")


@pytest.fixture
def alice(page: Page, site: RunningPortal, request: pytest.FixtureRequest) -> Iterator[Walk]:
    walk = Walk(page, site, request.node.name.removeprefix("test_").replace("_", "-"))
    walk.researcher.signs_in("alice")
    walk.step("home")
    yield walk
    assert walk.researcher.complaints == []


def job_of(card: Locator) -> str:
    return re.sub(r"\D", "", card.get_by_role("heading").first.inner_text())


def test_run_container(alice: Walk) -> None:
    page = alice.page

    # Run the 'Run Container' app: review and complete its form, and launch.
    alice.clicks_the_app("Run Container")
    for label in FIELDS:
        expect(page.get_by_label(label).first).to_be_visible()
    assert page.get_by_label(FIELDS[1]).input_value().endswith("/hello-tre:1.0")
    assert page.locator("[name=runner]").input_value() == "podman"
    page.get_by_label("Cluster").select_option("desktop")
    page.get_by_label("Environment variables").fill(HELLO["environment"])
    page.get_by_label("Arguments to pass").fill(HELLO["container_arguments"])
    alice.step("form")
    card = alice.researcher.presses_launch_and_sees_the_card()
    alice.step("launched")
    alice.researcher.watches(card, "running")
    expect(card).to_contain_text("Please wait until your job has completed")
    alice.step("running")
    alice.researcher.watches(card, "completed")
    assert card.get_attribute("data-outcome") == "succeeded"
    alice.step("completed")
    job, outputs = job_of(card), alice.researcher.outputs(card)
    context = str(alice.researcher.context_directory(card))
    session = str(card.get_attribute("data-session-id"))

    # View the container's output files.
    alice.chooses("Files", "Home Directory")
    alice.step("home-directory")
    alice.opens(outputs)
    alice.step("outputs")
    alice.opens("safe_data.txt")
    expect(page.get_by_role("main")).to_contain_text("/safe_data")
    alice.step("safe-data")
    page.go_back()
    alice.opens("safe_outputs.txt")
    expect(page.get_by_role("main")).to_contain_text("This text is in safe_outputs.txt")
    alice.step("safe-outputs")

    # The same in an SSH session.
    shell = alice.logs_into("Desktop")
    shell.types(f"cd; ls {outputs}; cat {outputs}/safe_outputs.txt\n")
    shell.shows("safe_data.txt +safe_outputs.txt")
    shell.shows("This text is in safe_outputs.txt")
    alice.step("shell")

    # View the app log file within the job context directory.
    page.get_by_role("banner").get_by_role("link", name="My Interactive Sessions").click()
    card.get_by_role("link", name=session, exact=True).click()
    expect(page).to_have_url(re.compile(f"{context}$"))
    alice.step("job-context-directory")
    log = page.locator("tr[data-name^='container_app_output-'][data-name$='.log']")
    log.get_by_role("link", name="container_app_output").first.click()
    for text in ("before.sh: JOB_FOLDER: ", "script.sh: Running ces-run podman", "Goodbye Ada!"):
        expect(page.get_by_role("main")).to_contain_text(text)
    alice.step("log")

    # Run the 'Active Jobs' app, job details, and the File Manager from there.
    alice.clicks_the_app("Active Jobs")
    expect(alice.row(job)).to_have_attribute("data-status", "completed")
    alice.step("active-jobs")
    alice.row(job).get_by_role("link", name=f"Details of job {job}").click()
    expect(page.get_by_role("main")).to_contain_text(context)
    alice.step("job-details")
    page.get_by_role("link", name="Open in File Manager").click()
    expect(page).to_have_url(re.compile(f"{context}$"))


def test_run_container_on_an_unsynched_back_end(alice: Walk) -> None:
    card = alice.researcher.launches(cluster="beta", **HELLO)
    alice.researcher.watches(card, "completed")
    assert card.get_attribute("data-outcome") == "succeeded"
    context = alice.researcher.context_directory(card)
    shell = alice.logs_into("Beta")
    below_home = "/".join(context.parts[3:])
    shell.types(f"cd {below_home}\ntail -n 4 container_app_output-*.log\n")
    shell.shows("Goodbye Ada!")
    alice.step("log")


def test_cancel_a_job(alice: Walk) -> None:
    page = alice.page
    card = alice.researcher.launches(cluster="desktop", container_arguments="-d 600")
    alice.researcher.watches(card, "running")
    job, session = job_of(card), str(card.get_attribute("data-session-id"))
    alice.chooses("Jobs", "Active Jobs")
    expect(alice.row(job)).to_have_attribute("data-status", "running")
    alice.step("active-jobs")

    # Log into the back-end on which the job is running, in the job context directory.
    alice.row(job).get_by_role("link", name=f"Details of job {job}").click()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open in Terminal").click()
    shell = Shell(opened.value)
    shell.is_ready()
    shell.types("hostname; basename $PWD\n")
    shell.shows("desktop01")
    shell.shows(session)
    alice.step("terminal", shell.page)
    shell.page.close()

    alice.chooses("Jobs", "Active Jobs")
    alice.row(job).get_by_role("button", name="Delete Job").click()
    expect(page.get_by_text(f"Job {job} is being cancelled")).to_be_visible()
    expect(alice.row(job)).to_have_attribute("data-outcome", "cancelled")
    alice.step("deleted")


def test_run_jupyterlab(alice: Walk) -> None:
    page = alice.page
    alice.clicks_the_app("Run JupyterLab")
    expect(page.locator("[name=runner]")).to_have_count(0)
    page.get_by_label("Cluster").select_option("desktop")
    for label in ("Cluster", "Container name", r"Cores \(max 8\)", r"Memory in GiB \(max 15 GiB\)"):
        expect(page.get_by_label(re.compile(label)).first).to_be_visible()
    page.get_by_label("Container name").fill("my-jupyter")
    alice.step("form")
    card = alice.researcher.presses_launch_and_sees_the_card()
    alice.researcher.watches(card, "running", 120)
    job = job_of(card)
    expect(card.get_by_role("link", name="Connect to JupyterLab")).to_be_visible()
    alice.step("running")
    lab = alice.researcher.connects(card)
    alice.step("jupyterlab", lab.page)
    lab.opens_a_terminal()
    lab.types("id -un; echo from JupyterLab > /safe_outputs/note.txt")
    outputs = alice.researcher.outputs_in_the_log(card)
    page.bring_to_front()

    # What is written there is in the home directory.
    alice.chooses("Files", "Home Directory")
    alice.opens(outputs)

    def note_is_there() -> bool:
        page.reload()
        return page.locator("tr[data-name='note.txt']").count() == 1

    alice.researcher.sees(note_is_there)
    alice.opens("note.txt")
    expect(page.get_by_role("main")).to_contain_text("from JupyterLab")
    alice.step("note")
    alice.clicks_the_app("Active Jobs")
    expect(alice.row(job)).to_have_attribute("data-status", "running")
    alice.step("active-jobs")

    # The end.
    lab.page.bring_to_front()
    lab.shuts_down()
    page.bring_to_front()
    page.get_by_role("banner").get_by_role("link", name="My Interactive Sessions").click()
    alice.researcher.watches(card, "completed")
    alice.step("completed")
    alice.clicks_the_app("Active Jobs")
    expect(alice.row(job)).to_have_attribute("data-status", "completed")
    alice.step("active-jobs-completed")
    lab.page.close()


def test_safe_data_of_ones_own(alice: Walk, devcluster: Devcluster) -> None:
    data = "/home/alice/safe_data"
    devcluster.as_user("alice", "desktop01", f"mkdir -p {data}; cd {data}; touch a.txt b.txt c.txt")
    try:
        card = alice.researcher.launches(cluster="desktop")
        alice.researcher.watches(card, "completed")
        outputs = alice.researcher.outputs(card)
        alice.chooses("Files", "Home Directory")
        alice.opens(outputs)
        alice.opens("safe_data.txt")
        for name in "abc":
            expect(alice.page.get_by_role("main")).to_contain_text(f"/safe_data/{name}.txt")
        alice.step("safe-data")
    finally:
        devcluster.host("desktop01", "rm", "-rf", data)
