"""Credentials as the units hand them over: of which names, from which files; and read by root where no unit does."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from attachd.config import Config, loader, secrets
from attachd.config.secrets import Handed


def names(config: Config) -> list[str]:
    """The credentials that a configuration names."""
    sources = (config.jira.auth.token, config.jira.auth.client_secret, config.hooks.secret)
    return [source.credential for source in sources if source is not None and source.credential is not None]


def file(name: str, instance: str | None) -> Path:
    """Where an administrator puts the secret that a credential hands over."""
    return loader.SYSTEM_FOLDER / (f"{instance}.{name}" if instance else name)


def read_by_root(config: Config) -> None:
    """Read the credentials that the unit of this configuration would be handed, for a verb that root runs by itself.

    Nothing for another user than root, nor where systemd has handed something over. And nothing for a configuration that
    does not lie in /etc/attachd, or that others than root can change: it would say where root's secrets are sent.
    """
    if os.geteuid() != 0 or os.environ.get("CREDENTIALS_DIRECTORY") or not _is_roots(config.file):
        return
    instance = None if config.file.name == loader.FILE_NAME else config.file.stem
    for name in names(config):
        secrets.known[name] = _read(file(name, instance))


def _is_roots(where: Path) -> bool:
    real = where.resolve()
    paths = where.parent, real, *real.parents
    return where.parent == loader.SYSTEM_FOLDER and all(_only_roots(path.stat()) for path in paths)


def _only_roots(status: os.stat_result) -> bool:
    """Whether nobody else can put something in its place; in a folder with the sticky bit others can move only their own."""
    return status.st_uid == 0 and (not status.st_mode & 0o022 or bool(status.st_mode & stat.S_ISVTX))


def _read(path: Path) -> Handed:
    try:
        with path.open("rb") as source:
            return Handed(path, source.read(secrets.MAXIMUM_BYTES + 1))
    except OSError as error:
        return Handed(path, error=error.strerror or str(error))
