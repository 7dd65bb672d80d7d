"""Who is signed in, for how long, and the address that works once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ood.auth.signins import OneTimeToken, SignIn, SignIns
from tests.helpers import Clock

IDLE_SECONDS = 8 * 3600
ABSOLUTE_SECONDS = 24 * 3600


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("ood.auth.signins.time", clock)
    return clock


class Door:
    """Sign-ins, and who is told to have left."""

    def __init__(self) -> None:
        self.left: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.sign_ins = SignIns(IDLE_SECONDS, ABSOLUTE_SECONDS, self._ended)

    def _ended(self, sign_in: SignIn, why: str, last: bool) -> None:
        self.ended.append((sign_in.user, why))
        if last:
            self.left.append(sign_in.user)

    def opens_for(self, user: str) -> SignIn:
        return self.sign_ins.add(user, frozenset(), "192.0.2.1")


@pytest.fixture
def door() -> Door:
    return Door()


def test_a_cookie_finds_its_own_sign_in_and_no_other(door: Door) -> None:
    ada, bob = door.opens_for("ada"), door.opens_for("bob")
    assert door.sign_ins.find(ada.id) is ada
    assert ada.id != bob.id
    assert len(ada.id) >= 32
    assert door.sign_ins.find("") is None
    assert door.sign_ins.find(ada.id[:-1]) is None
    assert door.sign_ins.find("ada") is None


def test_signing_out_in_the_last_browser_is_leaving(door: Door) -> None:
    first, second = door.opens_for("ada"), door.opens_for("ada")
    door.sign_ins.remove(first.id, "signed out")
    assert door.sign_ins.find(first.id) is None
    assert door.sign_ins.find(second.id) is second
    assert door.left == []
    door.sign_ins.remove(second.id, "signed out")
    assert door.left == ["ada"]
    door.sign_ins.remove(second.id, "signed out")
    assert door.left == ["ada"]


def test_idle_sign_ins_end(door: Door, clock: Clock) -> None:
    ada = door.opens_for("ada")
    clock.now += IDLE_SECONDS
    assert door.sign_ins.find(ada.id) is ada
    clock.now += IDLE_SECONDS
    assert door.sign_ins.find(ada.id) is ada, "the clock starts again at each request"
    clock.now += IDLE_SECONDS + 1
    assert door.sign_ins.find(ada.id) is None
    assert door.left == []
    door.sign_ins.end_expired()
    assert door.left == ["ada"], "whether or not anybody asks"
    assert door.ended == [("ada", "expired")]


def test_what_a_page_asks_by_itself_is_no_sign_of_life(door: Door, clock: Clock) -> None:
    ada = door.opens_for("ada")
    for _ in range(8):
        clock.now += IDLE_SECONDS / 8
        assert door.sign_ins.find(ada.id, sign_of_life=False) is ada
    clock.now += 1
    assert door.sign_ins.find(ada.id, sign_of_life=False) is None


def test_no_sign_in_outlives_a_day(door: Door, clock: Clock) -> None:
    ada = door.opens_for("ada")
    for _ in range(int(ABSOLUTE_SECONDS / 3600)):
        clock.now += 3600
        assert door.sign_ins.find(ada.id) is ada
    clock.now += 1
    assert door.sign_ins.find(ada.id) is None


def test_who_has_another_sign_in_has_not_left(door: Door, clock: Clock) -> None:
    door.opens_for("ada")
    door.opens_for("bob")
    clock.now += IDLE_SECONDS + 1
    door.opens_for("ada")
    door.sign_ins.end_expired()
    assert door.left == ["bob"]


def test_a_token_works_once() -> None:
    door = OneTimeToken()
    token = door.new()
    assert len(token) >= 32
    assert not door.use(token + "x")
    assert not door.use(token[:-1])
    assert door.use(token)
    assert not door.use(token)


def test_without_a_token_nothing_works() -> None:
    assert not any(map(OneTimeToken().use, ("", "None", "é", "\udce9")))


def test_a_new_token_ends_the_one_before() -> None:
    door = OneTimeToken()
    old, new = door.new(), door.new()
    assert not door.use(old)
    assert door.use(new)


@pytest.mark.parametrize("given", ["", "é", "\udce9", "x" * 100_000])
def test_anything_may_be_given_as_a_token(given: str) -> None:
    door = OneTimeToken()
    token = door.new()
    assert not door.use(given)
    assert door.use(token), "a wrong guess does not use it up"


def test_of_many_browsers_at_once_one_gets_in() -> None:
    door = OneTimeToken()
    token = door.new()
    with ThreadPoolExecutor(16) as browsers:
        assert sum(browsers.map(door.use, [token] * 64)) == 1
