"""As whom the service signs in: credentials from the configuration, and whether their sources have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

from attachd.clock import Clock
from attachd.config import Config, TokenSource, secrets
from attachd.jira import auth, client, oauth
from attachd.jira.oauth import Application, Keys
from attachd.jira.reply import Exchange
from attachd.logs import setup
from attachd.service.tokenfile import TokenFile


def credentials(
    config: Config, environ: Mapping[str, str], state: Path, clock: Clock, connect: Callable[[str], client.Client]
) -> oauth.Identity:
    """The credentials that the configuration names; secrets are read when they are first needed.

    *connect* makes a client without credentials for an address: the token endpoint's.
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
    """Tells whether one of the files that secrets come from has changed since it was asked last."""

    def __init__(self, paths: list[Path]) -> None:
        """Begin with what is there now."""
        self._paths = paths
        self._seen = self._look()

    def _look(self) -> list[tuple[int, int] | None]:
        return [_state(path) for path in self._paths]

    def __call__(self) -> bool:
        """Look."""
        now = self._look()
        changed, self._seen = now != self._seen, now
        return changed


def _state(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_mtime_ns, status.st_ino
    return None


def watch(config: Config) -> Watched:
    """Watch the files of the secrets; the configuration itself where there is none."""
    sources = [config.jira.auth.token, config.jira.auth.client_secret]
    files = [source.file for source in sources if source is not None and source.file is not None]
    return Watched([config.file.parent / file for file in files or [config.file]])
