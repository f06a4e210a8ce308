"""``init``: asks for what only a person knows, finds out the rest, tries it and writes it. Each question is an option."""

from __future__ import annotations

import datetime
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from attachd.cli import check as cli_check
from attachd.cli import common, questions
from attachd.config import loader, validators
from attachd.setup import check, first_config
from attachd.setup.sign_in import Wanted


def init(
    url: Annotated[
        str | None,
        typer.Option("--url", help="Address of your Jira, for example your-domain.atlassian.net.", show_default=False),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="E-mail address of the account (Jira Cloud).", show_default=False)
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Read the token (oauth2: the first refresh token) from this file. -: stdin.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="basic, bearer or oauth2. Default: basic on Cloud, bearer on Data Center.",
            show_default=False,
        ),
    ] = None,
    client_id: Annotated[
        str | None, typer.Option("--client-id", help="Client id of the application (oauth2).", show_default=False)
    ] = None,
    client_secret_file: Annotated[
        str | None,
        typer.Option(
            "--client-secret-file",
            metavar="FILE",
            help="Read the client secret from this file (oauth2). -: stdin.",
            show_default=False,
        ),
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option("--scope", help="Scope (oauth2 on Data Center). Default: WRITE.", show_default=False),
    ] = None,
    token_url: Annotated[
        str | None,
        typer.Option(
            "--token-url",
            help="Token endpoint (oauth2), if not that of Atlassian or of Jira itself.",
            show_default=False,
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Folder for inbox, done and failed.", show_default=False)
    ] = None,
    projects: Annotated[
        str | None,
        typer.Option(
            "--projects",
            metavar="KEYS",
            help="Only these projects, for example TEST,FIN. '': all projects.",
            show_default=False,
        ),
    ] = None,
    token_expires: Annotated[
        str | None,
        typer.Option(
            "--token-expires", metavar="DAY", help="Last day of the token, for example 2027-03-01.", show_default=False
        ),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", help="PEM file of certificates to trust.", show_default=False)
    ] = None,
    proxy: Annotated[
        str | None, typer.Option("--proxy", help="Proxy for connections to Jira.", show_default=False)
    ] = None,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
) -> None:
    """Set up attachd: ask for site, account and token, try them, and write a configuration.

    On a terminal it asks for every option that is missing. Elsewhere, give all that are needed.
    """
    with common.mistakes_printed():
        place = first_config.place(config, instance, folder)
        first_config.is_free(place)
        whose = "the system service" if place.system else "your own user"
        print(f"This sets up attachd for {whose}: configuration {place.file}, folders in {place.folder}.")
        ask = questions.Asking(sys.stdin.isatty() and sys.stdout.isatty())
        wanted = Wanted(
            "",
            kind or "",
            user or "",
            ca_file.absolute() if ca_file else None,
            proxy,
            client_id or "",
            scope,
            token_url,
        )
        wanted, cloud = questions.site(ask, wanted, url)
        signed = questions.signed(ask, wanted, cloud, token_file, client_secret_file)
        served = ask.text(
            "Projects that may receive files, for example TEST,FIN (empty: all)", projects, default="", check=_projects
        )
        whose = "token" if signed.secrets.token else "client secret"
        last_day = ask.text(
            f"Last day of the {whose}, for example 2027-03-01 (empty: unknown)",
            token_expires,
            default="",
            check=_day,
        )
        if not place.system and folder is None and ask.terminal:
            answer = ask.text("Folder for inbox, done and failed", None, default=str(place.folder), check=_path)
            place = replace(place, folder=Path(os.path.expanduser(answer)).absolute())
        first_config.write(place, signed, _keys(served), last_day)
        _go_on(place)


# --- Valid answers -------------------------------------------------------------------------------------------------


def _projects(text: str) -> str:
    return " ".join(map(str, validators.projects(_keys(text))))


def _keys(text: str) -> list[str]:
    return [key.strip() for key in text.split(",") if key.strip()]


def _day(text: str) -> str:
    try:
        datetime.date.fromisoformat(text or "2027-03-01")
    except ValueError:
        return "is not a date. Write it like 2027-03-01."
    return ""


def _path(text: str) -> str:
    return "" if text.strip() else "is empty."


def _go_on(place: first_config.Place) -> None:
    """Check the whole setup, and say what comes next. Exit code 1 if a test fails."""
    c = "" if place.file in first_config.usual() else f" -c {place.file}"
    if place.system:
        named = f" --instance {place.file.stem}" if place.file.name != loader.FILE_NAME else ""
        unit = f"attachd@{place.file.stem}" if named else "attachd"
        print(f"\nNext: `attachd install{named}` creates user, folders and unit; then systemctl enable --now {unit}")
        return
    settings, state = common.prepared(place.file, None)
    findings = list(check.inspect(settings, state, os.environ, offline=False))
    wrong = [finding for finding in findings if finding.result != "ok"]
    cli_check.show(wrong)
    if any(finding.result == "failed" for finding in wrong):
        print(f"\nNext: correct what failed, then run attachd check{c}")
        raise typer.Exit(1)
    # Serving all projects may be intended, but a warning about Jira or the account needs a look.
    doubtful = any(finding.what.startswith("jira") for finding in wrong)
    verdict = "Nothing failed, but read the warnings above." if doubtful else "All tests passed."
    inbox = settings.folders.inbox
    print(
        f"\n{verdict} Put a file into a folder named like an issue, for example {inbox}/TEST-123/. Then run\n"
        f"  attachd once{c}           to attach it now, or\n"
        f"  attachd run{c}            to attach files until you press Ctrl-C, or\n"
        f"  attachd install --user{c} to set up your own service"
    )
