"""What the menus and the home page list: apps by category, recent apps, and directories."""

from itertools import groupby

from flask import Flask

from ood.apps.definition import AppDefinition
from ood.errors import PortalError
from ood.hosts.roles import PORTAL
from ood.sessions.card import Card
from ood.web.current import groups, portal
from ood.web.files.access import file_access

MAX_RECENT = 4


def init_app(app: Flask) -> None:
    app.jinja_env.globals.update(app_categories=app_categories, file_shortcuts=file_shortcuts)


def app_categories() -> list[tuple[str, str, list[AppDefinition]]]:
    """The user's apps as (category, subcategory, apps), sorted by name."""
    apps = portal().apps_for(groups()).values()
    by_name = sorted(apps, key=lambda app: (*_category(app), app.manifest.name))
    return [(*category, list(found)) for category, found in groupby(by_name, key=_category)]


def file_shortcuts() -> dict[str, str]:
    """The File Manager's shortcuts on the portal host, by path; empty if it cannot be reached."""
    try:
        return file_access(PORTAL).menu()
    except PortalError:
        return {}


def recently_used(cards: list[Card]) -> list[AppDefinition]:
    """The apps of the user's latest sessions, if the user may still launch them."""
    apps = portal().apps_for(groups())
    names = dict.fromkeys(card.record.app_name for card in cards)
    return [apps[name] for name in names if name in apps][:MAX_RECENT]


def _category(app: AppDefinition) -> tuple[str, str]:
    return app.manifest.category, app.manifest.subcategory
