"""Reads known_hosts files as OpenSSH does: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".

Host names may be patterns, negated or hashed. A line that cannot be used is skipped, so it disturbs
no other host. Certificates of hosts (`@cert-authority`) are not supported.
"""

import hashlib
import hmac
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import paramiko

from ood.errors import HostUnreachable

SSH_PORT = 22
MARKERS = ("@cert-authority", "@revoked")
KEY_TYPES = {
    "ssh-ed25519": ["ssh-ed25519"],
    "ssh-rsa": ["rsa-sha2-512", "rsa-sha2-256"],
    **{name: [name] for name in (f"ecdsa-sha2-nistp{size}" for size in (256, 384, 521))},
}
"""The algorithms that the portal accepts for each type of host key."""


@dataclass(frozen=True)
class Line:
    """One line of a file. `problem` says why it is skipped, if it is."""

    number: int
    names: str = ""
    key: bytes = b""
    type: str = ""
    revoked: bool = False
    problem: str = ""


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file, without comments. Raises OSError."""
    text = path.read_text("utf-8", "surrogateescape")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        problem, key = "", b""
        if marker == "@cert-authority":
            problem = "the portal does not support certificates of hosts. Add the hosts’ own keys"
        elif marker and marker not in MARKERS:
            problem = f"{marker} is not a marker"
        elif len(words) < 3:
            problem = "host names, the type of the key and the key are needed"
        elif words[1] not in KEY_TYPES:
            problem = f"keys of the type {words[1]} are not supported"
        else:
            try:
                key = b64decode(words[2], validate=True)
                paramiko.PKey.from_type_string(words[1], key)
            except (ValueError, paramiko.SSHException):
                problem = "the key is not valid"
        names, type = [*words, "", ""][:2]
        yield Line(number, names, key, type, marker == "@revoked", problem)


class HostKeyPolicy(paramiko.MissingHostKeyPolicy):
    """Accepts the keys that a known_hosts file has for a host. Raises OSError if it cannot be
    read."""

    def __init__(self, path: Path, name: str, port: int) -> None:
        self._name = name
        plain = name.lower()
        full = plain if port == SSH_PORT else f"[{plain}]:{port}"
        usable = [line for line in read_lines(path) if not line.problem]
        found = [line for line in usable if _has_name(line.names, full)]
        self._expected = {line.key for line in found if not line.revoked}
        # As in OpenSSH, the key of the name without the port is good too, if there is no other.
        found = found or [line for line in usable if _has_name(line.names, plain)]
        self._revoked = {line.key for line in found if line.revoked}
        self._trusted = {line.key for line in found if not line.revoked}
        types = {line.type for line in found if not line.revoked}
        self.algorithms = [each for type in KEY_TYPES if type in types for each in KEY_TYPES[type]]
        """The algorithms of the known keys. The host chooses its key by them."""

    def missing_host_key(self, _client: object, _hostname: str, key: paramiko.PKey) -> None:
        """Raise `HostUnreachable` unless the key is known. Paramiko calls this for every key,
        because the client has none of its own."""
        given = key.asbytes()
        detail = f"{key.get_name()} {key.fingerprint}"
        if given in self._revoked:
            raise HostUnreachable(
                f"The host key of {self._name} has been revoked, so the portal did not connect to "
                "it. Tell your administrator.",
                detail,
            )
        if given in self._trusted:
            return
        if self._expected:
            raise HostUnreachable(
                f"The host key of {self._name} has changed, so the portal did not connect to it. "
                "Tell your administrator.",
                detail,
            )
        raise HostUnreachable(
            f"The portal does not know the host key of {self._name}. Tell your administrator to "
            "add it to known_hosts.",
            detail,
        )


def _has_name(patterns: str, name: str) -> bool:
    found = False
    for pattern in patterns.split(","):
        if pattern.startswith("|1|"):
            found |= _is_hash_of(pattern, name)
        elif pattern.startswith("!"):
            if _matches(pattern[1:], name):
                return False
        else:
            found |= _matches(pattern, name)
    return found


def _matches(pattern: str, name: str) -> bool:
    """Whether a name matches a pattern with `*` and `?`."""
    return fnmatchcase(name, pattern.lower().replace("[", "[[]"))


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        salt, digest = (b64decode(part, validate=True) for part in hashed[3:].split("|"))
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), hashlib.sha1), digest)
