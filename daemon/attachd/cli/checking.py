"""``check``: everything that can be found out before it goes wrong, a line each with what to do."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from attachd.cli import common
from attachd.service import inspecting


def check(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask Jira.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Check configuration, folders, locks, credentials and limits. Ends 1 if anything failed."""
    with common.mistakes_told():
        settings, state = common.prepared(config, instance)
        findings = inspecting.inspect(settings, state, os.environ, offline=offline)
    if as_json:
        common.print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(
                f"{finding.result:<8} {finding.what}: {finding.detail}"
                + (f" -> {finding.remedy}" if finding.remedy else "")
            )
    if any(finding.result == "failed" for finding in findings):
        raise typer.Exit(1)
