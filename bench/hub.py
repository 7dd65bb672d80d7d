"""JupyterHub's home page, for comparison: the server's own time for it, without its proxy.

JupyterHub is installed in a temporary directory.
"""

from __future__ import annotations

import http.cookiejar
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

CONFIG = """
from jupyterhub.proxy import Proxy

class NoProxy(Proxy):
    should_start = False
    async def get_all_routes(self): return {{}}
    async def add_route(self, routespec, target, data): pass
    async def delete_route(self, routespec): pass

c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.db_url = "sqlite:///:memory:"
c.JupyterHub.cookie_secret_file = "{directory}/cookie_secret"
c.JupyterHub.log_level = "INFO"
"""
SERVED = re.compile(r" 200 GET /hub/home \(\S+\) ([\d.]+)ms")


def hub_times(directory: Path, seconds: float) -> list[float] | str:
    """Seconds that the Hub took for each home page, or the reason why it could not be measured."""
    home = directory / "hub"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    install = [f"{home}/bin/pip", "install", "-q", "jupyterhub"]
    if subprocess.run(install, capture_output=True).returncode != 0:
        return "it could not be installed here"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (home / "config.py").write_text(CONFIG.format(port=port, directory=home))
    log = home / "hub.log"
    with log.open("wb") as output:
        hub = subprocess.Popen(
            [home / "bin/python", "-m", "jupyterhub", "-f", home / "config.py"],
            cwd=home,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": f"{home}/bin:{os.environ['PATH']}"},
        )
    try:
        ask_for_home(f"http://127.0.0.1:{port}", seconds)
    except OSError as error:
        return f"it did not answer: {error}: {log.read_text()[-500:]}"
    finally:
        hub.terminate()
        hub.wait(20)
    return [float(found) / 1000 for found in SERVED.findall(log.read_text())]


def ask_for_home(url: str, seconds: float) -> None:
    """Sign in, and request the home page as often as `bench/pages.py` requests the portal's."""
    cookies = http.cookiejar.CookieJar()
    browser = build_opener(HTTPCookieProcessor(cookies))
    deadline = time.monotonic() + 60
    while True:
        try:
            browser.open(f"{url}/hub/login", timeout=10).read()
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    token = next(cookie.value for cookie in cookies if cookie.name == "_xsrf") or ""
    form = urlencode({"username": "ada", "password": "x", "_xsrf": token}).encode()
    browser.open(f"{url}/hub/login?next=%2Fhub%2Fhome", form, timeout=20).read()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        browser.open(f"{url}/hub/home", timeout=20).read()
        time.sleep(0.1)
