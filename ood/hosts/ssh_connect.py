"""Opening a connection: to the host that known_hosts knows, as the user who is signed in."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import paramiko
from fabric import Config, Connection
from pydantic import SecretStr

from ood.auth.credentials import Credential
from ood.errors import HostUnreachable
from ood.hosts.base import Stream

CONNECT_TIMEOUT = 10.0  # seconds, for each of TCP, banner and authentication
SILENCE = 30.0  # seconds without a sign of life, after which a connection is taken for dead
NEVER = 2**62  # bytes or packets

Dial = Callable[[], Stream]

log = logging.getLogger(__name__)


class NotAccepted(Exception):
    """The host does not accept the credential."""


class _HungUp(HostUnreachable):
    """The host went away while it was asked whether it accepts the credential."""


def open_connection(
    name: str,
    port: int,
    user: str,
    credential: Credential,
    known_hosts: Path,
    dial: Dial | None = None,
) -> Connection:
    """Open a connection to `name` and authenticate as `user`. `dial` is the way there from another
    host, for one that cannot be reached straight.

    Raises `NotAccepted`, and `HostUnreachable` when the host does not answer or is not the one that
    `known_hosts` knows.
    """
    try:
        connection = _opened(name, port, user, credential, known_hosts, dial)
    except _HungUp:
        # So does sshd with an account that has expired, or that PAM does not let in otherwise.
        try:
            connection = _opened(name, port, user, credential, known_hosts, dial)
        except _HungUp as error:
            raise NotAccepted(f"hung up while signing in: {error.detail}") from error
    transport = connection.transport
    transport.set_keepalive(30)
    # A client-side key re-exchange while a channel streams in stalls the connection.
    transport.packetizer.REKEY_BYTES = NEVER
    transport.packetizer.REKEY_PACKETS = NEVER
    if dial is None:
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Without it, verbs on a host that lost its power wait for a quarter of an hour.
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE * 1000))
    log.info("opened SSH connection to %s as %s", name, user)
    return connection


def _opened(
    name: str,
    port: int,
    user: str,
    credential: Credential,
    known_hosts: Path,
    dial: Dial | None,
) -> Connection:
    connection = Connection(
        name,
        user=user,
        port=port,
        # Fabric would read the portal account's own ~/.ssh/config and fabric.yml.
        config=Config(lazy=True, overrides={"load_ssh_configs": False}),
        connect_timeout=CONNECT_TIMEOUT,
        connect_kwargs={
            **_shown(credential),
            **({"sock": dial()} if dial is not None else {}),
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
        _authenticate(connection, name, known_hosts)
        undo.pop_all()
    return connection


def _shown(credential: Credential) -> dict[str, Any]:
    if isinstance(credential, SecretStr):
        return {"password": credential.get_secret_value()}
    return {"pkey": credential}


def _authenticate(connection: Connection, name: str, known_hosts: Path) -> None:
    connection.client.load_host_keys(str(known_hosts))
    # Fabric's default is to accept.
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    try:
        connection.open()
    except paramiko.AuthenticationException as error:
        # Paramiko says the same of a host that went away, or took too long, at this point.
        if "timeout" in str(error):
            raise _cannot_be_reached(name, error) from error
        if connection.client.get_transport().is_active():
            raise NotAccepted(str(error)) from error
        raise _HungUp(_cannot_be_reached(name, error).message, str(error)) from error
    except paramiko.BadHostKeyException as error:
        raise HostUnreachable(
            f"{name} has another host key than the portal knows, so nothing was sent to it. Tell "
            "your administrator.",
            str(error),
        ) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        if "not found in known_hosts" in str(error):
            raise HostUnreachable(
                f"The portal does not know the host key of {name}. Tell your administrator to add "
                "it to known_hosts.",
                str(error),
            ) from error
        raise _cannot_be_reached(name, error) from error


def _cannot_be_reached(name: str, error: Exception) -> HostUnreachable:
    return HostUnreachable(f"{name} cannot be reached. Try again in a minute.", str(error))


def _new_transport(connected: socket.socket, **options: Any) -> paramiko.Transport:
    """paramiko's, with AES-GCM before its other ciphers: those go over each packet twice.

    The worker spends half the time on it, which is what limits the proxy (`bench/proxy.py`).
    """
    made = paramiko.Transport(connected, **options)
    security = made.get_security_options()
    security.ciphers = sorted(security.ciphers, key=lambda name: "gcm" not in name)
    return made
