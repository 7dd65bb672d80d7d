"""The proxy to interactive services: a service in a real job, a portal, plain clients, a browser.

Every test of `echo` runs on this machine without SSH and on the devcluster through it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from playwright.sync_api import Page, expect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from ood.apps.definition import ServiceOptions
from ood.errors import ServiceRefused
from ood.schedulers.base import NodeNames
from ood.sessions.record import SessionRecord
from ood.sessions.service import parse_connection, service_at
from tests.busy import busy
from tests.conftest import ROOT, SLOW, Devcluster, RunningPortal, wait_until
from tests.echo import MIB, OWNER, Answer, Echo, Stack, asked, sent
from tests.researcher import Researcher
from tests.webuser import ENTRY, WebUser

TARGETS = (
    "",
    "a%2Fb",
    "%2e%2e/%2E%2E/x",
    "a//b///c",
    "/",
    "//evil.example/x",
    "?a=b&a=%20",
    "a?",
    "a?b=?&&c==%26+%2B",
    "%FF%fe%80",
    "%E2%82%AC%00%0A%0D",
    "a;b=c@d:e!$'()*,~",
    "enter?ticket=1",
    "a%20b%25c",
    "a%2Fb%252Fc?x=1;y=%20+%2B&z",
    "a+b%2B;%3B?;;&;=%3B",
    "a\\b|c^d`e{f}?[g]=\\",
    "a?x=%u0041&y=%&z=%zz",
    "%?%",
)


@pytest.fixture(scope="module", params=["here", pytest.param("devcluster", marks=SLOW)])
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp(request.param)
    here = request.param == "here"
    site: Devcluster | None = None if here else request.getfixturevalue("devcluster")
    source = ROOT / "embedded" if here else request.getfixturevalue("site_config")
    shutil.copytree(source / "clusters.d", directory / "clusters.d")
    settings = yaml.safe_load((source / "portal.yml").read_text())
    settings["app_defs"] = str(ROOT / "tests/app_defs")
    if not here:
        shutil.copy(source / "known_hosts", directory)
    (directory / "portal.yml").write_text(yaml.dump(settings))
    environment = {"OOD_PORTAL_CONFIG": str(directory / "portal.yml")}
    if here:
        environment["HOME"] = str(directory)
    portal = RunningPortal(directory, environment)
    portal.start()
    yield Stack(portal, "this_machine" if here else "desktop", site)
    portal.stop()


@pytest.fixture(scope="module")
def launched(stack: Stack) -> Iterator[Callable[..., list[Echo]]]:
    """Launches services, which are cancelled in the end."""
    owners: list[WebUser] = []

    def launch(number: int = 1, user: str = OWNER, delay: int = 0) -> list[Echo]:
        owner = stack.signs_in(user)
        owners.append(owner)
        echoes = [Echo(stack, owner, stack.launches(owner, delay)) for _ in range(number)]
        for echo in echoes:
            echo.directory = str(echo.card["context_directory"])
        return echoes

    yield launch
    for user in {OWNER, "bob"} if stack.site else {OWNER}:
        if owners:
            owner = stack.signs_in(user)
            for session in owner.sessions():
                if session["status"] != "completed":
                    owner.post(f"/sessions/{session['id']}/cancel", {})


@pytest.fixture(scope="module")
def running(stack: Stack, launched: Callable[..., list[Echo]]) -> list[Echo]:
    """Two sessions of one user and, where there is another user, one of theirs."""
    echoes = [*launched(2), *(launched(user="bob") if stack.site else ())]
    for echo in echoes:
        echo.starts()
        echo.enters()
    return echoes


@pytest.fixture(scope="module")
def echo(running: list[Echo]) -> Echo:
    return running[0]


@pytest.fixture(scope="module")
def second(running: list[Echo]) -> Echo:
    return running[1]


only_devcluster = pytest.mark.parametrize(
    "stack", [pytest.param("devcluster", marks=SLOW)], indirect=True
)


# ---- What is passed on


def test_addresses_reach_the_service_as_they_came(echo: Echo) -> None:
    came = [echo.told(target)["target"] for target in TARGETS]
    assert came == [echo.prefix + target for target in TARGETS]


def test_addresses_come_through_the_entrance_as_they_are(echo: Echo) -> None:
    came = []
    for target in TARGETS:
        entered = echo.exchanges(echo.user.comes_to(echo.prefix + target))
        came.append(entered.one("Location").removeprefix(echo.prefix))
    assert came == [*TARGETS]


def test_methods(echo: Echo) -> None:
    for method in ("GET", "OPTIONS", "DELETE"):
        assert echo.told(method=method)["method"] == method
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        told = echo.told("x", method, b"some body")
        assert (told["method"], told["size"]) == (method, 9)
        assert told["sha256"] == hashlib.sha256(b"some body").hexdigest()
    told = echo.told("x", "POST", b"")
    assert (told["size"], dict(told["headers"])["content-length"]) == (0, "0")
    head = echo.asks("x", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.one("Content-Length")) > 100


def test_statuses(echo: Echo) -> None:
    unchanged = echo.asks("not-modified")
    assert (unchanged.status, unchanged.one("ETag"), unchanged.body) == (304, '"x"', b"")
    for status in (201, 204, 206, 302, 401, 403, 404, 409, 418, 500, 502, 503, 504):
        answer = echo.asks(f"status/{status}")
        assert (answer.status, answer.body) == (status, b"")
    assert echo.told()["size"] == 0  # the connection is in step still


def test_browsers_keep_their_connection(echo: Echo) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", echo.portal.port, timeout=60)
    headers = echo.entered
    try:
        for path in ("not-modified", "status/204", "bytes/100000", "bytes/9?chunked=1", "x"):
            connection.request("GET", echo.prefix + path, None, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status in (200, 204, 304)
            assert connection.sock is not None, path
        connection.request("POST", echo.prefix + "x", b"x" * MIB, headers)
        assert json.loads(connection.getresponse().read())["size"] == MIB
    finally:
        connection.close()


# ---- Streaming


@contextmanager
def little_memory(portal: RunningPortal) -> Iterator[None]:
    """The portal may take less than 64 MB more at any moment of what is done in here."""
    process = Path(f"/proc/{portal.worker}")
    (process / "clear_refs").write_text("5")  # proc(5): begin the peak anew
    before = _kilobytes(process, "VmRSS")
    yield
    assert _kilobytes(process, "VmHWM") - before < 64 * 1024


def _kilobytes(process: Path, what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", (process / "status").read_text())
    assert found
    return int(found[1])


def blocks(number: int) -> Iterator[bytes]:
    return (bytes([n % 256]) * MIB for n in range(number))


def digest_of(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def test_upload_of_200_mb(echo: Echo) -> None:
    with little_memory(echo.portal):
        told = echo.told("x", "POST", blocks(200), Content_Length=str(200 * MIB))
    assert (told["size"], told["sha256"]) == (200 * MIB, digest_of(blocks(200)))
    assert dict(told["headers"])["content-length"] == str(200 * MIB)


def test_download_of_200_mb(echo: Echo) -> None:
    with little_memory(echo.portal):
        assert echo.reads(f"bytes/{200 * MIB}") == 200 * MIB


def test_download_by_a_slow_reader(echo: Echo) -> None:
    """What the browser does not take yet waits at the service, not in the portal."""
    headers = echo.entered
    with (
        little_memory(echo.portal),
        sent(echo.portal, "GET", f"{echo.prefix}bytes/{200 * MIB}", headers) as answer,
    ):
        size = len(answer.read(MIB))
        assert echo.told()["size"] == 0  # while it is held up, others are not
        while part := answer.read(MIB):
            size += len(part)
    assert size == 200 * MIB


@only_devcluster
def test_more_than_a_gib_through_one_session(echo: Echo) -> None:
    with little_memory(echo.portal):
        assert echo.reads("bytes/1200000000") == 1_200_000_000


def test_chunked_both_ways(echo: Echo) -> None:
    told = echo.told("x", "POST", blocks(3))
    assert (told["size"], told["sha256"]) == (3 * MIB, digest_of(blocks(3)))
    assert dict(told["headers"])["transfer-encoding"] == "chunked"
    answer = echo.asks("bytes/3000000?chunked=1")
    assert len(answer.body) == 3_000_000
    assert (answer.one("Transfer-Encoding"), answer.all("Content-Length")) == ("chunked", [])
    assert len(echo.asks("bytes/3000000").body) == 3_000_000


def test_slow_answers_come_piece_by_piece(echo: Echo) -> None:
    """None waits for the next one. (On a busy machine two may arrive together.)"""
    came: list[tuple[bytes, float]] = []
    headers = echo.entered
    with sent(echo.portal, "GET", echo.prefix + "drip/9", headers) as answer:
        while piece := answer.read1():
            came.append((piece, time.monotonic()))
    assert b"".join(piece for piece, _ in came) == b"".join(b"%d\n" % n for n in range(9))
    assert came[0][0] == b"0\n"
    assert came[-1][1] - came[0][1] > 0.6


def test_slow_uploads_go_piece_by_piece(echo: Echo) -> None:
    """Half of a body is with the service before the other half exists."""
    with echo.begins("Transfer-Encoding: chunked", "early") as connection:
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        answered = False
        for _ in range(100):  # until the service's refusal has come back
            with suppress(BrokenPipeError, ConnectionResetError):  # it was refused meanwhile
                connection.sendall(piece)
            if select.select([connection], [], [], 0.2)[0]:
                answered = connection.recv(13) == b"HTTP/1.1 413 "
                break
        assert answered


def test_early_answer_to_an_upload(echo: Echo) -> None:
    answer = echo.asks("early", "POST", blocks(50), Content_Length=str(50 * MIB))
    assert (answer.status, answer.body) == (413, b"large")
    answer = echo.asks("early", "POST", b"little")
    assert (answer.status, answer.body) == (413, b"large")


def test_answers_that_break_off_are_no_success(echo: Echo) -> None:
    for path in ("broken", "broken?chunked=1"):
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            echo.asks(path)
        assert echo.told()["size"] == 0


def test_uploads_that_break_off_are_no_success(echo: Echo) -> None:
    """A service never takes half of a file for all of it."""
    log = echo.portal.log.read_text().count("Traceback")
    for framing in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
        with echo.begins(framing) as connection:
            connection.sendall(b"3\r\nabc\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert not connection.recv(100).startswith(b"HTTP/1.1 2")
    assert echo.portal.log.read_text().count("Traceback") == log


def test_bodies_of_doubtful_length_are_refused(echo: Echo) -> None:
    for framing in (
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: +3",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
    ):
        with echo.begins(framing) as connection:
            connection.sendall(b"3\r\nabc\r\n0\r\n\r\n")
            assert connection.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), framing


# ---- WebSockets


def test_websocket_messages(echo: Echo) -> None:
    with echo.opens() as websocket:
        for message in ("text ≤ 🚀", b"\x00\xff binary", "", b"x" * 70_000):
            websocket.send(message)
            assert websocket.recv(60) == message
        large = os.urandom(20_000_000)
        websocket.send(large)
        assert websocket.recv(120) == large
        assert websocket.ping().wait(60)


def test_websocket_subprotocol_and_head(echo: Echo) -> None:
    password = echo.connection["password"]
    wanted = [Subprotocol("v1.kernel"), Subprotocol("other")]
    with echo.opens(subprotocols=wanted) as websocket:
        assert websocket.subprotocol == "v1.kernel"
        assert websocket.response is not None
        assert password not in str(websocket.response.headers)


def test_websocket_close_codes_pass_both_ways(echo: Echo) -> None:
    with echo.opens() as websocket:
        websocket.close(4001, "bye")
        assert websocket.protocol.close_rcvd is not None
        assert websocket.protocol.close_rcvd.code == 4001  # the service echoes what it got
        assert websocket.protocol.close_rcvd.reason == "bye"
    with echo.opens() as websocket:
        websocket.send(b"close 4002")
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4002


def test_200_websockets_at_once(echo: Echo) -> None:
    with ExitStack() as opened, ThreadPoolExecutor(8) as threads:
        openings = [threads.submit(echo.opens) for _ in range(200)]
        websockets = [opened.enter_context(opening.result()) for opening in openings]
        for number, websocket in enumerate(websockets):
            websocket.send(f"message {number}")
        for number, websocket in enumerate(websockets):
            assert websocket.recv(60) == f"message {number}"
        assert echo.told()["size"] == 0
        assert echo.card["status"] == "running"
    with echo.opens() as websocket:
        websocket.send("after")
        assert websocket.recv(60) == "after"


def test_websockets_demand_the_right_origin(echo: Echo) -> None:
    port = echo.portal.port
    for origin in (
        None,
        "null",
        "http://evil.example",
        f"http://127.0.0.1:{port}",
        f"http://localhost:{port}",
        f"https://{echo.host}",
        f"http://{echo.id}.localhost",
        f"http://{echo.id}.localhost:{port + 1}",
        f"http://{echo.host}.evil.example",
        f"http://x.{echo.host}",
        f"http://01234567-89ab-4cde-8f01-23456789abcd.localhost:{port}",
    ):
        assert echo.refused(origin=origin) == 403, origin
    with echo.opens():
        pass


def test_sign_out_ends_websockets_and_requests(stack: Stack, echo: Echo) -> None:
    other = Echo(stack, stack.signs_in(), echo.id)  # another browser of the same user
    other.enters()
    unused = other.user.comes_to(other.prefix)
    with echo.opens() as stays, other.opens() as ends:
        assert other.user.post("/logout", {})[0] == 303
        with pytest.raises(ConnectionClosed):
            ends.recv(60)
        stays.send("still here")
        assert stays.recv(60) == "still here"
    assert other.asks(Sec_Fetch_Mode="cors").status == 404
    assert other.its_page_gets() == 403
    assert other.exchanges(unused).status == 404
    assert other.refused() == 404
    assert echo.asks().status == 200


# ---- Who may


def test_nobody_signed_out(echo: Echo) -> None:
    here = f"127.0.0.1:{echo.portal.port}"
    for path in ("", "x", "not-modified"):
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            answer = asked(echo.portal, method, echo.prefix + path, {"Host": here})
            assert (answer.status, answer.one("Location")) == (404, ""), method
            # Somebody who goes there is led to the portal, which says the same.
            answer = asked(echo.portal, method, echo.prefix + path, {"Host": echo.host})
            assert answer.status == (303 if method in ("GET", "HEAD") else 404), method
            assert "code" not in answer.one("Location")
            back = answer.one("Location").removeprefix(echo.portal.url)
            if back:
                answer = asked(echo.portal, method, back, {"Host": here})
                assert (answer.status, answer.one("Location")) == (404, ""), method
    for cookie in ("", f"{ENTRY}=", f"{ENTRY}=x; ood_portal=x"):
        assert echo.asks(Cookie=cookie, Sec_Fetch_Mode="cors").status == 404
        assert echo.asks(Cookie=cookie, method="POST").status == 404
        assert echo.refused(cookie=cookie) == 404
        assert echo.refused(cookie=cookie, host=here, origin=f"http://{here}") == 404


def test_cookies_of_one_origin_are_no_good_on_the_other(echo: Echo) -> None:
    here = f"127.0.0.1:{echo.portal.port}"
    portal_cookie = echo.user._cookie
    assert "ood_portal=" in portal_cookie
    assert echo.asks(Cookie=portal_cookie, method="POST").status == 404
    assert echo.refused(cookie=portal_cookie) == 404
    for cookie in (portal_cookie, echo.cookie, f"{portal_cookie}; {echo.cookie}"):
        assert echo.refused(cookie=cookie, host=here, origin=f"http://{here}") == 404
        assert echo.refused(cookie=cookie, host=here) == 404
    answer = echo.asks(Host=here)
    assert answer.status == 404
    answer = echo.asks(Host=here, Cookie=portal_cookie, method="POST", body=b"x")
    assert answer.status == 404
    answer = echo.asks(path="sessions", Cookie=portal_cookie, method="POST")
    assert answer.status == 404
    typed = f"localhost:{echo.portal.port}"
    for page in ("/sessions", "/apps?a=b", f"/sessions/{echo.id}", "/login"):
        answer = asked(echo.portal, "GET", page, {"Cookie": portal_cookie, "Host": typed})
        assert (answer.status, answer.one("Location")) == (302, f"http://{here}{page}")
        for method, statuses in (("GET", (404,)), ("POST", (400, 404))):  # no CSRF token
            answer = asked(echo.portal, method, page, {"Cookie": portal_cookie, "Host": echo.host})
            assert answer.status in statuses


@only_devcluster
def test_nobody_else(stack: Stack, running: list[Echo]) -> None:
    echo, _, bobs = running
    assert bobs.told()["method"] == "GET"
    bob = Echo(stack, bobs.user, echo.id)  # at the owner's session
    bob.cookie = bobs.cookie
    here = f"127.0.0.1:{stack.portal.port}"
    for cookie in (bobs.cookie, bobs.user._cookie, f"{bobs.user._cookie}; {bobs.cookie}"):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            got = bob.asks(method=method, Cookie=cookie, Sec_Fetch_Mode="cors").status
            assert got == 404
            answer = bob.asks(method=method, Cookie=cookie, Host=here)
            assert (answer.status, answer.one("Location")) == (404, "")
        assert bob.refused(cookie=cookie) == 404
        assert bob.refused(cookie=cookie, host=here, origin=f"http://{here}") == 404
    for path in (echo.prefix, "/node/01234567-89ab-4cde-8f01-23456789abcd/"):
        head, text = bobs.user.request("GET", path)
        assert (head.status, head.getheader("Location")) == (404, None), text


def test_a_ticket_works_once_and_for_one_session(echo: Echo, second: Echo) -> None:
    arrival = echo.user.comes_to(echo.prefix + "a%2Fb//?x=%20")
    here = {"Host": f"127.0.0.1:{echo.portal.port}", "Cookie": arrival.nonce}
    answer = asked(echo.portal, "GET", arrival.path, here)
    assert answer.status == 404  # it is for the services' origin
    answer = echo.exchanges(arrival)
    assert (answer.status, answer.one("Location")) == (303, echo.prefix + "a%2Fb//?x=%20")
    entry, end_of_nonce = answer.all("Set-Cookie")
    cookie, *attributes = entry.split("; ")
    assert cookie.startswith(f"{ENTRY}=")
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"}
    assert echo.asks(Cookie=cookie.removeprefix("__Host-Http-"), method="POST").status == 404
    assert end_of_nonce.startswith(f"{arrival.nonce.partition('=')[0]}=;")
    assert answer.one("Referrer-Policy") == "no-referrer"
    assert echo.asks(Cookie=cookie).status == 200
    again = echo.exchanges(arrival)
    assert (again.status, again.all("Set-Cookie")) == (404, [])
    assert second.asks(Cookie=cookie, method="POST").status == 404
    assert second.refused(cookie=cookie) == 404
    planted = f"{ENTRY}=planted"  # by a service's own page: it gives nothing, and takes nothing
    assert second.asks(Cookie=f"{planted}; {cookie}; {second.cookie}").status == 200
    for nonsense in ("", "?code=", "?code=x", f"?code={cookie.partition('=')[2]}"):
        answer = asked(echo.portal, "GET", f"/enter{nonsense}", echo.entered)
        assert (answer.status, answer.all("Set-Cookie")) == (404, [])


def test_a_ticket_is_for_one_browser(echo: Echo) -> None:
    """Without its nonce, or with another one, it is used up."""
    others = echo.user.comes_to(echo.prefix).nonce
    for nonce in (
        "",
        "__Host-Http-ood_enter_0=x",
        others,
        others.replace("=", "0="),
        f"{others}; {others}",
    ):
        arrival = echo.user.comes_to(echo.prefix)
        for theirs in (nonce, arrival.nonce):
            given = {"Host": echo.host, "Cookie": theirs}
            answer = asked(echo.portal, "GET", arrival.path, given)
            assert (answer.status, answer.all("Set-Cookie")) == (404, []), theirs
            assert "This link has expired" in answer.text


@pytest.mark.parametrize(
    "way",
    [
        {"Sec_Fetch_Dest": "iframe", "Sec_Fetch_Mode": "navigate"},
        {"Sec_Fetch_Dest": "embed", "Sec_Fetch_Mode": "navigate"},
        {"Sec_Fetch_Dest": "empty", "Sec_Fetch_Mode": "cors"},
        {"Sec_Fetch_Dest": "image", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Mode": "websocket"},
        {"Sec_Fetch_Mode": "navigate", "Sec_Purpose": "prefetch;prerender"},
        {"Service_Worker": "script", "Sec_Fetch_Dest": "serviceworker"},
    ],
)
def test_nobody_enters_but_in_a_window(echo: Echo, way: dict[str, str]) -> None:
    given = {name.replace("_", "-"): value for name, value in way.items()}
    arrival = echo.user.comes_to(echo.prefix)
    state = hashlib.sha256(arrival.nonce.partition("=")[2].encode()).hexdigest()
    here = {"Cookie": echo.user.cookie, "Host": f"127.0.0.1:{echo.portal.port}"}
    there = {"Cookie": arrival.nonce, "Host": echo.host}
    to = quote(echo.prefix, safe="")
    for path, browser in (
        (echo.prefix, here),
        (f"/connect?state={state}&to={to}", here),
        (f"/enter?to={to}", there),
        (arrival.path, there),
    ):
        if "Service-Worker" in given and browser is here:
            continue  # a browser says nothing of workers to another origin
        answer = asked(echo.portal, "GET", path, {**browser, **given})
        assert (answer.status, answer.one("Location")) == (403, ""), path
        assert answer.all("Set-Cookie") == []
    assert asked(echo.portal, "POST", arrival.path, there).status in (404, 405)
    assert echo.exchanges(arrival).status == 303  # nothing of this has used it up


def test_only_addresses_of_services_are_gone_on_to(echo: Echo) -> None:
    state = "0" * 64
    for to in ("", "/", "/login", "//evil.example/", "http://evil.example/node/x/", "/node//x/"):
        given = quote(to, safe="")
        answer = asked(echo.portal, "GET", f"/enter?to={given}", echo.entered)
        assert (answer.status, answer.one("Location")) == (404, ""), to
        head, _ = echo.user.request("GET", f"/connect?state={state}&to={given}")
        assert (head.status, head.getheader("Location")) == (404, None), to
    for wrong in ("", "x", state.replace("0", "g"), f"{state}0"):
        head, _ = echo.user.request("GET", f"/connect?state={wrong}&to={quote(echo.prefix)}")
        assert (head.status, head.getheader("Location")) == (404, None), wrong
    other = "/node/01234567-89ab-4cde-8f01-23456789abcd/"  # has a name of its own
    assert asked(echo.portal, "GET", f"/enter?to={quote(other)}", echo.entered).status == 404


def test_other_hosts_are_refused(echo: Echo, second: Echo) -> None:
    for host in (
        *("evil.example", "localhost", "localhost:1", second.host, f"x.{echo.host}"),
        f"{echo.id}.localhost",
        f"{echo.id}.localhost.:{echo.portal.port}",
    ):
        assert echo.asks(Host=host, method="POST").status == 404, host
        assert echo.asks(Host=host, Sec_Fetch_Mode="cors").status in (403, 404), host
        assert echo.refused(host=host) == 404
    answer = asked(
        echo.portal, "GET", f"{echo.origin}{echo.prefix}", {"Cookie": echo.cookie, "Host": "x"}
    )
    assert answer.status == 404


def test_requests_of_other_sites_are_refused(echo: Echo) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        for origin in ("null", "http://evil.example", f"http://127.0.0.1:{echo.portal.port}"):
            assert echo.asks(method=method, Origin=origin).status == 403
        for site in ("cross-site", "same-site"):
            assert echo.asks(method=method, Sec_Fetch_Site=site).status == 403
        fine = echo.asks(method=method, Origin=echo.origin, Sec_Fetch_Site="same-origin")
        assert fine.status == 200
    for method, status in (("GET", 200), ("POST", 403)):  # a link, a form
        answer = echo.asks("", method, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
        assert answer.status == status


def test_unknown_sessions(echo: Echo) -> None:
    for id in ("01234567-89ab-4cde-8f01-23456789abcd", "x", "..", "%2e%2e", "localhost:22"):
        answer, _ = echo.user.request("GET", f"/node/{id}/")
        assert answer.status == 404
        assert asked(echo.portal, "GET", f"/node/{id}/", echo.entered).status == 404


# ---- Headers


def test_what_the_service_gets_to_see(echo: Echo) -> None:
    told = echo.told(
        Cookie=f"a=b; {echo.cookie}; ood_portal=secret; __Host-ood_portal=x; c=d",
        Authorization="token mine",
        X_Forwarded_For="1.2.3.4",
        X_Forwarded_Host="evil.example",
        X_Forwarded_Proto="https",
        X_Forwarded_User="root",
        X_Real_IP="1.2.3.4",
        Forwarded="for=1.2.3.4;host=evil.example",
        Via="1.1 evil",
        Remote_User="root",
        Connection="close, X-Named",
        X_Named="about the connection",
        Keep_Alive="timeout=5",
        TE="trailers",
        Trailer="X-Trailer",
        Proxy_Authorization="Basic eDp4",
        Proxy_Connection="close",
        X_Own="end to end",
        Accept_Encoding="br",
    )
    password = echo.connection["password"]
    assert sorted(map(tuple, told["headers"])) == [
        ("accept-encoding", "br"),
        ("authorization", f"token {password}"),
        ("cookie", "a=b; c=d"),
        ("host", echo.host),
        ("x-own", "end to end"),
    ]


def test_forwarded_headers_do_not_let_in(echo: Echo) -> None:
    for name in ("X-Forwarded-Host", "X-Forwarded-Server", "X-Original-Host", "Forwarded"):
        value = echo.host
        given = {name: f"host={value}" if name == "Forwarded" else value}
        headers = {"Cookie": echo.cookie, "Host": f"127.0.0.1:{echo.portal.port}", **given}
        answer = asked(echo.portal, "GET", echo.prefix, headers)
        assert answer.status == 404, name
    answer = asked(echo.portal, "POST", echo.prefix, {"Host": echo.host, "X-Forwarded-User": OWNER})
    assert answer.status == 404


def test_what_the_browser_gets_to_see(echo: Echo) -> None:
    answer = echo.sets(
        ("Set-Cookie", "plain=1"),
        ("Set-Cookie", "wide=2; Path=/; Domain=localhost; HttpOnly; SameSite=None"),
        ("Set-Cookie", f"narrow=3; path={echo.prefix}sub; Max-Age=5"),
        ("Set-Cookie", f"short=4; Path={echo.prefix.rstrip('/')}"),
        ("Set-Cookie", "other=5; Path=/node/01234567-89ab-4cde-8f01-23456789abcd/"),
        ("Set-Cookie", "twice=6; Path=/; Path=/"),
        ("Set-Cookie", "ood_portal=planted; Path=/"),
        ("Set-Cookie", "ood_node=planted"),
        ("Set-Cookie", " OOD_PORTAL =planted"),
        ("Set-Cookie", "ood_enter_01234567=planted; Path=/"),
        ("Set-Cookie", "__Host-ood_node=planted; Secure; Path=/"),
        ("Set-Cookie", f"{ENTRY}=planted; Secure; HttpOnly; Path=/"),
        ("Set-Cookie", "=ood_node=planted"),
        ("Set-Cookie", "__Host-ood_portal=planted; Secure; Path=/"),
        ("Connection", "X-Named"),
        ("X-Named", "about the connection"),
        ("Keep-Alive", "timeout=5"),
        ("Upgrade", "h2c"),
        ("Trailer", "X-Trailer"),
        ("Proxy-Authenticate", "Basic"),
        ("Clear-Site-Data", '"*"'),
        ("Cross-Origin-Opener-Policy", "unsafe-none"),
        ("Cross-Origin-Resource-Policy", "cross-origin"),
        ("Service-Worker-Allowed", "/"),
        ("Strict-Transport-Security", "max-age=1000"),
        ("Alt-Svc", 'h2="evil.example:443"'),
        ("Content-Security-Policy", "default-src 'self'"),
        ("X-Own", "end to end"),
        ("Cache-Control", "max-age=60"),
    )
    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.all("Set-Cookie") == [
        f"plain=1; Path={echo.prefix}",
        f"wide=2; HttpOnly; SameSite=None; Path={echo.prefix}",
        f"narrow=3; Max-Age=5; Path={echo.prefix}sub",
        f"short=4; Path={echo.prefix}",
        f"other=5; Path={echo.prefix}",
        f"twice=6; Path={echo.prefix}",
    ]
    names = {name.lower() for name, _ in answer.headers}
    assert names - {"vary"} == {
        *("server", "date", "connection", "content-length", "set-cookie"),
        *("content-security-policy", "x-own", "cache-control"),
        *("cross-origin-opener-policy", "cross-origin-resource-policy"),
    }
    assert answer.all("Cross-Origin-Opener-Policy") == ["same-origin"]
    assert answer.all("Cross-Origin-Resource-Policy") == ["same-origin"]
    assert answer.one("Connection") == "keep-alive"
    assert answer.one("Content-Security-Policy") == "default-src 'self'"
    assert answer.one("Cache-Control") == "max-age=60"


def test_redirects_to_itself_lose_their_origin(echo: Echo) -> None:
    port = echo.connection["port"]
    for origin in (f"http://{echo.host}", f"http://localhost:{port}", f"https://x:{port}"):
        answer = echo.asks(f"redirect?to={quote(origin + echo.prefix, safe='')}b")
        assert (answer.status, answer.one("Location")) == (302, f"{echo.prefix}b")


def test_addresses_in_headers_stay_as_they_are(echo: Echo) -> None:
    for address in (
        "a?",
        "a#",
        "b\\c|d?[e]=%zz",
        "http://[::g/",
        "//x:y/",
        "é".encode().decode("latin-1"),
    ):
        for name in ("Location", "Content-Location"):
            answer = echo.sets((name, address))
            assert (answer.status, answer.one(name)) == (200, address)


def test_broken_header_does_not_plant_a_cookie(echo: Echo) -> None:
    answer = echo.sets(("X-Own", "a\rSet-Cookie: ood_portal=planted; Path=/"))
    assert answer.status == 200
    assert answer.all("Set-Cookie") == []


def test_password_is_nowhere_to_be_seen(echo: Echo) -> None:
    password = echo.connection["password"]
    assert len(password) == 48
    assert ["authorization", f"token {password}"] in echo.told()["headers"]
    seen = [
        *(echo.asks(path) for path in ("page?html=x", "not-modified", "status/500", "bytes/9")),
        echo.asks(Cookie=""),
        echo.asks(Origin="null"),
        echo.exchanges(echo.user.comes_to(echo.prefix)),
    ]
    pages = ["/", "/sessions", f"/sessions/{echo.id}", f"/sessions/{echo.id}/log", echo.prefix]
    for page in pages:
        head, text = echo.user.request("GET", page)
        seen.append(Answer(head.status, head.getheaders(), text.encode()))
    for answer in seen:
        assert password not in str(answer.headers)
        assert password.encode() not in answer.body
    assert password not in json.dumps(echo.card)
    assert password not in echo.portal.log.read_text()
    assert password not in subprocess.check_output(["ps", "axww", "-o", "args"], text=True)


# ---- The service's life


def test_a_slow_page_is_asked_for_once(echo: Echo) -> None:
    slow = "slow/7?a=b"
    assert echo.asks(slow).body == b"late"
    assert echo.asks(f"asked?for={quote(slow)}").body == b"1"


def test_a_service_that_does_one_thing_at_a_time_is_asked_once(echo: Echo) -> None:
    """The page says that it does not answer, and still shows the answer when there is one."""
    slow = "blocks/20"
    answer = echo.asks(slow)
    assert (answer.status, answer.one("Refresh")) == (503, "3")
    assert "did not answer" in answer.text
    form = echo.asks("form", "POST", b"x")
    assert (form.status, form.all("Refresh")) == (504, [])  # and it is not sent
    wait_until(lambda: echo.asks(slow).status == 200, 60)
    assert echo.asks(f"asked?for={quote(slow)}").body == b"1"
    assert echo.asks("asked?for=form").body == b"0"


def test_a_service_without_end_leaves_room(stack: Stack, running: list[Echo]) -> None:
    echo, second, *others = running
    with ExitStack() as opened, ThreadPoolExecutor(72) as threads:
        for _ in range(12):
            got = opened.enter_context(
                sent(stack.portal, "GET", f"{echo.prefix}drip/1000", echo.entered)
            )
            assert got.status == 200
        start = time.monotonic()
        more = [threads.submit(echo.asks, Sec_Fetch_Mode="cors") for _ in range(70)]
        page, refused = threads.submit(echo.asks), threads.submit(echo.refused)
        while not all(one.done() for one in more):
            before = time.monotonic()
            for other in (second, *others):
                assert other.told()["method"] == "GET"
            assert echo.user.request("GET", "/")[0].status == 200
            assert time.monotonic() - before < 1 * busy()
        assert time.monotonic() - start < 9 * busy()
        for answer in [one.result() for one in more]:
            assert (answer.status, answer.one("Retry-After")) == (503, "3")
            assert "Too many requests to your services are open" in answer.text
        waits = page.result()
        assert (waits.status, waits.one("Refresh"), waits.one("Retry-After")) == (503, "3", "3")
        assert refused.result() == 503
    assert echo.told()["method"] == "GET"


def test_aborted_requests_hold_no_place(echo: Echo) -> None:
    """A service has twelve places for requests: closed tabs must not use them up. Nor are they
    refusals."""
    refusals = echo.portal.log.read_text().count('"refusal"')
    size = 200 * MIB
    for mode in ["navigate", "cors"] * 8:
        with echo.begins(f"Content-Length: 1\r\nSec-Fetch-Mode: {mode}", "slow/300") as connection:
            connection.sendall(b"x")
    for _ in range(15):
        with sent(echo.portal, "GET", f"{echo.prefix}bytes/{size}", echo.entered) as got:
            got.read(MIB)
        with echo.begins(f"Content-Length: {size}") as connection:
            connection.sendall(b"x" * MIB)
    start = time.monotonic()
    assert echo.told()["method"] == "GET"
    assert time.monotonic() - start < 4 * busy()
    assert echo.portal.log.read_text().count('"refusal"') == refusals


def test_from_waiting_to_the_end(stack: Stack, launched: Callable[..., list[Echo]]) -> None:
    (echo,) = launched(delay=6)
    head, page = echo.user.request("GET", echo.prefix)
    assert (head.status, head.getheader("Refresh")) == (503, "3")
    assert "Waiting for Echo" in page
    assert echo.card["connect_url"] is None
    echo.starts()
    echo.enters()
    with echo.opens() as websocket:
        websocket.send("x")
        assert websocket.recv(60) == "x"
        os.kill(echo.process, signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            websocket.recv(60)
    answer = echo.asks()
    assert (answer.status, answer.one("Refresh")) in ((503, "3"), (410, ""))
    wait_until(lambda: echo.user.request("GET", echo.prefix)[0].status == 410, 20)
    card = echo.card
    assert (card["status"], card["outcome"]) == ("completed", "failed")
    assert card["connect_url"] is None
    answer = echo.asks()
    assert answer.status == 410
    assert "Echo has ended" in answer.text
    assert answer.all("Refresh") == []
    assert f'href="{stack.portal.url}/sessions"' in answer.body.decode()
    assert echo.asks(Sec_Fetch_Mode="cors").status in (410, 504)  # a script gets no page
    assert echo.refused() >= 500
    assert echo.user.post(f"/sessions/{echo.id}/delete", {})[0] == 303
    assert echo.its_page_gets() == 403


@only_devcluster
def test_frozen_service_is_said_and_slows_nobody(echo: Echo, second: Echo) -> None:
    says = "Echo is not responding"
    process = echo.process
    with ThreadPoolExecutor(10) as threads:
        # Wait until the requests that earlier tests left open have ended.
        nine = ["slow/1"] * 9
        wait_until(lambda: {each.status for each in threads.map(echo.asks, nine)} == {200}, 60)
        os.kill(process, signal.SIGSTOP)
        try:
            scripts = [threads.submit(echo.asks, Sec_Fetch_Mode="cors") for _ in range(8)]
            start = time.monotonic()
            page = threads.submit(echo.asks, Sec_Fetch_Mode="navigate")
            card_said = page_said = 0.0
            while not (card_said and page_said):
                assert time.monotonic() - start < 12 * busy()
                before = time.monotonic()
                assert second.told()["method"] == "GET"
                assert echo.user.request("GET", "/")[0].status == 200
                assert time.monotonic() - before < 2 * busy()
                _, cards = echo.user.request("GET", "/sessions")
                card_said = card_said or (says in cards) * time.monotonic()
                page_said = page_said or page.done() * time.monotonic()
            assert page.result().status == 503
            assert page.result().one("Refresh") == "3"
            assert "did not answer" in page.result().text
            assert not any(script.done() for script in scripts)
            again = time.monotonic()  # from now on, it is known
            assert echo.asks().status == 503
            assert echo.asks(Sec_Fetch_Mode="cors").status == 504
            assert time.monotonic() - again < 8 * busy()
        finally:
            os.kill(process, signal.SIGCONT)
        assert {script.result().status for script in scripts} == {200}
    assert echo.asks().status == 200
    wait_until(lambda: says not in echo.user.request("GET", "/sessions")[1], 10)


@only_devcluster
def test_edited_connection_is_refused(
    stack: Stack, echo: Echo, launched: Callable[..., list[Echo]]
) -> None:
    """Whether it was edited before the portal first saw it, or later."""
    others: list[dict[str, str | int]] = [{"host": "elsewhere.example"}, {"port": 22}]
    later: list[dict[str, str | int]] = [others[0], {"port": echo.connection["port"]}]
    running = launched(len(later))
    starting = launched(len(others), delay=2)
    for unseen, changes in zip(starting, others, strict=True):
        there = f"test -e {unseen.directory}/connection.yml && echo there || echo no"
        wait_until(lambda there=there: stack.shell(there) == "there\n", 60)
        unseen.rewrites_connection(**changes)
    for unseen, changes in zip(starting, others, strict=True):
        wait_until(lambda unseen=unseen: unseen.card["status"] == "running", 20)
        head, page = unseen.user.request("GET", unseen.prefix)
        assert head.status == 404, changes
        assert "connection.yml of this session" in page
        assert unseen.card["connect_url"] is None
        assert len(unseen.refusals) == 1
    for seen, changes in zip(running, later, strict=True):
        seen.starts()
        seen.enters()
        assert seen.told()["method"] == "GET"
        seen.rewrites_connection(**changes)
    for seen, changes in zip(running, later, strict=True):
        statuses: set[int] = set()
        wait_until(lambda s=seen, to=statuses: to.add(s.asks().status) or 404 in to, 20)
        assert statuses <= {200, 404}, changes  # another service says 403 to this password
        assert len(seen.refusals) >= 1
        assert seen.refusals[0]["user"] == OWNER
        assert seen.its_page_gets() == 403
        assert seen.refused() == 404
        assert seen.user.request("GET", seen.prefix)[0].status == 404
        assert seen.card["connect_url"] is None
    for session in (*starting, *running):
        assert session.user.post(f"/sessions/{session.id}/cancel", {})[0] == 303


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "node2", "node1-x", "node", "169.254.1.1"]
)
def test_hosts_that_are_not_the_jobs(host: str) -> None:
    connection = parse_connection(f"host: {host}\nport: 5000\npassword: x\n".encode())
    assert connection is not None
    assert not connection.is_on("node1")
    assert not connection.is_on("node1.site.example")


G1 = NodeNames("g1", ("g1", "gpu01.site.example", "10.78.0.13"))
DESKTOP = NodeNames("desktop01", ("desktop01",))


@pytest.mark.parametrize(
    ("host", "node", "address"),
    [
        ("desktop01", "desktop01", "desktop01"),
        ("DESKTOP01.site.example", "desktop01", "desktop01"),
        ("gpu01", "g1", "gpu01.site.example"),
        ("g1", "g1", "g1"),
        ("10.78.0.13", "g1", "10.78.0.13"),
        ("10.78.0.14", None, None),
        ("gpu02", None, None),
        ("g", None, None),
    ],
)
def test_a_service_may_be_on_any_node_of_the_job_by_any_of_its_names(
    host: str, node: str | None, address: str | None
) -> None:
    connection = parse_connection(f"host: {host}\nport: 5000\n".encode())
    record = SessionRecord("id", "desktop", "7", 0, "sys/echo", "Echo")
    options = ServiceOptions(title="Echo")
    if node is None:
        with pytest.raises(ServiceRefused, match="does not name a host"):
            service_at(connection, [DESKTOP, G1], "ada", record, options)
    else:
        service = service_at(connection, [DESKTOP, G1], "ada", record, options)
        assert (service.node, service.address) == (node, address)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[]", "host: node1", "port: 5000", "host: node1\nport: [5000]", "a: &a [*a]"),
        *(f"host: node1\nport: {port}" for port in (0, -1, 22, 1023, 65536, "x", 5000.5)),
        *(f"host: {host!r}\nport: 5000" for host in ("", "a b", "a/b", "[::1]", "a\r\nb", "-x")),
        'host: node1\nport: 5000\npassword: "a\\r\\nX-Header: b"',
        "host: node1\nport: 5000\npassword: " + "x" * 1025,
        "host: !!python/object/apply:os.getpid []\nport: 5000",
    ],
)
def test_connections_that_are_none(text: str) -> None:
    assert parse_connection(text.encode()) is None


def test_portal_killed_and_restarted(stack: Stack, echo: Echo, second: Echo) -> None:
    process, job = echo.process, echo.card["job_id"]
    arrival, cookie = echo.user.comes_to(echo.prefix), echo.cookie
    stack.portal.kill()
    stack.portal.start()
    assert echo.asks(method="POST").status == 404
    assert echo.exchanges(arrival).status == 404
    assert echo.refused() == 404
    user = stack.signs_in()
    for session in (echo, second):
        session.user = user
        session.starts()
        session.enters()
    assert echo.cookie != cookie
    assert (echo.process, echo.card["job_id"]) == (process, job)
    assert echo.told()["method"] == "GET"
    with echo.opens() as websocket:
        websocket.send("back")
        assert websocket.recv(60) == "back"


# ---- In a browser

HOSTILE = """<!doctype html><body><script>
const portal = "PORTAL", cancel = "/sessions/ID/cancel";
async function read(address, options) {
  try {
    const answer = await fetch(address, {credentials: "include", ...options});
    return [answer.type, answer.status, await answer.text()].join(" ");
  } catch (error) { return "refused"; }
}
function look(view) {
  try { return view.document.body.innerText; } catch (error) { return "refused"; }
}
async function loaded(view) {  // a new window is empty at first
  for (let n = 0; n < 100 && look(view) === ""; n++) await new Promise(go => setTimeout(go, 100));
  return look(view);
}
function frame(begin) {
  return new Promise(done => {
    const made = document.createElement("iframe");
    made.name = "made" + Math.random();
    document.body.append(made);
    made.addEventListener("load", () => done(look(made.contentWindow)));
    begin(made);
  });
}
function post(made) {
  const form = document.createElement("form");
  form.method = "post"; form.action = portal + cancel; form.target = made.name;
  document.body.append(form);
  form.submit();
}
async function attack() {
  document.cookie = "mine=1";
  document.cookie = "ood_portal=planted; path=/";
  const post_it = {method: "POST", body: new URLSearchParams({csrf_token: "x"})};
  const popup = window.open(portal + "/sessions");
  return {
    cookie: document.cookie,
    own: await read("status/201"),
    page: await read(portal + "/sessions"),
    opaque: await read(portal + "/sessions", {mode: "no-cors"}),
    way_in: await read(portal + "/node/ID/"),
    here: await read("/sessions"),
    cancel: await read(portal + cancel, post_it),
    blind: await read(portal + cancel, {...post_it, mode: "no-cors"}),
    cancel_here: await read(cancel, post_it),
    frame: await frame(made => { made.src = portal + "/sessions"; }),
    form: await frame(post),
    popup: await loaded(popup),
  };
}
</script>the service's own page"""


@only_devcluster
def test_hostile_page_cannot_reach_the_portal(page: Page, echo: Echo) -> None:
    carol = Researcher(page, echo.portal)
    carol.signs_in(OWNER)
    carol.page.goto(f"{echo.portal.url}/sessions")
    card = page.locator(f"article[data-session-id='{echo.id}']")
    expect(card).to_have_attribute("data-status", "running")
    html = HOSTILE.replace("PORTAL", echo.portal.url).replace("ID", echo.id)
    page.goto(f"{echo.portal.url}{echo.prefix}page?html={quote(html)}")
    assert page.url.startswith(f"{echo.origin}{echo.prefix}page")
    assert "the service's own page" in page.content()
    got = page.evaluate("attack()")
    assert got.pop("own") == "basic 201 "
    assert got.pop("cookie") == "mine=1; ood_portal=planted"
    for of_the_portal in ("here", "cancel_here"):  # there is no such page
        assert got.pop(of_the_portal).startswith("basic 404 "), of_the_portal
    assert got.pop("opaque") in ("opaque 0 ", "refused")
    assert got.pop("blind") in ("opaque 0 ", "refused")
    assert set(got.values()) == {"refused"}, got
    portal_cookies = [c for c in page.context.cookies(echo.portal.url) if "ood" in c["name"]]
    assert [(c["name"], c["httpOnly"]) for c in portal_cookies] == [("ood_portal", True)]
    page.goto(f"{echo.portal.url}/sessions")  # still signed in, and nothing was done
    expect(card).to_have_attribute("data-status", "running")
    assert "being cancelled" not in card.inner_text()
    assert echo.told()["method"] == "GET"
