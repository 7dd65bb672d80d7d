"""What keeps a service's page to its own session. Pure.

The browser enforces most of it, by headers that the portal puts on each answer of a service in
place of the service's own. Where all services share an origin, the rest of the same-origin policy
does not help, so a Content-Security-Policy with paths (https://www.w3.org/TR/CSP3/#match-paths)
keeps a page's requests, frames and forms below its own session's path.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urljoin, urlsplit

from ood.proxy.headers import Headers

REPLACED = frozenset({"cross-origin-opener-policy", "cross-origin-resource-policy"})
CLEAR = '"cache", "storage"'
"""`Clear-Site-Data`: what services left in a browser. Cookies are not in the list: browsers would
clear those of the whole domain, including the portal's."""


def fenced(passed: Headers, base: str, shared: bool) -> Headers:
    """The headers of a service's answer, with the fence.

    `base` is the address of the session's service, as in `https://apps.example/node/ID/`. `shared`:
    other services have this origin too.
    """
    replaced = REPLACED | {"referrer-policy"} if shared else REPLACED
    kept = [(name, value) for name, value in passed if name.lower() not in replaced]
    kept.append(("Cross-Origin-Resource-Policy", "same-origin"))
    if {"cache-control", "expires"}.isdisjoint(name.lower() for name, _ in kept):
        # Otherwise browsers decide by its age whether to show it again without asking (RFC 9111,
        # 4.2.2), also after the entry has ended.
        kept.append(("Cache-Control", "private, no-cache"))
    if not shared:
        return [*kept, ("Cross-Origin-Opener-Policy", "same-origin")]
    kept.append(("Cross-Origin-Opener-Policy", "noopener-allow-popups"))
    kept.append(("Referrer-Policy", "same-origin"))  # see `from_another_session`
    kept.append(("Content-Security-Policy", policy(base)))
    return kept


def policy(base: str) -> str:
    """The policy that keeps a page below `base`, whatever else it may do there."""
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
    """Whether a request of a page of this origin says that it comes from another session's page."""
    return referrer is not None and not referrer.startswith(base)


def stays(location: str, address: str, base: str) -> bool:
    """Whether a service's `Location`, in its answer to a request for `address`, leads below `base`
    or to another origin. After a redirect, browsers no longer compare paths with a policy's.

    Browsers read addresses in more ways than RFC 3986 has, so what is not plain does not stay.
    """
    if re.search(r"[\x00-\x20\\]", location) or re.match(r"https?:(?!//)", location, re.I):
        return False
    try:
        to, ours = urlsplit(urljoin(address, location)), urlsplit(base)
        if to.hostname != ours.hostname:  # whatever the scheme: browsers may know to use https
            return re.fullmatch(r"[a-z0-9.-]*", to.hostname or "") is not None
    except ValueError:
        return False
    up = any(unquote(name) in (".", "..") for name in to.path.split("/"))
    return to.netloc == ours.netloc and to.path.startswith(ours.path) and not up
