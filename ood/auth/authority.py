"""The portal as an SSH certificate authority, which issues short-lived certificates to users.

The format is OpenSSH's (https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.certkeys).
The users' keys and certificates are only in memory.
"""

import io
import logging
import secrets
import time
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ood.auth.names import is_for_a_person
from ood.errors import ConfigError, SignInExpired

LIFETIME = 300  # seconds
CLOCK_SKEW = 60  # seconds that a host's clock may be behind

log = logging.getLogger(__name__)


class UserAuthority:
    """Signs certificates for hosts that list its public key in `TrustedUserCAKeys`."""

    def __init__(self, path: Path) -> None:
        """Read the private key, an unencrypted OpenSSH file that only the portal's account may
        read. Raises `ConfigError`."""
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path}: other users can read this key. Set its mode to 0600.")
            key = serialization.load_ssh_private_key(path.read_bytes(), None)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{path}: not an OpenSSH private key without a passphrase") from error
        if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
            raise ConfigError(f"{path}: not an Ed25519 key. Create one with ssh-keygen -t ed25519.")
        self._key = key

    def certify(self, user: str) -> paramiko.PKey:
        """Return a new key for `user` with a certificate that is valid for `LIFETIME`. Raises
        `SignInExpired` for root and system accounts."""
        if not is_for_a_person(user):
            raise SignInExpired(
                "Your account cannot use this portal. Ask your administrator for access.", user
            )
        own = Ed25519PrivateKey.generate()
        now = int(time.time())
        serial = secrets.randbits(63)
        certificate = (
            serialization.SSHCertificateBuilder()
            .public_key(own.public_key())
            .serial(serial)
            .type(serialization.SSHCertificateType.USER)
            .key_id(f"portal for {user}".encode())
            .valid_principals([user.encode()])
            .valid_after(now - CLOCK_SKEW)
            .valid_before(now + LIFETIME)
            .add_extension(b"permit-port-forwarding", b"")
            .add_extension(b"permit-pty", b"")
            .sign(self._key)
        )
        openssh = serialization.PrivateFormat.OpenSSH
        pem = own.private_bytes(serialization.Encoding.PEM, openssh, serialization.NoEncryption())
        key = paramiko.Ed25519Key(file_obj=io.StringIO(pem.decode()))
        key.load_certificate(certificate.public_bytes().decode())
        log.info("signed certificate %s for %s", serial, user)  # sshd logs the serial number too
        return key
