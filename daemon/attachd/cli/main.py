"""The command ``attachd``: its verbs, each in the file of its family."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

import attachd
from attachd.cli import (
    asking,
    beginning,
    checking,
    copying,
    history,
    installing,
    paging,
    pausing,
    reloading,
    retrying,
    service_verbs,
    showing,
    taking,
    trying,
    verifying,
)

app = typer.Typer(
    name="attachd",
    help="A folder is a Jira issue: what is dropped into inbox/TEST-123/ is attached to TEST-123, exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"attachd {attachd.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    del version


app.command("run")(service_verbs.run)
app.command("once")(taking.once)
app.command("check")(checking.check)
app.command("status")(showing.status)
app.command("why")(asking.why)
app.command("history")(history.history)
app.command("retry")(retrying.retry)
app.command("pause")(pausing.pause)
app.command("resume")(pausing.resume)
app.command("reload")(reloading.reload)
app.command("backup")(copying.backup)
app.command("restore")(copying.restore)
app.command("init")(beginning.init)
app.command("install")(installing.install)
app.command("uninstall")(installing.uninstall)
app.command("verify")(verifying.verify)
app.command("web")(paging.web)
app.command("demo")(trying.demo)


def main() -> None:
    """Run the command line, and end with its code. A user's mistake is told in words; a bug ends with its traceback."""
    # A writer that opens a file in the moment in which a lease is held on it would end the process (fcntl(2), F_SETLEASE).
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    app()
