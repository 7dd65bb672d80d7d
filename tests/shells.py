"""A shell without a browser, for tests that need exact timing or many shells. Does what the page's
script does."""

from __future__ import annotations

import json
import re
import time
from types import TracebackType
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.busy import patience
from tests.webuser import WebUser

UNSHOWN = 32 * 1024
OWN = Origin("the portal's own")


class Line:
    """One connection to a shell. With `shows=False`, it never reports that it has shown output."""

    def __init__(
        self,
        user: WebUser,
        path: str,
        shows: bool = True,
        origin: Origin | None = OWN,
        **query: Any,
    ) -> None:
        portal = user.portal
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        address = f"ws://127.0.0.1:{portal.port}{path}?{asked}"
        self._shows = shows
        self.connection: ClientConnection = connect(
            address,
            origin=Origin(portal.url) if origin is OWN else origin,
            additional_headers={"Cookie": user._cookie},
            compression=None,
            max_size=None,
            open_timeout=60,
            legacy=True,  # it is closed by `__exit__`
        )
        self.words: list[dict[str, Any]] = []
        self._heard = 0  # of these
        self.text = ""  # what came and was not waited for yet
        self.received = self.told = 0
        self.word("shell", "end", seconds=60)
        if "shell" in self.words[-1]:
            self.id: str = self.words[-1]["shell"]
            self.received = self.told = self.words[-1]["from"]

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def type(self, text: str | bytes) -> None:
        self.connection.send(text.encode() if isinstance(text, str) else text)

    def say(self, **facts: Any) -> None:
        self.connection.send(json.dumps(facts))

    def take(self, seconds: float) -> bytes:
        """The next output; empty for a control message. Raises TimeoutError, `ConnectionClosed`."""
        message = self.connection.recv(seconds)
        if isinstance(message, str):
            self.words.append(json.loads(message))
            return b""
        self.received += len(message)
        if self._shows and self.received - self.told >= UNSHOWN:
            self.told = self.received
            self.say(shown=self.received)
        return message

    def takes_nothing_more(self, seconds: float = 3) -> None:
        """Read until there has been no output for this many seconds."""
        while True:
            try:
                self.take(seconds)
            except TimeoutError:
                return

    def until(self, wanted: str, seconds: float = 30) -> str:
        """Read until the output matches the regular expression `wanted`. Returns the output."""
        deadline = time.monotonic() + patience(seconds)
        while not (found := re.search(wanted, self.text)):
            try:
                self.text += self.take(max(deadline - time.monotonic(), 0)).decode(errors="replace")
            except (TimeoutError, ConnectionClosed) as error:
                raise AssertionError(f"{wanted}: {self.text[-2000:]!r} {self.words}") from error
        before, self.text = self.text[: found.end()], self.text[found.end() :]
        return before

    def word(self, *names: str, seconds: float = 30) -> dict[str, Any]:
        """The next control message with one of these names."""
        deadline = time.monotonic() + patience(seconds)
        while True:
            while self._heard < len(self.words):
                self._heard += 1
                if set(names) & set(self.words[self._heard - 1]):
                    return self.words[self._heard - 1]
            self.text += self.take(max(deadline - time.monotonic(), 0)).decode(errors="replace")

    def answers(self, seconds: float = 30) -> None:
        """Make the shell print something that was not typed."""
        self.type("echo is $((40+2))\n")
        self.until("is 42", seconds)
