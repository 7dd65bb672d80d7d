"""Who may sign in, how often, and with what: the parts that need no other machine."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import paramiko
import pytest
from pydantic import SecretStr

from ood.audit import AuditLog
from ood.auth import attempts, credentials
from ood.auth.attempts import Attempts
from ood.auth.authority import UserAuthority
from ood.auth.credentials import Credentials
from ood.auth.names import is_a_persons, is_for_a_person
from ood.config import Acl, PortalSettings, permit
from ood.errors import ConfigError, SignInExpired
from ood.web.front_end import USER, FrontEnd
from tests.helpers import Clock

# ---- names


@pytest.mark.parametrize(
    "name", ["ada", "a", "ada-b.c_d9", "no-such-account", "x" * 64, "J.Doe", "ada@host.org", "9ada"]
)
def test_names_of_people(name: str) -> None:
    assert is_for_a_person(name)


@pytest.mark.parametrize(
    "name",
    [
        *("root", "daemon", "www-data", "nobody", "systemd-network", "systemd-no-such"),
        *("", " ", "_apt", "4711", "-oProxyCommand=x", "@x", "a b", "a/b", "../ada", "a,b"),
        *("ada\n", "\nada", "ada\0", "adé", "x" * 65, "x" * 10_000, "4711\n"),
    ],
)
def test_names_of_nobody(name: str) -> None:
    assert not is_for_a_person(name)


@pytest.mark.parametrize(
    ("uid", "is_one"),
    [
        *((number, True) for number in (1000, 60000, 65536, 1_234_567_890)),
        *((number, False) for number in (0, 999, 60001, 65534, 65535)),
    ],
)
def test_numbers_of_people(uid: int, is_one: bool) -> None:
    assert is_a_persons(uid) is is_one


# ---- attempts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (attempts, credentials):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_five_wrong_passwords_and_a_pause(clock: Clock) -> None:
    door = Attempts()
    for _ in range(5):
        assert door.begin("ada", "here") == 0
        clock.now += 1
    assert door.begin("ada", "here") == 595
    assert door.begin("ada", "there") == 0
    assert door.begin("bob", "here") == 0
    clock.now += 594
    assert door.begin("ada", "here") == 1
    clock.now += 1
    assert door.begin("ada", "here") == 0
    assert door.begin("ada", "here") == 1, "the second one is still too fresh"


def test_a_user_is_not_tried_from_everywhere_nor_everybody_from_one_place(clock: Clock) -> None:
    assert clock.now >= 0
    door = Attempts()
    tries = [door.begin("ada", f"address {n}") for n in range(21)]
    assert tries == [0.0] * 20 + [600]
    door = Attempts()
    tries = [door.begin(f"user{n}", "here") for n in range(61)]
    assert tries == [0.0] * 60 + [600]


def test_the_right_password_forgives_the_wrong_ones_from_there(clock: Clock) -> None:
    door = Attempts()
    for _ in range(100):
        for _ in range(5):
            assert door.begin("ada", "here") == 0
            clock.now += 0.1
        door.did_not_fail("ada", "here", forgiven=True)
    assert door.begin("ada", "here") == 0


def test_a_host_that_did_not_answer_is_no_failure(clock: Clock) -> None:
    assert clock.now >= 0
    door = Attempts()
    for _ in range(4):
        door.begin("ada", "here")
    for _ in range(10):
        assert door.begin("ada", "here") == 0
        door.did_not_fail("ada", "here", forgiven=False)
    assert door.begin("ada", "here") == 0
    assert door.begin("ada", "here") == 600, "the failures from before still count"


# ---- certificates


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "user_ca"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def described(key: paramiko.PKey, path: Path) -> str:
    """What ssh-keygen, OpenSSH's own, reads in a key's certificate."""
    assert key.public_blob is not None
    blob = base64.b64encode(key.public_blob.key_blob).decode()
    path.write_text(f"{key.public_blob.key_type} {blob}\n")
    done = subprocess.run(["ssh-keygen", "-L", "-f", path], check=True, capture_output=True)
    return done.stdout.decode()


def test_a_certificate_is_for_one_user_for_some_minutes(ca: Path, tmp_path: Path) -> None:
    door = UserAuthority(ca)
    first, second = (described(door.certify("ada"), tmp_path / "cert.pub") for _ in range(2))
    assert "user certificate" in first
    assert re.search(r"Principals: *\n *ada *\n *Critical Options: \(none\)", first)
    assert re.search(r"Extensions: *\n *permit-port-forwarding *\n *permit-pty *$", first.rstrip())
    begins, ends = re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", first)
    lasts = datetime.fromisoformat(ends) - datetime.fromisoformat(begins)
    assert lasts.total_seconds() == 360
    fingerprint = subprocess.check_output(["ssh-keygen", "-l", "-f", ca], text=True).split()[1]
    assert f"Signing CA: ED25519 {fingerprint}" in first
    assert first.splitlines()[2] != second.splitlines()[2], "a key of its own each time"


@pytest.mark.parametrize("name", ["root", "daemon", "nobody", "", "../ada", "ada,root", "a b"])
def test_root_and_services_are_never_certified(ca: Path, name: str) -> None:
    with pytest.raises(SignInExpired):
        UserAuthority(ca).certify(name)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.chmod(0o640), "other users can read this key"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_text("nonsense"), "not an OpenSSH private key"),
        (lambda path: path.write_bytes(path.with_suffix(".pub").read_bytes()), "not an OpenSSH"),
        (lambda path: new_key(path, "-t", "rsa", "-N", ""), "Create one with ssh-keygen"),
        (lambda path: new_key(path, "-t", "ed25519", "-N", "secret"), "without a passphrase"),
    ],
)
def test_a_bad_authority_stops_the_start(
    ca: Path, make: Callable[[Path], object], sentence: str
) -> None:
    make(ca)
    with pytest.raises(ConfigError, match=sentence) as raised:
        UserAuthority(ca)
    assert str(ca) in raised.value.message


def new_key(path: Path, *options: str) -> None:
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-f", path, *options], check=True)


def test_certificates_are_renewed_before_they_end(ca: Path, clock: Clock) -> None:
    kept = Credentials(UserAuthority(ca))
    first = kept.certify("ada")
    kept.remember("ada", first)
    clock.now += 239
    assert kept.of("ada") is first
    clock.now += 1
    second = kept.of("ada")
    assert second is not first
    assert kept.of("ada") is second
    clock.now += 240
    assert kept.of("ada") is not second


def test_what_is_forgotten_opens_nothing() -> None:
    kept = Credentials()
    password = SecretStr("hush")
    kept.remember("ada", password)
    assert kept.of("ada") is password
    for user in ("bob", "root", ""):
        with pytest.raises(SignInExpired, match="signed out"):
            kept.of(user)
    kept.forget("ada")
    kept.forget("ada")
    with pytest.raises(SignInExpired, match="signed out"):
        kept.of("ada")


# ---- groups


@pytest.mark.parametrize(
    ("rules", "groups", "allowed"),
    [
        ([], set(), True),
        ([("whitelist", "a b")], {"b", "x"}, True),
        ([("whitelist", "a b")], {"x"}, False),
        ([("whitelist", "a b")], set(), False),
        ([("whitelist", "")], {"a"}, False),
        ([("blacklist", "a b")], {"b", "x"}, False),
        ([("blacklist", "a b")], {"x"}, True),
        ([("whitelist", "a"), ("blacklist", "b")], {"a"}, True),
        ([("whitelist", "a"), ("blacklist", "b")], {"a", "b"}, False),
        ([("whitelist", "a"), ("whitelist", "b")], {"a"}, False),
        ([("allowlist", "a b")], {"b", "x"}, True),
        ([("allowlist", "a b")], {"x"}, False),
        ([("blocklist", "a b")], {"b", "x"}, False),
        ([("blocklist", "a b")], {"x"}, True),
    ],
)
def test_group_rules(rules: list[tuple[str, str]], groups: set[str], allowed: bool) -> None:
    acls = [
        Acl.model_validate({"adapter": "group", "type": type, "groups": names.split()})
        for type, names in rules
    ]
    assert permit(acls, groups) is allowed


# ---- the audit log


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_event_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = AuditLog(path)
    audit.note("sign-in-failed", 'x"\n{"event": "forged"}\udce9', address="192.0.2.1", status=7)
    audit.note("refusal", "y" * 10_000)
    first, second = lines(path)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "event": "sign-in-failed",
        "user": 'x"\n{"event": "forged"}\udce9',
        "address": "192.0.2.1",
        "status": 7,
    }
    assert second["user"] == "y" * 1000
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_audit_log_may_be_rotated(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = AuditLog(path)
    audit.note("sign-in", "ada")
    path.rename(tmp_path / "audit.log.1")
    audit.note("sign-out", "ada")
    assert [line["event"] for line in lines(path)] == ["sign-out"]
    assert not audit.broken


def test_a_full_disk_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    link = tmp_path / "audit.log"
    link.touch()
    audit = AuditLog(link)
    link.unlink()
    link.symlink_to("/dev/full")
    audit.note("sign-in", "ada")
    assert audit.broken
    assert '"event": "sign-in"' in caplog.text, "it is not lost"
    link.unlink()
    audit.note("sign-out", "ada")
    assert not audit.broken


def test_without_a_writable_audit_log_there_is_no_portal(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="audit log cannot be written"):
        AuditLog(tmp_path / "no" / "such" / "directory")


# ---- the front end


SITE = {"portal_host": "h", "known_hosts": "k", "clusters": "c"}
HEADER = SITE | {
    "auth": "header",
    "credentials": "certificate",
    "user_ca": "ca",
    "front_ends": ["192.0.2.1", "unix", "2001:DB8::1"],
    "user_header": "X-Who",
}


def passed_on(settings: dict[str, Any], peer: str, **headers: str) -> dict[str, Any]:
    """What the portal sees of a request."""
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], _: object) -> list[bytes]:
        seen.update(environ)
        return []

    environ = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http"}
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    list(FrontEnd(app, PortalSettings.model_validate(settings))(environ, lambda *_: print))
    return seen


@pytest.mark.parametrize("peer", ["192.0.2.1", "", "2001:db8::1"])
def test_the_front_end_is_believed(peer: str) -> None:
    seen = passed_on(
        HEADER, peer, x_who="ada", x_forwarded_for="6.6.6.6, 10.0.0.9", x_forwarded_proto="https"
    )
    assert seen == {USER: "ada", "REMOTE_ADDR": "10.0.0.9", "wsgi.url_scheme": "https"}


@pytest.mark.parametrize("peer", ["192.0.2.2", "127.0.0.1", "::1"])
def test_nobody_else_is(peer: str) -> None:
    seen = passed_on(
        HEADER, peer, x_who="ada", x_forwarded_for="1.1.1.1", x_forwarded_proto="https"
    )
    assert seen == {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http"}


def test_with_passwords_no_header_says_who_it_is() -> None:
    settings = SITE | {"auth": "ssh", "front_ends": ["192.0.2.1"]}
    assert USER not in passed_on(settings, "192.0.2.1", x_remote_user="ada")


def test_a_front_end_may_say_nothing() -> None:
    seen = passed_on(HEADER, "192.0.2.1", x_forwarded_proto="gopher")
    assert seen == {USER: "", "REMOTE_ADDR": "192.0.2.1", "wsgi.url_scheme": "http"}
