"""OAuth 2.0: an access token that is replaced ahead of its end, and the refresh token that dies with each use.

A refresh kills the token that it was made with. So the new one is on disk, synchronised, before the access token that
came with it is used, and only one process asks at a time. If we die between the endpoint's answer and the disk, the new
token is lost: the next refresh draws ``invalid_grant``, and the pause says that a new one has to be configured. That one
wins over what is on disk, of which is known which configured one it descends from.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from attachd.errors import Mistake
from attachd.jira import auth, granting
from attachd.jira.exchange import Exchange
from attachd.jira.granting import Application, Granted, Kept, Keys
from attachd.model import Cure, Fault, Scope


class Safe(Protocol):
    """Where the refresh token survives this process. Everything raises ``OSError`` where the disk does not play along."""

    def locked(self) -> AbstractContextManager[None]:
        """Hold off every other process that would ask for a token."""

    def read(self) -> Kept | None:
        """What was written last; None if nothing was."""

    def make_room(self) -> None:
        """Make sure that ``write`` will find room: after the answer it would be too late."""

    def write(self, kept: Kept) -> None:
        """Replace it as a whole; durable when this returns."""


@dataclass(frozen=True, slots=True)
class _Access:
    header: str = field(repr=False)
    until: float  #: by the clock that nobody can set


class OAuth:
    """The ``Authorization`` header's value from a token endpoint; shared by all workers, of whom one at a time asks."""

    anonymous = False

    def __init__(
        self, application: Application, *, read: Callable[[], Keys], ask: Callable[[Mapping[str, str]], Exchange],
        safe: Safe, boot: Callable[[], float], hide: Callable[[str], None],
    ) -> None:  # fmt: skip
        """*read* returns what is configured or raises ``model.Mistake``; *ask* sends a form to the token endpoint.

        *hide* keeps a token that was received out of every log.
        """
        self._application = application
        self._read, self._ask, self._safe, self._boot, self._hide = read, ask, safe, boot, hide
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._access: _Access | None = None
        self._unwritten: Kept | None = None
        self._failed: Fault | None = None
        self._generation = self._asked_for = 0

    @property
    def generation(self) -> int:
        """How many access tokens there have been: what was answered to an earlier one may have been due to that."""
        return self._generation

    def header(self) -> str | Fault:
        """The header's value, from a new access token where the last one is about to end; or why there is none."""
        asked = self._asked_for
        with self._lock:
            if self._access is not None and self._boot() < self._access.until:
                return self._access.header
            return self._renewed(asked)

    def renew(self, refused: str) -> str | Fault:
        """The header to use instead of *refused*, which drew a 401: another worker may have fetched it meanwhile."""
        asked = self._asked_for
        with self._lock:
            if self._access is not None and self._access.header != refused:
                return self._access.header
            return self._renewed(asked)

    def reload(self) -> bool:
        """Read what is configured again; True if it is something else now. Raises ``model.Mistake``."""
        with self._lock:
            fresh = self._read()
            changed, self._keys = fresh != self._keys, fresh
            if changed:
                self._access = None
            return changed

    def _renewed(self, asked: int) -> str | Fault:
        """Ask, unless somebody did since the count was *asked*: who waited meanwhile hears the same answer."""
        if self._failed is None or self._asked_for == asked:
            self._access, self._failed = None, None
            found = self._outcome()
            self._asked_for += 1
            if isinstance(found, Fault):
                self._failed = found
                return found
            self._access = found
            self._generation += 1
            return found.header
        return self._failed

    def _outcome(self) -> _Access | Fault:
        try:
            self._keys = self._keys or self._read()
            found = self._fetched(self._keys)
        except Mistake as mistake:
            return auth.unreadable(mistake)
        except OSError as error:
            return _unkept(error)
        if isinstance(found, Fault):
            return found
        granted, began = found
        return _Access(f"Bearer {granted.access}", began + granting.good_seconds(granted))

    def _fetched(self, keys: Keys) -> tuple[Granted, float] | Fault:
        if keys.refresh_token is None:
            return self._asked(keys, None)
        with self._safe.locked():
            return self._exchanged(keys, keys.refresh_token)

    def _exchanged(self, keys: Keys, seed: str) -> tuple[Granted, float] | Fault:
        if self._unwritten is not None:
            # An earlier answer that could not be written: it alone knows the token that is good now.
            self._safe.write(self._unwritten)
            self._unwritten = None
        # Read anew each time: another process may have used the one that we knew.
        refresh = granting.current(seed, self._safe.read())
        self._hide(refresh)
        self._safe.make_room()
        found = self._asked(keys, refresh)
        if isinstance(found, Fault) or found[0].refresh in (None, refresh):
            return found
        self._unwritten = Kept(found[0].refresh or "", granting.digest(seed))
        self._safe.write(self._unwritten)
        self._unwritten = None
        return found

    def _asked(self, keys: Keys, refresh: str | None) -> tuple[Granted, float] | Fault:
        began = self._boot()
        outcome = self._ask(granting.form(self._application, keys.client_secret, refresh))
        found = granting.read(outcome, self._application, [*keys.all, *([refresh] if refresh else [])])
        if isinstance(found, Fault):
            return found
        for token in (found.access, found.refresh):
            if token:
                self._hide(token)
        return found, began


def _unkept(error: OSError) -> Fault:
    where = f" ({error.filename})" if error.filename else ""
    reason = (
        f"the refresh token cannot be kept in the state folder{where}: {error.strerror}; nothing is sent before it is "
        "written: make room there, and check the folder's owner and mode"
    )
    return Fault(Scope.ACCOUNT, "token-unkept", reason, cure=Cure.PROBE)


#: Who we are to Jira.
Identity = auth.Credentials | OAuth
