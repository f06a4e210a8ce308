"""``init``: asks for what only a person knows, finds out the rest, tries it, and writes it down; each question is an option."""

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
        str | None, typer.Option("--url", help="The site, such as your-domain.atlassian.net.", show_default=False)
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="The account's e-mail address (Jira Cloud).", show_default=False)
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Take the token (oauth2: the first refresh token) from this file; - is stdin.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="basic, bearer or oauth2; basic on Cloud, bearer elsewhere.", show_default=False),
    ] = None,
    client_id: Annotated[
        str | None, typer.Option("--client-id", help="The application's id (oauth2).", show_default=False)
    ] = None,
    client_secret_file: Annotated[
        str | None,
        typer.Option(
            "--client-secret-file",
            metavar="FILE",
            help="Take the application's secret from this file (oauth2); - is stdin.",
            show_default=False,
        ),
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(
            "--scope", help="What to ask for (oauth2 on Data Center); WRITE if not given.", show_default=False
        ),
    ] = None,
    token_url: Annotated[
        str | None,
        typer.Option(
            "--token-url",
            help="Where access tokens are asked for (oauth2), if that is not Atlassian or Jira itself.",
            show_default=False,
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where inbox, done and failed go.", show_default=False)
    ] = None,
    projects: Annotated[
        str | None,
        typer.Option(
            "--projects", metavar="KEYS", help="Only these projects, as in TEST,FIN; '' is all.", show_default=False
        ),
    ] = None,
    token_expires: Annotated[
        str | None,
        typer.Option(
            "--token-expires", metavar="DAY", help="The token's last day, as in 2027-03-01.", show_default=False
        ),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", help="Certificates to trust.", show_default=False)
    ] = None,
    proxy: Annotated[
        str | None, typer.Option("--proxy", help="The proxy on the way to Jira.", show_default=False)
    ] = None,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
) -> None:
    """Set attachd up: ask for site, account and token, try them, and write a configuration.

    Asks for what is not given as an option, on a terminal; elsewhere all that is needed has to be given.
    """
    with common.mistakes_printed():
        place = first_config.place(config, instance, folder)
        first_config.is_free(place)
        whose = "a service of the system" if place.system else "yourself"
        print(f"This sets up attachd for {whose}: {place.file}, and folders in {place.folder}.")
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
            "Projects that may receive files, as in TEST,FIN (empty: all)", projects, default="", check=_projects
        )
        whose = "token" if signed.secrets.token else "client secret"
        last_day = ask.text(
            f"The {whose}'s last day, as in 2027-03-01 (empty: not known)",
            token_expires,
            default="",
            check=_day,
        )
        if not place.system and folder is None and ask.terminal:
            answer = ask.text("Folder for inbox, done and failed", None, default=str(place.folder), check=_path)
            place = replace(place, folder=Path(os.path.expanduser(answer)).absolute())
        first_config.write(place, signed, _keys(served), last_day)
        _go_on(place)


# --- What is an answer ---------------------------------------------------------------------------------------------


def _projects(text: str) -> str:
    return " ".join(map(str, validators.projects(_keys(text))))


def _keys(text: str) -> list[str]:
    return [key.strip() for key in text.split(",") if key.strip()]


def _day(text: str) -> str:
    try:
        datetime.date.fromisoformat(text or "2027-03-01")
    except ValueError:
        return "This is no day: write it as in 2027-03-01."
    return ""


def _path(text: str) -> str:
    return "" if text.strip() else "Name a folder."


def _go_on(place: first_config.Place) -> None:
    """Check all of it, and say what comes next. Ends 1 where something failed."""
    c = "" if place.file in first_config.usual() else f" -c {place.file}"
    if place.system:
        named = f" --instance {place.file.stem}" if place.file.name != loader.FILE_NAME else ""
        unit = f"attachd@{place.file.stem}" if named else "attachd"
        print(f"\nNext: attachd install{named}, which makes user, folders and unit, then systemctl enable --now {unit}")
        return
    settings, state = common.prepared(place.file, None)
    findings = list(check.inspect(settings, state, os.environ, offline=False))
    wrong = [finding for finding in findings if finding.result != "ok"]
    cli_check.tell(wrong)
    if any(finding.result == "failed" for finding in wrong):
        print(f"\nNext: see to what failed, then attachd check{c}")
        raise typer.Exit(1)
    # That all projects are served may be meant; what is said of Jira and the account is to be looked at.
    doubtful = any(finding.what.startswith("jira") for finding in wrong)
    verdict = "Nothing failed, but see above." if doubtful else "All is well."
    inbox = settings.folders.inbox
    print(
        f"\n{verdict} Put a file into a folder that is named like an issue, such as {inbox}/TEST-123/, and then\n"
        f"  attachd once{c}           attaches what is there, and ends\n"
        f"  attachd run{c}            does so until Ctrl-C\n"
        f"  attachd install --user{c} makes a service of yours that does so from now on"
    )
