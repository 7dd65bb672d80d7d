"""Who gets in, with what, and what one user can never do to another: on the devcluster."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Page, expect

from app import create_app
from ood.auth import authority, credentials
from ood.config import load_settings
from tests.busy import busy
from tests.conftest import ROOT, Devcluster, RunningPortal, wait_until
from tests.researcher import HELLO, Researcher
from tests.routes import addresses
from tests.sshd import PrivateSshd
from tests.test_accounts import account_of
from tests.webuser import FORM, WebUser

Site = Callable[..., RunningPortal]
WRONG = "The user name or password is wrong. Try again."
NOT_KNOWN = "Your account cannot use this portal. Ask your administrator for access."


@pytest.fixture
def certificates(devcluster: Devcluster) -> dict[str, Any]:
    """Settings with which the portal signs certificates for its users."""
    return {"credentials": "certificate", "user_ca": str(devcluster.state / "secrets" / "user_ca")}


@pytest.fixture
def by_header(certificates: dict[str, Any]) -> dict[str, Any]:
    """Settings with which a front end on this machine says who the user is."""
    return certificates | {"auth": "header", "front_ends": ["127.0.0.1"]}


def audited(portal: RunningPortal, event: str = "") -> list[dict[str, Any]]:
    """The lines of the audit log, without their times; only those of one event if told."""
    text = (portal.log.parent / "audit.log").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert line.pop("time")
    return [line for line in found if event in ("", line["event"])]


def sshds(devcluster: Devcluster, user: str) -> int:
    """How many SSH connections a user has to the portal host."""
    found = devcluster.host("portal-host", "pgrep", "-fc", f"^sshd: {user} .priv", check=False)
    return int(found)


# ---- Signing in with a password


NAMES = {
    "a wrong password": ("alice", "not alice-pw"),
    "an unknown user": ("nobody-knows", "x-pw"),
    "root": ("root", "root-pw"),
    "a service of this machine": ("daemon", "daemon-pw"),
    "a service with the right password": ("labd", "labd-pw"),
    "an expired account": ("dave", "dave-pw"),
    "no name": ("", "alice-pw"),
    "a long password": ("alice", "x" * 10_000),
}


def test_all_refusals_look_the_same_and_take_as_long(start_site: Site) -> None:
    portal = start_site(front_ends=["127.0.0.1"])

    def tries(number: int) -> float:
        """Try one of them; return the seconds it took."""
        what, (name, password) = list(NAMES.items())[number % len(NAMES)]
        stranger = WebUser(portal, X_Forwarded_For=f"192.0.2.{number}")
        token = stranger.csrf_token("/login")
        started = time.monotonic()
        status, page = stranger.post(
            "/login", {"username": name, "password": password}, token=token
        )
        took = time.monotonic() - started
        assert status == 401, what
        assert WRONG in page, what
        assert password not in page, what
        return took

    with ThreadPoolExecutor(4) as threads:  # which mostly wait
        seconds = list(threads.map(tries, range(3 * len(NAMES))))
    by_name = {what: sorted(seconds[n :: len(NAMES)])[1] for n, what in enumerate(NAMES)}
    # PAM itself takes one to four seconds to say no, as it likes.
    assert all(1 < took < 6 * busy() for took in by_name.values()), str(by_name)
    failed = audited(portal, "sign-in-failed")
    assert len(failed) == 3 * len(NAMES)
    assert {line["user"] for line in failed} == {"", "alice", "nobody-knows", "labd", "dave"}
    assert "-pw" not in (portal.log.parent / "audit.log").read_text()


@pytest.mark.parametrize(
    "name", ["4711", "alice\nroot", "../alice", "-oProxyCommand=touch", "älice", "x" * 10_000]
)
def test_names_that_no_account_can_have(site: RunningPortal, name: str) -> None:
    status, page = WebUser(site).tries(name, "alice-pw")
    assert (status, "does not accept user names of this form" in page) == (401, True)


def test_guessing_is_slowed_down(start_site: Site) -> None:
    portal = start_site(front_ends=["127.0.0.1"])
    guesser = WebUser(portal, X_Forwarded_For="192.0.2.1")
    with ThreadPoolExecutor(5) as hands:
        tries = hands.map(lambda n: WebUser(portal).tries("alice", f"guess {n}")[0], range(5))
        assert list(tries) == [401] * 5
    here = WebUser(portal)
    assert here.tries("alice", "alice-pw")[0] == 429
    _, page = here.tries("alice", "alice-pw")
    assert "Too many failed attempts. Wait 10 minutes and try again." in page
    assert guesser.tries("alice", "alice-pw")[0] == 303, "she herself, elsewhere, gets in"
    assert here.tries("bob", "bob-pw")[0] == 303
    assert audited(portal, "sign-in-failed")[-1] == {
        "event": "sign-in-failed",
        "user": "alice",
        "address": "127.0.0.1",
        "reason": "too many attempts",
    }


def test_a_changed_host_key_is_for_the_administrator(
    start_site: Site, site_config: Path, start_sshd: Callable[..., PrivateSshd]
) -> None:
    sshd = start_sshd()
    key = (site_config / "known_hosts").read_text().split("\n")[0].partition(" ")[2]
    known_hosts = sshd.known_hosts(site_config.parent / "changed", key)
    portal = start_site(portal_host=sshd.address, known_hosts=str(known_hosts))
    status, page = WebUser(portal).tries("alice", "alice-pw")
    assert status == 503
    assert "has changed, so the portal did not connect to it. Tell your administrator." in page
    assert "alice" not in sshd.log


# ---- Sessions


def test_signing_out_closes_connections_within_a_second(
    start_site: Site, devcluster: Devcluster
) -> None:
    portal = start_site()
    first, second = WebUser(portal, "user1"), WebUser(portal, "user1")
    assert first.sessions() == second.sessions() == []
    wait_until(lambda: sshds(devcluster, "user1") == 1, 2, "both browsers share one connection")
    assert first.post("/logout", {})[0] == 303
    assert sshds(devcluster, "user1") == 1
    token = second.csrf_token("/")
    assert second.post("/logout", {}, token=token)[0] == 303
    wait_until(lambda: sshds(devcluster, "user1") == 0, 1)
    assert second.request("GET", "/")[0].status == 302
    ends = [line["reason"] for line in audited(portal, "sign-out")]
    assert ends == ["signed out"] * 2


def test_signing_in_again_in_the_same_browser(start_site: Site) -> None:
    site = start_site()
    browser = WebUser(site, "alice")
    for user in ("alice", "bob", "alice"):  # on a sign-in page that was left open
        earlier = browser.cookie
        form = {"username": user, "password": f"{user}-pw"}
        assert browser.post("/login", form)[0] == 303
        head, text = browser.request("GET", "/files/portal/home/" + user)
        assert head.status == 200, text
        other = WebUser(site)
        other.become(Cookie=earlier)
        assert other.request("GET", "/")[0].status == 302


def test_an_idle_page_leads_to_sign_in_and_back(
    start_site: Site, devcluster: Devcluster, page: Page
) -> None:
    portal = start_site(idle_minutes=0.2)
    user2 = Researcher(page, portal)
    user2.signs_in("user2")
    page.goto(f"{portal.url}/sessions")
    asked = []
    page.on("request", lambda request: asked.append(request.method))
    expect(page.get_by_label("User name")).to_be_visible()
    assert "POST" in asked, "it was a poll that found out"
    wait_until(lambda: sshds(devcluster, "user2") == 0, 1)
    page.get_by_label("User name").fill("user2")
    page.get_by_label("Password").fill("user2-pw")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="My Interactive Sessions")).to_be_visible()
    assert page.url == f"{portal.url}/sessions"
    assert [line["reason"] for line in audited(portal, "sign-out")] == ["expired"]


# ---- What one user can never do to another


def test_nobody_reaches_anything_of_another_user(start_site: Site) -> None:
    portal = start_site()
    alice, bob = WebUser(portal, "alice"), WebUser(portal, "bob")
    assert alice.launch(container_arguments="-d 300") == 303
    before = alice.sessions()
    id = before[0]["id"]
    of_sessions = [one for one in addresses(create_app(load_settings()), id) if one.of_a_session]
    assert len(of_sessions) > 8
    token = bob.csrf_token("/")
    for one in of_sessions:
        for kind in ("text/html", "application/json", "text/plain"):
            headers = {"Accept": kind, "X-CSRFToken": token}
            answer, text = bob.request(one.method, one.path, **headers)
            assert answer.status == 404, one
            told = [before[0]["context_directory"], "data-session-id"]
            if kind == "application/json":  # the menus of pages have the titles of apps
                told.append(before[0]["title"])
            for secret in told:
                assert secret not in text, one
    answer, text = bob.request("GET", f"/apps/container_app?from={id}")
    assert answer.status == 404
    assert id not in {session["id"] for session in bob.sessions()}
    after = alice.sessions()
    assert [session["id"] for session in after] == [session["id"] for session in before]
    assert after[0]["status"] in ("queued", "starting", "running")
    refused = {(line["method"], line["object"]) for line in audited(portal, "refusal")}
    assert {(one.method, one.path) for one in of_sessions} <= refused
    assert {line["user"] for line in audited(portal, "refusal")} == {"bob"}
    alice.post(f"/sessions/{id}/cancel", {})


def test_groups_decide_on_back_ends_and_apps(
    start_site: Site, site_config: Path, tmp_path: Path
) -> None:
    rule = [{"adapter": "group", "groups": ["nsh-trial"], "type": "whitelist"}]
    shutil.copytree(site_config / "clusters.d", tmp_path / "clusters.d")
    path = tmp_path / "clusters.d" / "desktop.yml"
    cluster = yaml.safe_load(path.read_text())
    cluster["v2"]["acls"] = rule
    path.write_text(yaml.safe_dump(cluster))
    shutil.copytree(ROOT / "app_defs", tmp_path / "app_defs")
    path = tmp_path / "app_defs" / "jupyter_app" / "manifest.yml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"acls": rule}))
    portal = start_site(clusters=str(tmp_path / "clusters.d"), app_defs=str(tmp_path / "app_defs"))
    alice, bob = WebUser(portal, "alice"), WebUser(portal, "bob")
    for user, status in ((alice, 200), (bob, 404)):
        for method in ("GET", "POST"):
            token = user.csrf_token("/")
            answer, _ = user.request(method, "/apps/jupyter_app", **{"X-CSRFToken": token})
            assert (answer.status == 404) == (status == 404)
        assert ("Run JupyterLab" in user.request("GET", "/")[1]) == (status == 200)
        form = user.request("GET", "/apps/container_app")[1]
        assert ('value="desktop"' in form) == (status == 200)
    before = {session["id"] for session in bob.sessions()}
    assert bob.launch(cluster="desktop") == 422
    assert {session["id"] for session in bob.sessions()} == before


# ---- Certificates


def test_with_certificates_the_password_opens_one_door(
    start_site: Site,
    certificates: dict[str, Any],
    start_sshd: Callable[..., PrivateSshd],
    devcluster: Devcluster,
    tmp_path: Path,
) -> None:
    """It is checked at sign-in; from then on the portal host sees certificates."""
    sshd = start_sshd("TrustedUserCAKeys /etc/ssh/user_ca.pub")
    known_hosts = sshd.known_hosts(tmp_path / "known_hosts")
    with known_hosts.open("a") as file:
        file.write((devcluster.state / "known_hosts").read_text())
    portal = start_site(**certificates, portal_host=sshd.address, known_hosts=str(known_hosts))
    alice = WebUser(portal, "alice")
    assert alice.launch() == 303
    devcluster.host("portal-host", "pkill", "-f", "^sshd: alice")
    wait_until(lambda: alice.request("GET", "/sessions")[0].status == 200, 5)
    accepted = re.findall("Accepted (password|publickey) for alice", sshd.log)
    assert accepted == ["password", "publickey", "publickey"]


def test_a_certificate_that_is_no_longer_good_leads_to_sign_in(
    site_config: Path,
    certificates: dict[str, Any],
    start_sshd: Callable[..., PrivateSshd],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sshd = start_sshd("TrustedUserCAKeys /etc/ssh/user_ca.pub", "RevokedKeys DIR/revoked")
    settings = load_settings(site_config / "portal.yml").model_copy(
        update=certificates
        | {
            "user_ca": Path(certificates["user_ca"]),
            "portal_host": sshd.address,
            "known_hosts": sshd.known_hosts(tmp_path / "known_hosts"),
        }
    )
    app = create_app(settings)
    client = app.test_client()
    pool = app.extensions["portal"].pool

    def signs_in() -> object:
        page = client.get("/login").text
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token
        fields = {"username": "alice", "password": "alice-pw", "csrf_token": token[1]}
        return client.post("/login", data=fields).status_code

    def is_led_to_sign_in() -> bool:
        pool.portal_host("alice").close()  # a new connection needs a certificate
        answer = client.get("/sessions")
        return (answer.status_code, answer.location) == (302, "/login?next=/sessions")

    monkeypatch.setattr("ood.sessions.board.CARDS_SECONDS", 0.0)
    monkeypatch.setattr("ood.background.SPARING", 0)
    monkeypatch.setattr("ood.background.PATIENCE", 30.0)
    monkeypatch.setattr("ood.sessions.board.PATIENCE", 30.0)
    monkeypatch.setattr(credentials, "LIFETIME", credentials.RENEW_BEFORE)  # a new one each time
    assert signs_in() == 303
    assert client.get("/sessions").status_code == 200
    pool.portal_host("alice").close()
    assert client.get("/sessions").status_code == 200
    assert "Accepted publickey for alice" in sshd.log
    monkeypatch.setattr(authority, "LIFETIME", -30)
    assert is_led_to_sign_in(), "expired"
    assert "did not accept your certificate" in client.get("/login").text
    monkeypatch.setattr(authority, "LIFETIME", 300)
    assert signs_in() == 303
    assert client.get("/sessions").status_code == 200
    sshd.devcluster.host("portal-host", "cp", "/etc/ssh/user_ca.pub", f"{sshd.directory}/revoked")
    assert is_led_to_sign_in(), "revoked"
    assert signs_in() == 403, "the password is right"
    pool.forget("alice")


# ---- A front end that knows the user


def test_the_front_end_signs_in(start_site: Site, by_header: dict[str, Any]) -> None:
    portal = start_site(**by_header)
    alice = WebUser(portal, X_Remote_User="alice", X_Forwarded_For="192.0.2.7")
    answer, _ = alice.request("GET", "/sessions")
    assert answer.getheader("Location") == "/login?next=/sessions"
    answer, _ = alice.request("GET", "/login?next=/sessions")
    assert (answer.status, answer.getheader("Location")) == (302, "/sessions")
    assert alice.request("GET", "/sessions")[0].status == 200
    assert audited(portal) == [{"event": "sign-in", "user": "alice", "address": "192.0.2.7"}]

    alice.become()
    assert alice.request("GET", "/sessions")[0].status == 302, "the front end knows nobody"
    alice.become(X_Remote_User="alice")
    assert alice.request("GET", "/sessions")[0].status == 200
    alice.become(X_Remote_User="bob")
    assert alice.request("GET", "/sessions")[0].status == 302, "somebody else sits there now"
    alice.become(X_Remote_User="alice")
    assert alice.request("GET", "/sessions")[0].status == 302, "and that was the end of hers"
    assert alice.request("GET", "/login")[0].status == 302
    token = alice.csrf_token("/")
    assert alice.post("/logout", {}, token=token)[0] == 303
    answer, page = alice.request("GET", "/login?signed_out=1")
    assert "You are signed out" in page
    assert alice.request("GET", "/sessions")[0].status == 302
    ends = [line["reason"] for line in audited(portal, "sign-out")]
    assert ends == ["another user signed in", "signed out"]


@pytest.mark.parametrize(
    "name",
    ["root", "labd", "dave", "daemon", "nobody-knows", "alice,bob", "x" * 5_000, "../alice", ""],
)
def test_the_front_end_cannot_sign_in(
    start_site: Site, by_header: dict[str, Any], name: str
) -> None:
    portal = start_site(**by_header)
    answer, page = WebUser(portal, X_Remote_User=name).request("GET", "/login")
    assert answer.status == 403
    assert NOT_KNOWN in page
    (line,) = audited(portal)
    assert (line["event"], line["user"]) == ("sign-in-failed", name[:1000])


def test_only_the_front_end_is_believed(start_site: Site, by_header: dict[str, Any]) -> None:
    portal = start_site(**by_header | {"front_ends": ["unix", "192.0.2.1"]})
    forger = WebUser(portal, X_Remote_User="alice", X_Forwarded_For="192.0.2.1")
    assert forger.request("GET", "/login")[0].status == 403
    assert audited(portal) == [
        {
            "event": "sign-in-failed",
            "user": "",
            "address": "127.0.0.1",
            "reason": "no front end named the user",
        }
    ]


def test_jobs_without_a_password(start_site: Site, by_header: dict[str, Any], page: Page) -> None:
    """Run Container and Run JupyterLab over certificates alone."""
    portal = start_site(**by_header)
    page.context.set_extra_http_headers({"X-Remote-User": "alice"})
    alice = Researcher(page, portal)
    page.goto(portal.url)
    expect(page.get_by_role("button", name="Log Out")).to_be_visible()
    card = alice.launches(**HELLO)
    alice.watches(card, "completed", 120)
    assert card.get_attribute("data-outcome") == "succeeded"
    assert "Hello there" in alice.reads_the_log(card)
    card = alice.launches_jupyterlab()
    alice.watches(card, "running", 180)
    lab = alice.connects(card)
    lab.page.close()
    card.get_by_role("button", name="Cancel").click()
    alice.watches(card, "completed", 60)
    events = [line["event"] for line in audited(portal)]
    assert events == ["sign-in", "launch", "file-read", "launch", "connect", "cancel"]


# ---- Many users


def test_forty_users_and_their_way_out(start_site: Site, devcluster: Devcluster) -> None:
    """One connection each, whatever they ask at once; and nothing of them stays."""
    portal = start_site()

    def threads() -> int:
        return len(list(Path(f"/proc/{portal.worker}/task").iterdir()))

    def memory() -> int:
        """Resident MiB of the worker."""
        status = Path(f"/proc/{portal.worker}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) // 1024

    def sign_in(number: int) -> WebUser:
        return WebUser(portal, f"user{number}")

    def ask(user: WebUser) -> None:
        with ThreadPoolExecutor(8) as hands:
            answers = hands.map(lambda _: user.request("GET", "/sessions")[0].status, range(8))
            assert set(answers) == {200}

    def connections() -> int:
        found = devcluster.host("portal-host", "pgrep", "-fc", "^sshd: user[0-9]+ .priv")
        return int(found)

    with ThreadPoolExecutor(4) as hands:
        for _ in range(2):
            before = memory()
            users = list(hands.map(sign_in, range(1, 41)))
            list(hands.map(ask, users))
            assert connections() == 40
            tokens = list(hands.map(lambda user: user.csrf_token("/"), users))
            for user, token in zip(users, tokens, strict=True):
                assert user.post("/logout", {}, token=token)[0] == 303
            wait_until(lambda: not sshds(devcluster, "user[0-9]+"), 1)
    assert threads() < 64 + 20, "gunicorn's, and those of the portal itself"
    assert memory() < before + 8, "the second time needs hardly more than the first"


# ---- accounts that cannot be used as they are


def says_at_sign_in(portal: RunningPortal, user: str, password: str = "") -> tuple[int, str]:
    status, page = WebUser(portal).tries(user, password or f"{user}-pw")
    return status, unescape(page)


def test_an_expired_password_is_said_and_not_counted(
    start_site: Callable[..., RunningPortal],
) -> None:
    portal = start_site()
    for _ in range(7):  # more often than a wrong password may be tried
        status, page = says_at_sign_in(portal, "otto")
        assert (status, "Your password on 10.78.0.10 has expired" in page) == (403, True), page


@pytest.mark.parametrize(
    "options",
    [
        ["AuthenticationMethods password,publickey"],
        ["AuthenticationMethods password,keyboard-interactive", "KbdInteractiveAuthentication yes"],
    ],
    ids=str,
)
def test_a_second_factor_is_said_at_once(
    start_sshd: Callable[..., PrivateSshd],
    start_site: Callable[..., RunningPortal],
    tmp_path: Path,
    options: list[str],
) -> None:
    sshd = start_sshd(*options)
    known_hosts = sshd.known_hosts(tmp_path / "known")
    portal = start_site(portal_host=sshd.address, known_hosts=str(known_hosts))
    status, page = says_at_sign_in(portal, "alice")
    assert (status, "asks for a second factor" in page) == (403, True), page
    assert "wrong" in says_at_sign_in(portal, "alice", "not-it")[1]


def test_start_up_files_at_sign_in(
    start_site: Callable[..., RunningPortal], devcluster: Devcluster
) -> None:
    portal = start_site()
    for text in ("echo hello", "printf '\\033[1;31m'", "stty erase ^H", "fortune; module load x"):
        with account_of("user45", devcluster) as account:
            account.starts_with(text)
            assert WebUser(portal).tries("user45", "user45-pw")[0] == 303, text
    for text in ("exit 0", "exec dash", "exec zsh"):
        with account_of("user45", devcluster) as account:
            account.starts_with(text)
            status, page = says_at_sign_in(portal, "user45")
            assert (status, "ends commands before they run" in page) == (403, True), page
    assert WebUser(portal).tries("user45", "user45-pw")[0] == 303, "nothing was counted"


def test_no_home_directory(
    start_site: Callable[..., RunningPortal], devcluster: Devcluster
) -> None:
    portal = start_site()
    nora = WebUser(portal, "nora")
    assert nora.request("GET", "/sessions")[0].status == 200
    for path in ("/files/portal/home/nora", "/files/portal/home/nora/x"):
        answer, page = nora.request("GET", path)
        assert (answer.status, "Your home directory /home/nora does not exist" in page) == (
            *(404, True),
        )
    assert "/home/nora" not in nora.request("GET", "/files/portal/none")[1]
    status, page = nora.post(
        "/apps/container_app", {**FORM, "container_url": portal.image, "registry_token": "x"}
    )
    assert (status, "Your home directory /home/nora does not exist" in page) == (422, True), page
    devcluster.host("portal-host", "install", "-d", "-o", "nora", "-m", "700", "/home/nora")
    try:
        assert nora.request("GET", "/files/portal/home/nora")[0].status == 200
        assert nora.launch() == 303
    finally:
        devcluster.host("alpha-login", "scancel", "-u", "nora")
        devcluster.host("portal-host", "rm", "-rf", "/home/nora")


@pytest.mark.parametrize(
    "line", ["@cert-authority *.x ssh-ed25519 AAAA", "10.78.0.10  ssh-ed25519 AAAA!", "@revoked"]
)
def test_a_line_of_known_hosts_that_cannot_be_used(
    start_site: Callable[..., RunningPortal], site_config: Path, tmp_path: Path, line: str
) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(line + "\n" + (site_config / "known_hosts").read_text())
    assert says_at_sign_in(start_site(known_hosts=str(known_hosts)), "alice")[0] == 303
