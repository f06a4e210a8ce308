"""The service's credentials from the configuration, and whether their sources have changed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from attachd.clock import Clock
from attachd.config import Config, TokenSource, secrets
from attachd.fs import folders
from attachd.jira import auth, client, oauth
from attachd.jira.oauth import Application, Kept, Keys
from attachd.jira.reply import Exchange
from attachd.logs import setup

# The last refresh token lies in the state folder, and only the service can read it. It is not in the journal, because people
# copy and send journals.

FILE_NAME = "oauth.json"
LOCK_NAME = "oauth.lock"
#: Bytes to reserve before a request to the endpoint; tokens have one or two thousand.
ROOM = 32_768


class TokenFile:
    """Implements ``oauth.Safe`` with a file, a lock beside it, and the next file under its temporary name."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._folder = folder
        self._next = folder / f"{FILE_NAME}.next"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for other processes, such as ``attachd check``; the kernel releases the lock of a dead one (flock(2))."""
        descriptor = os.open(self._folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> Kept | None:
        """Return the kept token, or None if the file is missing or invalid: then the configured token is tried."""
        try:
            content = json.loads(self.path.read_text("utf-8"))
            return Kept(str(content["refresh_token"]), str(content["descends_from"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None

    def make_room(self) -> None:
        """Reserve the blocks of the next file, so that a full disk shows while the old token is still good."""
        descriptor = self._open_next()
        try:
            os.posix_fallocate(descriptor, 0, ROOM)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def write(self, kept: Kept) -> None:
        """Fill the next file, synchronise it, rename it into place and synchronise the folder."""
        content = json.dumps({"refresh_token": kept.token, "descends_from": kept.seed}).encode() + b"\n"
        with open(self._open_next(), "wb") as file:
            file.write(content)
            file.flush()
            file.truncate()
            os.fsync(file.fileno())
        os.rename(self._next, self.path)
        folder = os.open(self._folder, folders.FOLDER)
        try:
            folders.synchronise(folder)
        finally:
            os.close(folder)

    def _open_next(self) -> int:
        # Not truncated: the reserved blocks are overwritten.
        descriptor = os.open(self._next, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.fchmod(descriptor, 0o600)
        return descriptor


def credentials(
    config: Config, environ: Mapping[str, str], state: Path, clock: Clock, connect: Callable[[str], client.Client]
) -> oauth.Identity:
    """Return the credentials of the configuration; secrets are read when they are first needed.

    *connect* makes a client without credentials for the token endpoint.
    """
    settings, base = config.jira.auth, config.file.parent

    def secret(source: TokenSource, key: str) -> str:
        text = secrets.read(source, environ=environ, base=base, where=f"jira.auth.{key}").reveal()
        setup.hide(text)
        return text

    if settings.client_secret is not None:
        client_secret, token = settings.client_secret, settings.token

        def keys() -> Keys:
            refresh = secret(token, "token") if token is not None else None
            return Keys(secret(client_secret, "client_secret"), refresh)

        def ask(form: Mapping[str, str]) -> Exchange:
            with closing(connect(config.jira.token_url)) as stranger:
                return stranger.grant(form)

        application = Application(config.jira.token_url, settings.client_id or "", settings.scope)
        safe, hide = TokenFile(state), setup.hide_for_now
        return oauth.OAuth(application, read=keys, ask=ask, safe=safe, boot=clock.boot, hide=hide)
    if settings.token is None:
        return auth.Credentials("anonymous", "", None)
    source = settings.token
    return auth.Credentials(settings.kind, settings.user or "", lambda: secret(source, "token"))


class Watched:
    """Tells whether a file with a secret has changed since the last call."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._seen = self._look()

    def _look(self) -> list[tuple[int, int] | None]:
        return [_state(path) for path in self._paths]

    def __call__(self) -> bool:
        """Return True if a file has changed."""
        now = self._look()
        changed, self._seen = now != self._seen, now
        return changed


def _state(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_mtime_ns, status.st_ino
    return None


def watch(config: Config) -> Watched:
    """Watch the files with secrets, or the configuration file if there are none."""
    sources = [config.jira.auth.token, config.jira.auth.client_secret]
    files = [source.file for source in sources if source is not None and source.file is not None]
    return Watched([config.file.parent / file for file in files or [config.file]])
