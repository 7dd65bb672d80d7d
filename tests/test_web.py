"""The pages, as a browser without JavaScript and as programs see them, on the embedded default.

The home directory is the test's own; jobs are real, on the local scheduler. No Container Execution
Service tool is on the `PATH`, so every container job ends at once and says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app import create_app
from ood.config import EMBEDDED, PortalSettings, load_settings
from ood.errors import HostUnreachable, LaunchFailed
from ood.portal import Portal
from ood.sessions.record import SessionRecord
from ood.web.filters import duration
from ood.web.security import CONTENT_SECURITY_POLICY, PERMISSIONS_POLICY
from tests.conftest import wait_until
from tests.routes import CHANGE, OPEN, OPEN_CHANGE, PAGE, RULES, SERVICE, Address, addresses

FORM = "/apps/container_app"
SCRIPT = "<script>alert(1)</script>"
TOKEN = "glpat-hush-hush"
ID = "01234567-89ab-4cde-8f01-23456789abcd"
RECORD = SessionRecord(
    ID, "this_machine", "99", 1_900_000_000, "sys/container_app", "Run Container"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": PERMISSIONS_POLICY,
}


class Page(HTMLParser):
    """What a browser makes of a page: its fields, mistakes, texts by id, and what could run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.classes: dict[str, str] = {}
        self.could_run: list[str] = []
        self._open: list[tuple[str, str, str]] = []
        self._select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        name, value = given.get("name", ""), given.get("value", "")
        if tag == "select":
            self._select = name
        if tag == "option" and ("selected" in given or self._select not in self.fields):
            self.fields[self._select] = value
        if tag == "textarea":
            self.fields[name] = ""
        if tag == "input" and (
            given.get("type") not in ("checkbox", "radio") or "checked" in given
        ):
            self.fields[name] = value
        if tag in ("style", "iframe", "object", "base") or (
            tag == "script" and not given.get("src")
        ):
            self.could_run.append(self.get_starttag_text() or "")
        if any(name.startswith("on") or name == "style" for name in given):
            self.could_run.append(self.get_starttag_text() or "")
        if tag not in ("input", "meta", "link", "use", "br", "img"):
            self._open.append((tag, given.get("id", ""), name))

    def handle_endtag(self, tag: str) -> None:
        if tag in (open_tag for open_tag, _, _ in self._open):
            while self._open.pop()[0] != tag:
                pass

    def handle_data(self, data: str) -> None:
        for tag, id, name in self._open:
            self.texts[tag] = self.texts.get(tag, "") + data
            self.texts[f"#{id}"] = self.texts.get(f"#{id}", "") + data
            if tag == "textarea":
                self.fields[name] += data.removeprefix("\n") if not self.fields[name] else data

    @property
    def mistakes(self) -> dict[str, str]:
        return {
            id.removeprefix("#").removesuffix("-mistake"): text
            for id, text in self.texts.items()
            if id.endswith("-mistake")
        }

    @property
    def text(self) -> str:
        return self.texts["main"]


class Browser:
    """A browser with cookies of its own. Whatever it is given, it looks at with suspicion."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.portal: Portal = app.extensions["portal"]
        self.client = app.test_client()
        self.seen: list[str] = []

    def opens(self, path: str, method: str = "GET", **given: Any) -> TestResponse:
        given.setdefault("headers", {"Accept": "text/html"})
        answer = self.client.open(path, method=method, **given)
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value, path
        if not path.startswith("/static/"):
            assert answer.headers["Cache-Control"] == "no-store", path
        self.seen.append(answer.get_data().decode("utf-8", "replace") + str(answer.headers))
        if answer.mimetype == "text/html":
            assert Page(answer.text).could_run == [], path
        answer.close()
        return answer

    def page(self, path: str) -> Page:
        answer = self.opens(path)
        assert answer.status_code == 200, answer.text
        return Page(answer.text)

    def json(self, path: str, status: int = 200) -> Any:
        answer = self.opens(path, headers={"Accept": "application/json"})
        assert answer.status_code == status, answer.text
        return answer.get_json()

    @property
    def csrf_token(self) -> str:
        with closing(self.client.get("/login", follow_redirects=True)) as answer:
            return Page(answer.text).fields["csrf_token"]

    def posts(self, path: str, **data: str) -> TestResponse:
        return self.opens(path, "POST", data={"csrf_token": self.csrf_token} | data)

    def polls(self, have: list[str]) -> TestResponse:
        """Ask, as an open page does, what is new since it showed the parts `have`."""
        data = {"csrf_token": self.csrf_token, "have": have}
        return self.opens("/sessions", "POST", data=data, headers={"HX-Request": "true"})

    def signs_in(self, next: str = "") -> TestResponse:
        query = {"token": self.portal.token.new()} | ({"next": next} if next else {})
        return self.opens("/login", query_string=query)

    def submits(self, **typed: str) -> TestResponse:
        """Fill in the Run Container form, changing what is typed here, and press Launch."""
        fields = self.page(FORM).fields | typed
        return self.opens(FORM, "POST", data=fields)

    def launches(self, **typed: str) -> str:
        before = {session["id"] for session in self.sessions}
        answer = self.submits(**typed)
        assert (answer.status_code, answer.location) == (303, "/sessions"), answer.text
        (new,) = {session["id"] for session in self.sessions} - before
        return str(new)

    @property
    def sessions(self) -> list[dict[str, Any]]:
        return list(self.json("/sessions")["sessions"])

    def watches(self, id: str) -> dict[str, Any]:
        """Wait for a session to be completed."""
        wait_until(lambda: self.json(f"/sessions/{id}")["status"] == "completed", 10)
        return dict(self.json(f"/sessions/{id}"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory of this machine's user; job cards are brought up to date at once."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("ood.sessions.board.CARDS_SECONDS", 0.0)
    monkeypatch.setattr("ood.background.GOOD_FOR", 0.0)
    monkeypatch.setattr("ood.background.PATIENCE", 30.0)
    return home


@pytest.fixture
def settings(home: Path) -> PortalSettings:
    assert home.is_dir()
    return load_settings(EMBEDDED)


@pytest.fixture
def stranger(settings: PortalSettings) -> Browser:
    """Somebody who is not signed in."""
    return Browser(create_app(settings))


@pytest.fixture
def ada(stranger: Browser) -> Iterator[Browser]:
    """A researcher who is signed in."""
    ada = Browser(stranger.app)
    assert ada.signs_in().location == "/"
    yield ada
    for path in (Path(ada.portal.pool.portal_host("").home)).rglob("batch_connect/db/*"):
        path.unlink(missing_ok=True)


def db(home: Path) -> Path:
    path = home / "ondemand/data/sys/dashboard/batch_connect/db"
    path.mkdir(parents=True, exist_ok=True)
    return path


def context(home: Path, record: SessionRecord = RECORD) -> Path:
    path = db(home).parent / record.token / "output" / record.id
    path.mkdir(parents=True, exist_ok=True)
    return path


# ---- Signing in


def test_the_printed_address_works_once(stranger: Browser, ada: Browser) -> None:
    assert "Home" in ada.page("/").texts["title"]
    token = stranger.portal.token.new()
    first, second = Browser(stranger.app), Browser(stranger.app)
    assert first.opens(f"/login?token={token}").location == "/"
    assert first.page("/sessions").texts["h1"] == "My Interactive Sessions"
    refused = second.opens(f"/login?token={token}")
    assert refused.status_code == 401
    assert "already been used" in refused.text
    assert second.opens("/sessions").status_code == 302


@pytest.mark.parametrize("token", ["", "wrong", "é", "x" * 5000])
def test_a_wrong_token_is_refused(stranger: Browser, token: str) -> None:
    assert stranger.opens("/login", query_string={"token": token}).status_code == 401
    assert stranger.opens("/").status_code == 302


def test_the_cookie_is_kept_from_scripts_and_other_sites(stranger: Browser) -> None:
    cookie = stranger.signs_in().headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie, "the embedded default has no TLS"


def test_nothing_from_before_the_sign_in_is_good_after_it(stranger: Browser) -> None:
    """Somebody else may have planted that cookie, and so know its CSRF token."""
    token = stranger.csrf_token
    before = stranger.client.get_cookie("ood_portal")
    assert before is not None
    stranger.signs_in()
    assert stranger.opens("/logout", "POST", data={"csrf_token": token}).status_code == 400
    planter = Browser(stranger.app)
    planter.client.set_cookie("ood_portal", before.value)
    assert planter.opens("/").status_code == 302


def test_another_address_can_be_printed(
    stranger: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    old = stranger.portal.token.new()
    assert stranger.posts("/login/new-address").location == "/login"
    printed = re.fullmatch(
        r"Open this address: http://localhost(/login\?token=\S+)\n", capsys.readouterr().out
    )
    assert printed
    assert printed[1] not in "".join(stranger.seen)
    assert stranger.opens(f"/login?token={old}").status_code == 401
    assert stranger.opens(printed[1]).location == "/"


def test_log_out_is_the_end_of_the_cookie(ada: Browser) -> None:
    cookie = ada.client.get_cookie("ood_portal")
    assert cookie is not None
    assert ada.posts("/logout").location == "/login"
    assert ada.opens("/").status_code == 302
    ada.client.set_cookie("ood_portal", cookie.value)
    assert ada.opens("/").status_code == 302


def test_log_out_in_one_browser_leaves_the_other(ada: Browser) -> None:
    other = Browser(ada.app)
    other.signs_in()
    ada.posts("/logout")
    assert other.opens("/").status_code == 200


@pytest.mark.parametrize("next", ["/sessions", "/apps/container_app?from=x&y=%20z", "/a//b", "/é"])
def test_sign_in_leads_on(stranger: Browser, next: str) -> None:
    answer = stranger.signs_in(next)
    assert answer.status_code == 302
    assert answer.location in (next, "/%C3%A9")


@pytest.mark.parametrize(
    "next",
    [
        *("https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example"),
        *("///evil.example", "/\t/evil.example", "/\n/evil.example", "\t//evil.example"),
        *(
            "javascript:alert(1)",
            "evil.example",
            " //evil.example",
            "http:evil.example",
            "/\r\nX: y",
        ),
    ],
    ids=ascii,
)
def test_sign_in_leads_to_no_other_site(stranger: Browser, next: str) -> None:
    assert stranger.signs_in(next).location == "/"
    assert stranger.opens("/login", query_string={"next": next}).location == "/"


@pytest.fixture
def remote(settings: PortalSettings, tmp_path: Path) -> Browser:
    """A portal whose users sign in with their password, at a host that does not answer."""
    (tmp_path / "known_hosts").touch()
    site = {"auth": "ssh", "portal_host": "127.0.0.1:1", "known_hosts": tmp_path / "known_hosts"}
    return Browser(create_app(settings.model_copy(update=site)))


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        *(
            (name, 503, "127.0.0.1 cannot be reached")
            for name in ("ada", "J.Doe@north", "root", "")
        ),
        *(
            (name, 401, "does not accept user names of this form")
            for name in ("-oProxyCommand=x", "a b", SCRIPT, "4711")
        ),
    ],
)
def test_a_password_is_never_shown_again(
    remote: Browser, name: str, status: int, text: str
) -> None:
    answer = remote.posts("/login", username=name, password=TOKEN, next="/apps")
    page = Page(answer.text)
    assert answer.status_code == status
    assert text in page.text
    assert page.fields["username"] == name
    assert page.fields["next"] == "/apps"
    assert TOKEN not in "".join(remote.seen)


def test_a_site_with_tls_has_secure_cookies(remote: Browser) -> None:
    cookie = remote.opens("/login").headers["Set-Cookie"]
    assert cookie.startswith("__Host-ood_portal=")
    assert "; Secure; HttpOnly; Path=/; SameSite=Lax" in cookie
    assert remote.opens("/login?token=x").status_code == 200, "no way in but the password"


# ---- Who may ask for what


def test_every_address_has_a_rule(stranger: Browser) -> None:
    assert {rule.endpoint for rule in stranger.app.url_map.iter_rules()} == set(RULES)


def test_nobody_signed_out_gets_anything_but_the_way_in(stranger: Browser) -> None:
    token = stranger.csrf_token
    unknown = Address(PAGE, "GET", "/no/such/page", False)
    for asked in [*addresses(stranger.app), unknown]:
        if asked.kind in (OPEN, OPEN_CHANGE):
            continue
        data = {"csrf_token": token} if asked.method == "POST" else {}
        refused = stranger.opens(asked.path, asked.method, data=data)
        if asked.kind == SERVICE:
            assert refused.status_code == 404, asked
            continue
        assert refused.status_code == 302, asked
        assert refused.location.partition("?")[0] == "/login", asked
        headers = {"Accept": "application/json"}
        refused = stranger.opens(asked.path, asked.method, data=data, headers=headers)
        assert refused.status_code == 401
        headers = {"HX-Request": "true", "HX-Current-URL": "http://localhost/apps/x?from=y"}
        refused = stranger.opens(asked.path, asked.method, data=data, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["HX-Redirect"] == "/login?next=/apps/x?from%3Dy"


@pytest.mark.parametrize("shown", ["", "http://[", "//evil.example/x", "http://localhost", "x"])
def test_what_a_page_says_of_itself_leads_to_no_other_site(stranger: Browser, shown: str) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": shown}
    assert stranger.opens("/", headers=headers).headers["HX-Redirect"] == "/login"


def test_the_way_in_leads_back(stranger: Browser) -> None:
    where = stranger.opens("/apps/container_app?from=a%20b").location
    assert where == "/login?next=/apps/container_app?from%3Da%2520b"
    token = stranger.portal.token.new()
    assert stranger.opens(f"{where}&token={token}").location == "/apps/container_app?from=a%20b"


def test_health_needs_no_sign_in(stranger: Browser) -> None:
    assert stranger.opens("/healthz").text == "ok\n"


def test_an_audit_log_on_a_full_disk_is_told(settings: PortalSettings, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    ada = Browser(create_app(settings.model_copy(update={"audit_log": path})))
    ada.signs_in()
    assert "write down" not in ada.page("/").text
    path.unlink()
    path.symlink_to("/dev/full")
    ada.opens("/apps/no_such_app")
    assert "cannot write its audit log" in ada.page("/").text
    answer = ada.opens("/healthz")
    assert (answer.status_code, answer.text) == (503, "the audit log cannot be written\n")
    path.unlink()
    ada.opens("/apps/no_such_app")
    assert "write down" not in ada.page("/").text
    assert ada.opens("/healthz").status_code == 200


def state_changing(app: Flask) -> list[tuple[str, str]]:
    """The addresses that do something, each with its method."""
    asked = [one for one in addresses(app) if one.kind in (CHANGE, OPEN_CHANGE)]
    assert {one.method for one in asked} == {"POST", "PUT", "DELETE"}
    assert {one.method for one in addresses(app) if one.kind in (OPEN, PAGE)} == {"GET", "HEAD"}
    return sorted((one.path, one.method) for one in asked)


def test_every_change_needs_a_csrf_token_of_its_own_session(ada: Browser) -> None:
    another = Browser(ada.app).csrf_token
    for address, method in state_changing(ada.app):
        for data in ({}, {"csrf_token": ""}, {"csrf_token": another}):
            assert ada.opens(address, method, data=data).status_code == 400, address
    assert ada.opens("/").status_code == 200, "not even signed out"
    assert ada.sessions == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://["},
        {"Origin": ""},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=str,
)
def test_no_other_site_can_change_anything(ada: Browser, headers: dict[str, str]) -> None:
    token = {"csrf_token": ada.csrf_token}
    for address, method in state_changing(ada.app):
        assert ada.opens(address, method, data=token, headers=headers).status_code == 403, address
    assert ada.opens("/").status_code == 200, "not even signed out"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost"},
    ],
    ids=str,
)
def test_the_portals_own_pages_can(ada: Browser, headers: dict[str, str]) -> None:
    data = {"csrf_token": ada.csrf_token}
    assert ada.opens("/logout", "POST", data=data, headers=headers).location == "/login"


# ---- What every answer has


def test_what_runs_comes_from_the_portal_itself(ada: Browser) -> None:
    policy = dict(part.split(" ", 1) for part in CONTENT_SECURITY_POLICY.split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    html = ada.opens("/").text
    found = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(found) > 5
    assert all(address.startswith(("/", "#")) for address in found), found
    for address in found:
        if address.startswith("/static/"):
            answer = ada.opens(address.partition("#")[0])
            assert answer.status_code == 200
            assert "max-age=31536000" in answer.headers["Cache-Control"]


def test_without_a_wish_that_makes_sense_the_answer_is_a_page(ada: Browser, home: Path) -> None:
    (db(home) / ID).write_bytes(RECORD.completed(1_900_000_001).to_json())
    (context(home) / "output.log").write_text("a log")
    for accept in (None, "", "*/*", ";q=", "é", "application/json;q=0"):
        headers = {} if accept is None else {"Accept": accept}
        for path, status in (
            *(("/", 200), ("/apps", 200), ("/sessions", 200), (f"/sessions/{ID}", 200)),
            *((f"/sessions/{ID}/log", 200), ("/jobs", 200), ("/jobs/this_machine/9", 404)),
            *((f"/files/portal{home}", 200), ("/shell", 200), ("/no/such/page", 404)),
        ):
            answer = ada.opens(path, headers=headers)
            assert (answer.status_code, answer.mimetype) == (status, "text/html"), (accept, path)


def fails(error: Exception) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("path", "method", "status", "code", "sentence"),
    [
        ("/no/such/page", "GET", 404, "not-found", "Page not found."),
        ("/apps/nothing", "GET", 404, "not-found", "App not found."),
        (f"/sessions/{ID}", "GET", 404, "not-found", "Session not found."),
        ("/static/nothing.js", "GET", 404, "not-found", "Page not found."),
        ("/logout", "GET", 405, "method-not-allowed", "does not allow that action"),
        ("/", "DELETE", 405, "method-not-allowed", "does not allow that action"),
        ("/logout", "POST", 400, "stale-form", "Reload it"),
    ],
)
def test_an_error_is_one_sentence_in_every_form(
    ada: Browser, path: str, method: str, status: int, code: str, sentence: str
) -> None:
    page = ada.opens(path, method)
    assert (page.status_code, page.mimetype) == (status, "text/html")
    assert sentence in Page(page.text).text
    answer = ada.opens(path, method, headers={"Accept": "application/json"})
    assert answer.status_code == status
    assert answer.get_json()["error"]["code"] == code
    assert sentence in answer.get_json()["error"]["message"]
    fragment = ada.opens(path, method, headers={"HX-Request": "true", "Accept": "*/*"})
    assert (fragment.status_code, fragment.headers["HX-Retarget"]) == (status, "#page-problem")
    assert sentence in fragment.text
    assert "<html" not in fragment.text


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (RuntimeError("a secret detail"), 500, "Something went wrong in the portal."),
        (HostUnreachable("The host is away.", "a secret detail"), 503, "The host is away."),
    ],
)
def test_details_are_for_the_log_only(
    ada: Browser,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    sentence: str,
) -> None:
    monkeypatch.setattr(ada.portal, "board", fails(error))
    for headers in ({}, {"Accept": "application/json"}, {"HX-Request": "true"}):
        answer = ada.opens("/sessions", headers=headers)
        assert answer.status_code == status
        assert sentence in answer.text
        assert "secret detail" not in answer.text
    assert "a secret detail" in caplog.text


def test_too_much_at_once_is_refused(ada: Browser) -> None:
    answer = ada.posts(FORM, environment="x" * 2_000_000)
    assert answer.status_code == 413
    assert "too large for the portal" in answer.text


def test_a_portal_with_broken_parts_still_works(settings: PortalSettings, tmp_path: Path) -> None:
    (tmp_path / "broken.yml").write_text("v2: {job: {adapter: torque}}")
    (tmp_path / "login.yml").write_text("v2: {login: {host: h}}")
    browser = Browser(create_app(settings.model_copy(update={"clusters": tmp_path})))
    browser.signs_in()
    assert "No back-ends are available to you" in browser.page("/apps").text
    assert browser.opens(FORM).status_code == 200


# ---- The form


def test_the_form_is_prefilled(ada: Browser) -> None:
    fields = ada.page(FORM).fields
    del fields["csrf_token"]
    assert fields == {
        "cluster": "this_machine",
        "container_url": "localhost/hello-tre:1.0",
        "registry_username": "",
        "registry_token": "",
        "runner": "podman",
        "container_name": "",
        "cores": "1",
        "memory": "2",
        "runner_options": "",
        "environment": "",
        "container_arguments": "",
    }


def test_mistakes_are_told_beside_their_fields_and_nothing_typed_is_lost(ada: Browser) -> None:
    typed = {
        "container_url": f"https://{SCRIPT}",
        "registry_username": 'a:b "c"',
        "container_name": "-v  /",
        "cores": "none",
        "memory": "0",
        "gpu": "1",
        "runner": "apptainer",
        "runner_options": "\n'open\n  indented\n",
        "environment": "\n\nNO EQUALS\nA=b",
        "container_arguments": "-n Ada  \n\n",
    }
    answer = ada.submits(registry_token=TOKEN, **typed)
    page = Page(answer.text)
    assert answer.status_code == 422
    assert {name: page.fields[name] for name in typed} == typed
    assert page.mistakes.keys() == {
        *("container_url", "registry_username", "container_name", "cores", "memory"),
        *("runner_options", "environment", "registry_token"),
    }
    assert page.mistakes["environment"].startswith("Line 3 has no “=”")
    assert page.mistakes["registry_token"] == "Enter this again. It is never saved."
    assert page.fields["registry_token"] == ""
    assert 'aria-describedby="cores-help cores-mistake" aria-invalid="true"' in answer.text
    assert TOKEN not in "".join(ada.seen)
    assert ada.sessions == []


@pytest.mark.parametrize(
    ("typed", "field", "sentence"),
    [
        ({"cluster": "elsewhere"}, "cluster", "Choose one"),
        ({"cluster": ""}, "cluster", "Choose one"),
        ({"gpu": "1"}, "gpu", "This machine has no GPU"),
        ({"container_url": ""}, "container_url", "Fill in"),
        ({"runner": "docker"}, "runner", "Choose one"),
        ({"environment": "A=\0"}, "environment", "U+0000"),
        ({"registry_token": "a\nb"}, "registry_token", "one line"),
        ({"cores": "9" * 400}, "cores", "number"),
    ],
    ids=lambda it: str(it)[:40],
)
def test_the_server_has_the_last_word_on_a_form(
    ada: Browser, typed: dict[str, str], field: str, sentence: str
) -> None:
    answer = ada.submits(**typed)
    assert answer.status_code == 422
    assert sentence in Page(answer.text).mistakes[field]
    assert ada.sessions == []


def test_a_hidden_back_end_cannot_be_chosen(settings: PortalSettings, tmp_path: Path) -> None:
    for name, hidden in (("shown", "false"), ("hidden", "true")):
        text = f"v2: {{metadata: {{hidden: {hidden}}}, job: {{adapter: local}}}}"
        (tmp_path / f"{name}.yml").write_text(text)
    browser = Browser(create_app(settings.model_copy(update={"clusters": tmp_path})))
    browser.signs_in()
    assert "hidden" not in browser.page("/apps").text
    assert browser.page(FORM).fields["cluster"] == "shown"
    assert "Choose one" in Page(browser.submits(cluster="hidden").text).mistakes["cluster"]


@pytest.mark.parametrize("form", ["/apps/container_app", "/apps/jupyter_app"])
def test_the_form_shows_the_limits_of_the_chosen_back_end(
    settings: PortalSettings, tmp_path: Path, form: str
) -> None:
    portals = {"a": "max_cores: 8, max_memory_gib: 15, gpus: 0", "b": "max_cores: 4, gpus: 1"}
    for name, limits in portals.items():
        text = f"v2: {{job: {{adapter: slurm}}, custom: {{portal: {{{limits}}}}}}}"
        (tmp_path / f"{name}.yml").write_text(text)
    browser = Browser(create_app(settings.model_copy(update={"clusters": tmp_path})))
    browser.signs_in()

    def shown(html: str) -> tuple[list[str], bool]:
        fields = re.findall(r'<label for="(?:cores|memory)">([^<]*)|(?<= )(max="\d+")', html)
        gpu = re.search(r'<div class="field check [^>]*>\s*<input [^>]*name="gpu"', html)
        assert gpu
        return ["".join(found) for found in fields], "hidden" not in gpu[0]

    first = (["Cores (max 8)", 'max="8"', "Memory in GiB (max 15 GiB)", 'max="15"'], False)
    second = (["Cores (max 4)", 'max="4"', "Memory in GiB"], True)
    assert shown(browser.opens(form).text) == first
    for cluster, expected in (("a", first), ("b", second), ("gone", first)):
        typed = browser.page(form).fields | {"cluster": cluster, "cores": "9"}
        answer = browser.opens(form, "POST", data=typed)
        assert answer.status_code == 422
        assert shown(answer.text) == expected
        assert Page(answer.text).fields["cores"] == "9"
    refused = browser.opens(form, "POST", data=browser.page(form).fields | {"gpu": "1"})
    assert Page(refused.text).mistakes["gpu"].startswith("a has no GPU")
    assert shown(refused.text) == (first[0], True), "what is wrong can be seen"


@pytest.mark.parametrize(
    "field",
    [
        *("container_url", "registry_username", "container_name", "cores", "memory", "runner"),
        *("runner_options", "environment", "container_arguments", "registry_token", "gpu"),
        "cluster",
    ],
)
@pytest.mark.parametrize(
    "text", [SCRIPT, '"><script>alert(1)</script>', "'><img src=x onerror=a()>"]
)
def test_nothing_typed_becomes_markup_of_the_form(ada: Browser, field: str, text: str) -> None:
    answer = ada.submits(**{"container_name": "-", field: text})
    assert answer.status_code == 422
    assert text not in answer.text
    assert "<img" not in answer.text


def test_a_refusal_of_the_scheduler_is_told_in_the_form(
    ada: Browser, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """The local scheduler refuses nothing."""
    refused = fails(LaunchFailed(f"It says no to {SCRIPT}."))
    monkeypatch.setattr("ood.schedulers.local.Local.submit", refused)
    answer = ada.submits(container_name="kept", registry_token=TOKEN)
    page = Page(answer.text)
    assert answer.status_code == 422
    assert f"It says no to {SCRIPT}." in page.text
    assert page.fields["container_name"] == "kept"
    assert page.mistakes == {"registry_token": "Enter this again. It is never saved."}
    assert ada.sessions == []
    files = [path for path in home.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in files)


def test_the_sites_own_token_is_never_shown(settings: PortalSettings) -> None:
    own = {"container_app": {"registry_token": TOKEN, "container_url": "site.example/a/b:1"}}
    browser = Browser(create_app(settings.model_copy(update={"form_values": own})))
    browser.signs_in()
    page = browser.page(FORM)
    assert page.fields["container_url"] == "site.example/a/b:1"
    assert page.fields["registry_token"] == ""
    id = browser.launches()
    assert browser.watches(id)["outcome"] == "failed"
    browser.page("/sessions")
    browser.submits(cores="0")
    assert TOKEN not in "".join(browser.seen)


# ---- Cards


def test_a_session_from_launch_to_deletion(ada: Browser, home: Path) -> None:
    typed = {
        "container_name": "mine",
        "environment": f"A={SCRIPT}\r\nB='\"`$(id)",
        "container_arguments": f"-n '{SCRIPT}'",
        "runner_options": "--label '<b>&amp;</b>'",
        "registry_username": "<i>ada</i>",
    }
    id = ada.launches(registry_token=TOKEN, **typed)
    session = ada.watches(id)
    assert (session["outcome"], session["exit_code"]) == ("failed", 127)
    assert "ces-pull is not installed" in session["reason"]

    answer = ada.opens("/sessions")
    page = Page(answer.text)
    assert f'data-session-id="{id}" data-status="completed" data-outcome="failed"' in answer.text
    assert "ces-pull is not installed" in page.text
    for value in typed.values():
        assert value.replace("\r\n", "\n") in page.text
        assert not re.search(r"[<&]", value) or value not in answer.text
    assert "script.sh: ces-pull is not installed" in page.texts["#log-" + id]

    log = ada.opens(f"/sessions/{id}/log", headers={"Accept": "text/plain"})
    assert log.mimetype == "text/plain"
    assert "before.sh: JOB_FOLDER: " in log.text

    again = ada.posts(f"/sessions/{id}/relaunch")
    assert (again.status_code, again.location) == (303, f"{FORM}?from={id}")
    form = ada.page(again.location)
    assert {name: form.fields[name] for name in typed} == {
        name: value.replace("\r\n", "\n") for name, value in typed.items()
    }
    assert form.mistakes == {"registry_token": "Enter this again. It is never saved."}
    assert ada.page(FORM).fields["container_name"] == "mine", "it is kept for the next time"

    assert ada.posts(f"/sessions/{id}/delete").location == "/sessions"
    assert ada.sessions == []
    assert Path(session["context_directory"]).is_dir(), "the files stay"
    files = [path for path in home.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in files)
    assert TOKEN not in "".join(ada.seen)


def test_relaunch_without_secrets_launches_at_once(ada: Browser) -> None:
    id = ada.launches(container_arguments="-n Again", memory="1")
    ada.watches(id)
    assert ada.posts(f"/sessions/{id}/relaunch").location == "/sessions"
    (again,) = [session["id"] for session in ada.sessions if session["id"] != id]
    parameters = ada.page(f"/sessions/{again}").texts[f"#parameters-{again}"]
    assert "Memory in GiB1Use GPU?" in parameters
    assert "-n Again" in parameters
    ada.watches(again)


def test_relaunch_of_what_cannot_be_any_more_leads_to_the_form(ada: Browser, home: Path) -> None:
    (db(home) / ID).write_bytes(RECORD.completed(1_900_000_001).to_json())
    typed = {"cluster": "gone", "container_url": "r.example/a:1", "cores": "1", "memory": "1"}
    (context(home) / "user_defined_context.json").write_text(json.dumps(typed))
    assert ada.posts(f"/sessions/{ID}/relaunch").location == f"{FORM}?from={ID}"
    assert ada.page(f"{FORM}?from={ID}").fields["container_url"] == "r.example/a:1"


def test_json_has_the_facts(ada: Browser) -> None:
    id = ada.launches()
    session = ada.watches(id)
    assert ada.json("/sessions") == {"sessions": [session]}
    assert {name: type(value) for name, value in session.items()} == {
        "id": str,
        "app": str,
        "title": str,
        "cluster": str,
        "job_id": str,
        "status": str,
        "outcome": str,
        "exit_code": int,
        "reason": str,
        "host": str,
        "created_at": int,
        "time_limit": int,
        "time_remaining": type(session["time_remaining"]),
        "context_directory": str,
        "connect_url": type(None),
    }
    assert (session["app"], session["title"]) == ("container_app", "Run Container")
    assert (session["cluster"], session["job_id"]) == ("this_machine", "1")
    assert Path(session["context_directory"]).name == id


def test_a_poll_gets_only_what_is_new(ada: Browser, home: Path) -> None:
    id = ada.launches()
    ada.watches(id)
    html = ada.opens("/sessions").text
    have = re.findall(r'name="have" value="([^"]+)"', html)
    assert len(have) == 3
    poll = ada.polls(have)
    assert (poll.status_code, poll.text) == (204, "")
    poll = ada.polls(have[:-1])
    assert f'id="log-{id}" hx-swap-oob="true"' in poll.text
    assert "<article" not in poll.text
    other = replace(RECORD, created_at=5, job_id=None).completed(6)
    (db(home) / ID).write_bytes(other.to_json())
    poll = ada.polls(have)
    assert poll.headers["HX-Retarget"] == "#cards"
    assert poll.text.count("<article") == 2


@pytest.mark.parametrize("id", [ID, "x", "%2e%2e", "..%2f..%2fetc", ID.upper(), "<script>", "🚀"])
def test_what_is_not_there_is_not_found(ada: Browser, id: str) -> None:
    for path in (f"/sessions/{id}", f"/sessions/{id}/log", f"{FORM}?from={id}"):
        assert ada.opens(path).status_code == 404, path
    for verb in ("cancel", "delete", "relaunch"):
        assert ada.posts(f"/sessions/{id}/{verb}").status_code == 404, verb


def test_a_log_is_text_whatever_it_holds(ada: Browser, home: Path) -> None:
    (db(home) / ID).write_bytes(RECORD.completed(1_900_000_001).to_json())
    assert ada.opens(f"/sessions/{ID}/log").status_code == 404
    data = f"{SCRIPT}</pre>\0\x1b[31m".encode() + b"\xff\n" + b"x" * 3_000_000 + b"\nthe end\n"
    (context(home) / "output.log").write_bytes(data)
    page = ada.opens(f"/sessions/{ID}/log")
    assert "the end" in Page(page.text).texts["pre"]
    assert "Only the last part of this log is shown" in page.text
    text = ada.opens(f"/sessions/{ID}/log", headers={"Accept": "text/plain"})
    assert (text.data, text.content_type) == (data, "text/plain; charset=utf-8")


@pytest.mark.parametrize("path", ["/sessions", f"/sessions/{ID}", f"/sessions/{ID}/log"])
def test_nothing_in_a_log_becomes_markup(ada: Browser, home: Path, path: str) -> None:
    (db(home) / ID).write_bytes(RECORD.completed(1_900_000_001).to_json())
    (context(home) / "output.log").write_text(f"before </pre>{SCRIPT} after\n")
    answer = ada.opens(path)
    assert f"before </pre>{SCRIPT} after" in Page(answer.text).texts["pre"]
    assert SCRIPT not in answer.text


def test_a_log_that_is_a_link_is_none(ada: Browser, home: Path) -> None:
    (db(home) / ID).write_bytes(RECORD.completed(1_900_000_001).to_json())
    (context(home) / "output.log").symlink_to("/etc/passwd")
    for accept in ("text/html", "text/plain"):
        answer = ada.opens(f"/sessions/{ID}/log", headers={"Accept": accept})
        assert answer.status_code == 404


LONE = "\ud800"  # as JSON can hold it, and UTF-8 cannot
DEEP = "[" * 60_000
HOSTILE: list[tuple[str, Any]] = [
    ("record", {"title": SCRIPT}),
    ("record", {"title": LONE}),
    ("record", {"created_at": 10**18}),
    ("record", {"created_at": -(10**18)}),
    ("record", {"completed_at": "x", "cache_completed": "x", "script_type": [1]}),
    ("record", {"token": "sys/gone", "cluster_id": "gone"}),
    ("portal.json", {"outcome": "failed", "reason": SCRIPT, "host": SCRIPT}),
    ("portal.json", {"outcome": "failed", "reason": LONE, "host": LONE}),
    ("portal.json", {"outcome": "timed-out", "time_limit": -(10**30)}),
    ("portal.json", {"outcome": "failed", "exit_code": 10**4000}),
    ("portal.json", {"outcome": ["failed"]}),
    ("portal.json", DEEP),
    ("outcome.json", DEEP),
    ("outcome.json", {"exit_code": float("inf")}),
    ("failure", SCRIPT + "\x1b[31m\udcff."),
    ("outputs_directory", SCRIPT),
    ("user_defined_context.json", {SCRIPT: SCRIPT, "n": {"a": [None]}}),
    ("user_defined_context.json", {LONE: LONE}),
    ("user_defined_context.json", DEEP),
    ("job_script_options.json", {"output_path": LONE}),
    ("job_script_options.json", {"output_path": [SCRIPT]}),
    ("job_script_options.json", DEEP),
    ("started.json", {"job_id": "--all"}),
]


@pytest.mark.parametrize(("name", "content"), HOSTILE, ids=lambda it: ascii(it)[:60])
def test_no_file_in_a_home_directory_breaks_the_pages(
    ada: Browser, home: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: Any
) -> None:
    """Files there are the user's to change, and so are they any job's."""
    monkeypatch.setattr("ood.background.GOOD_FOR", 60)
    good = replace(RECORD, id=ID.replace("0123", "9999"), title="The other card").completed(5)
    (db(home) / good.id).write_bytes(good.to_json())
    record = replace(RECORD, job_id=None).to_json()
    if name == "record":
        record = json.dumps(json.loads(record) | content).encode()
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        (context(home) / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    (db(home) / ID).write_bytes(record)
    for _ in range(2):
        answer = ada.opens("/sessions")
        assert answer.status_code == 200
        assert "The other card" in answer.text
        assert SCRIPT not in answer.text
        assert good.id in {session["id"] for session in ada.sessions}
        assert ada.opens(f"/sessions/{ID}").status_code in (200, 404)
        assert ada.opens(f"{FORM}?from={ID}").status_code in (200, 404)


# ---- Words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "no limit"),
        (0, "less than a minute"),
        (1, "1 minute"),
        (60, "1 minute"),
        (61, "2 minutes"),
        (3600, "1 hour"),
        (7500, "2 hours 5 minutes"),
        (86_400, "1 day"),
        (97_261, "1 day 3 hours"),
        (86_460, "1 day 1 minute"),
    ],
)
def test_durations_in_words(seconds: int | None, words: str) -> None:
    assert duration(seconds) == words
