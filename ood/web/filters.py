"""Filters and global functions for templates: times, durations, sizes and addresses of assets."""

import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path

from flask import Flask, url_for

from ood.apps.templates import markdown
from ood.web.current import portal


def duration(seconds: int | None) -> str:
    """`59 minutes`, `2 hours 5 minutes`, `1 day 3 hours`: two units, rounded up to minutes."""
    if seconds is None:
        return "no limit"
    minutes = -(-seconds // 60)
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(days, "day"), (hours, "hour"), (minutes, "minute")]
    words = [f"{number} {unit}{'s' if number != 1 else ''}" for number, unit in parts if number]
    return " ".join(words[:2]) or "less than a minute"


def clock(seconds: int | None) -> str:
    """`1:02:03`, or `2 d 1:02:03`; a dash for None."""
    if seconds is None:
        return "—"
    days, rest = divmod(seconds, 24 * 3600)
    return f"{days} d " * bool(days) + f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"


def mib(amount: int | None) -> str:
    """`512 MiB`, `1.5 GiB`; a dash for None."""
    if amount is None:
        return "—"
    return f"{amount} MiB" if amount < 1024 else f"{amount / 1024:.4g} GiB"


def size(count: int) -> str:
    """`0 bytes`, `1 byte`, `1.5 KiB`, `12 GiB`."""
    if count < 1024:
        return f"{count} byte{'s' if count != 1 else ''}"
    amount, unit = float(count), -1
    while amount >= 999.5 and unit < 5:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.3g} {'KMGTPE'[unit]}iB"


def number(amount: float) -> str:
    """`8` for 8.0."""
    return f"{amount:.15g}"


def iso_time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plain_time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def fingerprint(content: str | bytes) -> str:
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    return hashlib.blake2b(data, digest_size=6).hexdigest()


FILTERS = (duration, clock, mib, size, number, iso_time, plain_time, fingerprint, markdown)


def init_app(app: Flask) -> None:
    app.jinja_env.filters.update({each.__name__: each for each in FILTERS})
    versions: dict[str, str] = {}

    def asset(name: str) -> str:
        """The address of a static file. It changes with the content, so browsers can cache it."""
        if name not in versions:
            versions[name] = fingerprint(Path(app.static_folder or "", name).read_bytes())
        return url_for("static", filename=name, v=versions[name])

    app.jinja_env.globals.update(asset=asset, now=lambda: int(time.time()))
    app.context_processor(lambda: {"site": portal().settings, "audit": portal().audit})
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 365 * 24 * 3600
