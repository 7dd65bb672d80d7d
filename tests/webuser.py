"""A user without a browser: for what needs exact moments, or many requests."""

from __future__ import annotations

import html
import http.client
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from tests.conftest import RunningPortal

FORM = {
    "cluster": "desktop",
    "registry_username": "alice",
    "runner": "podman",
    "cores": "1",
    "memory": "1",
}


class WebUser:
    """One signed-in user, over plain HTTP."""

    def __init__(self, portal: RunningPortal, user: str = "", **headers: str) -> None:
        """Sign in as `user`, if any. `headers` are in every request, as if a front end had added
        them; `_` in their names stands for `-`."""
        self.portal = portal
        self._cookie = ""
        self.become(**headers)
        if user:
            status, _ = self.tries(user, f"{user}-pw")
            assert status == 303, status

    def become(self, **headers: str) -> None:
        """Have these headers in every request from here on."""
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def tries(self, user: str, password: str) -> tuple[int, str]:
        """Try to sign in; return status and page."""
        return self.post("/login", {"username": user, "password": password}, "/login")

    def request(
        self, method: str, path: str, body: str | bytes | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.portal.port, timeout=60)
        try:
            given = {"Cookie": self._cookie, "Accept": "text/html", **self._headers, **headers}
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if cookie := answer.getheader("Set-Cookie"):
            self._cookie = cookie.partition(";")[0]
        return answer, text

    @property
    def cookie(self) -> str:
        """What tells who it is, for those who speak HTTP by themselves."""
        return self._cookie

    def downloads(self, path: str, size: int = 1 << 20) -> Iterator[bytes]:
        """The bytes that are at an address, piece by piece."""
        connection = http.client.HTTPConnection("127.0.0.1", self.portal.port, timeout=60)
        try:
            connection.request("GET", path, headers={"Cookie": self._cookie})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            while data := answer.read(size):
                yield data
        finally:
            connection.close()

    def csrf_token(self, page: str) -> str:
        _, text = self.request("GET", page)
        found = re.search(r'name="csrf_token" value="([^"]+)"', text)
        assert found, text
        return html.unescape(found[1])

    def post(
        self, path: str, fields: dict[str, str], page: str = "/", token: str = ""
    ) -> tuple[int, str]:
        body = urlencode({**fields, "csrf_token": token or self.csrf_token(page)})
        kind = "application/x-www-form-urlencoded"
        answer, text = self.request("POST", path, body, **{"Content-Type": kind})
        return answer.status, text

    def launch(self, token: str = "", **fields: str) -> int:
        """Launch Run Container; return the answer's status: 303 when it was launched."""
        form = {**FORM, "container_url": self.portal.image, **fields}
        return self.post("/apps/container_app", form, token=token)[0]

    def sessions(self) -> list[dict[str, Any]]:
        _, text = self.request("GET", "/sessions", Accept="application/json")
        return list(json.loads(text)["sessions"])
