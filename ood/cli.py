"""Commands for administrators and authors of apps: `flask --app app COMMAND`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ood.check import check_all
from ood.config import EMBEDDED


def asked_to_check() -> bool:
    """Whether this process is `flask … check`, for which there may be no portal to start."""
    return os.environ.get("FLASK_RUN_FROM_CLI") == "true" and "check" in sys.argv[1:]


@click.command("check")
@click.argument("portal_yml", type=click.Path(path_type=Path), required=False)
def check(portal_yml: Path | None) -> None:
    """Name every mistake in portal.yml, clusters.d and app_defs, with its file, line and key.

    PORTAL_YML is the file that OOD_PORTAL_CONFIG names, or the embedded default, unless given. The
    exit code is 1 when there is a mistake; warnings do not count.
    """
    path = portal_yml or Path(os.environ.get("OOD_PORTAL_CONFIG", EMBEDDED))
    mistakes, warnings = check_all(path)
    for line in mistakes:
        click.echo(line)
    for line in warnings:
        click.echo(f"Warning: {line}")
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        click.echo(f"{count} in what {path} leads to.", err=True)
        sys.exit(1)
    click.echo(f"No mistakes in what {path} leads to.")
