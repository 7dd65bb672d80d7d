"""Errors, rendered once: a fragment for HTMX, JSON for JSON, a page otherwise."""

from __future__ import annotations

import logging
from urllib.parse import quote

from flask import (
    Flask,
    Response,
    flash,
    g,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_login import current_user, logout_user
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import PortalError, SignInExpired
from ood.web.current import from_htmx, on_services_origin, portal, wants_json

log = logging.getLogger(__name__)

WORDS = {
    400: "The portal could not make sense of this request. Go back and try again.",
    403: "This request came from another site, so nothing was done.",
    404: "There is no such page.",
    405: "This cannot be done here. Go back and try again.",
    413: "This is more than the portal takes at once. Shorten it and try again.",
}


def init_app(app: Flask) -> None:
    app.register_error_handler(SignInExpired, _expired)
    app.register_error_handler(PortalError, _portal_error)
    app.register_error_handler(CSRFError, _stale_form)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _expired(error: SignInExpired) -> BaseResponse:
    """The host no longer knows the user, so neither does the portal."""
    log.info("sign-in expired: %s %s", error, error.detail)
    if current_user.is_authenticated:
        portal().sign_ins.remove(current_user.id, error.message)
        logout_user()
        flash(error.message)
    return sign_in_again(error.message)


def _portal_error(error: PortalError) -> Response:
    log.warning("%s %s: %s %s", request.method, request.path, error.message, error.detail)
    return answer(error.message, error.code, error.http_status)


def _stale_form(_error: CSRFError) -> Response:
    message = "This page is out of date. Reload it and try again."
    return answer(message, "stale-form", 400)


def _http_error(error: HTTPException) -> BaseResponse:
    status = error.code or 500
    if error.response is not None or status < 400:
        return error.get_response()
    message = WORDS.get(status, "This did not work. Go back and try again.")
    return answer(message, error.name.lower().replace(" ", "-"), status)


def _unexpected(_error: Exception) -> Response:
    log.exception("%s %s", request.method, request.path)
    message = (
        "Something went wrong in the portal. Your jobs are not affected. Try again; if it happens "
        "again, tell your administrator what you did."
    )
    return answer(message, "internal", InternalServerError.code)


def answer(message: str, code: str, status: int) -> Response:
    """Say one sentence in the form that the request wants."""
    g.said = message
    if wants_json():
        return make_response(jsonify(error={"code": code, "message": message}), status)
    if on_services_origin():  # where the portal's pages would lead nowhere
        return make_response(render_template("node/message.html", message=message), status)
    if from_htmx():
        said = render_template("_problem.html", message=message, code=code)
        response = make_response(said, status)
        response.headers["HX-Retarget"] = "#problem"
        response.headers["HX-Reswap"] = "innerHTML"
        return response
    return make_response(render_template("problem.html", message=message, code=code), status)


def sign_in_again(message: str) -> BaseResponse:
    """Lead to sign-in and, after it, back to this page."""
    if wants_json():
        return answer(message, "sign-in-expired", 401)
    here = this_page() if request.method == "GET" else url_for("sessions.index")
    if from_htmx():
        here = request.headers.get("HX-Current-URL", "").partition(request.host)[2]
        response = make_response("", 401)
        response.headers["HX-Redirect"] = url_for("signin.login", next=here or None)
        return response
    return redirect(url_for("signin.login", next=here))


def this_page() -> str:
    """The address of this request. Names of files in it may hold any bytes, `?` and `%`."""
    path = quote(request.environ["PATH_INFO"].encode("latin-1"))
    query = request.query_string.decode("latin-1")
    return f"{path}?{query}" if query else path
