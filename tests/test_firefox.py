"""Run JupyterLab in Firefox, which is what most researchers have."""

from __future__ import annotations

import subprocess

from tests.conftest import ROOT, RunningPortal, wait_until
from tests.firefox import FirefoxPage

LAB = "#jp-main-dock-panel"
RUNS = """(async () => {
  const base = location.origin + location.pathname.split("/lab")[0];
  const kernel = await (await fetch(base + "/api/kernels", {method: "POST", body: "{}"})).json();
  const socket = new WebSocket(
    base.replace("http", "ws") + "/api/kernels/" + kernel.id + "/channels");
  await new Promise((done, failed) => { socket.onopen = done; socket.onerror = failed; });
  const header = {msg_id: "1", msg_type: "execute_request", version: "5.3", session: "x",
    username: "x"};
  const content = {code: "print(6 * 7)", silent: false};
  return await new Promise(done => {
    socket.onmessage = event => {
      const message = JSON.parse(event.data);
      if (message.msg_type === "stream") done(message.content.text);
    };
    socket.send(JSON.stringify(
      {header, content, channel: "shell", parent_header: {}, metadata: {}}));
  });
})()"""
"""https://jupyter-client.readthedocs.io/en/stable/messaging.html#execute"""


def signs_in(page: FirefoxPage, portal: RunningPortal) -> None:
    printed = portal.log.read_text().count("Open this address: ")
    page.goto(f"{portal.url}/login")
    page.clicks("main form button")
    wait_until(lambda: portal.log.read_text().count("Open this address: ") > printed)
    page.goto(portal.address)


def test_jupyterlab_in_firefox(embedded: RunningPortal, firefox_page: FirefoxPage) -> None:
    subprocess.run([ROOT / "ces/images/have", "jupyterlab"], check=True, timeout=600)
    page = firefox_page
    signs_in(page, embedded)
    page.goto(f"{embedded.url}/apps/jupyter_app")
    page.clicks("main form button[type=submit]")
    page.waits_for("document.querySelector('article.card')?.dataset.status === 'running'", 120)
    connect = "article.card a[href^='/node/']"
    for _ in range(2):  # and once more, after its tab was closed
        lab = page.opens(connect)
        lab.waits_for(f"document.querySelector('{LAB}') !== null", 60)
        session_id = page.evaluate("document.querySelector('article.card').dataset.sessionId")
        assert lab.url.startswith(f"http://{session_id}.localhost:{embedded.port}/node/")
        assert lab.evaluate(RUNS, 180) == "42\n"
        assert lab.evaluate("window.opener") is None
        kept = lab.url
        lab.closes()
    page.clicks("form.log-out button")
    page.waits_for("document.querySelector('form.log-out') === null")
    page.goto(kept)  # a bookmark
    assert "you are signed out" in page.text
    signs_in(page, embedded)
    page.goto(kept)
    page.waits_for(f"document.querySelector('{LAB}') !== null", 60)
    page.goto(f"{embedded.url}/sessions")
    cancel = "article.card button[id^=cancel-]"
    press = f'document.querySelector("#act").requestSubmit(document.querySelector("{cancel}"))'
    page.evaluate(f"void {press}")
    page.waits_for("document.querySelector('article.card')?.dataset.status === 'completed'", 30)
