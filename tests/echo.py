"""The echo service (tests/app_defs/echo_app) in a real job, as its owner reaches it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from tests.conftest import Devcluster, RunningPortal, wait_until
from tests.webuser import Arrival, WebUser

MIB = 1 << 20
OWNER = "carol"


class HereUser(WebUser):
    """The user of the default configuration, signed in with a printed one-time address."""

    def __init__(self, portal: RunningPortal) -> None:
        super().__init__(portal)
        printed = portal.log.read_text().count("Open this address: ")
        self.post("/login/new-address", {}, "/login")
        wait_until(lambda: portal.log.read_text().count("Open this address: ") > printed)
        answer, _ = self.request("GET", portal.address.removeprefix(portal.url))
        assert answer.status == 302, answer.status


@dataclass(frozen=True)
class Stack:
    """A portal with the apps of tests/app_defs, and the machine with its users' homes."""

    portal: RunningPortal
    cluster: str
    site: Devcluster | None = None
    shared: bool = False  # all services have one origin

    def signs_in(self, user: str = OWNER) -> WebUser:
        return WebUser(self.portal, user) if self.site else HereUser(self.portal)

    def shell(self, command: str) -> str:
        """Run a command as the owner of the sessions, on the machine with their files."""
        if self.site:
            return self.site.as_user(OWNER, "portal-host", command)
        return subprocess.run(
            ["sh", "-c", command], check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def launches(self, user: WebUser, delay: int = 0) -> str:
        """Launch an echo service; return the session's id."""
        known = {session["id"] for session in user.sessions()}
        form = {"cluster": self.cluster, "delay": str(delay)}
        status, text = user.post("/apps/echo_app", form, "/apps/echo_app")
        assert status == 303, text
        (new,) = {session["id"] for session in user.sessions()} - known
        return str(new)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str:
        (value,) = self.all(name) or [""]
        return value

    @property
    def text(self) -> str:
        """The text of a page."""
        return " ".join(re.sub("<[^>]+>", " ", self.body.decode()).split())


@contextmanager
def sent(
    portal: RunningPortal,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | Iterable[bytes] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """Send a request; `headers` name the host."""
    connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=60)
    try:
        try:
            connection.request(method, target, body, dict(headers))
        except (BrokenPipeError, ConnectionResetError):  # the answer came before the body's end
            pass
        with connection.getresponse() as answer:
            yield answer
    finally:
        connection.close()


def asked(
    portal: RunningPortal,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | Iterable[bytes] | None = None,
) -> Answer:
    with sent(portal, method, target, headers, body) as answer:
        return Answer(answer.status, answer.getheaders(), answer.read())


class Echo:
    """A running echo service that its owner's browser has entered."""

    def __init__(self, stack: Stack, user: WebUser, id: str) -> None:
        self.stack = stack
        self.portal = stack.portal
        self.user = user
        self.id = id
        self.prefix = f"/node/{id}/"
        self.host = f"{'' if stack.shared else f'{id}.'}localhost:{self.portal.port}"
        self.origin = f"http://{self.host}"
        self.cookie = ""
        self.directory = ""

    @property
    def card(self) -> dict[str, Any]:
        (found,) = [card for card in self.user.sessions() if card["id"] == self.id]
        return found

    def starts(self) -> None:
        """Wait until the card shows Connect."""
        wait_until(lambda: self.card["connect_url"] == self.prefix, 40, str(self.card))

    def enters(self) -> None:
        self.cookie = self.user.enters(self.prefix)

    @property
    def entered(self) -> dict[str, str]:
        """The headers of a browser that has entered."""
        return {"Host": self.host, "Cookie": self.cookie}

    def exchanges(self, arrival: Arrival, cookies: str = "") -> Answer:
        """Exchange a code, as the browser with the nonce does."""
        assert arrival.origin == self.origin
        given = f"{arrival.nonce}; {cookies}" if cookies else arrival.nonce
        return asked(self.portal, "GET", arrival.path, {"Host": self.host, "Cookie": given})

    def asks(
        self,
        path: str = "",
        method: str = "GET",
        body: bytes | Iterable[bytes] | None = None,
        **headers: str,
    ) -> Answer:
        given = {**self.entered, **{k.replace("_", "-"): v for k, v in headers.items()}}
        return asked(self.portal, method, self.prefix + path, given, body)

    def its_page_gets(self) -> int:
        """The HTTP status of a request by a script of the service's own page."""
        return self.asks(Sec_Fetch_Mode="cors", Sec_Fetch_Site="same-origin").status

    def told(
        self,
        path: str = "",
        method: str = "GET",
        body: bytes | Iterable[bytes] | None = None,
        **headers: str,
    ) -> dict[str, Any]:
        """The request as the service received it."""
        answer = self.asks(path, method, body, **headers)
        assert answer.status == 200, answer.text
        return dict(json.loads(answer.body))

    def sets(self, *headers: tuple[str, str]) -> Answer:
        """Make the service answer with these headers."""
        return self.asks(f"headers?set={quote(json.dumps(headers))}")

    def reads(self, path: str) -> int:
        """Read a response and discard it. Returns its size."""
        size = 0
        with sent(self.portal, "GET", self.prefix + path, self.entered) as answer:
            assert answer.status == 200
            while part := answer.read(MIB):
                size += len(part)
        return size

    def begins(self, framing: str, path: str = "x") -> socket.socket:
        """A connection on which the head of an upload has been sent."""
        lines = (
            f"POST {self.prefix}{path} HTTP/1.1",
            f"Host: {self.host}",
            f"Cookie: {self.cookie}",
            framing,
        )
        connection = socket.create_connection(("127.0.0.1", self.portal.port), 60)
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection

    def opens(
        self,
        origin: str | None = "",
        cookie: str | None = None,
        host: str = "",
        subprotocols: list[Subprotocol] | None = None,
    ) -> ClientConnection:
        """Open a WebSocket. `origin`: default the services' own; None to send none."""
        return connect(
            f"ws://{host or self.host}{self.prefix}ws",
            sock=socket.create_connection(("127.0.0.1", self.portal.port), 60),
            origin=None if origin is None else Origin(origin or self.origin),
            additional_headers={"Cookie": self.cookie if cookie is None else cookie},
            subprotocols=subprotocols,
            max_size=None,
            ping_interval=None,
            open_timeout=60,
        )

    def refused(self, **given: Any) -> int:
        """The status with which a WebSocket is refused."""
        with pytest.raises(InvalidStatus) as refusal:
            self.opens(**given)
        return refusal.value.response.status_code

    @property
    def connection(self) -> dict[str, Any]:
        """The contents of connection.yml."""
        return dict(yaml.safe_load(self.stack.shell(f"cat {self.directory}/connection.yml")))

    def rewrites_connection(self, **changes: str | int) -> None:
        """Edit connection.yml, as its owner may."""
        text = yaml.dump({**self.connection, **changes})
        self.stack.shell(
            f"cd {self.directory} && umask 077 && cat > new.yml <<'END' &&"
            f" mv new.yml connection.yml\n{text}END\n"
        )

    @property
    def refusals(self) -> list[dict[str, Any]]:
        """The audit lines about its connection.yml."""
        lines = [line.partition(" audit: ")[2] for line in self.portal.log.read_text().splitlines()]
        noted = [json.loads(line) for line in lines if line]
        of_its_own = [n for n in noted if n.get("object", "").startswith(self.prefix)]
        return [n for n in of_its_own if "connection.yml" in n.get("reason", "")]

    @property
    def process(self) -> int:
        """The service's pid, as this machine's root sees it."""
        command = f"bin/service.py [0-9]+ {self.prefix}$"
        return int(subprocess.check_output(["pgrep", "-f", command]))
