"""Write Greetings, the worked example of docs/apps.md, on every kind of back-end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import Devcluster, RunningPortal
from tests.researcher import Researcher, accessible

NAME = re.compile(r"Your greeting is in (/\S+/(\d{8}-\d{6})-(\w+)-greetings\.txt) on (\S+)\.")
WITHOUT_PROJECT = (
    r"You have no project directory on \S+: /safe_data has no directory for any of your groups "
    r"\(.*\)\. Choose your home directory or another back-end"
)


def launches(researcher: Researcher, cluster: str, destination: str, outcome: str) -> Locator:
    researcher.page.goto(f"{researcher.portal.url}/apps/greetings_app")
    researcher.fills_in(cluster=cluster, destination=destination)
    card = researcher.presses_launch_and_sees_the_card()
    researcher.watches(card, "completed")
    expect(card).to_have_attribute("data-outcome", outcome)
    return card


def told_by(card: Locator) -> tuple[str, str, str]:
    """What the card says: path, user and host."""
    found = NAME.search(card.inner_text())
    assert found, card.inner_text()
    return found[1], found[3], found[4]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """The embedded default, with a home of its own, without the tools for containers."""
    home = tmp_path_factory.mktemp("home")
    portal = RunningPortal(home, {"HOME": str(home), "PATH": "/usr/bin:/bin"})
    portal.start()
    yield portal
    portal.stop()


def test_on_this_machine(page: Page, here: RunningPortal) -> None:
    ada = Researcher(page, here)
    ada.opens_the_address()
    card = launches(ada, "this_machine", "home", "succeeded")
    path, user, host = told_by(card)
    assert Path(path).parent == here.log.parent
    assert Path(path).read_text().startswith(f"Hello from {user} on {host} at 20")
    expect(card.locator("dl").first).to_contain_text("Your home directory ($HOME)")
    accessible(page, "write-greetings-card")
    if not Path("/safe_data").is_dir() or not any(Path("/safe_data").iterdir()):
        card = launches(ada, "this_machine", "project", "failed")
        assert re.search(WITHOUT_PROJECT, card.inner_text()), card.inner_text()
    assert ada.complaints == []


@pytest.mark.parametrize("cluster", ["desktop", "beta"])
def test_on_a_cluster(
    page: Page, site: RunningPortal, devcluster: Devcluster, cluster: str
) -> None:
    login = {"desktop": "alpha-login", "beta": "beta-login"}[cluster]
    runs_on = {"desktop": "desktop01", "beta": "beta-login"}[cluster]
    alice = Researcher(page, site)
    alice.signs_in("alice")
    for destination, directory in (("project", "/safe_data/trial"), ("home", "/home/alice")):
        path, user, host = told_by(launches(alice, cluster, destination, "succeeded"))
        assert (str(Path(path).parent), user, host) == (directory, "alice", runs_on)
        written = devcluster.as_user("alice", runs_on, f"cat {path}")
        assert written.startswith(f"Hello from alice on {runs_on} at 20")
    # What is in the home directory is found where the File Manager looks: on an unsynched
    # back-end, on its log-in host.
    assert devcluster.as_user("alice", login, f"cat {path}") == written
    host_in_address = "beta" if cluster == "beta" else "portal"
    page.goto(f"{site.url}/files/{host_in_address}{path}")
    expect(page.get_by_text(f"Hello from alice on {runs_on}")).to_be_visible()
    assert alice.complaints == []


@pytest.mark.parametrize("cluster", ["desktop", "beta"])
def test_without_a_project(page: Page, site: RunningPortal, cluster: str) -> None:
    bob = Researcher(page, site)
    bob.signs_in("bob")
    card = launches(bob, cluster, "project", "failed")
    assert re.search(WITHOUT_PROJECT, card.inner_text()), card.inner_text()
    card.get_by_role("link", name="What can I do?").click()
    expect(page).to_have_url(re.compile(r"/help/troubleshooting#safe-data$"))
    expect(page.locator("#safe-data")).to_be_in_viewport()


def test_a_file_that_is_there_is_never_overwritten(
    page: Page, site: RunningPortal, devcluster: Devcluster
) -> None:
    alice = Researcher(page, site)
    alice.signs_in("alice")
    devcluster.as_user("alice", "desktop01", "rm -f ~/*-greetings.txt")
    cards = []
    for _ in range(2):
        page.goto(f"{site.url}/apps/greetings_app")
        alice.fills_in(cluster="desktop", destination="home")
        cards.append(alice.presses_launch_and_sees_the_card())
    for card in cards:
        alice.watches(card, "completed")
    assert len({told_by(card)[0] for card in cards}) == 2
