"""Stock Firefox, driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/)."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.busy import patience

PREFERENCES: dict[str, str | bool | int] = {
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "remote.prefs.recommended": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}
"""Only preferences that keep Firefox off the network and from opening pages of its own. The
recommended preferences for automation would weaken its security."""
SECONDS = 60.0


class Firefox:
    """A running Firefox."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = count(1)
        self.asks("session.new", capabilities={})

    def asks(self, method: str, seconds: float = SECONDS, **params: Any) -> dict[str, Any]:
        """Send a command; return its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(seconds))
            if said.get("id") == number:
                assert said["type"] == "success", said
                return dict(said["result"])

    @contextmanager
    def new_page(self) -> Iterator[FirefoxPage]:
        """A page of a new user, who has no cookies."""
        user = self.asks("browser.createUserContext")["userContext"]
        made = self.asks("browsingContext.create", type="tab", userContext=user)
        try:
            yield FirefoxPage(self, made["context"], user)
        finally:
            self.asks("browser.removeUserContext", userContext=user)


class FirefoxPage:
    """One tab."""

    def __init__(self, firefox: Firefox, context: str, user: str) -> None:
        self.firefox = firefox
        self.context = context
        self.user = user

    def goto(self, url: str) -> None:
        """Go to an address and wait for the page after all redirects. (Firefox's own event for this
        can be lost when the page moves to another process.)"""
        self.waits_for("(window.left = true)")
        self.firefox.asks("browsingContext.navigate", context=self.context, url=url, wait="none")
        self.waits_for("!window.left && document.readyState === 'complete'")

    @property
    def url(self) -> str:
        tree = self.firefox.asks("browsingContext.getTree", root=self.context, maxDepth=0)
        return str(tree["contexts"][0]["url"])

    def evaluate(self, script: str, seconds: float = SECONDS) -> Any:
        """The value of an expression, as in JSON. Promises are awaited."""
        found = self.firefox.asks(
            "script.evaluate",
            seconds,
            expression=f"(async () => JSON.stringify(await ({script})) ?? 'null')()",
            target={"context": self.context},
            awaitPromise=True,
        )
        assert found["type"] == "success", found["exceptionDetails"]["text"]
        return json.loads(found["result"]["value"])

    @property
    def text(self) -> str:
        return str(self.evaluate("document.body.innerText"))

    def waits_for(self, script: str, seconds: float = SECONDS) -> None:
        """Wait until an expression is true, also across navigations."""
        deadline = time.monotonic() + patience(seconds)
        while True:
            try:
                if self.evaluate(script, 10):
                    return
            except (AssertionError, TimeoutError):  # between two pages
                pass
            assert time.monotonic() < deadline, f"{script}: {self.url} {self.text[:2000]}"
            time.sleep(0.1)

    def clicks(self, css: str) -> None:
        """Click an element with the mouse. A poll may replace it just then."""
        for _ in range(5):
            try:
                return self._clicks(css)
            except AssertionError as error:
                if "no such" not in str(error) and "stale" not in str(error):
                    raise
        return self._clicks(css)

    def _clicks(self, css: str) -> None:
        found = self.firefox.asks(
            "browsingContext.locateNodes",
            context=self.context,
            locator={"type": "css", "value": css},
        )["nodes"]
        assert found, f"{css}: {self.text[:2000]}"
        self.evaluate(f"document.querySelector({json.dumps(css)}).scrollIntoView()")
        at = {"type": "element", "element": {"sharedId": found[0]["sharedId"]}}
        moves = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": at},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._acts({"type": "pointer", "id": "mouse", "actions": moves})

    def types(self, css: str, text: str) -> None:
        """Click an element and type."""
        self.clicks(css)
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self._acts({"type": "key", "id": "keyboard", "actions": keys})

    def _acts(self, source: dict[str, Any]) -> None:
        self.firefox.asks("input.performActions", context=self.context, actions=[source])

    def opens(self, css: str) -> FirefoxPage:
        """Click a link that opens a new tab. Returns the tab."""
        known = self._tabs()
        self.clicks(css)
        deadline = time.monotonic() + patience(SECONDS)
        while not (new := self._tabs() - known):
            assert time.monotonic() < deadline, "no tab was opened"
            time.sleep(0.1)
        return FirefoxPage(self.firefox, new.pop(), self.user)

    def _tabs(self) -> set[str]:
        tree = self.firefox.asks("browsingContext.getTree", maxDepth=0)
        return {one["context"] for one in tree["contexts"] if one["userContext"] == self.user}

    def closes(self) -> None:
        self.firefox.asks("browsingContext.close", context=self.context)

    def screenshot(self, path: Path) -> None:
        taken = self.firefox.asks("browsingContext.captureScreenshot", context=self.context)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def running_firefox() -> Iterator[Firefox]:
    """Start Firefox with a new profile."""
    with tempfile.TemporaryDirectory() as profile:
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in PREFERENCES.items()]
        (Path(profile) / "user.js").write_text("\n".join(lines))
        argv = ["firefox-esr", "--headless", "--no-remote", "--profile", profile]
        log = Path(profile) / "log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [*argv, "--remote-debugging-port", "0"], stdout=said, stderr=said
            )
        try:
            deadline = time.monotonic() + patience(SECONDS)
            while not (found := re.search(r"listening on (ws://\S+)", log.read_text())):
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            with connect(f"{found[1]}/session", max_size=None) as socket:
                yield Firefox(socket)
        finally:
            process.terminate()
            process.wait(60)
