"""The front end: the web server in front of the portal. It terminates TLS and may name the user.

The portal trusts its headers only when they come from a peer that portal.yml lists.
"""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from ood.config import PortalSettings

USER = "ood.user"
"""Key in a request's environment: the user that the front end names. Only with `auth: header`."""


class FrontEnd:
    """Wraps the portal's WSGI application."""

    def __init__(self, app: WSGIApplication, settings: PortalSettings) -> None:
        self._app = app
        self._peers = frozenset(settings.front_ends)
        self._header = f"HTTP_{settings.user_header.upper().replace('-', '_')}"
        self._by_header = settings.auth == "header"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        user = environ.pop(self._header, "")
        addresses = environ.pop("HTTP_X_FORWARDED_FOR", "")
        scheme = environ.pop("HTTP_X_FORWARDED_PROTO", "")
        peer = environ.get("REMOTE_ADDR") or "unix"  # a Unix socket has no address
        environ["REMOTE_ADDR"] = peer
        if peer in self._peers:
            if self._by_header:
                environ[USER] = user
            if addresses:  # each hop appends the address of its peer
                environ["REMOTE_ADDR"] = addresses.rpartition(",")[2].strip()
            if scheme in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
        return self._app(environ, start_response)
