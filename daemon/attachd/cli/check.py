"""``check``: tests the whole setup, and prints a line for each finding with what to do."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from attachd.cli import common
from attachd.setup import check as setup_check
from attachd.setup.finding import Finding


def check(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not connect to Jira.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Test the whole setup: configuration, folders, permissions, Jira login and limits.

    Exit code 1 if a test fails.
    """
    with common.session(config, instance, check_token=True) as session:
        findings = setup_check.inspect(session.config, session.state, os.environ, offline=offline)
    if as_json:
        common.print_json([asdict(finding) for finding in findings])
    else:
        show(findings)
        print(summary(findings))
    if any(finding.result == "failed" for finding in findings):
        raise typer.Exit(1)


def show(findings: Sequence[Finding]) -> None:
    """Print a line for each finding or, on a terminal, a table with what to do below each problem."""
    if not sys.stdout.isatty():
        for finding in findings:
            print(f"{finding.result:<8} {finding.what}: {finding.detail}" + _remedy(" -> ", finding))
        return
    # Only a terminal needs the module that draws.
    from attachd.cli import terminal

    drawn = terminal.empty_table("", "result", "", "", header=False)
    for finding in findings:
        drawn.add_row(terminal.coloured(finding.result), finding.what, finding.detail + _remedy("\n→ ", finding))
    terminal.wide_console().print(drawn)


def _remedy(arrow: str, finding: Finding) -> str:
    return f"{arrow}{finding.remedy}" if finding.remedy else ""


def summary(findings: Sequence[Finding]) -> str:
    """Return how many tests ran, and with what result."""
    counts = Counter(finding.result for finding in findings)
    failed, warnings = counts["failed"], counts["warning"]
    said = [f"{counts['ok']} ok", f"{warnings} warning{'s' if warnings != 1 else ''}", f"{failed} failed"]
    return f"{len(findings)} checks: {', '.join(said)}."
