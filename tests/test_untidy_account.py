"""The whole portal as an account that has everything: see eve in devcluster/README.md."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Devcluster, RunningPortal
from tests.researcher import HELLO, Researcher
from tests.shells import Line
from tests.test_accounts import LOGIN_SHELLS, account_of
from tests.test_archives import asks
from tests.test_run_container import saw_hello
from tests.test_transfers import Copier
from tests.test_uploads import Place, Uploader
from tests.webuser import WebUser

HOME = "/srv/u/eve"
DATA = bytes(range(256)) * 8192


@pytest.fixture
def eve(page: Page, site: RunningPortal) -> Iterator[Researcher]:
    researcher = Researcher(page, site)
    researcher.signs_in("eve")
    yield researcher
    assert researcher.complaints == []


@pytest.mark.parametrize("cluster", ["desktop", "beta"])
def test_run_container(eve: Researcher, cluster: str) -> None:
    card = eve.launches(cluster=cluster, registry_token="reg-alice", **HELLO)
    said = eve.watches(card, "completed")
    assert said[-1] == "completed", said
    assert card.get_attribute("data-outcome") == "succeeded", card.inner_text()
    saw_hello(eve.reads_the_log(card))
    expect(card).to_contain_text("Job context directory")
    assert str(eve.context_directory(card)).startswith(f"{HOME}/ondemand/")


def test_run_jupyterlab(eve: Researcher, devcluster: Devcluster) -> None:
    card = eve.launches_jupyterlab(cluster="gpu")
    eve.watches(card, "running", 120)
    lab = eve.connects(card)
    lab.opens_a_notebook()
    expect(lab.runs("print(6 * 7)")).to_contain_text("42")
    lab.page.close()
    eve.page.goto(f"{eve.portal.url}/jobs")
    job = devcluster.as_user("alice", "alpha-login", "squeue -h -u eve -p gpu -o %i").strip()
    row = eve.page.locator(f"tr[data-cluster=gpu][data-job-id='{job}']")
    expect(row).to_have_attribute("data-status", "running")
    eve.page.goto(f"{eve.portal.url}/sessions")
    card.get_by_role("button", name="Cancel").click()
    eve.watches(card, "completed", 30)
    assert card.get_attribute("data-outcome") == "cancelled"


def uses_files(web: WebUser, home: str, host: str) -> None:
    """Upload, list, view, download, pack, edit, copy and delete."""
    uploader = Uploader(web, home, host)
    assert uploader.uploads("data.bin", DATA, "replace")[0] in (200, 201)
    assert uploader.uploads("text", b"one\ntwo\n", "replace")[0] in (200, 201)
    address = f"/files/{host}{quote(home)}"
    answer, page = web.request("GET", address)
    assert (answer.status, 'data-name="data.bin"' in page) == (200, True)
    assert b"".join(web.downloads(f"{address}/data.bin?download=1")) == DATA
    answer, text = web.request("GET", f"{address}/text?download=1", Range="bytes=2-5")
    assert (answer.status, text) == (206, "e\ntw")
    answer, page = web.request("GET", f"{address}/text")
    assert "one\ntwo" in page
    place = Place(lambda _script: "", home, uploader)
    with zipfile.ZipFile(io.BytesIO(asks(place, b"data.bin", b"text").read())) as archive:
        assert archive.read("data.bin") == DATA
    delete = {"action": "delete", "name": "data.bin"}
    _, page = web.post(address, delete, address)
    found = re.search(r'name="sure" value="(\w+)"', page)
    assert found, page
    assert web.post(address, {**delete, "sure": found[1]}, address)[0] in (200, 303)
    assert web.request("GET", f"{address}/data.bin")[0].status == 404


@pytest.mark.parametrize("user", ["eve", *LOGIN_SHELLS])
def test_files(site: RunningPortal, devcluster: Devcluster, user: str) -> None:
    with account_of(user, devcluster) as account:
        if user in LOGIN_SHELLS:
            account.starts_with("echo hello", LOGIN_SHELLS[user])
        web = WebUser(site, user)
        home = account.host.home
        assert home == (HOME if user == "eve" else f"/home/{user}")
        for host in ("portal", "beta"):
            uses_files(web, home, host)
        account.host.run(["mkdir", f"{home}/copied"])
        copier = Copier(web)
        status, said = copier.goes(f"portal{home}", "text", to=f"{home}/copied", to_host="portal")
        assert status in (200, 303), said
        assert "text" in copier.waits()


def test_shells(site: RunningPortal) -> None:
    web = WebUser(site, "eve")
    for path in ("/shell/desktop", f"/shell/desktop{HOME}", "/shell/beta/usr"):
        with Line(web, path) as line:
            line.until("Welcome to")
            line.type("echo dir=`pwd`=\n")
            line.until("dir=/tmp=")  # her start-up file goes there
            line.type("exit\n")
