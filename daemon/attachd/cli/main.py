"""The command ``attachd``: its verbs, each in the file of its family."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Annotated

import typer

import attachd
from attachd.cli import common

#: The verbs in the order in which `--help` shows them, by what they are for. Each is in the file of its name, or of its opposite.
VERBS = {
    "The service": ("run", "once", "reload"),
    "See": ("status", "why", "history", "check", "verify", "web"),
    "Act": ("retry", "pause", "resume"),
    "Set up": ("init", "install", "uninstall", "backup", "restore", "demo"),
}
_BESIDE = {"resume": "pause", "uninstall": "install", "restore": "backup"}


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"attachd {attachd.__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    del version
    # What stands before the verb counts as if it stood after it; the same option there wins.
    before = {"config": config, "instance": instance}
    context.default_map = {verb: before for verbs in VERBS.values() for verb in verbs}


def application(wanted: Collection[str] = ()) -> typer.Typer:
    """The command with those of its verbs that are *wanted*, or with all: one verb starts in two thirds of the time."""
    app = typer.Typer(
        name="attachd",
        help="A folder is a Jira issue: what is dropped into inbox/TEST-123/ is attached to TEST-123, exactly once.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for panel, verbs in VERBS.items():
        for verb in verbs:
            if not wanted or verb in wanted:
                family = importlib.import_module(f"attachd.cli.{_BESIDE.get(verb, verb)}")
                app.command(verb, rich_help_panel=panel)(getattr(family, verb))
    return app


def chosen(words: Sequence[str]) -> typer.Typer:
    """The command with what a command line asks for: one verb, or all where it names none first."""
    known = {verb for verbs in VERBS.values() for verb in verbs}
    return application([word for word in words[:1] if word in known])


def main(app: Callable[[], object] | None = None) -> None:
    """Run the command line, and end with its code. A user's mistake is told in words; a bug ends with its traceback."""
    # A writer that opens a file in the moment in which a lease is held on it would end the process (fcntl(2), F_SETLEASE).
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    (app or chosen(sys.argv[1:]))()
