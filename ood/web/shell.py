"""Shell Access: a terminal in the browser, on the portal host, a log-in host or a job's node."""

import logging
import re
import secrets

from flask import (
    Blueprint,
    Response,
    copy_current_request_context,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_login import current_user
from werkzeug.exceptions import BadRequest, Forbidden
from werkzeug.wrappers import Response as BaseResponse

from ood.auth.signins import SignIn
from ood.errors import NotFound, PortalError, SignInExpired
from ood.hosts.base import Host
from ood.hosts.roles import PORTAL, has_shell
from ood.shells.shell import MAX_SIZE, Shell, Where
from ood.shells.websocket import NoWebSocket, WebSocket
from ood.web.addresses import asked_path, is_possible, shell_address
from ood.web.current import board, groups, note, portal, user, wants_json
from ood.web.security import policy_with
from ood.web.upgrades import connection_of_request, take_over

log = logging.getLogger(__name__)
bp = Blueprint("shell", __name__, url_prefix="/shell")

JOB_ID_IN_ADDRESS = re.compile(r"[0-9][0-9_+]{0,39}")


bp.add_app_template_global(shell_address)


@bp.app_template_global()
def shell_hosts() -> dict[str, str]:
    """The titles of the hosts on which the user may open a shell, by their IDs in addresses. Empty
    if the site has turned shells off."""
    if not portal().settings.shell.enabled:
        return {}
    clusters = portal().clusters_for(groups()).values()
    own = {cluster.id: cluster.label for cluster in clusters if has_shell(cluster)}
    return {PORTAL: "Portal host"} | own


@bp.before_request
def _check_enabled() -> None:
    if not portal().settings.shell.enabled:
        raise NotFound("Shells are turned off on this portal.")


@bp.get("")
@bp.get("/")
def index() -> str | Response:
    """The hosts to open a shell on, and the user's open shells."""
    shells = portal().shells.of(user())
    if wants_json():
        return jsonify(shells=[_facts(shell) for shell in shells])
    return render_template("shell/index.html", hosts=shell_hosts(), open_shells=shells)


@bp.post("")
def close() -> BaseResponse:
    portal().shells.close(portal().shells.find(user(), request.form.get("shell", "")))
    flash("The shell is closing.", "done")
    return redirect(url_for("shell.index"), 303)


@bp.get("/<host>")
def home(host: str) -> Response:
    return _page(host, "")


@bp.get("/<host>/", defaults={"path": ""}, merge_slashes=False)
@bp.get("/<host>/<rest:path>", merge_slashes=False)
def show(host: str, path: str) -> Response:  # noqa: ARG001 - Werkzeug has changed some bytes
    return _page(host, asked_path())


def _page(host: str, path: str) -> Response:
    hosts = shell_hosts()
    if host not in hosts or not is_possible(path):
        raise NotFound("Host or directory not found.")
    if wants_json():  # from a page whose connection dropped: does its shell still exist?
        return jsonify(_facts(portal().shells.find(user(), request.args.get("shell", ""))))
    nonce = secrets.token_urlsafe(16)
    page = render_template(
        "shell/show.html",
        host=host,
        title=hosts[host],
        path=path,
        job=request.args.get("job", ""),
        nonce=nonce,
    )
    policy = policy_with("style-src", f"'nonce-{nonce}'")  # for the terminal's style elements
    return Response(page, headers={"Content-Security-Policy": policy})


def _facts(shell: Shell) -> dict[str, object]:
    """`since` is in seconds since the epoch."""
    return {
        "id": shell.id,
        "title": shell.where.title,
        "since": shell.since,
        "address": address_of_shell(shell),
    }


@bp.app_template_filter("shell_page")
def address_of_shell(shell: Shell) -> str:
    """The address of the page that shows a shell."""
    address = shell_address(shell.where.host, shell.where.path)
    return f"{address}?shell={shell.id}"


# ---- The WebSocket


@bp.route("/<host>", websocket=True)
@bp.route("/<host>/", defaults={"path": ""}, websocket=True, merge_slashes=False)
@bp.route("/<host>/<rest:path>", websocket=True, merge_slashes=False)
def socket(host: str, path: str | None = None) -> Response:
    """Connect a page to the shell that it names, or to a new one."""
    _check_origin()
    connection = connection_of_request()
    try:
        websocket = WebSocket(lambda name: request.headers.get(name, ""))
    except NoWebSocket:
        raise BadRequest from None
    websocket.take(take_over(connection))
    # From here on, only the WebSocket can reach the browser.
    path = asked_path() if path is not None else ""
    connect = copy_current_request_context(_connect)
    portal().shells.openers.submit(connect, websocket, host, path)
    return Response()  # is not sent


def _connect(websocket: WebSocket, host: str, path: str) -> None:
    """The rest of `socket`, in a thread that may wait for a host."""
    sign_in: SignIn = current_user._get_current_object()
    try:
        given = request.args
        if "shell" in given:
            shell = portal().shells.find(sign_in.user, given["shell"])
        else:
            shell = _open(sign_in, host, path)
        portal().shells.show(shell, sign_in, websocket, given.get("seen", type=int))
    except Exception as error:
        if isinstance(error, SignInExpired):
            portal().sign_ins.remove(sign_in.id, error.message)
        websocket.refuse(*_code_and_message(error))


def _check_origin() -> None:
    """Raise `Forbidden` unless the request comes from a page of the portal. Browsers let pages of
    any site open WebSockets, but send the site's origin."""
    is_own = request.headers.get("Origin") == request.host_url.rstrip("/")
    if not is_own or request.headers.get("Sec-Fetch-Site") not in (None, "same-origin"):
        raise Forbidden("This request came from another site.")


def _code_and_message(error: Exception) -> tuple[str, str]:
    if isinstance(error, PortalError):
        said = f"{error.message} {error.detail}"
        log.warning("could not open a shell for %s: %s", user(), said)
        return error.code, error.message
    log.error("could not open a shell for %s", user(), exc_info=error)
    return "internal", "Something went wrong in the portal. Open another shell."


def _open(sign_in: SignIn, host: str, path: str) -> Shell:
    """Start a shell in a directory. Raises `PortalError`."""
    if not is_possible(path):
        raise NotFound("Directory not found.")
    job = request.args.get("job", "")
    machine, title, intro = _machine(host, job)
    where = Where(host, path, job, title)
    columns, rows = (
        min(max(request.args.get(name, usual, int), 1), MAX_SIZE)
        for name, usual in (("columns", 80), ("rows", 24))
    )
    shell = portal().shells.open(sign_in, machine, where, columns, rows, intro)
    note("shell-opened", sign_in.user, host=machine.name, object=where.directory)
    return shell


def _machine(id: str, job: str) -> tuple[Host, str, str]:
    """The host that an address names, its title, and a message for the user, if any. Raises
    `NotFound`, and `SchedulerError` when the scheduler does not report the job's node."""
    hosts, roles = shell_hosts(), portal().hosts
    if id not in hosts:
        raise NotFound("Host not found.")
    title = hosts[id]
    cluster = portal().clusters_for(groups()).get(id) if id != PORTAL else None
    if cluster is None:
        return portal().pool.portal_host(user()), title, ""
    login_host = roles.shell_host(user(), cluster)
    if not job or cluster.is_local or cluster.job is None:
        return login_host, title, ""
    if not JOB_ID_IN_ADDRESS.fullmatch(job):
        raise NotFound("Job not found.")
    node = board().host_of_job(id, job)
    if node:
        return roles.shell_host(user(), cluster, node), f"{title}: {node}", ""
    why = f"Job {job} is not running, or it runs on several nodes."
    intro = f"{why} This is the log-in host of {title}."
    return login_host, title, intro
