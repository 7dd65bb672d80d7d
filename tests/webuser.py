"""A user without a browser, for tests that need exact timing or many requests."""

from __future__ import annotations

import html
import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.conftest import RunningPortal

ENTRY = "__Host-Http-ood_node"
"""The cookie with which a browser enters services."""
FORM = {
    "cluster": "desktop",
    "registry_username": "alice",
    "runner": "podman",
    "cores": "1",
    "memory": "1",
}


@dataclass(frozen=True)
class Arrival:
    """The services' origin, the path there with the code, and the cookie with the nonce."""

    origin: str
    path: str
    nonce: str


class _Place:
    """An address of a service's origin. All of these origins are on the portal's port."""

    def __init__(self, address: str, portal: RunningPortal) -> None:
        found = re.fullmatch("(http://([^/]+))(/.*)", address)
        assert found, address
        self.origin, self._host, self.path = found.groups()
        self._port = portal.port

    def asked(self, method: str, path: str, **headers: str) -> tuple[http.client.HTTPResponse, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, headers={"Host": self._host, **headers})
            answer = connection.getresponse()
            return answer, answer.read().decode()
        finally:
            connection.close()


class WebUser:
    """One signed-in user, over plain HTTP."""

    def __init__(self, portal: RunningPortal, user: str = "", **headers: str) -> None:
        """Sign in as `user`, if given. `headers` are added to every request, as by a front end; `_`
        in their names stands for `-`."""
        self.portal = portal
        self._cookie = ""
        self.become(**headers)
        if user:
            status, _ = self.tries(user, f"{user}-pw")
            assert status == 303, status

    def become(self, **headers: str) -> None:
        """Add these headers to every request from now on."""
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

    def comes_to(self, path: str) -> Arrival:
        """Go to a session's service, up to the request with the code, which is not sent."""
        address = self._leads(path)
        start = _Place(address, self.portal)
        assert start.path.startswith("/enter?to="), address
        answer, text = start.asked("GET", start.path)
        assert answer.status == 303, text
        nonce = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        back = (answer.getheader("Location") or "").removeprefix(self.portal.url)
        place = _Place(self._leads(back), self.portal)
        assert place.path.startswith("/enter?code="), place.path
        return Arrival(place.origin, place.path, nonce)

    def _leads(self, path: str) -> str:
        answer, text = self.request("GET", path)
        assert answer.status == 303, text
        return answer.getheader("Location") or ""

    def enters(self, path: str) -> str:
        """Enter a session's service. Returns the entry cookie."""
        arrival = self.comes_to(path)
        answer, text = _Place(arrival.origin + arrival.path, self.portal).asked(
            "GET", arrival.path, Cookie=arrival.nonce
        )
        assert answer.status == 303, text
        cookies = answer.msg.get_all("Set-Cookie") or []
        (entry,) = [c.partition(";")[0] for c in cookies if c.startswith(f"{ENTRY}=")]
        return entry

    @property
    def cookie(self) -> str:
        """The cookie that identifies the user, for callers that send HTTP themselves."""
        return self._cookie

    def downloads(self, path: str, size: int = 1 << 20) -> Iterator[bytes]:
        """Download an address, in pieces."""
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
        """Launch Run Container. Returns the HTTP status: 303 if it was launched."""
        form = {**FORM, "container_url": self.portal.image, **fields}
        return self.post("/apps/container_app", form, token=token)[0]

    def sessions(self) -> list[dict[str, Any]]:
        _, text = self.request("GET", "/sessions", Accept="application/json")
        return list(json.loads(text)["sessions"])
