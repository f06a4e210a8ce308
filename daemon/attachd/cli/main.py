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


#: The verbs in the order in which `--help` shows them, by what they are for.
VERBS = {
    "The service": (service_verbs.run, taking.once, reloading.reload),
    "See": (showing.status, asking.why, history.history, checking.check, verifying.verify, paging.web),
    "Act": (retrying.retry, pausing.pause, pausing.resume),
    "Set up": (beginning.init, installing.install, installing.uninstall, copying.backup, copying.restore, trying.demo),
}
for panel, verbs in VERBS.items():
    for verb in verbs:
        app.command(verb.__name__, rich_help_panel=panel)(verb)


def main() -> None:
    """Run the command line, and end with its code. A user's mistake is told in words; a bug ends with its traceback."""
    # A writer that opens a file in the moment in which a lease is held on it would end the process (fcntl(2), F_SETLEASE).
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    app()
