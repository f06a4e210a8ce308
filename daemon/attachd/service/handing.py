"""Credentials as the units hand them over: of which names, from which files; and read by root where no unit does."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from attachd.config import Config, TokenSource, loading, secrets


def names(config: Config) -> list[str]:
    """The credentials that a configuration names."""
    sources: Iterable[TokenSource | None] = (config.jira.auth.token, config.jira.auth.client_secret)
    return [source.credential for source in sources if source is not None and source.credential is not None]


def file(name: str, instance: str | None) -> Path:
    """Where an administrator puts the secret that a credential hands over."""
    return loading.SYSTEM_FOLDER / (f"{instance}.{name}" if instance else name)


def read_by_root(config: Config, where: Path) -> dict[str, str]:
    """The credentials that the unit of the configuration at *where* would be handed, for ``secrets.read``.

    Nothing for another user than root, nor where systemd has handed something over; what cannot be read is left out.
    """
    if os.geteuid() != 0 or os.environ.get("CREDENTIALS_DIRECTORY"):
        return {}
    instance = where.stem if where.parent == loading.SYSTEM_FOLDER and where.name != loading.FILE_NAME else None
    held = {}
    for name in names(config):
        with suppress(OSError), file(name, instance).open("rb") as source:
            held[f"{secrets.HELD}{name}"] = os.fsdecode(source.read(secrets.MAXIMUM_BYTES + 1))
    return held
