"""Launching an app, from the values of its form to a job with a card.

The record is written before the job is submitted, and the job's comment holds the session ID. So no
job is without a card, even if the portal is killed at any moment.
"""

import json
import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ood.apps.definition import (
    CLUSTER_FIELD,
    AppDefinition,
    JobFiles,
    ScriptOptions,
    check_limits,
)
from ood.apps.templates import render
from ood.config import Cluster
from ood.errors import FileFailed, HostError, InvalidForm, LaunchFailed, SchedulerError
from ood.schedulers.base import JobRequest
from ood.sessions.board import Board
from ood.sessions.context_directory import FACTS, ContextDirectory, Facts
from ood.sessions.job_report import secret_file
from ood.sessions.record import SessionRecord
from ood.sessions.service import service_path

JOB_SCRIPT = Path(__file__).with_name("job_script_content.sh.j2")
JOB_ENVIRONMENT = Path(__file__).with_name("job_environment.sh.j2")

log = logging.getLogger(__name__)


def launch(board: Board, app: AppDefinition, cluster: Cluster, typed: Mapping[str, str]) -> str:
    """Launch an app; return the session ID.

    Raises `InvalidForm` for mistakes in `typed`. Raises `LaunchFailed` if the files could not be
    written or the scheduler refused the job, and then removes all files. If the scheduler does not
    answer, the job may exist, so the card stays.
    """
    record, directory, request, files, secrets = _prepare(board, app, cluster, typed)
    home = board.store.directory(record)
    where = "your home directory"
    try:
        home.write(files)
        board.begin(record)
        if cluster.unsynched:
            where = f"{cluster.label}, where the job would run"
            directory.write(files)
        # Secrets come last: deleting the card removes them, so the card must exist before them.
        directory.write(secrets)
    except HostError as error:
        board.discard(record)
        raise LaunchFailed(
            f"Could not write the job files to {where}: {error.message}",
            error.detail,
            topic=error.topic,
        ) from error
    except BaseException:
        board.submitted(record)
        raise
    _submit(board, cluster, record, request)
    return record.id


def _prepare(
    board: Board, app: AppDefinition, cluster: Cluster, typed: Mapping[str, str]
) -> tuple[SessionRecord, ContextDirectory, JobRequest, JobFiles, JobFiles]:
    """Check the values and render the job files. The second `JobFiles` contain the secrets."""
    values, now = app.read_form(typed), time.time()
    record = SessionRecord(
        id=str(uuid.uuid4()),
        cluster_id=cluster.id,
        job_id=None,
        created_at=int(now),
        token=app.token,
        title=app.manifest.name,
    )
    # The site's own secret replaces an empty one. No page ever shows it.
    secrets = {f.name: values.pop(f.name) or f.value for f in app.secrets}
    session = {
        "id": record.id,
        # The time in milliseconds is unique among the user's sessions.
        "run_id": datetime.fromtimestamp(now).strftime("%Y%m%d%H%M%S%f")[:17],
        "secrets": {name: secret_file(name) for name in secrets},
        "service_path": service_path(record.id),
    }
    known = {
        "app": app.manifest,
        "context": values,
        "session": session,
        "cluster": cluster,
        "user": board.user,
    }
    options = app.script_options(known)
    check_limits(options, cluster, board.monitors[cluster.id].limits(options.queue_name))
    session["log"] = options.output_path

    directory = board.job_directory(record)
    try:
        path = directory.path
    except HostError as error:
        raise LaunchFailed(
            f"Could not copy the job files to {cluster.label}: {error.message}",
            error.detail,
            topic=error.topic,
        ) from error
    request = _job_request(app, cluster, record, options, path, list(secrets))
    facts = Facts(
        withheld=tuple(name for name in secrets if typed.get(name)),
        directory=path if cluster.unsynched else "",
    )
    shown = {f.name: typed.get(f.name, "") for f in app.fields if not f.is_secret}
    context = json.dumps({CLUSTER_FIELD: cluster.id, **shown}, indent=2, ensure_ascii=False)
    contents = {
        "user_defined_context.json": context.encode(),
        "job_script_content.sh": request.content.encode(),
        "job_script_options.json": _options_json(request, options),
        FACTS: facts.to_json(),
    }
    files = app.job_files(known) | {name: (data, 0o600) for name, data in contents.items()}
    secret = {secret_file(n): (value.encode(), 0o600) for n, value in secrets.items() if value}
    return record, directory, request, files, secret


def remember_form(board: Board, app: AppDefinition, typed: Mapping[str, str]) -> None:
    """Save the values for the next form, except secrets and fields with `cacheable: false`."""
    names = [field.name for field in app.fields if field.cacheable and not field.is_secret]
    values = {name: typed[name] for name in [CLUSTER_FIELD, *names] if name in typed}
    try:
        board.store.remember_values(app.token, values)
    except FileFailed as error:  # the launch matters more
        log.warning("could not save %s's values for %s: %s", board.user, app.name, error.detail)


def _submit(board: Board, cluster: Cluster, record: SessionRecord, request: JobRequest) -> None:
    try:
        job_id = board.monitors[cluster.id].scheduler().submit(request)
    except LaunchFailed:
        board.discard(record)
        raise
    except (SchedulerError, HostError) as error:
        log.warning(
            "could not submit session %s of %s: %s", record.id, board.user, error, exc_info=True
        )
        board.submitted(record)
        return
    except BaseException:
        board.submitted(record)
        raise
    board.submitted(replace(record, job_id=job_id))
    log.info("%s launched session %s as job %s on %s", board.user, record.id, job_id, cluster.id)


def _job_request(
    app: AppDefinition,
    cluster: Cluster,
    record: SessionRecord,
    options: ScriptOptions,
    directory: str,
    secrets: list[str],
) -> JobRequest:
    names = [secret_file(name) for name in secrets]
    script = render(JOB_SCRIPT, work_dir=directory, set_host=cluster.set_host, secrets=names)
    return JobRequest(
        content=f"#!/bin/bash\n{_wrapped(cluster, script, directory)}\n",
        workdir=directory,
        output_path=f"{directory}/{options.output_path}",
        # The job name that Open OnDemand gives an app's jobs.
        job_name=options.job_name or f"sys-dashboard-sys-{app.name}",
        comment=record.comment,
        cores=options.cores,
        memory_gib=options.memory_gib,
        gpus_per_node=options.gpus_per_node,
        wall_time=options.wall_time,
        queue_name=options.queue_name,
        native=native_options(options),
    )


def _wrapped(cluster: Cluster, script: str, directory: str) -> str:
    """The script within the site's script_wrapper, which has the job's environment already."""
    wrapped = cluster.wrapped(script)
    if cluster.is_local:
        return wrapped
    # sbatch reads the #SBATCH lines of a wrapper only before the first command.
    comments = re.match(r"([ \t]*(#.*)?\n)*", wrapped)
    assert comments is not None
    environment = render(JOB_ENVIRONMENT, work_dir=directory)
    return f"{comments[0]}{environment}\n{wrapped[comments.end() :]}"


def native_options(options: ScriptOptions) -> list[str]:
    """Options for the scheduler's command: `native`, and those with names of their own."""
    account = [f"--account={options.accounting_id}"] if options.accounting_id else []
    email = ["--mail-type=BEGIN"] if options.email_on_started else []
    return [*account, *email, *options.native]


def _options_json(request: JobRequest, options: ScriptOptions) -> bytes:
    found: dict[str, Any] = {
        "job_name": request.job_name,
        "workdir": request.workdir,
        "output_path": request.output_path,
        **options.model_dump(exclude={"job_name", "output_path"}, exclude_none=True),
    }
    return json.dumps(found, indent=2).encode()


def cluster_of(clusters: Mapping[str, Cluster], typed: Mapping[str, str]) -> Cluster:
    """The selected cluster. Raises `InvalidForm` if it is not one of `clusters`."""
    chosen = clusters.get(typed.get(CLUSTER_FIELD, ""))
    if chosen is None:
        raise InvalidForm({CLUSTER_FIELD: "Choose one of the options."})
    return chosen
