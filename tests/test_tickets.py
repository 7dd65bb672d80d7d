"""Who may enter which service, and what keeps a service's page to its session: the pure parts."""

from __future__ import annotations

import pytest

from ood.auth.signins import SignIn, SignIns
from ood.errors import NotFound
from ood.proxy import tickets as tickets_module
from ood.proxy.fence import fenced, from_another_session, policy, stays
from ood.proxy.headers import to_browser, to_service
from ood.proxy.origins import ServiceOrigins
from ood.proxy.tickets import TICKET_SECONDS, Admission, Grant, Tickets, new_nonce, state_of
from tests.helpers import Clock

ID = "01234567-89ab-4cde-8f01-23456789abcd"
OTHER = "89abcdef-0123-4567-89ab-cdef01234567"


class Room:
    """Tickets and the sign-ins they are for."""

    def __init__(self) -> None:
        self.sign_ins = SignIns(3600, 3600, lambda *_: None)
        self.tickets = Tickets(self.sign_ins)

    def signs_in(self, user: str) -> SignIn:
        return self.sign_ins.add(user, frozenset(), "")

    def admits(
        self, sign_in: SignIn, *cookies: str, session: str = ID, origin: str = "apps"
    ) -> Admission:
        nonce = new_nonce()
        ticket = self.tickets.issue(Grant(sign_in, session), state_of(nonce), f"/node/{session}/")
        return self.tickets.exchange(ticket, origin, [nonce], cookies)

    def enters(self, sign_in: SignIn, *cookies: str, session: str = ID, origin: str = "a") -> str:
        return self.admits(sign_in, *cookies, session=session, origin=origin).cookie

    def lets(self, *cookies: str, session: str = ID) -> str:
        """The user whom these cookies let into a session."""
        found = self.tickets.find(cookies, session, sign_of_life=False)
        return found.user if found else ""


@pytest.fixture
def room() -> Room:
    return Room()


def test_a_ticket_expires(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(tickets_module, "time", clock)
    grant, nonce = Grant(room.signs_in("alice"), ID), new_nonce()
    late, in_time = (room.tickets.issue(grant, state_of(nonce), "/node/id/") for _ in range(2))
    assert TICKET_SECONDS == 30
    clock.now += 29.9
    assert room.tickets.exchange(in_time, "apps", [nonce], []).grant == grant
    clock.now += 0.1
    with pytest.raises(NotFound):
        room.tickets.exchange(late, "apps", [nonce], [])


def test_a_ticket_is_for_the_browser_with_its_nonce_and_used_up_by_any(room: Room) -> None:
    grant, nonce = Grant(room.signs_in("alice"), ID), new_nonce()
    for nonces in ([], [new_nonce()], [state_of(nonce)], [""]):
        ticket = room.tickets.issue(grant, state_of(nonce), "/")
        for brought in (nonces, [nonce]):
            with pytest.raises(NotFound, match="expired"):
                room.tickets.exchange(ticket, "apps", brought, [])
    ticket = room.tickets.issue(grant, state_of(nonce), "/")
    assert room.tickets.exchange(ticket, "apps", [new_nonce(), nonce], []).grant == grant


def test_a_ticket_ends_with_its_sign_in(room: Room) -> None:
    alice, nonce = room.signs_in("alice"), new_nonce()
    ticket = room.tickets.issue(Grant(alice, ID), state_of(nonce), "/")
    room.sign_ins.remove(alice.id, "signed out")
    with pytest.raises(NotFound):
        room.tickets.exchange(ticket, "apps", [nonce], [])


def test_a_browser_has_one_cookie_for_all_sessions_of_an_origin(room: Room) -> None:
    alice = room.signs_in("alice")
    cookie = room.enters(alice)
    assert room.lets(cookie) == "alice"
    assert room.lets(cookie, session=OTHER) == ""
    assert room.enters(alice, cookie, session=OTHER) == cookie
    assert room.lets(cookie) == room.lets(cookie, session=OTHER) == "alice"
    assert room.enters(alice) == cookie  # from another tab, at the same time
    assert room.enters(alice, origin="b") != cookie
    assert room.enters(room.signs_in("alice")) != cookie  # another browser
    room.sign_ins.remove(alice.id, "signed out")
    assert room.lets(cookie) == ""


def test_an_origin_is_one_users_at_a_time(room: Room) -> None:
    alice, bob = room.signs_in("alice"), room.signs_in("bob")
    first = room.enters(alice)
    theirs = room.enters(bob)  # in another browser, even to a session of the same id
    for cookies in ((first, theirs), (theirs, first)):
        with pytest.raises(NotFound, match="Another user"):
            room.lets(*cookies)
    assert room.lets("planted", first, "") == "alice"
    again = room.enters(bob, first)  # in alice's browser, which ends her entry there
    assert (room.lets(first), room.lets(again)) == ("", "bob")


def test_signing_in_again_replaces_the_earlier_entries(room: Room) -> None:
    cookie = room.enters(room.signs_in("alice"))
    again = room.enters(room.signs_in("alice"), cookie)
    assert again != cookie
    assert (room.lets(cookie), room.lets(again)) == ("", "alice")


def test_what_is_left_in_a_browser_is_kept_for_the_same_user_only(room: Room) -> None:
    def is_new(user: str, *cookies: str) -> bool:
        return room.admits(room.signs_in(user), *cookies).new_user

    alice = room.signs_in("alice")
    cookie = room.enters(alice)
    assert is_new("alice")  # nobody knows whose browser it was
    assert not room.admits(alice, origin="a").new_user  # another tab, a moment later
    room.sign_ins.remove(alice.id, "signed out")
    assert not is_new("alice", cookie)
    assert is_new("bob", cookie)
    assert is_new("alice", cookie, "planted")
    for forged in ("", ".", f"x.{cookie.partition('.')[2]}", f"{cookie.partition('.')[0]}.x"):
        assert is_new("alice", forged)


def test_tabs_that_enter_at_once_each_use_their_own_nonce(room: Room) -> None:
    alice, nonces = room.signs_in("alice"), [new_nonce(), new_nonce()]
    issued = [room.tickets.issue(Grant(alice, ID), state_of(nonce), "/") for nonce in nonces]
    for ticket, nonce in zip(issued, nonces, strict=True):
        assert room.tickets.exchange(ticket, "apps", nonces, []).state == state_of(nonce)


def test_each_session_has_an_origin_of_its_own() -> None:
    origins = ServiceOrigins("https://*.Apps.example:8443")
    assert not origins.shared
    assert origins.of(ID) == f"https://{ID}.apps.example:8443"
    assert origins.serve(f"{ID.upper()}.apps.example:8443", ID)
    for host in (
        *(f"{OTHER}.apps.example:8443", f"{ID}.apps.example", "apps.example:8443"),
        *(f"x.{ID}.apps.example:8443", f"{ID}.apps.example:8443.evil.example", ""),
    ):
        assert not origins.serve(host, ID)
    for host, is_theirs in (
        (f"{ID}.apps.example:8443", True),
        ("anything.apps.example:8443", True),
        (f"x.{ID}.APPS.example:8443", True),
        ("apps.example:8443", True),
        ("apps.example", False),
        ("portal.example", False),
        ("evilapps.example:8443", False),
    ):
        assert origins.hold(host) is is_theirs, host


def test_one_origin_for_all() -> None:
    origins = ServiceOrigins("https://apps.example")
    assert origins.shared
    assert origins.of(ID) == origins.of(OTHER) == "https://apps.example"
    assert origins.hold("APPS.example")
    assert origins.serve("apps.example", ID)
    assert not origins.hold(f"{ID}.apps.example")
    assert not origins.serve("portal.example", ID)


def test_where_browsers_take_secure_cookies() -> None:
    for origin in ("https://apps.example", "https://*.a.example:444", "http://*.localhost:8000"):
        assert ServiceOrigins(origin).secure, origin
    assert ServiceOrigins("http://localhost:1").secure
    for origin in ("http://apps.example", "http://*.apps.example", "http://evillocalhost"):
        assert not ServiceOrigins(origin).secure, origin


BASE = f"https://apps.example/node/{ID}/"


@pytest.mark.parametrize(
    "location",
    [
        *("", "x", "x/y?z=1#f", "?a=b", "./x", "../x", f"/node/{ID}/lab", f"{BASE}lab"),
        *("https://elsewhere.example/node/x/", "//elsewhere.example/", "http://x.apps.example/"),
    ],
)
def test_redirects_within_a_session_or_elsewhere(location: str) -> None:
    assert stays(location, f"{BASE}deep/page", BASE)


@pytest.mark.parametrize(
    "location",
    [
        *("/", "/enter?code=x", "/node/", f"/node/{OTHER}/", f"/node/{ID}", f"/node/{ID}x/"),
        *("../../x", f"../../../{OTHER}/", f"/node/{ID}/../{OTHER}/", f"/node/{ID}/%2e%2E/x"),
        *(f"/node/{ID}/.%2e/x", f"https://apps.example/node/{OTHER}/", "//apps.example/x"),
        *("https://APPS.example:443/", "http://apps.example/x", "https://apps.example:444/"),
        *("https:/node/x/", "https:node", "HTTPS:\\\\apps.example"),
        *("/\\apps.example/", "\t/x", f" /node/{OTHER}/", "https://x@apps.example/"),
        *("https://app%73.example/", "https://ａpps.example/", "https://apps.example:x/", "//["),
    ],
)
def test_redirects_that_browsers_may_take_to_another_session(location: str) -> None:
    assert not stays(location, f"{BASE}deep/page", BASE)


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (f"http://{host}/node/{ID}/b?c=//d#e", f"/node/{ID}/b?c=//d#e")
        for host in (
            *("id.apps.example", "apps.example:8443", "localhost:5000", "127.0.0.1", "[::1]:5000"),
            *("gpu01", "gpu01.cluster.example:5000", "0.0.0.0:5000", "user:pw@GPU01:5000"),
        )
    ]
    + [
        (f"HTTPS://apps.example/node/{ID}/", f"/node/{ID}/"),
        (f"//gpu01:5000/node/{ID}", f"/node/{ID}"),
        (f"http://gpu01/node/{ID}/%2e%2e/x", f"/node/{ID}/%2e%2e/x"),  # see `stays`
        *(
            (unchanged, unchanged)
            for unchanged in (
                *("", "x", f"/node/{ID}/x", "http://localhost:5000/lab", "//evil.example//x"),
                *(f"http://gpu01/node/{OTHER}/x", f"http://gpu01/node/{ID}x", f"x//y/node/{ID}/"),
                *(f"https://idp.example/?to=http://gpu01/node/{ID}/", f"ftp://x/node/{ID}/"),
                *(f"http://evil.example//x/node/{ID}/", f"http:\\\\gpu01/node/{ID}/"),
            )
        ),
    ],
)
def test_addresses_of_the_services_own_lose_their_origin(given: str, passed: str) -> None:
    for name in ("Location", "content-location"):
        assert to_browser([(name, given)], f"/node/{ID}/") == [(name, passed)]
    for form in ("0;url={}", "5; URL='{}'", "0, url={}"):
        refresh = form.format(given), form.format(passed)
        assert to_browser([("Refresh", refresh[0])], f"/node/{ID}/") == [("Refresh", refresh[1])]


def test_the_policy_names_the_sessions_path_only() -> None:
    directives = dict(one.split(" ", 1) for one in policy(BASE).split("; "))
    assert directives["connect-src"] == f"{BASE} wss{BASE.removeprefix('https')} data: blob:"
    for name in ("default-src", "form-action", "base-uri"):
        assert directives[name].split()[0] == BASE
    assert policy(BASE).count("apps.example") == policy(BASE).count(f"apps.example/node/{ID}/")


@pytest.mark.parametrize("shared", [True, False])
def test_browsers_ask_again_unless_the_service_says_otherwise(shared: bool) -> None:
    def kept(*given: tuple[str, str]) -> list[str]:
        headers = fenced(list(given), "https://apps.example/node/x/", shared)
        return [value for name, value in headers if name.lower() == "cache-control"]

    assert kept(("ETag", '"1"')) == ["private, no-cache"]
    assert kept(("cache-control", "max-age=60")) == ["max-age=60"]
    assert kept(("EXPIRES", "Thu, 01 Jan 2026 00:00:00 GMT")) == []


def test_referrers() -> None:
    for referrer, other in (
        *((None, False), (BASE, False), (f"{BASE}lab?x", False)),
        *((f"https://apps.example/node/{OTHER}/lab", True), ("https://apps.example/", True)),
    ):
        assert from_another_session(referrer, BASE) is other


@pytest.mark.parametrize(
    "cookie",
    [
        *("ood_node=x", "OOD_Node=x", " ood_node =x", "__Host-ood_node=x", "__secure-ood_node=x"),
        *("__Host-Http-ood_node=x", "__HTTP-ood_enter_01=x"),
        *("ood_enter_0123=x", "ood_portal=x", "ood_anything=x", "=ood_node=x", " = x", "ood_node"),
    ],
)
def test_services_set_no_cookie_of_the_portals(cookie: str) -> None:
    """One without a name comes back as its value (RFC 6265bis, 5.6)."""
    assert to_browser([("Set-Cookie", f"{cookie}; Path=/")], f"/node/{ID}/") == []


def test_services_see_no_cookie_of_the_portals() -> None:
    sent = ["a=1", "ood_node=x", "__Host-ood_node=x", "ood_enter_01=x", "=x", "OOD_NODE=x", "b=2"]
    assert to_service([("Cookie", "; ".join(sent))], {}) == [("Cookie", "a=1; b=2")]
