"""The proxy's background threads: they log an exception and go on."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import cast

import pytest

from ood.hosts.base import Stream
from ood.proxy import services as services_module
from ood.proxy import tunnels as tunnels_module
from ood.proxy.listeners import Listeners
from ood.proxy.services import Services
from ood.proxy.tunnels import Tunnels
from ood.sessions.service import Service
from tests.conftest import wait_until

SERVICE = Service("id", "alice", "Echo", "desktop", "7", "node1", 5000, "/", {})


def _dials(_: Service) -> Stream:
    raise AssertionError("not reached")


def test_services_are_tidied_after_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(services_module, "IDLE_CONNECTION", 0.02)
    passes: list[Iterable[Service]] = []
    went_on = threading.Event()

    class Broken(Listeners):
        def close_unused(self, in_use: Iterable[Service]) -> None:
            passes.append(in_use)
            if len(passes) == 1:
                raise RuntimeError("the first pass fails")
            went_on.set()

    Services(lambda *_: SERVICE, _dials, Broken(lambda _: pytest.fail("not started")))
    assert went_on.wait(30)
    assert "the first pass fails" in caplog.text


def test_a_service_is_looked_for_again_after_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(services_module, "FRESH", 0.0)
    found: Iterator[Service | Exception] = iter([SERVICE, RuntimeError("the board fails"), SERVICE])
    asked: list[str] = []

    def locate(_user: str, session_id: str) -> Service:
        asked.append(session_id)
        answer = next(found)
        if isinstance(answer, Exception):
            raise answer
        return answer

    services = Services(locate, _dials, Listeners(lambda _: pytest.fail("not started")))
    known = services.find("alice", "id")
    assert services.find("alice", "id") is known
    wait_until(lambda: len(asked) == 2 and not known.asking)
    assert "the board fails" in caplog.text
    assert services.find("alice", "id") is known
    wait_until(lambda: len(asked) == 3)


class Breaks:
    """A connection that fails in a way nobody thought of."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.closed = False

    def fileno(self) -> int:
        return self.connection.fileno()

    def settimeout(self, seconds: float) -> None:
        self.connection.settimeout(seconds)

    def recv(self, _size: int) -> bytes:
        raise RuntimeError("nobody thought of this")

    def close(self) -> None:
        self.closed = True
        raise RuntimeError("nor of this")


def test_a_tunnel_that_fails_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    tunnels = Tunnels()
    browser, browsers_end = socket.socketpair()
    service, services_end = socket.socketpair()
    tunnels.join("alice", browsers_end, cast(Stream, services_end), lambda: True)
    other_browser, other_browsers_end = socket.socketpair()
    other_service, other_services_end = socket.socketpair()
    broken = Breaks(other_services_end)
    with caplog.at_level(logging.DEBUG):
        tunnels.join("alice", other_browsers_end, cast(Stream, broken), lambda: True)
        other_service.sendall(b"x")
        wait_until(lambda: broken.closed)
        other_browser.settimeout(30)
        assert other_browser.recv(10) == b""
    assert "nobody thought of this" in caplog.text
    browser.sendall(b"still here")
    service.settimeout(30)
    assert service.recv(10) == b"still here"
    for connection in (browser, service, other_browser, other_service, other_services_end):
        connection.close()


def test_tunnels_go_on_after_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = iter([True])
    start_new = tunnels_module._Pump._start_new

    def fails_once(pump: tunnels_module._Pump) -> bool:
        if next(failures, False):
            raise RuntimeError("the selector fails")
        return start_new(pump)

    monkeypatch.setattr(tunnels_module._Pump, "_start_new", fails_once)
    browser, browsers_end = socket.socketpair()
    service, services_end = socket.socketpair()
    Tunnels().join("alice", browsers_end, cast(Stream, services_end), lambda: True)
    browser.sendall(b"all the same")
    service.settimeout(30)
    assert service.recv(20) == b"all the same"
    assert "the selector fails" in caplog.text
    for connection in (browser, service):
        connection.close()
