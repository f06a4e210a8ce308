"""The command ``attachd`` and its verbs."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Annotated

import typer

import attachd
from attachd.cli import common

#: The verbs in the order of `--help`. Each is in the file of its name, or of its opposite.
VERBS = {
    "The service": ("run", "once", "reload"),
    "See": ("status", "why", "history", "check", "verify", "web"),
    "Act": ("retry", "pause", "resume"),
    "Set up": ("init", "install", "uninstall", "backup", "restore", "demo"),
}
_BESIDE = {"resume": "pause", "uninstall": "install", "restore": "backup"}


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"attachd {attachd.__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version
    # An option before the verb counts as if it stood after it. The same option after the verb wins.
    before = {"config": config, "instance": instance}
    context.default_map = {verb: before for verbs in VERBS.values() for verb in verbs}


def application(wanted: Collection[str] = ()) -> typer.Typer:
    """Return the command with the *wanted* verbs, or with all. With one verb it starts in two thirds of the time."""
    app = typer.Typer(
        name="attachd",
        help="Attach files to Jira issues: attachd attaches a file in inbox/TEST-123/ to TEST-123, exactly once.",
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
    """Return the command with the verb that begins the command line, or with all verbs."""
    known = {verb for verbs in VERBS.values() for verb in verbs}
    return application([word for word in words[:1] if word in known])


def main(app: Callable[[], object] | None = None) -> None:
    """Run the command line and end with its exit code. A user's mistake is one sentence; a bug has its traceback."""
    # SIGIO would end the process when a writer opens a file while attachd has a lease on it (fcntl(2), F_SETLEASE).
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    (app or chosen(sys.argv[1:]))()
