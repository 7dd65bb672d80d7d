"""What the menus and the home page offer: apps by category, and those used last."""

from __future__ import annotations

from itertools import groupby

from flask import Flask

from ood.apps.definition import AppDefinition
from ood.errors import PortalError
from ood.hosts.roles import PORTAL
from ood.sessions.card import Card
from ood.web.current import groups, portal
from ood.web.files.access import file_access

RECENT = 4


def init_app(app: Flask) -> None:
    app.jinja_env.globals.update(app_categories=app_categories, file_shortcuts=file_shortcuts)


def app_categories() -> list[tuple[str, str, list[AppDefinition]]]:
    """The user's apps as (category, subcategory, apps), in the order of their names."""
    apps = sorted(
        portal().apps_for(groups()).values(), key=lambda app: (*_place(app), app.manifest.name)
    )
    return [(*place, list(found)) for place, found in groupby(apps, key=_place)]


def file_shortcuts() -> dict[str, str]:
    """The File Manager's shortcuts on the portal host, by path; none while it cannot be reached."""
    try:
        return file_access(PORTAL).menu()
    except PortalError:
        return {}


def recently_used(cards: list[Card]) -> list[AppDefinition]:
    """The apps of the user's newest sessions that they may launch again."""
    apps = portal().apps_for(groups())
    names = dict.fromkeys(card.record.app_name for card in cards)
    return [apps[name] for name in names if name in apps][:RECENT]


def _place(app: AppDefinition) -> tuple[str, str]:
    return app.manifest.category, app.manifest.subcategory
