"""Help: the pages, their links, and the way to them from whatever goes wrong."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

import ood.errors
from app import create_app
from ood.apps.definition import load_apps
from ood.config import EMBEDDED, ROOT, FilesSettings, load_settings
from ood.errors import (
    FileExists,
    FileFailed,
    FileMissing,
    FileRefused,
    HostUnreachable,
    PortalError,
    SchedulerError,
)
from ood.help_topics import NO_REASON, HelpTopic, Reason
from ood.hosts.local_files import LocalFiles
from ood.schedulers.base import Job, JobStatus, Outcome
from ood.schedulers.slurm.reasons import why_it_waits
from ood.schedulers.slurm.refusals import refusal
from ood.sessions.job_report import JobReport, parse_failure
from ood.sessions.status import Verdict, judge_completed
from tests.conftest import RunningPortal
from tests.researcher import PREFILLED, Researcher, accessible, looks
from tests.test_web import Browser, ada, home, settings, stranger  # noqa: F401 - fixtures

STARTED, TROUBLE = "/help", "/help/troubleshooting"


class Links(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.addresses: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.ids.add(given.get("id") or "")
        if tag == "a":
            self.addresses.add(given.get("href") or "")


@pytest.fixture
def anchors(ada: Browser) -> set[str]:  # noqa: F811
    return Links(ada.opens(TROUBLE).text).ids


@pytest.mark.parametrize("path", [STARTED, TROUBLE])
def test_every_link_leads_somewhere(ada: Browser, path: str) -> None:  # noqa: F811
    found = Links(ada.opens(path).text)
    for address in found.addresses:
        there = urlsplit(address)
        if not there.path or there.path == path:
            assert there.fragment in found.ids, address
        else:
            answer = ada.client.get(address, follow_redirects=True)
            assert answer.status_code == 200, address
            assert not there.fragment or f'id="{there.fragment}"' in answer.text, address
            answer.close()


def test_every_topic_has_its_part_and_every_part_its_topic(anchors: set[str]) -> None:
    page = (ROOT / "templates/help/troubleshooting.html").read_text()
    assert re.findall(r'call part\("([^"]+)"', page) == list(HelpTopic)
    assert {*HelpTopic} <= anchors


# ---- From a problem to the help about it


def errors(kind: type[PortalError] = PortalError) -> Iterator[type[PortalError]]:
    """The tree of errors, from the top down."""
    yield kind
    for each in kind.__subclasses__():
        yield from errors(each)


def test_every_error_is_in_the_tree_with_a_code_of_its_own() -> None:
    for module in pkgutil.walk_packages(ood.__path__, "ood."):
        importlib.import_module(module.name)
    kinds = list(errors())
    assert {kind.__module__ for kind in kinds} == {"ood.errors"}
    assert len({kind.code for kind in kinds}) == len(kinds)
    drawn = re.findall(r"(?m)^ +[│├└─ ]*([A-Z]\w+) +\w", ood.errors.__doc__ or "")
    assert drawn == [kind.__name__ for kind in kinds]


def test_an_error_may_have_another_topic_than_its_class() -> None:
    assert FileFailed("Could not save x.").topic is None
    assert FileFailed("Could not save x.", topic=HelpTopic.DISK_FULL).topic is HelpTopic.DISK_FULL
    assert SchedulerError("x", topic=None).topic is HelpTopic.UNDETERMINED


@pytest.mark.parametrize(
    ("reason", "topic"),
    [
        ("Priority", "waiting"),
        ("Licenses", "waiting"),
        ("Dependency", "waiting"),
        ("SomethingNew", "waiting"),
        ("JobHeldAdmin", "held"),
        ("launch failed requeued held", "held"),
        ("JobLaunchFailure", "launch"),
        ("PartitionInactive", "closed"),
        ("ReqNodeNotAvail, UnavailableNodes:n01", "closed"),
        ("InvalidAccount", "not-allowed"),
        ("PartitionTimeLimit", "too-much"),
        ("QOSMaxMemoryPerJob", "too-much"),
        ("QOSMaxCpuPerUserLimit", "your-limits"),
        ("AssocGrpGRES", "your-limits"),
        ("AssocGrpCPUMinutesLimit", "your-limits"),
    ],
)
def test_a_reason_of_slurm_has_its_topic(reason: str, topic: str) -> None:
    job = Job("1", "x", "PENDING", JobStatus.QUEUED, reason=reason)
    assert why_it_waits(job).topic == topic


@pytest.mark.parametrize(
    ("said", "topic"),
    [
        ("Memory specification can not be satisfied", "too-much"),
        ("Invalid generic resource (gres) specification", "gpu"),
        ("Invalid account or account/partition combination", "not-allowed"),
        ("Unable to contact slurm controller", "undetermined"),
        ("something new", "launch"),
    ],
)
def test_a_refusal_of_slurm_has_its_topic(said: str, topic: str) -> None:
    assert refusal(f"sbatch: error: {said}", "Desktop").topic == topic


@pytest.mark.parametrize(
    ("log", "topic"),
    [
        ("Error: unauthorized: authentication required", "registry-login"),
        ("manifest unknown", "image-not-found"),
        ("dial tcp 10.0.0.1:443: connect: no route to host", "registry"),
        ("ls: /safe_data/x: No such file or directory", "safe-data"),
        ("OSError: [Errno 28] No space left on device", "disk-full"),
        ("Segmentation fault", "failed"),
    ],
)
def test_a_failed_job_has_the_topic_of_its_log(log: str, topic: str) -> None:
    assert (
        judge_completed(JobReport(exit_code=1, log_tail=log), cancelled_here=False).topic == topic
    )


def test_a_file_that_is_missing_has_no_help_whatever_its_name(ada: Browser, home: Path) -> None:  # noqa: F811
    answer = ada.opens(f"/files/portal{home}/waiting-room.txt")
    assert answer.status_code == 404
    assert "waiting-room.txt" in answer.text
    assert f"{TROUBLE}#" not in answer.text


def test_a_full_disk_has_its_help() -> None:
    with pytest.raises(FileFailed) as failed, LocalFiles().open("/dev/full", "r+b") as file:
        file.write(b"x")
    assert failed.value.topic is HelpTopic.DISK_FULL


def topics_of_tools() -> Iterator[str]:
    """The help topics in ces/bin and in the templates of our apps."""
    for tool in ("ces-pull", "ces-run", "ces_common.py"):
        for node in ast.walk(ast.parse((ROOT / "ces/bin" / tool).read_text())):
            match node:
                case ast.Call(func=ast.Name(id="CesError"), args=[_, _, ast.Constant(topic)]):
                    yield str(topic)
                case ast.Call(func=ast.Name(id="usage"), args=[_, ast.Constant(topic)]):
                    yield str(topic)
                case ast.Assign(targets=[ast.Name(id="ERRORS")], value=ast.Tuple(elts=rows)):
                    for row in rows:
                        yield ast.literal_eval(cast(ast.Tuple, row).elts[3])
    for path in (ROOT / "app_defs").rglob("*.sh.j2"):
        yield from re.findall(r'give_up \d+ (\S+) "', path.read_text())
        yield from re.findall(r'"\$1" (\S+) > failure', path.read_text())


def test_the_tools_and_the_apps_name_topics_that_are_there() -> None:
    topics = list(topics_of_tools())
    assert len(topics) > 25
    assert {*topics} <= {*HelpTopic}


def test_a_tool_says_why_it_failed_in_a_file(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": "/", "CES_FAILURE": str(tmp_path / "failure")}
    tool = ROOT / "ces/bin/ces-pull"
    done = subprocess.run(
        [tool, "podman", "", "", "Not an image"], env=env, check=False, capture_output=True
    )
    assert done.returncode == 64
    sentence, topic = (tmp_path / "failure").read_text().splitlines()
    assert done.stderr.decode() == f"ces-pull: {sentence}\n"
    assert topic == "image-not-found"
    (tmp_path / "failure").write_text("It was ended for this.\n")
    subprocess.run([tool, "nonsense"], env=env, check=False, capture_output=True)
    assert (tmp_path / "failure").read_text() == "It was ended for this.\n", "whatever comes later"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"The disk is full.\ndisk-full\n", Reason("The disk is full.", HelpTopic.DISK_FULL)),
        (b"The disk is full.\nnonsense\n", Reason("The disk is full.")),
        (b"The disk is full.\n\xff\n", Reason("The disk is full.")),
        (b"The disk is full.", Reason("The disk is full.")),
        (b"", NO_REASON),
    ],
)
def test_a_job_names_its_topic_on_the_second_line(written: bytes, reason: Reason) -> None:
    assert parse_failure(written) == reason


@pytest.mark.parametrize(
    ("status", "outcome", "topic"),
    [
        ("queued", None, None),
        ("running", None, None),
        ("held", None, "held"),
        ("undetermined", None, "undetermined"),
        ("completed", "succeeded", None),
        ("completed", "cancelled", None),
        ("completed", "failed", "failed"),
        ("completed", "timed-out", "time-limit"),
        ("completed", "out-of-memory", "out-of-memory"),
        ("completed", "unknown", "unknown"),
    ],
)
def test_what_has_no_reason_has_the_topic_of_its_status(
    status: str, outcome: str | None, topic: str | None
) -> None:
    verdict = Verdict(JobStatus(status), Outcome(outcome) if outcome else None)
    assert verdict.topic == topic


@pytest.mark.parametrize(
    ("error", "topic"),
    [
        # The words of these sentences are those of other topics.
        (FileMissing("File not found: /home/ada/waiting-room.txt."), None),
        (FileMissing("File not found: /home/ada/the registry has no image."), None),
        (FileExists("“held” already exists."), None),
        (FileRefused("You have no permission for /home/ada/a job that failed."), "files"),
        (HostUnreachable("gpu cannot be reached: No GPU."), "host"),
        (
            FileFailed("Is the disk full, or a quota used up?", topic=HelpTopic.DISK_FULL),
            "disk-full",
        ),
    ],
    ids=str,
)
def test_no_word_of_a_sentence_chooses_its_topic(
    ada: Browser,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    error: PortalError,
    topic: str | None,
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("ood.web.help.portal", fails)
    answer = ada.opens(STARTED)
    assert answer.status_code == error.http_status
    found = Links(answer.text).addresses
    assert [each for each in found if each.startswith(f"{TROUBLE}#")] == (
        [f"{TROUBLE}#{topic}"] if topic else []
    )


def test_every_field_that_is_shown_has_help() -> None:
    apps, problems = load_apps(ROOT / "app_defs", {})
    assert problems == []
    assert [
        f"{app.name}: {f.name}" for app in apps.values() for f in app.fields if not f.help
    ] == []


def test_a_card_leads_to_its_part(ada: Browser, anchors: set[str]) -> None:  # noqa: F811
    id = ada.launches()  # no Container Execution Service tool is on the PATH
    ada.watches(id)
    found = Links(ada.opens(f"/sessions/{id}").text)
    assert f"{TROUBLE}#tools" in found.addresses
    assert "tools" in anchors


def test_an_error_page_leads_to_its_part(ada: Browser, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def breaks(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("ood.web.help.limits_by_cluster", breaks)
    ada.app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = ada.opens(STARTED)
    assert answer.status_code == 500
    assert f"{TROUBLE}#portal" in Links(answer.text).addresses


def test_help_is_there_when_the_home_cannot_be_reached(
    ada: Browser,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: object) -> None:
        raise HostUnreachable("The portal host cannot be reached.")

    monkeypatch.setattr("ood.web.help.limits_by_cluster", unreachable)
    assert "not known at the moment" in ada.page(STARTED).text


# ---- This site's own


def test_getting_started_is_about_this_sites_own_apps_and_back_ends(
    home: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    clusters = tmp_path / "clusters.d"
    clusters.mkdir()
    portals = {"one": "max_cores: 3, max_memory_gib: 7", "far": "home: unsynched, gpus: 2"}
    for name, portal in portals.items():
        (clusters / f"{name}.yml").write_text(
            f"v2: {{metadata: {{title: The {name}}}, login: {{host: h}}, job: {{adapter: local}}, "
            f"custom: {{portal: {{{portal}}}}}}}"
        )
    here = load_settings(EMBEDDED).model_copy(update={"clusters": clusters})
    usual = Browser(create_app(here))
    usual.signs_in()
    text = " ".join(usual.page(STARTED).text.split())
    assert "The one 3 cores, 7 GiB of memory the same home directory" in text
    assert "2 GPUs a home directory of its own" in text
    assert "On The far you have a separate home directory" in text
    assert "HELLO_TRE=Hello there" in text
    assert home.is_dir()

    own = {"container_app": {"container_url": "registry.example/mine:1"}}
    other = Browser(create_app(here.model_copy(update={"form_values": own})))
    other.signs_in()
    assert "HELLO_TRE=Hello there" not in other.page(STARTED).text

    closed = {"files": FilesSettings(roots=("/safe_data/{project}",))}
    elsewhere = Browser(create_app(here.model_copy(update=closed)))
    elsewhere.signs_in()
    text = elsewhere.page(STARTED).text
    assert "File Manager does not show home directories" in text
    assert "Find hello.txt" not in text

    apps = tmp_path / "apps"
    apps.mkdir()
    for name in ("jupyter_app", "containers"):
        (apps / name).symlink_to(ROOT / "app_defs" / name)
    without = Browser(create_app(here.model_copy(update={"app_defs": apps})))
    without.signs_in()
    page = without.opens(STARTED).text
    assert "Run Container" not in page
    assert "Run JupyterLab" in page


# ---- As a browser shows them


def test_the_pages_are_accessible_at_all_widths(page: Page, embedded: RunningPortal) -> None:
    researcher = Researcher(page, embedded)
    researcher.signs_in()
    for path, name in ((STARTED, "getting-started"), (TROUBLE, "troubleshooting")):
        for look in looks(page):
            page.goto(f"{embedded.url}{path}")
            accessible(page, f"{name}-{look}")
    assert researcher.complaints == []


# ---- Somebody new, with nothing but this page


class Newcomer(Researcher):
    """Follows Getting Started: its links, and what it says to type."""

    def follows(self, link: str, part: str) -> None:
        """Click a link of a part of the page."""
        self.page.goto(f"{self.portal.url}{STARTED}")
        there = f"xpath=//h2[@id='{part}']/following::a[normalize-space()='{link}'][1]"
        self.page.locator(there).click()

    def told_to_type(self) -> dict[str, str]:
        """What the page says to type into Run Container's form: label -> text."""
        self.page.goto(f"{self.portal.url}{STARTED}")
        fields = self.page.locator("dl.fields dd:has(pre)")
        return {
            each.locator("xpath=preceding-sibling::dt[1]").inner_text(): each.locator(
                "pre"
            ).inner_text()
            for each in fields.all()
        }

    def reads(self, file: str, directory: str, link: str, part: str) -> str:
        """Follow a link to a home directory, and read a file in a directory there."""
        self.follows(link, part)
        main = self.page.get_by_role("main")
        main.get_by_role("link", name=directory, exact=True).click()
        expect(self.page).to_have_url(re.compile(f"/{directory}$"))
        found = main.get_by_role("link", name=file, exact=True)

        def is_there() -> bool:
            """It may be written only now."""
            if found.count() == 0:
                self.page.reload()
            return found.count() == 1

        self.sees(is_there)
        found.click()
        return main.locator("pre").inner_text()


@pytest.mark.parametrize("place", ["this machine", "unsynched"])
def test_somebody_new_gets_through_with_this_page_alone(
    page: Page, request: pytest.FixtureRequest, place: str
) -> None:
    portal: RunningPortal = request.getfixturevalue(
        "embedded" if place == "this machine" else "site"
    )
    new = Newcomer(page, portal)
    if place == "this machine":
        subprocess.run([ROOT / "ces/images/have", "jupyterlab"], check=True, timeout=600)
    new.signs_in()
    cluster = "Beta" if place == "unsynched" else "This machine"
    files = "your home directory on Beta" if place == "unsynched" else "home directory"

    # Run Container
    typed = new.told_to_type()
    assert len(typed) == 2
    new.follows("Run Container", "run-container")
    new.fills_in(
        container_url=portal.image, registry_username=portal.registry_username, **PREFILLED
    )
    page.get_by_label("Cluster").select_option(label=cluster)
    for label, text in typed.items():
        page.get_by_label(label).fill(text)
    card = new.presses_launch_and_sees_the_card()
    new.watches(card, "completed", 120)
    expect(card).to_have_attribute("data-outcome", "succeeded")
    number = card.locator(".job-id").inner_text().strip("()")
    outputs = new.outputs(card)

    # Its log and its files
    page.get_by_role("link", name="View full log").first.click()
    log = page.get_by_role("main").locator("pre").inner_text()
    assert "Hello there YOUR_FIRST_NAME!" in log
    assert "Goodbye YOUR_FIRST_NAME!" in log
    assert "This text is in" in new.reads("safe_outputs.txt", outputs, files, "outputs")

    # Active Jobs
    new.follows("Active Jobs", "active-jobs")
    row = page.locator(f"tr[data-job-id='{number}']", has_text=cluster)
    expect(row).to_contain_text("Completed")
    expect(row).to_contain_text("sys-dashboard-sys-container_app")
    row.get_by_role("link", name="Details").click()
    page.get_by_role("link", name="Open in File Manager").click()
    expect(
        page.get_by_role("link", name=re.compile(r"container_app_output-\d+\.log"))
    ).to_be_visible()

    # Run JupyterLab, and its end
    new.follows("Run JupyterLab", "jupyterlab")
    page.get_by_label("Cluster").select_option(label=cluster)
    card = new.presses_launch_and_sees_the_card()
    new.watches(card, "running", 180)
    lab = new.connects(card)
    lab.opens_a_terminal()
    page.goto(f"{portal.url}{STARTED}")
    commands = page.locator("xpath=//h2[@id='jupyterlab']/following::pre[1]").inner_text()
    for line in commands.splitlines():
        lab.types(line)
    page.goto(f"{portal.url}/sessions")
    written = new.outputs_in_the_log(card)
    files = "File Manager on Beta" if place == "unsynched" else "File Manager"
    assert new.reads("hello.txt", written, files, "jupyterlab").strip() == "hello"
    page.goto(f"{portal.url}/sessions")
    card.get_by_role("button", name="Cancel").click()
    new.watches(card, "completed", 60)
    assert new.complaints == []
