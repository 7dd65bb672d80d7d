"""A researcher at a browser: what they do with the portal, in their words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Locator, Page, expect

from tests.busy import patience
from tests.conftest import SCREENSHOTS, RunningPortal, wait_until
from tests.jupyterlab import JupyterLab

PREFILLED = {
    "registry_token": "",
    "runner": "podman",
    "container_name": "",
    "cores": "1",
    "memory": "2",
    "gpu": "0",
    "runner_options": "",
    "environment": "",
    "container_arguments": "",
}
"""The values of the form for a user who has never launched the app."""
HELLO = {"environment": "HELLO_TRE=Hello there", "container_arguments": "-d 20\n-n Ada"}
"""Long enough to be seen running: a card may be nearly ten seconds behind."""


class Researcher:
    """One browser page of one user."""

    def __init__(self, page: Page, portal: RunningPortal) -> None:
        self.page = page
        self.portal = portal
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self._heard(said.type, said.text))
        page.on("dialog", lambda dialog: dialog.accept())

    def _heard(self, kind: str, text: str) -> None:
        # The browser itself remarks on every 4xx answer, which is how a form says what is wrong.
        if kind in ("error", "warning") and "status of 4" not in text:
            self.complaints.append(text)

    def opens_the_address(self) -> None:
        self.page.goto(self.portal.address)
        expect(self.page.get_by_role("heading", name="Home")).to_be_visible()

    def goes_to_the_sign_in(self) -> None:
        """Go to the sign-in page. A page that polls may go there by itself at the same moment."""
        try:
            self.page.goto(f"{self.portal.url}/login")
        except PlaywrightError as error:
            if "ERR_ABORTED" not in error.message and "interrupted" not in error.message:
                raise
        self.page.wait_for_url(re.compile("/login"))

    def signs_out(self) -> None:
        """Sign out and wait for the answer, because going to another page cancels the request."""
        self.page.get_by_role("button", name="Log Out").click()
        expect(self.page.get_by_role("heading", name="Sign in")).to_be_visible()

    def asks_for_another_address(self) -> None:
        used = self.portal.address
        self.page.get_by_role("button", name="Print a new address").click()
        wait_until(lambda: self.portal.address != used, 10)

    def signs_in(self, user: str = "alice") -> None:
        """Sign in with the one-time address of the default configuration."""
        self.goes_to_the_sign_in()
        if not self.portal.registry_username:
            self.asks_for_another_address()
            self.opens_the_address()
            return
        self.page.get_by_label("User name").fill(user)
        self.page.get_by_label("Password").fill(f"{user}-pw")
        self.page.get_by_role("button", name="Sign in").click()
        # Whoever goes to another page before the answer has come is not signed in.
        expect(self.page.locator("form.log-out")).to_be_attached()

    def counts_the_cards(self) -> int:
        self.page.goto(f"{self.portal.url}/sessions")
        expect(self.page.get_by_role("heading", name="My Interactive Sessions")).to_be_visible()
        return self.page.locator("article.card").count()

    def opens_run_container(self) -> None:
        self.page.goto(f"{self.portal.url}/")
        self.page.locator("a.tile", has_text="Run Container").click()
        name = self.portal.registry_username
        self.fills_in(container_url=self.portal.image, registry_username=name, **PREFILLED)

    def fills_in(self, **fields: str) -> None:
        for name, value in fields.items():
            field = self.page.locator(f"[name={name}]")
            kind = field.evaluate("field => field.type")
            if kind == "checkbox":
                field.set_checked(value == "1")
            elif kind == "select-one":
                field.select_option(value)
            else:
                field.fill(value)

    def launches(self, **fields: str) -> Locator:
        """Fill in the Run Container form, press Launch, and return the new card."""
        self.opens_run_container()
        self.fills_in(**fields)
        return self.presses_launch_and_sees_the_card()

    def launches_jupyterlab(self, **fields: str) -> Locator:
        self.page.goto(f"{self.portal.url}/")
        self.page.locator("a.tile", has_text="Run JupyterLab").click()
        self.fills_in(**fields)
        return self.presses_launch_and_sees_the_card()

    def service(self, card: Locator) -> str:
        """The address of a card's service, without the final `/`."""
        session_id = card.get_attribute("data-session-id")
        return f"http://{session_id}.localhost:{self.portal.port}/node/{session_id}"

    def connects(self, card: Locator) -> JupyterLab:
        """Click Connect; return JupyterLab in its new tab."""
        with self.page.expect_popup() as opened:
            card.get_by_role("link", name="Connect to JupyterLab").click()
        lab = JupyterLab(opened.value)
        lab.is_there()
        return lab

    def presses_launch_and_sees_the_card(self) -> Locator:
        known = self._session_ids()
        self.presses_launch()
        expect(self.page.get_by_role("heading", name="My Interactive Sessions")).to_be_visible()
        (session_id,) = self._session_ids() - known
        return self.page.locator(f"article[data-session-id='{session_id}']")

    def _session_ids(self) -> set[str]:
        answer = self.page.request.get(
            f"{self.portal.url}/sessions", headers={"Accept": "application/json"}
        )
        return {session["id"] for session in answer.json()["sessions"]}

    def presses_launch(self) -> None:
        self.page.get_by_role("button", name="Launch").click()

    def mistake_at(self, name: str) -> str:
        """The message next to a field."""
        described = re.compile(rf"\b{name}-mistake\b")
        expect(self.page.locator(f"[name={name}]")).to_have_attribute("aria-describedby", described)
        return self.page.locator(f"#{name}-mistake").inner_text()

    def watches(self, card: Locator, status: str, seconds: float = 60) -> list[str]:
        """Wait without reloading until a card shows `status`. Returns all statuses seen."""
        said: list[str] = []
        started = time.monotonic()
        while not said or said[-1] != status:
            assert time.monotonic() - started < patience(seconds), f"{said}: {card.inner_text()}"
            now = card.get_attribute("data-status") or ""
            if not said or now != said[-1]:
                said.append(now)
            self.page.wait_for_timeout(100)
        return said

    def sees(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for a condition while pages keep running."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < patience(seconds), self.page.get_by_role(
                "main"
            ).inner_text()
            self.page.wait_for_timeout(100)

    def context_directory(self, card: Locator) -> Path:
        return Path(card.locator("dd.path").inner_text())

    def reads_the_log(self, card: Locator) -> str:
        """The whole log, as text."""
        session_id = card.get_attribute("data-session-id")
        answer = self.page.request.get(
            f"{self.portal.url}/sessions/{session_id}/log", headers={"Accept": "text/plain"}
        )
        assert answer.ok
        return answer.text()

    def outputs(self, card: Locator) -> str:
        """The name of the outputs directory on the card."""
        return _outputs(card.inner_text())

    def outputs_in_the_log(self, card: Locator) -> str:
        return _outputs(self.reads_the_log(card))


def _outputs(text: str) -> str:
    found = re.search(r"outputs-\d+", text)
    assert found, text
    return found[0]


Scheme = Literal["light", "dark"]
LOOKS: tuple[tuple[Scheme, int], ...] = (("light", 360), ("dark", 1280), ("light", 1920))
"""Colour schemes and window widths. They are paired, not crossed, as neither changes the other."""


def looks(page: Page) -> Iterator[str]:
    """Show a page in each of LOOKS, and yield the name of the look."""
    for scheme, width in LOOKS:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        yield f"{scheme}-{width}"


def accessible(page: Page, name: str) -> None:
    """Whether axe finds no problems on a page, and it does not scroll sideways. Saves a
    screenshot."""
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    found = Axe().run(page)
    assert found.violations_count == 0, f"{name}: {found.generate_report()}"
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide, f"{name} scrolls sideways"


def seconds_until(condition: object, seconds: float = 30) -> float:
    start = time.monotonic()
    wait_until(condition, seconds)
    return time.monotonic() - start
