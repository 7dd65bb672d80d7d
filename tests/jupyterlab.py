"""What a researcher does in JupyterLab, in their words."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Locator, Page, WebSocket, expect

from tests.conftest import wait_until

# What JupyterLab itself says when a kernel is restarted while it is asked for its breakpoints.
OWN_REMARK = "Could not restore the debugger state"


class JupyterLab:
    """A browser page with JupyterLab in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.received = 0  # bytes by WebSocket
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self._heard(said.type, said.text))
        page.on("websocket", self._listen)

    def _heard(self, kind: str, text: str) -> None:
        # A JupyterLab on a busy machine may be too slow for the portal. It tries again by itself.
        if kind == "error" and not text.startswith(OWN_REMARK) and "code: 503" not in text:
            self.complaints.append(text)

    def _listen(self, opened: WebSocket) -> None:
        def count(frame: str | bytes) -> None:
            self.received += len(frame)

        opened.on("framereceived", count)

    def is_there(self) -> None:
        expect(self.page.locator("#jp-main-dock-panel")).to_be_visible(timeout=60_000)
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0, timeout=60_000)

    def chooses(self, menu: str, item: str) -> None:
        self.page.get_by_role("menuitem", name=menu, exact=True).first.click()
        self.page.locator(".lm-Menu-itemLabel").get_by_text(item, exact=True).click()

    def starts(self, what: str) -> None:
        """Click a card of the launcher."""
        self.page.locator(".jp-LauncherCard:visible").filter(has_text=what).first.click()

    @property
    def notebook(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def opens_a_notebook(self) -> None:
        self.starts("Python 3")
        expect(self.notebook).to_be_visible()
        # JupyterLab starts two kernels, and ends the first.
        wait_until(lambda: self._notebooks() == ["safe_outputs/Untitled.ipynb"], 60)
        self.is_idle()

    def _notebooks(self) -> list[str]:
        return [session["path"] for session in self.asks("/api/sessions")[1]]

    def is_idle(self, seconds: float = 60) -> None:
        status = self.notebook.locator(".jp-Notebook-ExecutionIndicator")
        expect(status).to_have_attribute("data-status", "idle", timeout=seconds * 1000)

    def runs(self, code: str, seconds: float = 60) -> Locator:
        """Type into the last cell and run it; return its output when it is done."""
        cell = self.types_and_presses(code)
        expect(cell.locator(".jp-InputPrompt")).to_have_text(
            re.compile(r"\[\d+\]:"), timeout=seconds * 1000
        )
        return cell.locator(".jp-OutputArea")

    def types_and_presses(self, code: str) -> Locator:
        cells = self.notebook.locator(".jp-CodeCell")
        # JupyterLab takes cells out of the page and puts them back while it lays out the notebook.
        expect(cells.last.locator(".cm-content")).to_have_text("")
        number = cells.count() - 1
        cell = cells.nth(number)
        cell.locator(".cm-content").click()
        expect(cell.locator(".cm-editor")).to_have_class(re.compile("cm-focused"))
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Shift+Enter")
        expect(cells).to_have_count(number + 2)
        return cell

    def interrupts(self) -> None:
        self.chooses("Kernel", "Interrupt Kernel")

    def restarts(self) -> None:
        self.chooses("Kernel", "Restart Kernel…")
        self.page.locator(".jp-Dialog").get_by_role("button", name="Confirm Kernel Restart").click()
        self.is_idle()

    def saves(self) -> None:
        with self.page.expect_response(
            lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url
        ) as saved:
            self.page.keyboard.press("ControlOrMeta+s")
            self.page.get_by_role("button", name="Rename and Save").click()  # asked the first time
        assert saved.value.ok

    def uploads(self, path: Path) -> None:
        self.shows_files()
        with self.page.expect_file_chooser() as chooser:
            self.page.locator("#filebrowser [title='Upload Files']").first.click()
        chooser.value.set_files(path)
        self.page.get_by_role("button", name="Upload", exact=True).click()  # it is large
        wait_until(lambda: self.size_of(path.name) == path.stat().st_size, 120)

    def asks(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """Call JupyterLab's REST API with this browser's cookies. Returns status and JSON.
        (Only browsers resolve names below localhost.)"""
        url = urlsplit(self.page.url)
        connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=60)
        address = url.path.partition("/lab")[0] + path
        given = {"Host": url.netloc, "Cookie": self.cookies, "Sec-Fetch-Mode": "cors"}
        try:
            connection.request(method, address, "{}" if method == "POST" else None, given)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if answer.status < 300 else None
        finally:
            connection.close()

    @property
    def cookies(self) -> str:
        """The cookies that this browser sends to JupyterLab."""
        cookies = self.page.context.cookies([self.page.url])
        return "; ".join(f"{one.get('name')}={one.get('value')}" for one in cookies)

    def size_of(self, name: str) -> int:
        status, found = self.asks(f"/api/contents/safe_outputs/{name}?content=0")
        return int(found["size"]) if status == 200 else -1

    def shows_files(self) -> None:
        browser = self.page.locator("#filebrowser")
        if not browser.is_visible():
            self.page.locator("[data-id=filebrowser]").first.click()

    def file(self, name: str) -> Locator:
        return self.page.locator(".jp-DirListing-item").filter(has_text=name)

    def downloads(self, name: str) -> Path:
        self.file(name).click(button="right")
        with self.page.expect_download(timeout=120_000) as download:
            self.page.locator(".lm-Menu-itemLabel").get_by_text("Download", exact=True).click()
        return download.value.path()

    def opens_a_terminal(self) -> None:
        self.chooses("File", "New Launcher")
        self.starts("Terminal")
        expect(self.page.locator(".jp-Terminal .xterm-screen")).to_be_visible()

    def types(self, line: str) -> None:
        """Type a line into the terminal."""
        self.page.locator(".jp-Terminal textarea").first.focus()
        self.page.keyboard.type(line)
        self.page.keyboard.press("Enter")

    def opens_the_notebook_again(self, name: str) -> None:
        """Wait until JupyterLab has reopened the notebook that was open before, because opening it
        in the meantime could start another kernel. If it does not reopen it, open it from the file
        browser."""
        try:
            expect(self.notebook).to_be_visible(timeout=30_000)
        except AssertionError:
            self.file(name).dblclick()
        expect(self.notebook).to_be_visible()
        # It was saved with a cell that had run, and the empty one below it.
        expect(self.notebook.locator(".jp-CodeCell").nth(1)).to_be_visible()
        self.is_idle()

    def shuts_down(self) -> None:
        self.chooses("File", "Shut Down")
        self.page.locator(".jp-Dialog").get_by_role("button", name="Shut Down").click()
