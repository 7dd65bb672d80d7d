"""The site's colours, logo, announcements and message of the day (settings: `ood/appearance.py`),
and the theme that the user chose."""

from datetime import UTC, datetime
from pathlib import Path

from flask import Blueprint, Flask, Response, current_app, redirect, request
from markupsafe import Markup, escape
from werkzeug.wrappers import Response as BaseResponse

from ood.appearance import Announcement
from ood.apps.templates import markdown
from ood.errors import ConfigError, NotFound
from ood.web.current import portal
from ood.web.errors import this_page
from ood.web.filters import fingerprint
from ood.web.signin import safe_next

bp = Blueprint("theme", __name__, url_prefix="/look")

THEMES = ("light", "dark")
THEME_COOKIE = "ood_theme"
THEME_SECONDS = 365 * 24 * 3600
PICTURES = {".svg": "svg+xml", ".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
MAX_PICTURE = 256 * 1024  # bytes
MAX_MOTD = 64 * 1024  # bytes


def init_app(app: Flask) -> None:
    """Raises `ConfigError` if the logo is not a valid picture."""
    settings = app.extensions["portal"].settings
    app.extensions["logo"] = read_picture(settings.logo) if settings.logo is not None else None
    version = fingerprint(f"{settings.colours.style_sheet()}{app.extensions['logo']}")
    app.jinja_env.globals.update(
        theme=theme, announcements=announcements, look_version=version, this_page=this_page
    )


@bp.get("/colours.css")
def colours() -> Response:
    sheet = portal().settings.colours.style_sheet()
    return _cached(Response(sheet, content_type="text/css; charset=utf-8"))


@bp.get("/logo")
def logo() -> Response:
    """The site's logo. The headers keep scripts in an SVG from running."""
    found: tuple[bytes, str] | None = current_app.extensions["logo"]
    if found is None:
        raise NotFound("This site has no logo.")
    response = Response(found[0], content_type=found[1])
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    )
    return _cached(response)


@bp.post("/theme")
def choose_theme() -> BaseResponse:
    """Store the theme in a cookie, or delete the cookie for the system's theme."""
    chosen = request.form.get("theme", "")
    response = redirect(safe_next(request.args.get("next")), 303)
    if chosen in THEMES:
        response.set_cookie(
            THEME_COOKIE,
            chosen,
            max_age=THEME_SECONDS,
            secure=current_app.config["SESSION_COOKIE_SECURE"],
            httponly=True,
            samesite="Lax",
        )
    else:
        response.delete_cookie(THEME_COOKIE)
    return response


def theme() -> str:
    """The theme that the user chose; empty for the system's theme."""
    chosen = request.cookies.get(THEME_COOKIE, "")
    return chosen if chosen in THEMES else ""


def announcements() -> list[Announcement]:
    now = datetime.now(UTC)
    return [each for each in portal().settings.announcements if each.is_on(now)]


def message_of_the_day() -> Markup:
    """The current content of the site's file, as HTML; empty without one."""
    path = portal().settings.motd
    if path is None:
        return Markup("")
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MOTD).decode("utf-8", "replace").strip()
    except OSError:  # the site may replace or remove the file at any time
        return Markup("")
    if path.suffix == ".md":
        return markdown(text)
    return Markup("<pre>{}</pre>").format(escape(text)) if text else Markup("")


def read_picture(path: Path) -> tuple[bytes, str]:
    """A picture and its content type. Raises `ConfigError`."""
    kind = PICTURES.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path}: the name of a logo must end in {', '.join(PICTURES)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_PICTURE:
        raise ConfigError(f"{path}: a logo can be at most {MAX_PICTURE // 1024} KiB")
    return data, f"image/{kind}"


def _cached(response: Response) -> Response:
    """Let browsers cache the response, whose address changes with its content."""
    response.headers["Cache-Control"] = "public, max-age=31536000"
    return response
