"""The command ``attachd``: its verbs, each in the file of its family."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import attachd
from attachd.cli import checking, common, service_verbs, showing, trying

app = typer.Typer(
    name="attachd",
    help="A folder is a Jira issue: what is dropped into inbox/TEST-123/ is attached to TEST-123, exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"attachd {attachd.__version__}")
        raise typer.Exit


app.command("run")(service_verbs.run)
app.command("once")(service_verbs.once)
app.command("check")(checking.check)
app.command("status")(showing.status)
app.command("demo")(trying.demo)


def main() -> None:
    """Run the command line. A user's mistake ends in a line for each problem; anything else is a bug, with its traceback."""
    try:
        with common.mistakes_told():
            app(standalone_mode=False)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except typer.Abort:
        sys.exit(130)
    except click_usage() as error:
        error.show()
        sys.exit(2)


def click_usage() -> type[typer.BadParameter.__base__]:  # type: ignore[name-defined]
    """The class of all usage errors of the command line library."""
    import click

    return click.UsageError


if __name__ == "__main__":
    main()
