"""Renders errors as a page, as a fragment for HTMX or as JSON."""

import logging
from http import HTTPStatus
from urllib.parse import quote

from flask import Flask, Response, flash, g, jsonify, redirect, render_template, request, url_for
from flask_login import current_user, logout_user
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import PortalError, SignInExpired
from ood.help_topics import HelpTopic
from ood.web.addresses import same_query
from ood.web.current import from_htmx, on_services_origin, portal, wants_json

log = logging.getLogger(__name__)

RETRY_AFTER = "3"  # seconds
WORDS = {
    400: "The portal did not understand this request. Go back and try again.",
    403: "This request came from another site, so the portal did nothing.",
    404: "Page not found.",
    405: "This page does not allow that action. Go back and try again.",
    413: "This request is too large for the portal. Send less and try again.",
}


def init_app(app: Flask) -> None:
    app.register_error_handler(SignInExpired, _expired)
    app.register_error_handler(PortalError, _portal_error)
    app.register_error_handler(CSRFError, _stale_form)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _expired(error: SignInExpired) -> BaseResponse:
    """Sign the user out of the portal too."""
    log.info("sign-in expired: %s %s", error, error.detail)
    if current_user.is_authenticated:
        portal().sign_ins.remove(current_user.id, error.message)
        logout_user()
        flash(error.message)
    return sign_in_again(error.message)


def _portal_error(error: PortalError) -> Response:
    log.warning("%s %s: %s %s", request.method, request.path, error.message, error.detail)
    return answer(error.message, error.code, error.http_status, error.topic)


def _stale_form(_error: CSRFError) -> Response:
    message = "This page is out of date. Reload it and try again."
    return answer(message, "stale-form", 400, HelpTopic.SIGNED_OUT)


def _http_error(error: HTTPException) -> BaseResponse:
    status = error.code or 500
    if error.response is not None or status < 400:
        return error.get_response()
    message = WORDS.get(status, "That did not work. Go back and try again.")
    return answer(message, error.name.lower().replace(" ", "-"), status)


def _unexpected(_error: Exception) -> Response:
    log.exception("%s %s", request.method, request.path)
    message = (
        "Something went wrong in the portal. Your jobs are not affected. Try again. If it happens "
        "again, tell your administrator what you did."
    )
    return answer(message, "internal", InternalServerError.code, HelpTopic.PORTAL)


def answer(message: str, code: str, status: int, topic: HelpTopic | None = None) -> Response:
    """Render an error message in the format that the request asks for."""
    g.said = message
    if wants_json():
        response = jsonify(error={"code": code, "message": message})
    elif on_services_origin():  # the portal's own links do not work there
        response = Response(render_template("node/message.html", message=message))
    elif from_htmx():
        response = Response(render_template("_problem.html", message=message, topic=topic))
        response.headers.update({"HX-Retarget": "#page-problem", "HX-Reswap": "innerHTML"})
    else:
        response = Response(render_template("problem.html", message=message, topic=topic))
    response.status_code = status
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_AFTER
    return response


def sign_in_again(message: str) -> BaseResponse:
    """Redirect to the sign-in page, which then returns to this page."""
    if wants_json():
        return answer(message, "sign-in-expired", 401)
    here = this_page() if request.method == "GET" else url_for("sessions.index")
    if from_htmx():
        here = request.headers.get("HX-Current-URL", "").partition(request.host)[2]
        address = url_for("signin.login", next=here or None)
        return Response(status=401, headers={"HX-Redirect": address})
    return redirect(url_for("signin.login", next=here))


def this_page() -> str:
    """The path and query of this request. Names in the path may contain any bytes, `?` and `%`."""
    return quote(request.environ["PATH_INFO"].encode("latin-1")) + same_query()
