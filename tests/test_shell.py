"""The Shell on the devcluster, for alice and bob, in a browser and without one."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ood.auth.signins import SignIns
from ood.hosts.local import LocalHost
from ood.shells import pump as pump_module
from ood.shells.history import HISTORY_SIZE, History
from ood.shells.shell import Where
from ood.shells.shells import Shells
from ood.shells.websocket import WebSocket
from tests.busy import busy, patience
from tests.conftest import SCREENSHOTS, Devcluster, RunningPortal, wait_until
from tests.researcher import Researcher, accessible, looks
from tests.shells import Line
from tests.test_access import audited
from tests.test_proxy import little_memory
from tests.webuser import WebUser

Site = Callable[..., RunningPortal]
MANY = 20
MIB = 2**20


@pytest.fixture
def alice(site: RunningPortal) -> WebUser:
    return WebUser(site, "alice")


class Shell:
    """A shell in a browser's page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def screen(self) -> str:
        """What the terminal shows, line by line."""
        rows: list[str] = self.page.locator(".xterm-rows").evaluate(
            "it => [...it.children].map(row => row.textContent)"
        )
        return "\n".join(row.replace("\xa0", " ").rstrip() for row in rows)

    def shows(self, wanted: str, seconds: float = 30) -> str:
        """Wait until the terminal shows `wanted`, a regular expression."""
        started = time.monotonic()
        while not re.search(wanted, screen := self.screen):
            assert time.monotonic() - started < patience(seconds), f"{wanted}: {screen}"
            self.page.wait_for_timeout(100)
        return screen

    def is_ready(self) -> None:
        expect(self.page.locator("#shell-state")).to_have_text("Connected")
        self.shows(r"\$ *$|\$ *\n")

    def types(self, text: str) -> None:
        self.page.keyboard.type(text)

    def answers(self) -> None:
        self.types("echo is $((40+2))\n")
        self.shows("is 42")

    def points_at(self, row: int, column: int) -> None:
        box = self.page.locator(".xterm-rows > div").nth(row).bounding_box()
        assert box is not None
        self.page.mouse.move(box["x"] + 8.5 * column, box["y"] + box["height"] / 2)

    def clicks(self, row: int, column: int, times: int = 1, on_a_link: bool = False) -> None:
        self.points_at(row, column)
        self.page.wait_for_timeout(200)  # links are looked for where the mouse rests
        if on_a_link:
            expect(self.page.locator(".xterm-cursor-pointer")).to_have_count(1)
        for count in range(1, times + 1):
            self.page.mouse.down(click_count=count)
            self.page.mouse.up(click_count=count)


def opens(researcher: Researcher, address: str) -> Shell:
    researcher.page.goto(researcher.portal.url + address)
    shell = Shell(researcher.page)
    shell.is_ready()
    return shell


@pytest.fixture
def ada(page: Page, site: RunningPortal) -> Iterator[Researcher]:
    """alice at a browser. At the end the browser has nothing to complain of: the page's policy,
    for one, lets xterm.js do what it does."""
    ada = Researcher(page, site)
    ada.signs_in("alice")
    expect(page.get_by_role("button", name="Log Out")).to_be_visible()
    yield ada
    assert ada.complaints == []


# ---- The ways in


def test_from_a_card_a_job_and_a_directory(ada: Researcher, site: RunningPortal) -> None:
    page = ada.page
    card = ada.launches(cluster="desktop", container_arguments="-d 300")
    ada.watches(card, "running", 120)
    directory = str(ada.context_directory(card))
    with page.expect_popup() as opened:
        card.get_by_role("link", name="open in terminal").click()
    on_node = Shell(opened.value)
    on_node.is_ready()
    expect(on_node.page.get_by_role("heading", level=1)).to_have_text("Shell on Desktop: desktop01")
    on_node.types("hostname; id -un; pwd\n")
    on_node.shows(r"desktop01\nalice\n/home/alice\n")
    card.get_by_role("link", name="Details of job").click()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open in Terminal").click()
    on_job = Shell(opened.value)
    on_job.is_ready()
    on_job.types("hostname; ls job_script_*; echo \"<$(tr -d '\\n' <<<$PWD)>\" | wc -c\n")
    on_job.shows(rf"desktop01\n(.*\n)*{len(directory) + 3}\n")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status")).to_contain_text("is being cancelled")
    with page.expect_popup() as opened:
        page.goto(f"{site.url}/files/beta/usr/bin")
        page.get_by_role("link", name="Open in Terminal").click()
    on_beta = Shell(opened.value)
    on_beta.is_ready()
    on_beta.types("hostname; pwd\n")
    on_beta.shows(r"beta-login\n/usr/bin\n")


def test_a_job_that_does_not_run(alice: WebUser) -> None:
    with Line(alice, "/shell/desktop", job="999999") as line:
        line.until(
            "Job 999999 is not running, or it runs on several nodes. This is the log-in host of"
        )
        line.type("hostname\n")
        line.until("\ralpha-login")
    line = Line(alice, "/shell/desktop", job="%3Cscript%3E")
    assert line.words[-1]["end"] == "not-found"


def test_all_hosts_and_all_shells(ada: Researcher, site: RunningPortal) -> None:
    page = ada.page
    page.goto(f"{site.url}/shell")
    main = page.get_by_role("main")
    for host in ("Portal host", "Beta", "Desktop", "GPU"):
        expect(main.get_by_role("link", name=host).first).to_be_visible()
    main.get_by_role("link", name="Portal host").click()
    shell = Shell(page)
    shell.is_ready()
    shell.types("hostname\n")
    shell.shows("\nportal-host\n")
    page.get_by_role("link", name="All shells").click()
    row = page.get_by_role("row", name="Portal host")

    def is_left() -> bool:
        page.reload()
        return "Not open" in row.inner_text()

    wait_until(is_left, 10)
    accessible(page, "shell-all")
    row.get_by_role("link").click()
    shell.shows("\nportal-host\n")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#shell-notice")).to_contain_text("This shell was closed.")
    page.get_by_role("link", name="Open a new shell").click()
    shell.is_ready()
    shell.types("exit\n")
    expect(page.locator("#shell-notice")).to_contain_text("This shell has ended.")


ODD = (
    b"two  words",
    b'it\'s "quoted"',
    b"two\nlines",
    b"bytes \xff\xfe",
    b"-rf",
    b"--",
    b"<script>alert(1)<",
    b"$(touch pwned)`touch pwned`",
    b"%41%2f?a=b#c",
    "שלום \u202e".encode(),
    b"x" * 255,
)


def test_odd_directories(alice: WebUser, devcluster: Devcluster) -> None:
    top = "/home/alice/odd shells"
    devcluster.as_user("alice", "alpha-login", f"rm -rf '{top}'; mkdir '{top}'")
    for name in ODD:
        made = "".join(f"\\{byte:03o}" for byte in name)
        devcluster.as_user("alice", "alpha-login", f"cd '{top}' && mkdir -- $'{made}'")
        with Line(alice, "/shell/desktop" + quote(top.encode() + b"/" + name)) as line:
            line.type('printf "<%s>" "$PWD" | od -An -v -tx1 -w9999; echo done $((1+1))\n')
            shown = line.until("done 2")
            flat = re.sub(r"[\r\n ]", "", shown)
            assert (b"/" + name + b">").hex() in flat, name
    there = devcluster.as_user("alice", "alpha-login", f"ls -A '{top}' | grep -c pwned || true")
    assert there.strip() == "1"  # the directory of that name
    answer, text = alice.request("GET", "/shell/desktop/<script>alert(1)</script>")
    assert answer.status == 200
    assert "<script>alert" not in text


@pytest.mark.parametrize("path", ["/no/such/directory", "/root", "/etc/passwd"])
def test_a_directory_that_cannot_be_entered(alice: WebUser, path: str) -> None:
    with Line(alice, f"/shell/desktop{path}") as line:
        line.until("Directory not found, or you do not have permission to open it")
        line.type("pwd\n")
        line.until("\r/home/alice")


def test_the_message_of_the_day(start_site: Site, devcluster: Devcluster) -> None:
    """A new portal has new connections. sshd reads the message once for each of them."""
    alice = WebUser(start_site(), "alice")

    def there(command: str) -> None:
        devcluster.host("alpha-login", "sh", "-c", command)

    def says(path: str) -> str:
        with Line(alice, path) as line:
            line.type("echo is $((40+2))\n")
            return line.until("is 42")

    ways = ("/shell/desktop", "/shell/desktop/etc")
    there("echo 'Maintenance on Friday' > /run/motd.test; mount --bind /run/motd.test /etc/motd")
    try:
        for path in ways:
            assert says(path).count("Maintenance on Friday") == 1, path
        there("touch /home/alice/.hushlogin")
        for path in ways:
            assert "Maintenance" not in says(path), path
    finally:
        there("umount /etc/motd; rm -f /home/alice/.hushlogin")


@pytest.mark.parametrize("path", ["/" + "x" * 256, "/a%00b", "/x" * 2048])
def test_directories_that_cannot_be(alice: WebUser, path: str) -> None:
    assert alice.request("GET", f"/shell/desktop{path}")[0].status == 404
    line = Line(alice, f"/shell/desktop{path}")
    assert line.words[-1]["end"] == "not-found"


def test_a_node_whose_key_is_not_known(start_site: Site, devcluster: Devcluster) -> None:
    portal = start_site()
    known_hosts = portal.log.parent / "known_hosts"
    lines = [line for line in known_hosts.read_text().splitlines() if "desktop01" not in line]
    known_hosts.write_text("\n".join(lines) + "\n")
    job = devcluster.as_user(
        "alice", "alpha-login", "sbatch --parsable -p desktop -o /dev/null --wrap 'sleep 60'"
    ).strip()
    alice = WebUser(portal, "alice")
    state = f"squeue -h -j {job} -o %T"
    wait_until(lambda: "RUNNING" in devcluster.host("alpha-login", "sh", "-c", state))
    line = Line(alice, "/shell/desktop", job=job)
    assert line.words[-1]["message"] == (
        "The portal does not know the host key of desktop01. Tell your administrator to add it to "
        "known_hosts."
    )
    # Somebody else's job leads nowhere but to one's own log-in host.
    with Line(WebUser(portal, "bob"), "/shell/desktop", job=job) as line:
        line.type("hostname; id -un\n")
        line.until(r"\ralpha-login\r\nbob")
    devcluster.as_user("alice", "alpha-login", f"scancel {job}")


# ---- Who may


def refused(user: WebUser, path: str = "/shell/desktop", **given: str) -> int:
    """The status with which a WebSocket is refused."""
    portal = user.portal
    headers = {
        "Cookie": user._cookie,
        "Origin": portal.url,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    } | {name.replace("_", "-"): value for name, value in given.items()}
    answer, _ = user.request("GET", path, **headers)
    return answer.status


def test_only_pages_of_the_portal_open_shells(alice: WebUser) -> None:
    port = alice.portal.port
    with pytest.raises(InvalidStatus) as error:
        Line(alice, "/shell/desktop", origin=None)
    assert error.value.response.status_code == 403
    for origin in (
        "",
        "null",
        "http://evil.example",
        f"http://localhost:{port}",  # where services are
        f"https://127.0.0.1:{port}",
        "http://127.0.0.1",
        f"http://127.0.0.1:{port + 1}",
        f"http://127.0.0.1:{port}.evil.example",
    ):
        assert refused(alice, Origin=origin) == 403, origin
    for site in ("cross-site", "same-site", "none"):
        assert refused(alice, Sec_Fetch_Site=site) == 403, site
    services = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert refused(alice, **services) in (302, 404)  # to the portal's own
    for cookie in ("", "ood_portal=x"):
        assert refused(alice, Cookie=cookie) == 302, cookie
    for wrong in ("", "x", "AAAA"):
        assert refused(alice, Sec_WebSocket_Key=wrong) == 400
    assert refused(alice, Sec_WebSocket_Version="8") == 400
    with Line(alice, "/shell/desktop") as line:
        line.answers()


def test_behind_a_front_end_with_tls(start_site: Site) -> None:
    """The browser is at https, whatever the portal itself is asked by."""
    portal = start_site(front_ends=["127.0.0.1"])
    alice, here = WebUser(portal, "alice"), f"127.0.0.1:{portal.port}"
    tls = {"X_Forwarded_Proto": "https"}
    assert refused(alice, Origin=f"http://{here}", **tls) == 403
    assert refused(alice, Origin=f"https://{here}", Sec_WebSocket_Key="x", **tls) == 400


def test_nobody_reaches_a_shell_of_another_user(alice: WebUser) -> None:
    bob = WebUser(alice.portal, "bob")
    with Line(alice, "/shell/desktop") as line:
        theirs = Line(bob, "/shell/desktop", shell=line.id)
        assert theirs.words == [
            {"end": "not-found", "message": "This shell has ended. Open another one."}
        ]
        unknown = Line(bob, "/shell/desktop", shell="x")
        assert unknown.words == theirs.words
        status, _ = bob.request("GET", f"/shell/desktop?shell={line.id}", Accept="application/json")
        assert status.status == 404
        assert bob.post("/shell", {"shell": line.id})[0] == 404
        assert line.id not in bob.request("GET", "/shell")[1]
        assert line.id in alice.request("GET", "/shell")[1]
        line.answers()
        with Line(alice, "/shell/beta", shell=line.id) as again:  # the id is what counts
            again.answers()


def test_signing_out_ends_shells(site: RunningPortal, devcluster: Devcluster) -> None:
    here, there = WebUser(site, "alice"), WebUser(site, "alice")
    with Line(here, "/shell/desktop") as ends, Line(there, "/shell/desktop") as stays:
        mark = f"7{time.time_ns() % 10**6}"
        ends.type(f"sleep {mark}\n")
        processes = ["pgrep", "-fc", f"^sleep {mark}"]
        wait_until(lambda: devcluster.host("alpha-login", *processes, check=False) == "1\n", 20)
        assert here.post("/logout", {})[0] == 303
        assert ends.word("end")["end"] == "signed-out"
        wait_until(lambda: devcluster.host("alpha-login", *processes, check=False) == "0\n", 10)
        stays.answers()
        assert there.post("/logout", {})[0] == 303
        assert stays.word("end")["end"] == "signed-out"


def test_a_site_without_shells(start_site: Site) -> None:
    alice = WebUser(start_site(shell={"enabled": False}), "alice")
    for path in ("/shell", "/shell/desktop", "/shell/portal/tmp"):
        assert alice.request("GET", path)[0].status == 404
        assert refused(alice, path) in (404, 405)
    for page in ("/", "/files/portal/etc", "/files/portal/etc/passwd", "/sessions"):
        assert "/shell/" not in alice.request("GET", page)[1], page


# ---- How long


def test_limits_are_said_before_they_strike(start_site: Site) -> None:
    portal = start_site(shell={"idle_minutes": 0.2, "absolute_hours": 0.01})
    alice = WebUser(portal, "alice")

    def is_busy(line: Line) -> list[str]:
        """What is said while somebody types all the time, until the end."""
        with suppress(ConnectionClosed):
            while True:
                with suppress(ConnectionClosed):  # what was said before is still to be read
                    line.type(" ")
                with suppress(TimeoutError):
                    line.take(1.0)
        return [word.get("notice") or word.get("message") or "" for word in line.words]

    with (
        ThreadPoolExecutor() as threads,
        Line(alice, "/shell/desktop") as idle,
        Line(alice, "/shell/desktop") as busy,
    ):
        said = threads.submit(is_busy, busy)
        assert "nobody is typing in it" in idle.word("notice")["notice"]
        idle.answers()
        last = time.monotonic()
        assert idle.word("notice")["notice"] == ""
        assert "Press a key" in idle.word("notice")["notice"]
        end = idle.word("end")
        assert end["message"] == "This shell was closed because nobody typed for 12 seconds."
        assert time.monotonic() - last > 11
        *_, notice, message = filter(None, said.result(timeout=120))
        assert "a shell can stay open for at most 36 seconds. Save your work" in notice
        assert message == "This shell was closed: a shell can stay open for at most 36 seconds."
    wait_until(lambda: len(audited(portal, "shell-closed")) == 2)  # the page is told before
    reasons = [line["reason"] for line in audited(portal, "shell-closed")]
    assert reasons == ["idle", "absolute"]


def test_typing_is_a_sign_of_life(start_site: Site) -> None:
    """What the page does by itself, and what the host prints, is none."""
    idle = patience(4)  # seconds: on a busy machine, a shell may take some to open
    portal = start_site(idle_minutes=idle / 60)
    alice, other = WebUser(portal, "alice"), WebUser(portal, "alice")
    with Line(other, "/shell/desktop") as silent, Line(alice, "/shell/desktop") as line:
        silent.type("while sleep 0.5; do echo x; done\n")
        end = time.monotonic() + idle + 3  # the portal lingers for 5 seconds
        while time.monotonic() < end:
            line.answers()
            with suppress(ConnectionClosed):  # it has ended by then
                silent.say(columns=90, rows=30)
            time.sleep(0.5)
        assert silent.word("end")["end"] == "signed-out"
        assert alice.request("GET", "/shell")[0].status == 200


def test_the_audit_log_has_who_and_where_and_nothing_else(start_site: Site) -> None:
    portal = start_site()
    alice = WebUser(portal, "alice")
    with Line(alice, "/shell/beta" + quote(b"/tmp/\xff")) as line:
        line.type("echo se''cret-typed; exit\n")
        line.until("secret-typed")
        assert line.word("end")["end"] == "exited"
    wait_until(lambda: audited(portal, "shell-closed"))  # the page is told before
    (opened,) = audited(portal, "shell-opened")
    (closed,) = audited(portal, "shell-closed")
    facts = {"user": "alice", "address": "127.0.0.1", "host": "10.78.0.21", "object": "/tmp/\\xff"}
    assert facts.items() <= opened.items()
    assert facts.items() <= closed.items()
    assert closed["reason"] == "exited"
    assert "cret-typed" not in portal.log.read_text()


# ---- Bytes


def test_a_hundred_megabytes(alice: WebUser) -> None:
    with Line(alice, "/shell/desktop") as line:
        line.answers()
        with little_memory(alice.portal):
            line.type(f"head -c {100 * MIB} /dev/zero | tr '\\0' x; echo; echo at the $((1))end\n")
            start, last = line.received, b""
            while b"at the 1end" not in last[-200:]:
                last += line.take(60)
                last = last[-200:]
            assert line.received - start > 100 * MIB


def test_ctrl_c_and_a_page_that_shows_nothing(alice: WebUser) -> None:
    """What nobody reads is not printed, and Ctrl-C is heard all the same."""
    with Line(alice, "/shell/desktop", shows=False) as line, little_memory(alice.portal):
        line.type("cat /dev/zero | tr '\\0' y\n")
        line.takes_nothing_more()
        assert line.received < MIB
        line.say(shown=line.received)
        line.type("\x03echo ctrl $((1+1))\n")
        line._shows = True
        start, begun = line.received, time.monotonic()
        line.until("ctrl 2", 20)
        assert line.received - start < 2 * MIB
        assert time.monotonic() - begun < 10 * busy()


def test_a_large_paste_waits_for_the_program(alice: WebUser) -> None:
    with Line(alice, "/shell/desktop") as line:
        line.type(
            "stty -echo raw; echo raw $((1+1)); sleep 3; head -c 2000000 | md5sum; stty sane\n"
        )
        line.until("raw 2")
        piece = b"0123456789abcdef" * 1024
        sent, known = 0, 0
        while sent < 2_000_000:
            while sent - known >= 64 * 1024:
                known = max(known, line.word("taken", seconds=30)["taken"])
            line.type(piece)
            sent += len(piece)
        line.until(r"[0-9a-f]{32}  -")


def test_too_much_or_nonsense_ends_the_connection_and_not_the_shell(alice: WebUser) -> None:
    nonsense = (
        "{",
        "[]",
        "7",
        '{"columns": "x", "rows": 1}',
        '{"columns": 80}',
        '{"shown": []}',
        "[" * 60000,
        b"x" * (64 * 1024 + 1),
    )
    with Line(alice, "/shell/desktop") as line:
        line.answers()
        id = line.id
    for said in nonsense:
        with Line(alice, "/shell/desktop", shell=id) as line:
            line.connection.send(said)
            with pytest.raises((AssertionError, TimeoutError)):
                line.until("never", 1 if said in ("7", "[]") else 30)
    with Line(alice, "/shell/desktop", shell=id) as line:
        line.say(columns=10**9, rows=-1, shown=10**12)
        line.answers()


def test_twenty_at_once(alice: WebUser) -> None:
    def opened(number: int) -> Line:
        line = Line(alice, f"/shell/{('desktop', 'beta', 'portal')[number % 3]}")
        line.type(f"echo number $(({number}))\n")
        line.until(f"number {number}", 60)
        return line

    with ExitStack() as held, ThreadPoolExecutor(MANY) as threads:
        lines = [held.enter_context(line) for line in threads.map(opened, range(MANY))]
        assert len({line.id for line in lines}) == MANY
        for page in ("/sessions", "/files/portal/etc", "/files/beta/etc"):
            assert alice.request("GET", page)[0].status == 200
        list(threads.map(Line.answers, lines))
        _, text = alice.request("GET", "/shell", Accept="application/json")
        assert {line.id for line in lines} <= {one["id"] for one in json.loads(text)["shells"]}
        for line in lines:
            line.type("exit\n")
        for line in lines:
            assert line.word("end")["end"] == "exited"


# ---- Coming back


def test_a_dropped_connection_loses_nothing(alice: WebUser) -> None:
    line = Line(alice, "/shell/desktop")
    line.answers()
    line.type(
        "for n in $(seq 2000); do echo line $n of many; sleep 0.001; done; echo all $((1+1))\n"
    )
    whole = line.until("line 100 of")
    line.connection.socket.close()
    seen = line.received - len(line.text.encode())
    time.sleep(1)
    with Line(alice, "/shell/desktop", shell=line.id, seen=seen) as again:
        whole += again.until("all 2")
    assert re.findall(r"line (\d+) of many", whole) == [str(n) for n in range(1, 2001)]


def test_a_new_page_begins_with_what_is_kept(alice: WebUser) -> None:
    with Line(alice, "/shell/desktop") as line:
        line.type("printf '\\e[?1049h\\e[?2004h\\e[?1h'; seq 1 200000; echo kept $((1+1))\n")
        line.until("kept 2", 60)
    with Line(alice, "/shell/desktop", shell=line.id) as again:
        word = again.words[0]
        assert {"\x1b[?1049h", "\x1b[?1h"} <= set(re.findall(r"\x1b\[\?\d+[hl]", word["prelude"]))
        assert word["redraw"]
        part_of_a_line = len("200000\r\n")  # the oldest, which is left out
        assert HISTORY_SIZE - part_of_a_line <= word["replay"] - word["from"] <= 2 * HISTORY_SIZE
        shown = again.until("kept 2")
        assert re.match(r"\d+\r\n", shown)  # a line from its beginning
        again.type("printf '\\e[?1049l'\n")
        again.answers()


def test_the_last_page_wins(ada: Researcher) -> None:
    first = opens(ada, "/shell/desktop")
    first.types("echo here $((1+1))\n")
    first.shows("here 2")
    page = ada.page.context.new_page()
    page.goto(ada.page.url)
    second = Shell(page)
    second.is_ready()
    second.shows("here 2")
    moved = "This shell is now open on another page."
    expect(ada.page.locator("#shell-notice")).to_contain_text(moved)
    second.answers()
    ada.page.get_by_role("button", name="Show it here").click()
    first.shows("is 42")
    expect(page.locator("#shell-notice")).to_contain_text(moved)


def test_history_keeps_modes_and_whole_lines() -> None:
    history = History()
    history.add(b"\x1b[?1049;1h\x1b[?25l\x1b[?9999h\x1b[?x")
    assert history.prelude == ""
    assert history.is_on_alternate_screen()
    line = b"0123456789" * 5 + b"\n"
    while history.start == 0:
        history.add(line * 1000)
    assert HISTORY_SIZE - 64 <= history.end - history.start <= 2 * HISTORY_SIZE
    assert history.prelude == "\x1b[?1h\x1b[?25l\x1b[?1049h"
    assert history.part(history.start, len(line)) == line
    history.add(b"\x1bc" + line * 20000)
    assert history.prelude == ""
    assert not history.is_on_alternate_screen()
    for _ in range(50):  # no line end anywhere
        history.add(b"x" * 100_000)
    assert history.end - history.start <= 2 * HISTORY_SIZE + 100_000


# ---- In a browser


def test_programs_that_fill_the_screen(ada: Researcher, devcluster: Devcluster) -> None:
    page = ada.page
    devcluster.as_user("alice", "alpha-login", "seq 1 5000 >numbers; rm -f .numbers.swp")
    shell = opens(ada, "/shell/desktop/home/alice")
    shell.types("vim.tiny numbers\n")
    shell.shows(r"^1\n2\n3\n")
    shell.types(":set nu\n1234Gigrüße \x1b")
    screen = shell.shows(r"1234 grüße 1234(?s:.*)1234,8-6(?!(?s:.*)INSERT)")
    page.reload()
    shell.shows("1234 grüße 1234")
    wait_until(lambda: shell.screen == screen, 10)
    page.set_viewport_size({"width": 900, "height": 600})
    wait_until(lambda: len(shell.screen.splitlines()) < len(screen.splitlines()), 10)
    shell.shows("1234 grüße 1234")
    page.keyboard.press("Control+f")
    shell.shows("12[4-9][0-9] 12[4-9][0-9]")
    shell.types(":q!\n")
    shell.shows(r"numbers\n.*\$\s*$")
    page.set_viewport_size({"width": 1280, "height": 800})
    shell.types("less numbers\n")
    shell.shows(r"^1\n2\n3\n")
    page.keyboard.press("PageDown")
    shell.shows(r"^(3|4)\d\n")
    shell.types("/4321\n")
    shell.shows(r"^4321\n")
    shell.types("q")
    shell.types("htop\n")
    shell.shows(r"PID.*USER.*PRI")
    page.screenshot(path=SCREENSHOTS / "shell-htop.png")
    page.reload()
    shell.shows(r"PID.*USER.*PRI")
    shell.shows(r"F10 ?Quit")
    page.keyboard.press("F10")
    shell.shows(r"\$\s*$")
    shell.answers()


def test_output_without_end_and_ctrl_c(ada: Researcher) -> None:
    shell = opens(ada, "/shell/desktop")
    shell.types("yes 'a line of output that goes on and on'\n")
    shell.shows("goes on and on\n.*goes on and on")
    ada.page.wait_for_timeout(1000)
    ada.page.keyboard.press("Control+c")
    shell.types("clear; echo done $((1+1))\n")
    shell.shows("done 2")


def test_an_idle_shell_is_never_silent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies close connections on which nothing passes, many of them after 30 or 60 seconds."""
    assert pump_module.PING_EVERY < 30
    monkeypatch.setattr(pump_module, "PING_EVERY", 0.1)
    sign_ins = SignIns(3600, 3600, lambda *_: None)
    shells = Shells(sign_ins, 3600, 3600, lambda *_: None)
    sign_in = sign_ins.add("alice", frozenset(), "")
    shell = shells.open(sign_in, LocalHost(), Where("portal", "", "", "Shell"), 80, 24)
    browser, portals_end = socket.socketpair()
    browser.settimeout(20)
    websocket = WebSocket(lambda name: HANDSHAKE[name])
    websocket.take(portals_end)
    shells.show(shell, sign_in, websocket)
    heard = b""
    while heard.count(b"\x81\x02{}") < 3 or heard.count(b"\x89") < 3:  # messages, and pings
        heard += browser.recv(65536)
    shells.close(shell)
    wait_until(lambda: not shells.of("alice"))
    browser.close()


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def test_the_connection_breaks(ada: Researcher) -> None:
    page = ada.page
    shell = opens(ada, "/shell/desktop")
    shell.types("for n in $(seq 9); do echo count $n; sleep 0.5; done\n")
    shell.shows("count 2")
    page.context.set_offline(True)
    expect(page.locator("#shell-state")).to_have_text("Disconnected")
    expect(page.locator("#shell-notice")).to_contain_text("The shell keeps running for ten minutes")
    page.context.set_offline(False)
    expect(page.locator("#shell-state")).to_have_text("Connected")
    screen = shell.shows("count 9")
    assert re.findall(r"count (\d)", screen)[-9:] == list("123456789")
    expect(page.locator("#shell-notice")).to_be_empty()
    shell.answers()
    ada.complaints.clear()  # the browser's, on requests that failed


def test_the_portal_is_killed(start_site: Site, page: Page) -> None:
    portal = start_site()
    ada = Researcher(page, portal)
    ada.signs_in("alice")
    expect(page.get_by_role("button", name="Log Out")).to_be_visible()
    shell = opens(ada, "/shell/desktop/etc")
    portal.kill()
    notice = page.locator("#shell-notice")
    expect(notice).to_contain_text("The portal is not responding.")
    expect(notice.get_by_role("link", name="Open a new shell")).to_be_visible()
    portal.start()
    expect(notice).to_contain_text("this shell has ended")
    notice.get_by_role("link", name="Sign in").click()
    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill("alice-pw")
    page.get_by_role("button", name="Sign in").click()
    shell.is_ready()
    shell.types("pwd\n")
    shell.shows(r"\n/etc\n")


def test_keys_copy_paste_search_and_links(ada: Researcher, site: RunningPortal) -> None:
    page = ada.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    shell = opens(ada, "/shell/desktop")
    page.evaluate("navigator.clipboard.writeText('echo pasted grüße $((1+1))\\n')")
    page.keyboard.press("Control+Shift+V")
    shell.shows("pasted grüße 2|grüße")
    page.keyboard.press("Enter")
    shell.shows(r"\npasted grüße 2\n")
    shell.types("clear; printf 'copy-me\\n'\n")
    shell.shows(r"^copy-me\n")
    shell.clicks(0, 2, times=2)
    page.keyboard.press("Control+Shift+C")
    expect(page.locator("#shell-state")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "copy-me"
    # On a Dvorak keyboard, C is where others have I. On a Russian one, there is no C.
    for key, code, copies in (("J", "KeyC", 0), ("C", "KeyI", 1), ("С", "KeyC", 1)):
        page.evaluate("navigator.clipboard.writeText('')")
        facts = {"key": key, "code": code, "ctrlKey": True, "shiftKey": True, "bubbles": True}
        page.locator(".xterm-helper-textarea").dispatch_event("keydown", facts)
        page.wait_for_timeout(100)
        assert page.evaluate("navigator.clipboard.readText()") == "copy-me" * copies, key
    # The title, and the way out of the terminal by keyboard.
    shell.types("PS1='> '; printf '\\033]0;my <b>title\\007'\n")
    expect(page).to_have_title(re.compile("^my <b>title · Shell on Desktop"))
    keyboard = page.get_by_role("textbox", name="Terminal input")
    expect(keyboard).to_have_accessible_description("Press Ctrl+F6 to leave the terminal")
    page.keyboard.press("Control+F6")
    expect(page.locator("#shell-copy")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#shell-paste")).to_be_focused()
    page.locator(".xterm-helper-textarea").focus()
    page.keyboard.press("Control+Shift+F")
    page.get_by_role("searchbox", name="Find").fill("no such text")
    page.keyboard.press("Enter")
    expect(page.locator("#shell-found")).to_have_text("Not found")
    page.get_by_role("searchbox", name="Find").fill("copy-me")
    page.keyboard.press("Enter")
    expect(page.locator("#shell-found")).to_be_empty()
    page.keyboard.press("Escape")
    # Links: only with Ctrl, only of the web, and without a way back to this page.
    shell.types(
        f"clear; echo {site.url}/healthz; printf '\\e]8;;javascript:alert(1)\\aevil\\e]8;;\\a\\n'\n"
    )
    shell.shows(r"/healthz\nevil")
    shell.clicks(0, 10, on_a_link=True)
    with page.expect_popup() as opened:
        page.keyboard.down("Control")
        shell.clicks(1, 1)  # which comes to nothing
        shell.clicks(0, 10, on_a_link=True)
        page.keyboard.up("Control")
    assert len(page.context.pages) == 2
    expect(opened.value.locator("body")).to_contain_text("ok")
    assert opened.value.evaluate("window.opener") is None
    opened.value.close()


def test_looks_and_is_accessible(ada: Researcher) -> None:
    page = ada.page
    shell = opens(ada, "/shell/desktop/etc")
    shell.types(
        "clear; ls --color=always | head -12; printf '\\e[38;2;120;80;200mtrue-colour\\n'\n"
    )
    shell.shows(r"\ntrue-colour\n")
    painted = page.locator(".xterm-rows span", has_text="true-colour").last
    assert "rgb(120, 80, 200)" in painted.evaluate("it => getComputedStyle(it).color")
    page.get_by_role("button", name="Keyboard shortcuts").click()

    def is_whole() -> bool:
        last = page.locator(".xterm-rows > div").last.bounding_box()
        around = page.locator("#shell").bounding_box()
        assert last is not None
        assert around is not None
        return last["y"] + last["height"] <= around["y"] + around["height"]

    for look in looks(page):
        page.wait_for_timeout(200)
        accessible(page, f"shell-{look}")
        wait_until(is_whole, 10, "a line is cut")
    background = page.locator("#shell").evaluate("it => getComputedStyle(it).backgroundColor")
    viewport = page.locator(".xterm-scrollable-element")
    assert viewport.evaluate("it => getComputedStyle(it).backgroundColor") == background
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Screen reader").check()
    page.locator(".xterm-helper-textarea").focus()
    shell.types("echo heard $((1+1))\n")
    expect(page.locator(".xterm-accessibility")).to_contain_text("heard 2")
    before = page.locator(".xterm-rows > div").count()
    page.get_by_role("button", name="Larger text").click()
    wait_until(lambda: page.locator(".xterm-rows > div").count() < before, 10)
    page.evaluate("localStorage.clear()")


def test_the_embedded_default(embedded: RunningPortal, page: Page, embedded_home: Path) -> None:
    ada = Researcher(page, embedded)
    ada.opens_the_address()
    page.goto(f"{embedded.url}/shell")
    page.get_by_role("main").get_by_role("link", name="This machine").click()
    shell = Shell(page)
    expect(page.locator("#shell-state")).to_have_text("Connected")
    shell.types("echo is $((40+2)); pwd\n")
    shell.shows("is 42")
    shell.shows(re.escape(str(embedded_home))[:60])
    assert ada.complaints == []
