"""The looks of the portal, in a browser on the devcluster: every page in both themes and at all
widths, menus, what a site makes its own, and notices."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from ood.appearance import Announcement, Colours, contrast, text_on
from tests.conftest import SCREENSHOTS, Devcluster, RunningPortal
from tests.researcher import Researcher, looks

LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" onload="document.title=1">'
    '<script>document.title="ran"</script><circle cx="16" cy="16" r="14" fill="#7c3"/></svg>'
)
SETTINGS = {
    "title": "North Safe Haven",
    "logo": "logo.svg",
    "motd": "motd.md",
    "colours": {"bar": "#4b2a63", "accent": "#7a1f6a", "accent_dark": "#e8a7dc"},
    "announcements": [
        {"text": "**Maintenance** on Tuesday. <b>", "level": "warning"},
        {"text": "Of yesterday", "until": datetime.now() - timedelta(days=1)},
        {"text": "Of tomorrow", "from": datetime.now() + timedelta(days=1)},
    ],
}
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FIRST_PAGE_BYTES = 120 * 1024


@pytest.fixture(scope="module")
def north(site_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """A portal for the devcluster with all that a site can make its own."""
    directory = tmp_path_factory.mktemp("north") / "site"
    shutil.copytree(site_config, directory)
    path = directory / "portal.yml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | SETTINGS))
    (directory / "logo.svg").write_text(LOGO)
    (directory / "motd.md").write_text("Welcome, *everybody*. <script>")
    portal = RunningPortal(directory, {"OOD_PORTAL_CONFIG": str(path)})
    portal.start()
    yield portal
    portal.stop()


@pytest.fixture(scope="module")
def browser_profile(browser: Browser) -> Iterator[BrowserContext]:
    """Alice's: one for all tests here, which signs in once."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


@pytest.fixture(scope="module")
def alice(
    browser_profile: BrowserContext, north: RunningPortal, devcluster: Devcluster
) -> Iterator[Researcher]:
    """A researcher with one session that has ended, and has been told so."""
    for host in ("alpha-login", "beta-login"):
        devcluster.host(host, "scancel", "--user", "alice")  # what other tests left
    page = browser_profile.new_page()
    alice = Researcher(page, north)
    alice.signs_in("alice")
    card = alice.launches(cluster="desktop")
    alice.watches(card, "completed")
    expect(page.locator(".toast")).to_contain_text("succeeded")
    page.goto(f"{north.url}/")
    yield alice
    assert alice.complaints == []


def menu(page: Page, name: str) -> Locator:
    return page.get_by_role("banner").locator("summary", has_text=name)


# ---- Every page


def every_page(page: Page, url: str) -> dict[str, str]:
    """An address of each kind of page, by name."""
    answer = page.request.get(f"{url}/sessions", headers={"Accept": "application/json"})
    session = answer.json()["sessions"][0]
    return {
        "home": "/",
        "apps": "/apps",
        "form": "/apps/container_app",
        "form-jupyterlab": "/apps/jupyter_app",
        "sessions": "/sessions",
        "session": f"/sessions/{session['id']}",
        "log": f"/sessions/{session['id']}/log",
        "jobs": "/jobs",
        "job": f"/jobs/{session['cluster']}/{session['job_id']}",
        "no-jobs": "/jobs?text=nothing-is-like-that",
        "files": "/files/portal/home/alice",
        "file": f"/files/portal{session['context_directory']}/before.sh",
        "shell": "/shell",
        "help": "/help",
        "troubleshooting": "/help/troubleshooting",
        "not-found": "/no/such/page",
    }


def test_every_page(alice: Researcher, north: RunningPortal) -> None:
    page = alice.page
    directory = SCREENSHOTS / "look"
    directory.mkdir(parents=True, exist_ok=True)
    problems = []
    for name, path in every_page(page, north.url).items():
        answer = page.goto(f"{north.url}{path}")
        assert answer
        assert answer.status == (404 if name == "not-found" else 200), name
        for look in looks(page):
            page.screenshot(path=directory / f"{name}-{look}.png")
            found = Axe().run(page, options={"runOnly": WCAG})
            if found.violations_count:
                problems.append(f"{name} {look}: {found.generate_report()}")
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                problems.append(f"{name} {look} scrolls sideways")
        if page.get_by_role("heading", level=1).count() != 1:
            problems.append(f"{name} has not one main heading")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="light")
    assert problems == []


def test_the_sign_in_page(browser: Browser, north: RunningPortal) -> None:
    for theme in ("light", "dark"):
        context = browser.new_context(color_scheme="dark" if theme == "dark" else "light")
        page = context.new_page()
        page.goto(f"{north.url}/login")
        page.get_by_label("User name").fill("nobody")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#wrong")).to_contain_text("is wrong")
        found = Axe().run(page, options={"runOnly": WCAG})
        assert found.violations_count == 0, found.generate_report()
        context.close()


def test_the_first_page_is_small(browser: Browser, north: RunningPortal) -> None:
    context = browser.new_context()
    page = context.new_page()
    alice = Researcher(page, north)
    alice.goes_to_the_sign_in()
    context.clear_cookies()
    loaded: set[str] = set()
    page.on("request", lambda asked: loaded.add(asked.url))
    alice.signs_in("alice")
    expect(page.get_by_role("heading", name="Home")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert {url.startswith(f"{north.url}/") for url in loaded} == {True}, loaded
    assert len(loaded) > 6, loaded
    bodies = {url: page.request.get(url).body() for url in loaded}
    compressed = {url: len(gzip.compress(body, 6)) for url, body in bodies.items()}
    assert sum(compressed.values()) < FIRST_PAGE_BYTES, compressed
    context.close()


# ---- Menus and themes


def test_menus_by_keyboard(alice: Researcher, north: RunningPortal) -> None:
    page = alice.page
    page.goto(f"{north.url}/")
    for name in ("Apps", "Files", "Jobs", "Clusters", "Help", "Theme"):
        menu(page, name).focus()
        page.keyboard.press("Enter")
        expect(page.locator("details.menu[open]")).to_have_count(1)
        expect(page.locator("details.menu[open] summary")).to_have_text(name)
    page.keyboard.press("Escape")
    expect(page.locator("details.menu[open]")).to_have_count(0)
    expect(menu(page, "Theme")).to_be_focused()
    menu(page, "Clusters").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Portal host Shell Access")).to_be_focused()
    page.get_by_role("banner").get_by_role("link", name="My Interactive Sessions").focus()
    expect(page.locator("details.menu[open]")).to_have_count(0)
    menu(page, "Apps").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Run Container")).to_be_visible()


def test_menus_of_a_narrow_window(alice: Researcher, north: RunningPortal) -> None:
    page = alice.page
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto(f"{north.url}/")
    expect(menu(page, "Jobs")).not_to_be_visible()
    page.get_by_role("button", name="Menu").click()
    menu(page, "Jobs").click()
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    page.get_by_role("banner").get_by_role("link", name="Active Jobs").click()
    expect(page.get_by_role("heading", name="Active Jobs")).to_be_visible()
    page.get_by_role("button", name="Menu").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Menu")).to_be_focused()
    expect(menu(page, "Jobs")).not_to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 800})


def test_without_scripts(browser: Browser, north: RunningPortal) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 800})
    page = context.new_page()
    page.goto(f"{north.url}/login")
    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill("alice-pw")
    page.get_by_role("button", name="Sign in").click()
    menu(page, "Jobs").click()
    page.get_by_role("banner").get_by_role("link", name="Active Jobs").click()
    expect(page.get_by_role("heading", name="Active Jobs")).to_be_visible()
    menu(page, "Theme").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.get_by_role("heading", name="Active Jobs")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    context.close()


def ground(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_a_theme_is_taken_at_once_and_remembered(alice: Researcher, north: RunningPortal) -> None:
    page = alice.page
    page.emulate_media(color_scheme="light")
    page.goto(f"{north.url}/apps/container_app")
    light = ground(page)
    page.locator("[name=container_name]").fill("typed")
    menu(page, "Theme").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert ground(page) != light
    expect(page.locator("[name=container_name]")).to_have_value("typed")
    page.goto(f"{north.url}/jobs")  # by the server: no page is light first
    assert 'data-theme="dark"' in page.request.get(f"{north.url}/jobs").text()
    assert ground(page) != light
    menu(page, "Theme").click()
    page.get_by_role("button", name="Use system setting").click()
    expect(page.locator("html")).not_to_have_attribute("data-theme", "dark")
    page.reload()
    assert ground(page) == light
    page.emulate_media(color_scheme="dark")
    assert ground(page) != light
    page.emulate_media(color_scheme="light")


# ---- What a site makes its own


def test_a_site_of_its_own(alice: Researcher, north: RunningPortal) -> None:
    page = alice.page
    page.goto(f"{north.url}/")
    note = page.get_by_role("note", name="Announcement")
    expect(note).to_have_count(1)
    expect(note).to_contain_text("Maintenance on Tuesday. <b>")
    expect(page.get_by_role("region", name="Message of the day")).to_contain_text(
        "Welcome, everybody. <script>"
    )
    bar = page.get_by_role("banner")
    assert bar.evaluate("bar => getComputedStyle(bar).backgroundColor") == "rgb(75, 42, 99)"
    logo = bar.locator("img")
    assert logo.evaluate("picture => picture.complete && picture.naturalWidth > 0")
    with page.context.new_page() as by_itself:
        by_itself.goto(f"{north.url}{logo.get_attribute('src')}")
        assert by_itself.title() == "", "what the picture holds was run"


def test_home_says_what_to_do_next(alice: Researcher, north: RunningPortal) -> None:
    page = alice.page
    page.goto(f"{north.url}/")
    for category in ("Containers", "Interactive Apps", "Jobs"):
        expect(page.get_by_role("region", name=category)).to_be_visible()
    recent = page.get_by_role("region", name="Recently used")
    expect(recent.get_by_role("link", name="Run Container")).to_be_visible()
    expect(page.get_by_role("region", name="Active sessions")).to_contain_text(
        "You have no active sessions. Choose an app below to launch one"
    )


def test_colours_that_cannot_be_read_are_refused() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert Colours(accent="#1a5f8c", accent_dark="#7cc0ee").style_sheet().count("light-dark(") == 2
    for wrong, said in (
        ({"accent": "#66aadd", "accent_dark": "#7cc0ee"}, "`accent`: #66aadd .* a darker colour"),
        ({"accent": "#1a5f8c", "accent_dark": "#1a5f8c"}, "`accent_dark`: .* a lighter colour"),
        ({"accent": "#1a5f8c"}, "or neither"),
        ({"bar_dark": "#1a5f8c"}, "needs `bar`"),
        ({"bar": "blue"}, "bar"),
        ({"bar": "#123456;}"}, "bar"),
    ):
        with pytest.raises(ValueError, match=said):
            Colours.model_validate(wrong)
    for colour in ("#808080", "#ff0000", "#143c57", "#ffff00"):
        assert contrast(colour, text_on(colour)) >= 4.5


def test_announcements_have_their_time() -> None:
    now = datetime.now().astimezone()
    day = timedelta(days=1)
    for since, until, is_on in (
        (None, None, True),
        (now - day, None, True),
        (now - day, now + day, True),
        (now, now, False),
        (now + day, None, False),
        (None, now - day, False),
    ):
        announcement = Announcement.model_validate({"text": "x", "from": since, "until": until})
        assert announcement.is_on(now) is is_on, (since, until)
    assert Announcement.model_validate({"text": "x", "until": "2026-12-01 18:00"}).until


# ---- Notices

SPY = """
window.told = [];
window.Notification = class {
  static permission = "granted";
  constructor(text) { window.told.push(text); }
  addEventListener() {}
};
Object.defineProperty(document, "hidden", { get: () => true });
"""
"""A tab that nobody looks at, with notifications. A headless browser has neither."""


def test_notices(
    alice: Researcher, north: RunningPortal, devcluster: Devcluster, browser_profile: BrowserContext
) -> None:
    page = alice.page
    other = browser_profile.new_page()
    other.goto(f"{north.url}/")
    card = alice.launches(cluster="desktop", container_arguments="-d 600")
    alice.watches(card, "running")
    job = re.sub(r"\D", "", card.get_by_role("heading").first.inner_text())
    tabs = (page, other)

    def toasts(text: str) -> int:
        return sum(tab.locator(".toast", has_text=text).count() for tab in tabs)

    alice.sees(lambda: toasts(f"Run Container ({job}) has started.") == 1)
    assert sum(tab.title().startswith("(1) ") for tab in tabs) == 1

    # Nothing is said again, and a page that is not looked at leaves it to the others.
    page.goto(f"{north.url}/sessions")
    with page.expect_response(re.compile("/sessions$")):
        pass
    expect(page.locator(".toast")).to_have_count(0)

    devcluster.host("alpha-login", "scontrol", "update", f"JobId={job}", "TimeLimit=5")
    alice.sees(lambda: toasts("will reach its time limit in") == 1)

    # Nobody looks: the browser tells, and the first tab that is looked at.
    away = browser_profile.new_page()
    away.add_init_script(SPY)
    away.goto(f"{north.url}/files")
    page.goto("about:blank")
    other.goto("about:blank")
    devcluster.as_user("alice", "alpha-login", f"scancel {job}")
    cancelled = f"Run Container ({job}) was cancelled."
    alice.sees(lambda: cancelled in away.evaluate("told"))
    assert away.evaluate("told").count(cancelled) == 1
    assert away.title().startswith("(1) ")
    expect(away.locator(".toast")).to_have_count(0)
    page.goto(f"{north.url}/")
    toast = page.locator(".toast")
    expect(toast).to_contain_text(cancelled)
    found = Axe().run(page, options={"runOnly": WCAG})
    assert found.violations_count == 0, found.generate_report()
    page.screenshot(path=SCREENSHOTS / "notice.png")
    toast.get_by_role("button", name="Dismiss").click()
    expect(toast).to_have_count(0)
    assert page.title() == "Home · North Safe Haven"
    page.reload()
    expect(toast).to_have_count(0)
    other.close()
    away.close()


def test_the_browsers_own_notices_are_asked_for_by_a_button(
    browser: Browser, north: RunningPortal
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(
        """window.Notification = class {
             static permission = "default";
             static async requestPermission() { return (this.permission = "granted"); }
           };"""
    )
    alice = Researcher(page, north)
    alice.signs_in("alice")
    button = page.get_by_role("button", name="Notify me when a session starts or ends")
    assert page.evaluate("Notification.permission") == "default", "asked without being asked"
    button.click()
    expect(button).not_to_be_visible()
    expect(page.locator("#notices-allowed")).to_contain_text("This browser will notify you")
    context.close()


# ---- The keyboard alone


def test_launch_and_cancel_by_keyboard(alice: Researcher, north: RunningPortal) -> None:
    page = alice.page
    page.goto(f"{north.url}/")

    def goes_to(target: Locator) -> None:
        """Press Tab until the target has the focus, which can be seen."""
        for _ in range(80):
            page.keyboard.press("Tab")
            if target.evaluate("target => target === document.activeElement"):
                break
        expect(target).to_be_focused()
        outline = target.evaluate("target => parseFloat(getComputedStyle(target).outlineWidth)")
        assert outline >= 2

    goes_to(page.get_by_role("link", name="Skip to main content"))
    page.keyboard.press("Enter")
    goes_to(page.locator("a.tile", has_text="Run Container"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Run Container")).to_be_visible()
    goes_to(page.get_by_label("Cluster"))
    page.keyboard.type("Desktop")
    goes_to(page.get_by_label("Arguments to pass to container"))
    page.keyboard.press("Control+a")
    page.keyboard.type("-d 600")
    goes_to(page.get_by_role("button", name="Launch"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="My Interactive Sessions")).to_be_visible()
    card = page.locator("article.card").first
    id = card.get_attribute("data-session-id")
    card = page.locator(f"article[data-session-id='{id}']")
    alice.watches(card, "running")
    goes_to(page.locator(f"#cancel-{id}"))
    page.keyboard.press("Enter")  # and the question that follows, which Researcher answers
    alice.watches(card, "completed")
    assert card.get_attribute("data-outcome") == "cancelled"
