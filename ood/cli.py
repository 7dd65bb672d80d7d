"""The command for administrators and app authors: `flask --app app check`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ood.check import check_all
from ood.config import EMBEDDED


@click.command("check")
@click.argument("portal_yml", type=click.Path(path_type=Path), required=False)
def check(portal_yml: Path | None) -> None:
    """List all mistakes in portal.yml, clusters.d and app_defs, with file, line and key.

    PORTAL_YML defaults to $OOD_PORTAL_CONFIG, or else to the embedded configuration. The exit code
    is 1 if there are mistakes. Warnings do not change it.
    """
    path = portal_yml or Path(os.environ.get("OOD_PORTAL_CONFIG", EMBEDDED))
    mistakes, warnings = check_all(path)
    for line in mistakes:
        click.echo(line)
    for line in warnings:
        click.echo(f"Warning: {line}")
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        click.echo(f"{count} found in {path} or the files it names.", err=True)
        sys.exit(1)
    click.echo(f"No mistakes found in {path} or the files it names.")
