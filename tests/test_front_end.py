"""The portal behind nginx, by the site's own example: deploy/nginx.conf, with other names."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import ROOT, RunningPortal

ID = "01234567-89ab-4cde-8f01-23456789abcd"
PORTAL, APPS = "ondemand.north.example", f"{ID}.apps.ondemand.north.example"
SETTINGS = """\
auth: {auth}
portal_host: 127.0.0.1:1
known_hosts: known_hosts
front_ends: [unix]
portal_origin: https://{portal}
apps_origin: https://*.{apps}
audit_log: audit.log
"""
BY_HEADER = "credentials: certificate\nuser_ca: user_ca\n"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


class Front:
    """A portal on a Unix socket, and nginx before it."""

    def __init__(self, directory: Path, auth: str, change: Callable[[str], str]) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        apps = APPS.partition(".")[2]
        settings = SETTINGS.format(
            auth=auth, portal=f"{PORTAL}:{self.port}", apps=f"{apps}:{self.port}"
        )
        _make_key(directory / "user_ca")
        (directory / "known_hosts").touch()
        (directory / "clusters.d").mkdir()
        (directory / "portal.yml").write_text(settings + (BY_HEADER if auth == "header" else ""))
        self.portal = RunningPortal(
            directory,
            {
                "OOD_PORTAL_CONFIG": str(directory / "portal.yml"),
                "GUNICORN_CMD_ARGS": f"--bind unix:{directory}/portal.sock",
            },
        )
        self.portal.answers = self.answers  # type: ignore[method-assign]
        self.configuration = self._configure(change)

    def _configure(self, change: Callable[[str], str]) -> Path:
        site = change((ROOT / "deploy/nginx.conf").read_text())
        site = re.sub(
            r"^ *listen 80;$", f"    listen unix:{self.directory}/plain.sock;", site, flags=re.M
        )
        site = site.replace("listen 443", f"listen 127.0.0.1:{self.port}")
        site = site.replace("/run/ood-portal/", f"{self.directory}/")
        site = site.replace("/etc/ssl/ood/", f"{self.directory}/")
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        kept = "".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in kinds)
        file = self.directory / "nginx.conf"
        file.write_text(
            f"user root; daemon off; pid {self.directory}/pid; worker_processes 1; events {{}}\n"
            f"error_log stderr; http {{ access_log off; {kept}\n{site}\n}}\n"
        )
        return file

    def nginx(self, *argv: str) -> list[str]:
        return ["/usr/sbin/nginx", "-c", str(self.configuration), *argv]

    def line(self) -> ssl.SSLSocket:
        """A browser's connection."""
        context = ssl.create_default_context(cafile=self.directory / "fullchain.pem")
        plain = socket.create_connection(("127.0.0.1", self.port), 20)
        return context.wrap_socket(plain, server_hostname=PORTAL)

    def ask(
        self, host: str, path: str, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, str]:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port)
        try:
            connection.sock = self.line()
            connection.request(
                "GET", path, headers={"Host": f"{host}:{self.port}", **(headers or {})}
            )
            answer = connection.getresponse()
            return answer, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            return self.ask(PORTAL, "/healthz")[0].status == 200
        except OSError:
            return False

    def told(self) -> dict[str, str]:
        """The last line of the audit log."""
        return dict(json.loads((self.directory / "audit.log").read_text().splitlines()[-1]))


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def _unchanged(site: str) -> str:
    return site


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={PORTAL}"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-addext", f"subjectAltName=DNS:{PORTAL},DNS:*.{APPS.partition('.')[2]}"),
            *("-keyout", str(directory / "privkey.pem")),
            *("-out", str(directory / "fullchain.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return directory


@pytest.fixture(scope="module")
def started(
    certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Front]]:
    """Start a portal behind nginx."""
    with ExitStack() as running:

        def start(auth: str, change: Callable[[str], str] = _unchanged) -> Front:
            front = Front(tmp_path_factory.mktemp("front"), auth, change)
            for name in ("privkey.pem", "fullchain.pem"):
                os.symlink(certificate / name, front.directory / name)
            nginx = subprocess.Popen(front.nginx())
            running.callback(nginx.wait, 20)
            running.callback(nginx.terminate)
            running.callback(front.portal.stop)
            front.portal.start()
            return front

        yield start


@pytest.fixture(scope="module")
def front(started: Callable[..., Front]) -> Front:
    return started("ssh")


def test_only_the_portals_and_services_host_names_lead_to_the_portal(front: Front) -> None:
    shared = APPS.partition(".")[2]
    for host, status in ((PORTAL, 200), (APPS, 200), (shared, 200), ("other.example", 421)):
        assert front.ask(host, "/healthz")[0].status == status
    assert front.ask(APPS, "/login")[0].status == 404


def test_browsers_are_sent_between_the_portal_and_a_sessions_own_name(front: Front) -> None:
    answer, _ = front.ask(APPS, f"/node/{ID}/lab")
    assert answer.status == 303
    location = answer.getheader("Location", "")
    assert location.startswith(f"https://{PORTAL}:{front.port}/connect?state=")
    nonce = answer.getheader("Set-Cookie", "")
    assert nonce.startswith("__Host-Http-ood_enter_")
    assert {"Secure", "HttpOnly", "Path=/"} <= {*nonce.split("; ")}
    answer, page = front.ask(PORTAL, location.partition(str(front.port))[2])
    assert (answer.status, answer.getheader("Location")) == (404, None)  # nobody is signed in
    assert "you are signed out" in page
    answer, _ = front.ask(PORTAL, f"/login?next=/node/{ID}/")
    policy = answer.getheader("Content-Security-Policy", "")
    assert f"form-action 'self' https://{APPS}:{front.port};" in policy
    other = f"{ID[::-1]}.{APPS.partition('.')[2]}"
    assert front.ask(other, f"/node/{ID}/lab")[0].status == 404


def test_the_portal_knows_that_browsers_come_by_tls(front: Front) -> None:
    answer, _ = front.ask(PORTAL, "/login", {"X-Forwarded-Proto": "http"})
    cookie = answer.getheader("Set-Cookie", "")
    assert cookie.startswith("__Host-ood_portal=")
    assert "Secure" in cookie
    assert answer.getheader("Strict-Transport-Security")


def test_files_are_compressed_and_pages_are_not(front: Front) -> None:
    takes = {"Accept-Encoding": "gzip"}
    for name in ("css/portal.css", "js/portal.js", "icons.svg"):
        answer, _ = front.ask(PORTAL, f"/static/{name}", takes)
        assert (answer.status, answer.getheader("Content-Encoding")) == (200, "gzip"), name
    answer, page = front.ask(PORTAL, "/login", takes)
    assert (answer.status, answer.getheader("Content-Encoding")) == (200, None)
    assert "csrf_token" in page


def test_websockets_reach_the_portal(front: Front) -> None:
    for host, said in ((APPS, "Session not found"), (PORTAL, "Page not found")):
        answer, page = front.ask(host, f"/node/{ID}/", UPGRADE)
        assert answer.status == 404
        assert said in page


def test_the_browsers_address_is_the_one_nginx_saw(front: Front) -> None:
    front.ask(APPS, "/sessions", {"X-Forwarded-For": "192.0.2.9"})
    assert front.told()["object"] == "/sessions"
    assert front.told()["address"] == "127.0.0.1"


def test_a_user_header_of_the_browser_is_nothing(started: Callable[..., Front]) -> None:
    front = started("header")
    for name in ("X-Remote-User", "X_Remote_User", "x-remote-user"):
        answer, _ = front.ask(PORTAL, "/login", {name: "alice"})
        assert answer.status == 403
        assert front.told()["user"] == ""


def test_a_user_header_of_nginx_is_believed(started: Callable[..., Front]) -> None:
    front = started("header", lambda site: site.replace('$ood_user ""', "$ood_user alice"))
    front.ask(PORTAL, "/login", {"X-Remote-User": "bob"})
    assert front.told()["user"] == "alice"  # whom nobody lets in here: there is no portal host


def test_what_is_commented_out_is_right_too(certificate: Path, tmp_path: Path) -> None:
    def uncommented(site: str) -> str:
        return re.sub(r"^( *)#(.*[;{}])$", r"\1\2", site, flags=re.M)

    front = Front(tmp_path, "header", uncommented)
    assert "\n        auth_request /oauth2/auth;" in front.configuration.read_text()
    for name in ("privkey.pem", "fullchain.pem"):
        os.symlink(certificate / name, tmp_path / name)
    done = subprocess.run(front.nginx("-t"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_browsers_that_are_slow_hold_none_of_the_portals_threads(front: Front) -> None:
    with ExitStack() as opened:
        for _ in range(80):  # it has 64
            line = opened.enter_context(front.line())
            line.sendall(
                f"POST /login HTTP/1.1\r\nHost: {PORTAL}:{front.port}\r\nContent-Length: 9\r\n"
                "Content-Type: application/x-www-form-urlencoded\r\n\r\na=".encode()
            )
        assert front.ask(PORTAL, "/healthz")[0].status == 200


def test_uploads_stream_through_and_other_bodies_are_limited(front: Front) -> None:
    """Nobody is signed in here, which the portal says before the body has come."""
    for address, answer in (
        ("/uploads/portal/home/x", b"HTTP/1.1 302"),
        ("/files/portal/home/x", b"HTTP/1.1 413"),
    ):
        with front.line() as line:
            line.sendall(
                f"POST {address} HTTP/1.1\r\nHost: {PORTAL}:{front.port}\r\n"
                "Content-Length: 1000000000\r\nContent-Type: multipart/form-data; boundary=x\r\n"
                "\r\n--x\r\n".encode()
            )
            assert line.recv(12) == answer
