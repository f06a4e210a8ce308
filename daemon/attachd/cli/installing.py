"""``install`` and ``uninstall``: a service of systemd, made and undone."""

from __future__ import annotations

from typing import Annotated

import typer

from attachd.cli import common

User = Annotated[bool, typer.Option("--user", help="A service of your own, without root.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")]
Refresh = Annotated[
    bool,
    typer.Option("--refresh", help="Replace units that are there: after an upgrade, or when the folders have changed."),
]


def install(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    user: User = False,
    dry_run: DryRun = False,
    refresh: Refresh = False,
    as_json: common.AsJson = False,
) -> None:
    """Make a service of systemd: its user, the group of those who drop files, folders, unit; starts nothing.

    A configuration that is not there yet is begun from the sample.

    No file is replaced without `--refresh`, and no configuration or token ever.
    """
    # Loaded here: the service itself, and every other verb, starts without.
    from attachd.cli import installation

    with common.mistakes_told():
        installation.install(config, instance, user=user, dry_run=dry_run, refresh=refresh, as_json=as_json)


def uninstall(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    user: User = False,
    dry_run: DryRun = False,
    as_json: common.AsJson = False,
) -> None:
    """Stop the service and take away what `install` has made, but for what is anybody's data.

    Configuration, token, journal, folders and the user stay.
    """
    from attachd.cli import installation

    with common.mistakes_told():
        installation.uninstall(config, instance, user=user, dry_run=dry_run, as_json=as_json)
