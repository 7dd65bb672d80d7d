"""Host keys, as OpenSSH reads them from known_hosts."""

from __future__ import annotations

import subprocess
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paramiko import PKey

from ood.errors import HostUnreachable
from ood.hosts.known_hosts import HostKeyPolicy, read_lines


def new_key() -> tuple[str, PKey]:
    """A key as known_hosts has it, and as paramiko has it."""
    public = Ed25519PrivateKey.generate().public_key()
    text = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return text, PKey.from_type_string("ssh-ed25519", b64decode(text.split()[1]))


LINE, KEY = new_key()
OTHER, _ = new_key()


def accepts(path: Path, text: str, name: str = "gpu01.cluster.example", port: int = 22) -> str:
    """Empty if the key is accepted, or the message."""
    path.write_text(text)
    try:
        HostKeyPolicy(path, name, port).missing_host_key(None, name, KEY)
    except HostUnreachable as error:
        return error.message
    return ""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


@pytest.mark.parametrize(
    "names",
    [
        *("gpu01.cluster.example", "*.cluster.example", "gpu0?.cluster.example", "*"),
        *("other,GPU01.cluster.example", "!gpu02*,*.example", "[gpu01.cluster.example]:22,*"),
    ],
)
def test_names_and_patterns(path: Path, names: str) -> None:
    assert accepts(path, f"{names}  {LINE} a comment\n") == ""


@pytest.mark.parametrize(
    "names", ["gpu02.cluster.example", "!gpu01*,*.example", "cluster.example", "*.cluster", "[g]*"]
)
def test_names_of_others(path: Path, names: str) -> None:
    assert "does not know the host key" in accepts(path, f"{names} {LINE}\n")


def test_ports(path: Path) -> None:
    assert accepts(path, f"[gpu01.cluster.example]:2222 {LINE}\n", port=2222) == ""
    assert accepts(path, f"gpu01.cluster.example {LINE}\n", port=2222) == ""
    assert accepts(path, f"[gpu01.cluster.example]:2222 {LINE}\n") != ""
    both = f"[gpu01.cluster.example]:2222 {OTHER}\ngpu01.cluster.example {LINE}\n"
    assert "has changed" in accepts(path, both, port=2222)


def test_hashed_names_as_ssh_keygen_writes_them(path: Path) -> None:
    path.write_text(f"gpu01.cluster.example,10.0.0.1 {LINE}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    text = path.read_text()
    assert "gpu01" not in text
    assert accepts(path, text) == accepts(path, text, "10.0.0.1") == ""
    assert accepts(path, text, "10.0.0.2") != ""


def test_any_of_several_keys_of_a_type_is_good(path: Path) -> None:
    assert accepts(path, f"* {OTHER}\ngpu01.cluster.example {LINE}\n") == ""
    assert "has changed" in accepts(path, f"* {OTHER}\n")


def test_a_revoked_key_is_refused(path: Path) -> None:
    assert "has been revoked" in accepts(path, f"* {LINE}\n@revoked * {LINE}\n")
    assert accepts(path, f"* {LINE}\n@revoked * {OTHER}\n") == ""


BROKEN = [
    f"@cert-authority *.cluster.example {LINE}",
    f"@unknown * {LINE}",
    "* ssh-ed25519 AAAA!",
    "* ssh-ed25519 AAAA",
    f"* ssh-dss {LINE.split()[1]}",
    "gpu01.cluster.example",
    "|1|x|y ssh-ed25519",
    "\udcff\x00",
]


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_a_line_that_cannot_be_used_disturbs_no_other(path: Path, line: str) -> None:
    text = f"# a comment\n\n{line}\n* {LINE}\n"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    HostKeyPolicy(path, "gpu01", 22).missing_host_key(None, "gpu01", KEY)
    assert [(each.number, each.problem != "") for each in read_lines(path)] == [
        (3, True),
        (4, False),
    ]


def test_the_host_is_asked_for_a_key_of_a_known_type(path: Path) -> None:
    path.write_text(f"a {LINE}\nb ssh-rsa AAAA\n")
    assert HostKeyPolicy(path, "a", 22).algorithms == ["ssh-ed25519"]
    assert HostKeyPolicy(path, "b", 22).algorithms == []
