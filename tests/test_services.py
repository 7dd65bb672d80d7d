"""The proxy's background threads: they log an exception and go on."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import cast

import pytest

from ood.errors import HostUnreachable, ServiceSilent
from ood.hosts.base import Stream
from ood.proxy import services as services_module
from ood.proxy import tunnels as tunnels_module
from ood.proxy.listeners import Listeners
from ood.proxy.services import Services
from ood.proxy.tunnels import Tunnels
from ood.proxy.upstream import LEFT_REQUESTS, Upstream
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


def test_services_that_hang_delay_no_probe_of_others() -> None:
    hangs, probed = threading.Event(), threading.Event()

    def dial(service: Service) -> Stream:
        if service.user == "alice":
            hangs.wait(20)
        else:
            probed.set()
        raise HostUnreachable("not there")

    class Trusting(Listeners):
        def connect(self, _: Service, dial: Callable[[], Stream]) -> Stream:
            return dial()

    services = Services(lambda *_: SERVICE, dial, Trusting(lambda _: pytest.fail("not started")))
    for number in range(20):
        assert not services.is_silent(replace(SERVICE, session_id=f"{number}"))
    assert not services.is_silent(replace(SERVICE, session_id="bobs", user="bob"))
    assert probed.wait(5)
    hangs.set()


@pytest.mark.parametrize(("seconds", "asked"), [(0.0, 2), (1.2, 1)])
def test_a_request_that_was_read_is_not_sent_again(seconds: float, asked: int) -> None:
    """A kept connection that closes at once was closed before. Later, it was because of the
    request."""
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            for number in range(2):
                seen.append(connection.recv(1000))
                if number == 0 and len(seen) != 2:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                else:
                    time.sleep(seconds)
                    return

    def dial() -> Stream:
        ours, theirs = socket.socketpair()
        threading.Thread(target=serve, args=(theirs,), daemon=True).start()
        return cast(Stream, ours)

    upstream = Upstream(dial)
    first = upstream.request("GET", "/first", [], None, 5)
    assert (first.status, list(first)) == ("200 OK", [])
    if asked == 1:
        with pytest.raises(HostUnreachable):
            upstream.request("GET", "/second", [], None, 5)
    else:
        assert upstream.request("GET", "/second", [], None, 5).status == "200 OK"
    assert [data.split()[1] for data in seen[1:]] == [b"/second"] * asked
    upstream.close_idle(0)


def test_requests_that_nobody_asks_for_again_are_closed() -> None:
    services: list[socket.socket] = []

    def dial() -> Stream:
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        services.append(theirs)
        return cast(Stream, ours)

    def is_open(service: socket.socket) -> bool:
        service.setblocking(False)
        try:
            return len(service.recv(1000)) > 0 and is_open(service)
        except BlockingIOError:
            return True

    upstream = Upstream(dial)
    for number in range(LEFT_REQUESTS + 2):
        sent = upstream.send("GET", f"/{number}", [], None, 5)
        with pytest.raises(ServiceSilent):
            sent.response(0.01)
        upstream.leave(number, sent)
    assert [is_open(one) for one in services] == [False] * 2 + [True] * LEFT_REQUESTS
    assert upstream.left(0) is None
    kept = upstream.left(3)
    assert kept is not None
    upstream.close_idle(60)
    fourth = upstream.left(4)
    assert fourth is not None
    fourth.close()
    upstream.close_idle(0)
    assert upstream.left(5) is None
    assert [is_open(one) for one in services[5:]] == [False] * 3
    services[3].sendall(b"HTTP/1.1 204 late\r\n\r\n")
    assert kept.response(5).status == "204 late"
    upstream.close_idle(0)
    for service in services:
        service.close()


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
