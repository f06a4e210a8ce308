"""systemd credentials: their names, their files, and how root reads them for a verb that no unit started."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from attachd.config import Config, loader, secrets
from attachd.config.secrets import Handed


def names(config: Config) -> list[str]:
    """Return the names of the credentials in a configuration."""
    sources = (config.jira.auth.token, config.jira.auth.client_secret, config.hooks.secret)
    return [source.credential for source in sources if source is not None and source.credential is not None]


def file(name: str, instance: str | None) -> Path:
    """Return the file in which the administrator puts the secret of a credential."""
    return loader.SYSTEM_FOLDER / (f"{instance}.{name}" if instance else name)


def read_by_root(config: Config) -> None:
    """Read the credentials that systemd would pass to the unit of this configuration, for a verb that root runs by hand.

    Does nothing for other users, or if systemd passed credentials. Does nothing either for a configuration outside
    /etc/attachd or one that other users can change, because that file decides where root's secrets go.
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
    """Return True if only root can replace it. In a folder with the sticky bit, other users can move only their own files."""
    return status.st_uid == 0 and (not status.st_mode & 0o022 or bool(status.st_mode & stat.S_ISVTX))


def _read(path: Path) -> Handed:
    try:
        with path.open("rb") as source:
            return Handed(path, source.read(secrets.MAXIMUM_BYTES + 1))
    except OSError as error:
        return Handed(path, error=error.strerror or str(error))
