"""The encrypted connection that everything of one user on one host goes through."""

from __future__ import annotations

import socket
from typing import Any

import paramiko


def new_transport(connected: socket.socket, **options: Any) -> paramiko.Transport:
    """paramiko's, with AES-GCM before its other ciphers: those go over each packet twice.

    The worker spends half the time on it, which is what limits the proxy (`bench/proxy.py`).
    """
    made = paramiko.Transport(connected, **options)
    security = made.get_security_options()
    security.ciphers = sorted(security.ciphers, key=lambda name: "gcm" not in name)
    return made
