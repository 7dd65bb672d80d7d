"""A browser's connection that becomes something else than HTTP: taken from gunicorn, for good."""

from __future__ import annotations

import os
import socket
from typing import cast

from flask import request

from ood.errors import PortalError


def connection_of_request() -> socket.socket:
    """The connection that the request came by. Raises `PortalError`."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        raise PortalError("Only gunicorn lets WebSockets through: start the portal with it.")
    return cast(socket.socket, connection)


def take_over(connection: socket.socket) -> socket.socket:
    """The browser's connection, for us alone. What gunicorn still does to its own end, such as
    answering and closing it, goes nowhere."""
    ours = socket.socket(fileno=os.dup(connection.fileno()))
    nowhere, other_end = socket.socketpair()
    os.dup2(nowhere.fileno(), connection.fileno(), inheritable=False)
    nowhere.close()
    other_end.close()
    return ours
