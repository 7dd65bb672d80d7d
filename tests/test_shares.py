"""What one user's requests wait for does not delay the requests of others."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from ood.errors import Busy
from ood.quotas import Quota
from tests.conftest import SLOW, Devcluster, RunningPortal, wait_until
from tests.webuser import WebUser

MANY = 70


def test_few_may_wait_for_one_users_slots() -> None:
    quota = Quota(each=1, total=9, waiting=2)
    quota.take("a")
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(quota.take, "a", 60) for _ in range(2)]
        wait_until(lambda: quota.waiting("a") == 2, 10)
        with pytest.raises(Busy):
            quota.take("a", 60)
        quota.take("b", 60)
        for number in range(2):
            quota.give_back("a")
            wait_until(lambda number=number: sum(each.done() for each in waiting) > number, 10)


@contextmanager
def stopped(site: Devcluster, user: str) -> Iterator[None]:
    """Stop the processes of a user's connections to the portal host: they answer nothing."""
    site.host("portal-host", "pkill", "-STOP", "-u", user, "sshd")
    try:
        yield
    finally:
        site.host("portal-host", "pkill", "-CONT", "-u", user, check=False)


def answers_at_once(user: WebUser) -> None:
    for path in ("/", "/sessions", "/apps/container_app", "/files/portal/etc/ssh"):
        began = time.monotonic()
        answer, text = user.request("GET", path)
        assert answer.status == 200, text
        assert time.monotonic() - began < 5, path


@SLOW
def test_a_host_that_hangs_for_one_user(
    start_site: Callable[..., RunningPortal], devcluster: Devcluster
) -> None:
    portal = start_site()
    one, other = WebUser(portal, "user43"), WebUser(portal, "user44")
    answers_at_once(other)
    one.request("GET", "/files/portal/etc")

    def asks(number: int) -> tuple[int, str | None]:
        answer, _ = one.request("GET", f"/files/portal/etc/none-{number}")
        return answer.status, answer.getheader("Retry-After")

    with stopped(devcluster, "user43"), ThreadPoolExecutor(MANY) as threads:
        asked = [threads.submit(asks, number) for number in range(MANY)]
        wait_until(lambda: any(each.done() for each in asked), 30)
        answers_at_once(other)
        assert not all(each.done() for each in asked)
        found = Counter(each.result() for each in asked)
    assert found[503, "3"] >= MANY - 24
    assert {status for status, _ in found} <= {503, 504}


@SLOW
def test_downloads_that_nobody_reads(
    start_site: Callable[..., RunningPortal], devcluster: Devcluster
) -> None:
    portal = start_site()
    one, other = WebUser(portal, "user43"), WebUser(portal, "user44")
    devcluster.as_user("user43", "portal-host", "truncate -s 1G large")
    with ExitStack() as undo:
        undo.callback(devcluster.as_user, "user43", "portal-host", "rm large")
        for _ in range(MANY):
            reader = undo.enter_context(socket.create_connection(("127.0.0.1", portal.port)))
            path = "/files/portal/home/user43/large?download=1"
            reader.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{portal.port}\r\n"
                f"Cookie: {one.cookie}\r\n\r\n".encode()
            )
        for _ in range(3):
            answers_at_once(other)
            time.sleep(1)  # they begin meanwhile


@SLOW
def test_a_share_is_given_back(start_site: Callable[..., RunningPortal]) -> None:
    """After more requests than a share has, of each kind."""
    user = WebUser(start_site(), "user44")
    paths = ("/", "/none", "/files/portal/etc/hostname?download=1", "/files/portal/etc/shadow")
    for path in paths * 30:
        assert user.request("GET", path)[0].status in (200, 403, 404)
