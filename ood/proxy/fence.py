"""The headers that keep a page of a service within its own session. Pure.

The portal sets them on each response of a service, in place of the service's own, and the browser
enforces them. Where all services share an origin, the same-origin policy does not separate them, so
a Content-Security-Policy with paths (https://www.w3.org/TR/CSP3/#match-paths) keeps the requests,
frames and forms of a page below the path of its session.
"""

import re
from urllib.parse import unquote, urljoin, urlsplit

from ood.proxy.headers import Headers

REPLACED = frozenset({"cross-origin-opener-policy", "cross-origin-resource-policy"})
CLEAR = '"cache", "storage"'
"""`Clear-Site-Data` for what services left in a browser. It does not list cookies, because browsers
would clear those of the whole domain, including the portal's."""


def fenced(passed: Headers, base: str, shared: bool) -> Headers:
    """The headers of a service's response, with those that keep its page within the session.

    `base` is the address of the session's service, such as `https://apps.example/node/ID/`. With
    `shared`, other services have the same origin.
    """
    replaced = REPLACED | {"referrer-policy"} if shared else REPLACED
    kept = [(name, value) for name, value in passed if name.lower() not in replaced]
    kept.append(("Cross-Origin-Resource-Policy", "same-origin"))
    if {"cache-control", "expires"}.isdisjoint(name.lower() for name, _ in kept):
        # Otherwise browsers may show it again without a request (RFC 9111, 4.2.2), even after the
        # entry has ended.
        kept.append(("Cache-Control", "private, no-cache"))
    if not shared:
        return [*kept, ("Cross-Origin-Opener-Policy", "same-origin")]
    kept.append(("Cross-Origin-Opener-Policy", "noopener-allow-popups"))
    kept.append(("Referrer-Policy", "same-origin"))  # see `from_another_session`
    kept.append(("Content-Security-Policy", policy(base)))
    return kept


def policy(base: str) -> str:
    """The policy that keeps a page below `base` and allows everything there."""
    sockets = base.replace("http", "ws", 1)
    return "; ".join(
        (
            f"default-src {base} data: blob: 'unsafe-inline' 'unsafe-eval'",
            f"connect-src {base} {sockets} data: blob:",
            f"form-action {base}",
            f"base-uri {base}",
            "frame-ancestors 'self'",
        )
    )


def from_another_session(referrer: str | None, base: str) -> bool:
    """Whether the `Referer` of a request of this origin names a page of another session."""
    return referrer is not None and not referrer.startswith(base)


def stays(location: str, address: str, base: str) -> bool:
    """Whether a redirect of a service stays below `base` or goes to another origin. `location` is
    relative to `address`. After a redirect, browsers do not compare paths with the policy.

    Browsers accept more forms of addresses than RFC 3986 does. For unusual forms, return False.
    """
    if re.search(r"[\x00-\x20\\]", location) or re.match(r"https?:(?!//)", location, re.I):
        return False
    try:
        to, ours = urlsplit(urljoin(address, location)), urlsplit(base)
        if to.hostname != ours.hostname:  # with any scheme: browsers may switch to https
            return re.fullmatch(r"[a-z0-9.-]*", to.hostname or "") is not None
    except ValueError:
        return False
    up = any(unquote(name) in (".", "..") for name in to.path.split("/"))
    return to.netloc == ours.netloc and to.path.startswith(ours.path) and not up
