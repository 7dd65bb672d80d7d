"""The connection of a request, which gunicorn gives up for protocols other than HTTP."""

import os
import socket
from typing import cast

from flask import request

from ood.errors import PortalError


def connection_of_request() -> socket.socket:
    """The connection of the current request. Raises `PortalError`."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        raise PortalError("WebSockets need gunicorn. Start the portal with gunicorn.")
    return cast(socket.socket, connection)


def is_disconnected() -> bool:
    """Whether the browser has closed the connection of the current request."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return False
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def take_over(connection: socket.socket) -> socket.socket:
    """Return the browser's connection. Gunicorn keeps a socket without a peer, so sending to it and
    closing it have no effect on the browser."""
    ours = socket.socket(fileno=os.dup(connection.fileno()))
    unused, other_end = socket.socketpair()
    os.dup2(unused.fileno(), connection.fileno(), inheritable=False)
    unused.close()
    other_end.close()
    return ours
