"""The reverse proxy on the services' origin: passes requests on to the service of a session."""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from flask import Blueprint, Response, request
from werkzeug.datastructures import Headers as ResponseHeaders
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import (
    Busy,
    HostUnreachable,
    NotFound,
    ServiceNotThere,
    ServiceRefused,
    ServiceSilent,
)
from ood.proxy.fence import fenced, stays
from ood.proxy.headers import Headers, to_browser, to_service
from ood.proxy.services import ServiceInUse
from ood.proxy.tickets import Grant
from ood.proxy.upstream import SentRequest, UpstreamResponse
from ood.sessions.service import service_path
from ood.web import entering
from ood.web.current import ProxiedResponse, on_services_origin, portal
from ood.web.errors import answer
from ood.web.upgrades import connection_of_request, is_disconnected, take_over

bp = Blueprint("node", __name__)
log = logging.getLogger(__name__)

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
READ = 256 * 1024  # bytes of a request's body at a time
# Seconds within which a service must start its response.
PATIENCE = 300.0  # some compute for minutes
PAGE_PATIENCE = 6.0  # for a page in an empty window; then the portal probes the service
SILENT_PATIENCE = 2.0  # for a service that did not answer the last time
BROWSER_CHECK = 1.0  # how often to see whether the browser still waits
UPGRADE_PATIENCE = 20.0  # JupyterLab first waits for its kernel


@bp.route("/node/<session_id>/", defaults={"path": ""}, methods=METHODS, merge_slashes=False)
@bp.route("/node/<session_id>/<rest:path>", methods=METHODS, merge_slashes=False)
def http(session_id: str, path: str) -> BaseResponse:  # noqa: ARG001 - see `_target`
    if not on_services_origin():
        return entering.go_to_service(session_id, _target(session_id))
    try:
        grant = entering.grant_of_request(session_id)
        if grant is not None:
            return _pass_on(grant)
        if entering.is_visit():
            return entering.ask_portal(_target(session_id))
        raise entering.no_entry()
    except NotFound as error:
        if request.headers.get("Sec-Fetch-Site") == "same-origin" and not entering.is_visit():
            # A script of this origin would take 404 for the service's response. JupyterLab then
            # requests its top directory again at once, without end.
            error.http_status = 403
        raise


@bp.route("/node/<session_id>/", defaults={"path": ""}, websocket=True, merge_slashes=False)
@bp.route("/node/<session_id>/<rest:path>", websocket=True, merge_slashes=False)
def websocket(session_id: str, path: str) -> BaseResponse:  # noqa: ARG001
    """Join the browser's connection to a connection to the service, if the service accepts."""
    grant = entering.grant_of_request(session_id, upgrading=True)
    if grant is None:
        raise entering.no_entry()
    connection = connection_of_request()
    with portal().services.request(grant.user, session_id):
        known = portal().services.find(grant.user, session_id)
        headers = [*_headers(known), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
        patience = SILENT_PATIENCE if known.silent else UPGRADE_PATIENCE
        upgraded = known.upstream.upgrade(_target(session_id), headers, patience)
    if upgraded.status != 101:
        return ProxiedResponse(status=upgraded.status if 400 <= upgraded.status < 600 else 502)
    browser = take_over(connection)
    browser.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    passed = to_browser(upgraded.headers, known.service.prefix)
    head = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"]
    head += [f"{name}: {value}" for name, value in passed]
    browser.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + upgraded.first)
    sign_ins = portal().sign_ins
    portal().tunnels.join(
        grant.user,
        browser,
        upgraded.stream,
        lambda: sign_ins.find(grant.sign_in.id, sign_of_life=False) is not None,
    )
    return Response()  # is not sent: the tunnel has the connection


def _target(session_id: str) -> str:
    """The path and query as the browser sent them, which the service reads in its own way."""
    target: str = request.environ.get("RAW_URI", "")
    if not target.startswith(service_path(session_id)):
        raise NotFound("Page not found.")
    return target


def _headers(known: ServiceInUse) -> Headers:
    return to_service(request.headers, {"Host": request.host, **known.service.headers})


def _pass_on(grant: Grant) -> BaseResponse:
    """Pass a request on to the service, and its response back."""
    services = portal().services
    try:
        with ExitStack() as held:
            held.enter_context(services.request(grant.user, grant.session_id))
            known = services.find(grant.user, grant.session_id)
            upstream = _ask(known, grant)
            held.callback(upstream.close)
            services.answered(known)
            headers = _to_browser(upstream.headers, grant.session_id)
            response = ProxiedResponse(upstream, upstream.status)
            response.headers = ResponseHeaders(headers)
            response.call_on_close(held.pop_all().close)
        return response
    except Busy as error:
        log.warning("%s %s: %s", request.method, grant.session_id, error)
        busy = answer(error.message, error.code, error.http_status)
        if entering.is_visit():
            busy.headers["Refresh"] = busy.headers["Retry-After"]
        return busy
    except ClientDisconnected:
        return Response(status=504)  # for nobody
    except (ServiceNotThere, HostUnreachable) as error:
        log.info("%s %s: %s %s", request.method, grant.session_id, error, error.detail)
        if not _is_page():  # such as a form, which must not be sent again without its values
            return Response(f"{error.message}\n", 504, mimetype="text/plain")
        return entering.waiting(grant.user, grant.session_id, error.message)


def _is_page() -> bool:
    """Whether the browser asks for a page, which may reload."""
    mode = request.headers.get("Sec-Fetch-Mode", "navigate")  # browsers send none without TLS
    return request.method in ("GET", "HEAD") and mode == "navigate"


def _to_browser(given: Headers, session_id: str) -> Headers:
    """The headers of a service's response as the browser gets them. Raises `ServiceRefused`."""
    origins = portal().origins
    assert origins is not None
    base = entering.service_address(session_id)
    address = entering.origin_of(session_id) + _target(session_id)
    passed = to_browser(given, service_path(session_id))
    for name, value in passed:
        if origins.shared and name.lower() == "location" and not stays(value, address, base):
            raise ServiceRefused(
                "This service redirected to an address outside its session. The portal stopped the "
                "redirect."
            )
    return fenced(passed, base, origins.shared)


def _ask(known: ServiceInUse, grant: Grant) -> UpstreamResponse:
    """The response to this request, which the service receives once, however long it takes."""
    target, upstream, services = _target(grant.session_id), known.upstream, portal().services
    headers, body = _headers(known), _body()
    if request.environ.get("CONTENT_LENGTH"):
        headers.append(("Content-Length", request.environ["CONTENT_LENGTH"]))
    is_page = _is_page() and body is None
    if known.silent and not is_page and not services.probe(known):
        raise ServiceSilent("The service did not answer in time.")
    key = grant.sign_in.id, request.method, target
    sent = upstream.left(key) if is_page else None
    if sent is None:
        sent = upstream.send(request.method, target, headers, body, PATIENCE)
    if not is_page:
        return _response(sent, PATIENCE)
    try:
        try:
            return _response(sent, SILENT_PATIENCE if known.silent else PAGE_PATIENCE)
        except ServiceSilent:
            if target == known.service.alive or not services.probe(known):
                raise
        # The service answers other requests, so this page needs more time.
        return _response(sent, PATIENCE)
    except ServiceSilent:
        upstream.leave(key, sent)  # until the page that says so reloads
        raise


def _response(sent: SentRequest, patience: float) -> UpstreamResponse:
    """The response to a request. Raises `ServiceSilent` when there is none yet, and
    `ClientDisconnected` when the browser no longer waits for it."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return sent.response(min(BROWSER_CHECK, max(deadline - time.monotonic(), 0.1)))
        except ServiceSilent:
            if is_disconnected():
                sent.close()
                raise ClientDisconnected from None
            if time.monotonic() >= deadline:
                raise


def _body() -> Iterator[bytes] | None:
    """The body of the request, part by part; None if it has none."""
    chunked = "chunked" in request.environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    length = request.environ.get("CONTENT_LENGTH", "0")
    if not chunked and length in ("", "0"):
        return None
    return _parts(request.environ["wsgi.input"].read, 0 if chunked else int(length))


def _parts(read: Callable[[int], bytes], left: int) -> Iterator[bytes]:
    """Raises `ClientDisconnected` when the browser disconnects. The portal then disconnects from
    the service too, which would otherwise wait for the rest or take the part as complete."""
    try:
        while data := read(READ):
            left -= len(data)
            yield data
    except OSError as error:
        raise ClientDisconnected from error
    if left > 0:
        raise ClientDisconnected
