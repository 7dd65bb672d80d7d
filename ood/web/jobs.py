"""Active Jobs: all jobs of a user on all back-ends, with or without sessions."""

from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Response, flash, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from ood.config import Cluster
from ood.errors import NotFound
from ood.help_topics import Reason
from ood.schedulers.base import Job, JobStatus
from ood.sessions.causes import why_it_ended
from ood.sessions.job_table import JobRow, Jobs, jobs_on, parent_id
from ood.web.current import board, groups, note, portal, user, wants_json
from ood.web.tables import Columns, TablePage, TableQuery, page_of, table_query

bp = Blueprint("jobs", __name__, url_prefix="/jobs")

PAGE_SIZE = 50
LIVE_FIRST = (
    JobStatus.RUNNING,
    JobStatus.STARTING,
    JobStatus.QUEUED,
    JobStatus.HELD,
    JobStatus.SUSPENDED,
    JobStatus.UNDETERMINED,
    JobStatus.COMPLETED,
)
COLUMNS: Columns[JobRow] = {
    "id": lambda row: _number(row.job.id),
    "name": lambda row: row.job.name.lower(),
    "user": lambda row: row.job.user,
    "account": lambda row: row.job.account,
    "time": lambda row: row.job.time_used or 0,
    "partition": lambda row: row.job.partition,
    "status": lambda row: LIVE_FIRST.index(row.status),
    "cluster": lambda row: row.cluster.label,
}


@bp.get("")
def index() -> str | Response:
    if not wants_json():
        return _table("jobs/index.html")
    query, clusters = _query(), portal().job_clusters(groups())
    jobs = _jobs(query, clusters.values())
    return _as_json(jobs, _page(jobs.rows, query), clusters)


@bp.get("/changes")
def changes() -> str | Response:
    """The table, unless it has not changed since `have`: then 204."""
    table = _table("jobs/_changed.html")
    return table if table.strip() else Response(status=204)


@bp.get("/<cluster>/<job_id>")
def show(cluster: str, job_id: str) -> str | Response:
    row = _find(cluster, job_id)
    if wants_json():
        return jsonify(as_json(row, why(row, wait=True).text))
    return render_template("jobs/show.html", row=row, why=why(row, wait=True), user=user())


@bp.post("/<cluster>/<job_id>/cancel")
def cancel(cluster: str, job_id: str) -> BaseResponse:
    row = _find(cluster, job_id)
    if row.own_card is not None:
        board().cancel(row.own_card.record.id)
    else:
        monitor = board().monitors[cluster]
        monitor.scheduler().cancel(row.job.id)
        monitor.outdate()
    note("cancel", user(), host=cluster, object=row.job.id)
    flash(f"Job {row.job.id} is being cancelled. This can take a few seconds.", "done")
    return redirect(url_for("jobs.index"), 303)


def _table(template: str) -> str:
    query, clusters = _query(), portal().job_clusters(groups())
    jobs = _jobs(query, clusters.values())
    page = _page(jobs.rows, query)
    return render_template(
        template,
        page=page,
        query=query,
        everyones=query.filters["whose"] == "all",
        problems=jobs.problems,
        clusters=clusters.values(),
        statuses=list(JobStatus),
        link=lambda **changes: url_for("jobs.index") + query.link(**changes),
        changes_address=url_for("jobs.changes") + query.link(page=page.number),
        user=user(),
        have=request.args.get("have", ""),
    )


def _find(cluster_id: str, job_id: str) -> JobRow:
    """One job. Raises `NotFound`, and the cluster's own error if it does not answer."""
    cluster = portal().job_clusters(groups()).get(cluster_id)
    for everyones in (False, True) if cluster is not None else ():
        assert cluster is not None
        jobs = jobs_on(board(), [cluster], everyones=everyones)
        for row in jobs.rows:
            if row.job.id == job_id:
                return row
        for problem in jobs.problems.values():
            raise problem
    raise NotFound("Job not found. It may have ended too long ago to be listed.")


def _query() -> TableQuery:
    given = request.args
    return table_query(
        {
            "whose": "all" if given.get("whose") == "all" else "",
            "cluster": given.get("cluster", ""),
            "status": given.get("status", ""),
        }
    )


def _jobs(query: TableQuery, clusters: Iterable[Cluster]) -> Jobs:
    return jobs_on(board(), clusters, everyones=query.filters["whose"] == "all")


def _page(rows: Iterable[JobRow], query: TableQuery) -> TablePage[JobRow]:
    """One page of the jobs that match the filters. By default, jobs that have not ended come first,
    the newest at the top."""
    cluster, status = query.filters["cluster"], query.filters["status"]
    text = query.text.lower()
    found = [
        row
        for row in rows
        if cluster in ("", row.cluster.id)
        and status in ("", row.status)
        and (not text or text in _text(row.job))
    ]
    found.sort(key=lambda row: (row.status is JobStatus.COMPLETED, -(row.job.submitted_at or 0)))
    return page_of(found, query, COLUMNS, PAGE_SIZE)


def _text(job: Job) -> str:
    return "\n".join((job.id, job.name, job.user, job.account, job.partition)).lower()


def _number(id: str) -> tuple[int, str]:
    """The sort key of a job's ID, by its number."""
    number = parent_id(id)
    return (int(number) if number.isdigit() else 0, id)


@bp.app_template_filter()
def why(row: JobRow, *, wait: bool = False) -> Reason:
    """Why a job waits, how it ended, or why its status is unknown; `NO_REASON` if none is known."""
    if row.own_card is not None and row.own_card.reason:
        return Reason(row.own_card.reason, row.own_card.topic)
    if row.outcome is not None:
        code = row.exit_code or 0
        return why_it_ended(row.job, row.outcome) or Reason(f"Exit code {code}." if code else "")
    return board().monitors[row.cluster.id].why_it_waits(row.job, wait=wait)


def as_json(row: JobRow, reason: str) -> dict[str, Any]:
    """The facts of a job. Durations are in seconds, times in seconds since the epoch."""
    job = row.job
    return {
        "id": job.id,
        "cluster": row.cluster.id,
        "name": job.name,
        "user": job.user,
        "account": job.account,
        "partition": job.partition,
        "status": row.status,
        "outcome": row.outcome,
        "exit_code": row.exit_code,
        "signal": job.signal,
        "state": job.state,
        "state_reason": job.reason,
        "reason": reason,
        "nodes": job.nodes,
        "node_list": job.host,
        "cores": job.cores,
        "memory_mib": job.memory_mib,
        "gpus": job.gpus,
        "time_limit": job.time_limit,
        "time_used": job.time_used,
        "submitted_at": job.submitted_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "output_location": job.work_dir,
        "session": row.card.record.id if row.card is not None else None,
    }


def _as_json(jobs: Jobs, page: TablePage[JobRow], clusters: dict[str, Cluster]) -> Response:
    return jsonify(
        jobs=[as_json(row, why(row).text) for row in page.rows],
        total=page.total,
        page=page.number,
        pages=page.pages,
        clusters=[
            {
                "id": id,
                "title": cluster.label,
                "problem": jobs.problems[id].message if id in jobs.problems else None,
            }
            for id, cluster in clusters.items()
        ],
    )
