"""Opens SSH connections: to hosts whose keys are in known_hosts, as the user who is signed in.

Fabric opens and authenticates them. Each hazard handled here was met with Fabric 3.2, paramiko 5.1
and OpenSSH 9.2.
"""

import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from fabric import Config, Connection
from pydantic import SecretStr

from ood.auth.credentials import Credential
from ood.errors import HostUnreachable
from ood.hosts.base import Stream

CONNECT_TIMEOUT = 10.0  # seconds, for each of TCP, banner and authentication
DEAD_AFTER = 30.0  # seconds without an answer to what was sent
NEVER = 2**62  # bytes or packets

Dial = Callable[[], Stream]

log = logging.getLogger(__name__)


class NotAccepted(Exception):
    """The host does not accept the credential."""


class _HungUp(NotAccepted):
    """The host closed the connection during authentication."""


@dataclass(frozen=True)
class Target:
    """Where a connection goes, and as which user. `dial` opens the TCP connection through another
    host, where the portal cannot reach this one itself."""

    name: str
    port: int
    user: str
    known_hosts: Path
    dial: Dial | None = None


def open_connection(target: Target, credential: Credential) -> Connection:
    """Open a connection and authenticate.

    Raises `NotAccepted`, and `HostUnreachable` when the host does not answer or its key is not the
    one in `known_hosts`.
    """
    try:
        connection = _opened(target, credential)
    except _HungUp:
        # For an expired account, or one that PAM refuses, sshd hangs up again.
        connection = _opened(target, credential)
    transport = connection.transport
    transport.set_keepalive(30)
    # A client-side key re-exchange while a channel streams in stalls the connection.
    transport.packetizer.REKEY_BYTES = NEVER
    transport.packetizer.REKEY_PACKETS = NEVER
    if target.dial is None:
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Otherwise calls to a host that lost its power wait for a quarter of an hour.
        user_timeout = int(DEAD_AFTER * 1000)
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_timeout)
    log.info("opened SSH connection to %s as %s", target.name, target.user)
    return connection


def _opened(target: Target, credential: Credential) -> Connection:
    secret: dict[str, Any] = {"pkey": credential}
    if isinstance(credential, SecretStr):
        secret = {"password": credential.get_secret_value()}
    connection = Connection(
        target.name,
        user=target.user,
        port=target.port,
        # Fabric would read the portal account's own ~/.ssh/config and fabric.yml.
        config=Config(lazy=True, overrides={"load_ssh_configs": False}),
        connect_timeout=CONNECT_TIMEOUT,
        connect_kwargs={
            **secret,
            **({"sock": target.dial()} if target.dial is not None else {}),
            "look_for_keys": False,
            "allow_agent": False,
            "banner_timeout": CONNECT_TIMEOUT,
            "auth_timeout": CONNECT_TIMEOUT,
            "transport_factory": _new_transport,
        },
    )
    with ExitStack() as undo:
        # A refused connection would stay open and count against sshd's MaxStartups.
        undo.callback(connection.client.close)
        connection.client.load_host_keys(str(target.known_hosts))
        # Fabric's default is to accept.
        connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            connection.open()
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise _failure(error, connection, target.name) from error
        undo.pop_all()
    return connection


def _failure(error: Exception, connection: Connection, name: str) -> Exception:
    """What an error from opening a connection means."""
    detail = str(error)
    message = f"{name} cannot be reached. Try again in a moment."
    # Paramiko also raises AuthenticationException for a host that hung up or took too long.
    if isinstance(error, paramiko.AuthenticationException) and "timeout" not in detail:
        is_active = connection.client.get_transport().is_active()
        return NotAccepted(detail) if is_active else _HungUp(f"hung up during log-in: {detail}")
    if isinstance(error, paramiko.BadHostKeyException):
        message = (
            f"The host key of {name} has changed, so the portal did not connect to it. Tell your "
            "administrator."
        )
    elif "not found in known_hosts" in detail:
        message = (
            f"The portal does not know the host key of {name}. Tell your administrator to add it "
            "to known_hosts."
        )
    return HostUnreachable(message, detail)


def _new_transport(connected: socket.socket, **options: Any) -> paramiko.Transport:
    """A transport that prefers AES-GCM. It halves the time that the worker spends on encryption,
    which limits the proxy (`bench/proxy.py`)."""
    made = paramiko.Transport(connected, **options)
    security = made.get_security_options()
    security.ciphers = sorted(security.ciphers, key=lambda name: "gcm" not in name)
    return made
