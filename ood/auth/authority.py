"""The portal as an SSH user certificate authority: certificates of a few minutes for one user each.

The format is OpenSSH's (https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.certkeys).
Keys and certificates of users exist in memory only.
"""

from __future__ import annotations

import io
import logging
import secrets
import time
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_private_key,
)

from ood.auth.names import is_for_a_person
from ood.errors import ConfigError, SignInExpired

LIFETIME = 300  # seconds
CLOCKS_APART = 60  # seconds that a back-end's clock may be behind

log = logging.getLogger(__name__)


class UserAuthority:
    """Signs for back-ends that name its public key as `TrustedUserCAKeys`."""

    def __init__(self, path: Path) -> None:
        """Read the authority's private key, an unencrypted OpenSSH file that only the portal's
        account may read. Raises `ConfigError`."""
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path}: others may read this key. Set its mode to 0600.")
            key = load_ssh_private_key(path.read_bytes(), None)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{path}: not an OpenSSH private key without passphrase") from error
        if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
            raise ConfigError(f"{path}: make an Ed25519 key, with ssh-keygen -t ed25519")
        self._key = key

    def certify(self, user: str) -> paramiko.PKey:
        """A new key of `user` with a certificate that is good for `LIFETIME`.

        Raises `SignInExpired` for root and the accounts of system services: never are those
        certified.
        """
        if not is_for_a_person(user):
            raise SignInExpired("This account cannot use the portal.", user)
        own = Ed25519PrivateKey.generate()
        now = int(time.time())
        serial = secrets.randbits(63)
        certificate = (
            SSHCertificateBuilder()
            .public_key(own.public_key())
            .serial(serial)
            .type(SSHCertificateType.USER)
            .key_id(f"portal for {user}".encode())
            .valid_principals([user.encode()])
            .valid_after(now - CLOCKS_APART)
            .valid_before(now + LIFETIME)
            .add_extension(b"permit-port-forwarding", b"")
            .add_extension(b"permit-pty", b"")
            .sign(self._key)
        )
        pem = own.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        key = paramiko.Ed25519Key(file_obj=io.StringIO(pem.decode()))
        key.load_certificate(certificate.public_bytes().decode())
        log.info("certified %s for %s s: serial %s", user, LIFETIME, serial)  # as sshd logs it
        return key
