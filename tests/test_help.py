"""Help: the pages, their links, and the way to them from whatever goes wrong."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, expect

from app import create_app
from ood.apps.definition import load_apps
from ood.config import EMBEDDED, ROOT, FilesSettings, load_settings
from ood.errors import PortalError
from ood.schedulers.base import SILENCE, Outcome
from ood.schedulers.slurm.reasons import FAMILIES, REASONS
from ood.schedulers.slurm.refusals import REFUSALS, refusal
from ood.sessions.causes import LOG_CAUSES
from ood.web.help_topics import CODES, OUTCOMES, SENTENCES, topic_of
from tests.conftest import RunningPortal
from tests.researcher import PREFILLED, Researcher, accessible
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
    topics = {topic for topic, _ in SENTENCES} | {*OUTCOMES.values(), *CODES.values()}
    topics |= {"failed", "held", "undetermined", "service"}  # of cards, without a sentence
    assert topics <= anchors
    parts = set(
        re.findall(
            r'call part\("([^"]+)"', (ROOT / "templates/help/troubleshooting.html").read_text()
        )
    )
    assert parts == topics


# ---- From what goes wrong to what can be done


def sentences_of_tools() -> Iterator[str]:
    """What ces-pull and ces-run say when they fail, with `x` for what is filled in."""
    for tool in ("ces-pull", "ces-run", "ces_common.py"):
        tree = ast.parse((ROOT / "ces/bin" / tool).read_text())
        names: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names[node.targets[0].id] = text_of(node.value, names)
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="CesError"), args=[_, said]):
                    yield text_of(said, names)
                case ast.Call(func=ast.Name(id="usage"), args=[said]):
                    yield text_of(said, names)
                case ast.Assign(targets=[ast.Name(id="ERRORS")], value=ast.Tuple(elts=rows)):
                    for row in rows:
                        assert isinstance(row, ast.Tuple)
                        yield re.sub(r"\{\w+\}", "x", text_of(row.elts[2], names))


def text_of(node: ast.expr, names: dict[str, str]) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(
                text_of(part.value if isinstance(part, ast.FormattedValue) else part, names)
                for part in parts
            )
        case ast.Name(id=name):
            return names.get(name, "x")
    return "x"


def sentences_of_apps() -> Iterator[str]:
    """What the jobs of our own apps leave in `failure`."""
    for path in (ROOT / "app_defs").rglob("*.sh.j2"):
        text = path.read_text()
        yield from re.findall(r'give_up (?:\d+ )?"([^"]+)"', text)
        yield from re.findall(r'echo "([^"]+)" > failure', text)


def known_sentences() -> Iterator[str]:
    yield from (said for _, said in LOG_CAUSES)
    yield from REASONS.values()
    yield from (said for _, said in FAMILIES)
    yield from (refusal(said, "Desktop") for said, _ in REFUSALS)
    yield refusal("sbatch: error: something new", "Desktop")
    yield from (said for said in sentences_of_tools() if said not in ("x", ""))
    yield from (said for said in sentences_of_apps() if not said.startswith("$"))
    yield SILENCE
    yield "The machine that ran it (desktop01) failed. Relaunch it."
    yield "It was ended by signal 11 (SIGSEGV)."
    yield "A more urgent job took its place. Relaunch it."
    yield "The scheduler no longer lists this job, and the job left no outcome."
    yield "The launch was interrupted before the scheduler had the job. Relaunch it."
    yield "Asks for more memory than any node of this partition has: cancel and ask for less."


@pytest.mark.parametrize("said", sorted({*known_sentences()}))
def test_every_known_cause_leads_somewhere(said: str) -> None:
    assert topic_of(said), said


@pytest.mark.parametrize(
    ("said", "topic"),
    [
        ("The registry refused the user name or access token. Relaunch it.", "registry-login"),
        ("The registry 10.0.0.1:5000 refuses r/i:1 to alice: check the", "registry-login"),
        (
            "The registry has no such image or tag. Check the URL, and relaunch it.",
            "image-not-found",
        ),
        ("The registry r.example has no image r.example/i: check its name", "image-not-found"),
        ("The registry did not answer. Relaunch it later, or tell your", "registry"),
        ("The registry r cannot be reached from h: check the registry's name", "registry"),
        ("There is no safe data for you on desktop01: neither /home/a/safe_data", "safe-data"),
        ("It did not find safe data: there is none of your project on the machine", "safe-data"),
        ("There is no project directory for you on h: /safe_data has none", "safe-data"),
        ("The disk is full. Remove files that you no longer need", "disk-full"),
        ("ces-pull is not installed on h. Ask your administrator", "tools"),
        ("The container ended with exit code 3: see what it printed above.", "container"),
        (
            "The container ended with exit code 137: it was killed, often because it needed more "
            "memory than the job has.",
            "out-of-memory",
        ),
        ("JupyterLab did not answer within 1200 seconds. The log shows how far", "service"),
        ("Waiting for its turn. 3 jobs are before it in the queue.", "waiting"),
        ("Waiting for other jobs to finish: 8 cores needed, 2 free.", "waiting"),
        ("Desktop has no machine with that much memory. Ask for less memory.", "too-much"),
        ("Desktop has 8 cores. Ask for no more.", "too-much"),
        ("An administrator holds this job. Ask them why, or cancel it.", "held"),
        ("This back-end is closed at the moment. Ask your administrator.", "closed"),
        ("You use as many cores as you may. It starts when a job of yours", "your-limits"),
        ("The scheduler does not answer right now.", "undetermined"),
        ("desktop01 cannot be reached.", "host"),
        ("You cancelled it.", ""),
    ],
)
def test_the_topic_of_a_sentence(said: str, topic: str) -> None:
    assert topic_of(said) == topic


def test_every_field_that_is_shown_has_help() -> None:
    apps, problems = load_apps(ROOT / "app_defs", {})
    assert problems == []
    assert [
        f"{app.name}: {f.name}" for app in apps.values() for f in app.fields if not f.help
    ] == []


def test_errors_have_a_topic_or_say_it_all() -> None:
    def below(kind: type[PortalError]) -> Iterator[type[PortalError]]:
        yield kind
        for each in kind.__subclasses__():
            yield from below(each)

    said_by_itself = {
        "error", "not-found", "invalid-form", "launch-failed", "command-failed", "file",
        "file-missing", "file-exists", "busy", "upload-elsewhere",
    }  # fmt: skip
    codes = {kind.code for kind in below(PortalError) if kind.__module__ == "ood.errors"}
    assert codes - {*CODES} <= said_by_itself


def test_outcomes_that_say_nothing_more_have_a_topic() -> None:
    assert {*Outcome} - {*OUTCOMES} == {Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED}


def test_a_card_leads_to_its_part(ada: Browser, anchors: set[str]) -> None:  # noqa: F811
    id = ada.launches()  # no Container Execution Service tool is on the PATH
    ada.watches(id)
    found = Links(ada.opens(f"/sessions/{id}").text)
    assert f"{TROUBLE}#tools" in found.addresses
    assert "tools" in anchors


def test_an_error_page_leads_to_its_part(ada: Browser, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def breaks(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("ood.web.help.limits_of", breaks)
    ada.app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = ada.opens(STARTED)
    assert answer.status_code == 500
    assert f"{TROUBLE}#portal" in Links(answer.text).addresses


def test_help_is_there_when_the_home_cannot_be_reached(
    ada: Browser,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ood.errors import HostUnreachable

    def unreachable(*_: object) -> None:
        raise HostUnreachable("The portal host cannot be reached.")

    monkeypatch.setattr("ood.web.help.limits_of", unreachable)
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


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_are_accessible_at_all_widths(
    browser: Chromium, embedded: RunningPortal, theme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(color_scheme=theme, viewport={"width": 1280, "height": 800})
    page: Page = context.new_page()
    researcher = Researcher(page, embedded)
    researcher.signs_in()
    for path, name in ((STARTED, "getting-started"), (TROUBLE, "troubleshooting")):
        for width in (360, 1280, 1920):
            page.set_viewport_size({"width": width, "height": 800})
            page.goto(f"{embedded.url}{path}")
            accessible(page, f"{name}-{theme}-{width}")
    assert researcher.complaints == []
    context.close()


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
        main.get_by_role("link", name=file, exact=True).click()
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
