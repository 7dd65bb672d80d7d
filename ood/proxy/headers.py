"""Which headers of requests and responses the proxy passes on, and how. Pure."""

import re
from collections.abc import Iterable, Mapping

Headers = list[tuple[str, str]]

ENTRY_COOKIE = "ood_node"
NONCE_COOKIE = "ood_enter_"  # with the start of its state: a browser may enter in several tabs
"""The portal's own cookies on the services' origins. No service ever sees them."""

# RFC 9110, 7.6.1: these and the headers that Connection names are about one connection only.
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)
# A front end sets these for the portal only, to describe its clients.
FROM_FRONT_END = re.compile(r"forwarded|via|x-forwarded-.*|x-real-ip|x-remote-.*|remote-user")
# These affect more than the service's own path: all services of the origin, or the portal's host.
BEYOND_THE_PATH = frozenset(
    {"alt-svc", "clear-site-data", "service-worker-allowed", "strict-transport-security"}
)
ADDRESSES = frozenset({"content-location", "location", "refresh"})
WELL_FORMED = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t\x21-\x7e\x80-\xff]*")  # RFC 9110, 5
OURS = frozenset({"date", "server"})  # gunicorn sets its own
PORTAL_COOKIES = re.compile(r"((__(Host|Secure|Host-Http|Http)-)?ood_.*)?", re.IGNORECASE)
"""Names that only the portal sets. An empty name is one too: the browser returns `=ood_node=x` as
`ood_node=x`."""


def to_service(given: Iterable[tuple[str, str]], added: Mapping[str, str]) -> Headers:
    """The headers of a browser's request as the service gets them. Those in `added` replace the
    browser's. Content-Length, Expect and Transfer-Encoding are left to the sender of the body."""
    ours = {name.lower() for name in added} | {"content-length", "expect"}
    passed = []
    for name, value in _end_to_end(given):
        if name.lower() in ours or FROM_FRONT_END.fullmatch(name.lower()):
            continue
        if name.lower() == "cookie":
            value = _service_cookies(value)
            if not value:
                continue
        passed.append((name, value))
    return [*passed, *added.items()]


def to_browser(given: Iterable[tuple[str, str]], prefix: str) -> Headers:
    """The headers of a service's response as the browser gets them. `prefix` is the path of the
    service and ends in `/`."""
    passed = []
    for name, value in _end_to_end(given):
        lower = name.lower()
        if lower in BEYOND_THE_PATH | OURS or not WELL_FORMED.fullmatch(f"{name}:{value}"):
            continue
        if lower in ADDRESSES:
            value = _without_origin(value, prefix)
        if lower == "set-cookie":
            value = _scoped_cookie(value, prefix)
            if not value:
                continue
        passed.append((name, value))
    return passed


def _without_origin(value: str, prefix: str) -> str:
    """An address of the service's own, without an origin that it has only for the service: with the
    node's name and port, or without TLS."""
    origin = r"(^|(?i:url=)['\"]?)(?i:https?:)?//[^/?#\\]*"
    own_path = rf"(?={re.escape(prefix.rstrip('/'))}(?:[/?#'\"]|$))"
    return re.sub(origin + own_path, r"\1", value)


def _end_to_end(given: Iterable[tuple[str, str]]) -> Headers:
    given = list(given)
    named = {
        token.strip().lower()
        for name, value in given
        if name.lower() == "connection"
        for token in value.split(",")
    }
    return [(name, value) for name, value in given if name.lower() not in HOP_BY_HOP | named]


def _service_cookies(value: str) -> str:
    cookies = (cookie.strip() for cookie in value.split(";"))
    kept = [c for c in cookies if c and not PORTAL_COOKIES.fullmatch(c.partition("=")[0].strip())]
    return "; ".join(kept)


def _scoped_cookie(value: str, prefix: str) -> str:
    """A service's Set-Cookie, limited to the service's path; empty if the name is the portal's."""
    cookie, *attributes = value.split(";")
    if PORTAL_COOKIES.fullmatch(cookie.partition("=")[0].strip()):
        return ""
    path = prefix
    kept = [cookie]
    for attribute in attributes:
        key, _, given = attribute.strip().partition("=")
        if key.lower() == "path":
            path = given.strip() if given.strip().startswith(prefix) else prefix
        elif key.lower() != "domain":
            kept.append(f" {attribute.strip()}")
    return ";".join([*kept, f" Path={path}"])
