"""Fair shares of the threads that serve requests.

A request holds a thread until its response has been sent: for as long as a host, a service or a
browser takes. What one user's requests wait for must not delay those of others.
"""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import g, request
from flask_login import current_user
from werkzeug.wsgi import ClosingIterator

from ood.errors import Busy
from ood.quotas import Quota
from ood.web.current import portal, user

SHARE = "ood.share"  # in a request's environment: whose share it has
PATIENCE = 2.0  # seconds
UNLIMITED = frozenset({"static", "home.health"})
BUSY = "Too many of your requests are still running. Wait a moment, then try again."


def take_share() -> None:
    """Count this request for its user or, before they have signed in, for their address, until its
    response has been sent. Raises `Busy`. Requests to services have a quota of their own."""
    if request.endpoint in UNLIMITED or g.on_services_origin:
        return
    key = user() if current_user.is_authenticated else f"from {request.remote_addr}"
    portal().request_quota.take(key, PATIENCE, Busy(BUSY))
    request.environ[SHARE] = key


class Shares:
    """Wraps the portal's WSGI application, and gives back the share of each request."""

    def __init__(self, app: WSGIApplication, quota: Quota) -> None:
        self._app = app
        self._quota = quota

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def give_back() -> None:
            key = environ.pop(SHARE, None)
            if key is not None:
                self._quota.give_back(key)

        try:
            return ClosingIterator(self._app(environ, start_response), give_back)
        except BaseException:
            give_back()
            raise
