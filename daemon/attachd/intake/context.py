"""What a scan works with, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from attachd.clock import Clock
from attachd.config import Config, Settle
from attachd.intake.truncation import Endings
from attachd.journal.admission import Moment
from attachd.journal.database import Journal
from attachd.share.inbox_marker import Guard

if TYPE_CHECKING:
    from attachd.intake.coverage import Coverage  # Verbs do not watch, and start without what watches.


class Checkpoint(Protocol):
    """Called between two steps of a scan."""

    def __call__(self) -> None:
        """Report progress. May raise to abandon the scan: the service stops, or was reconfigured."""


def no_checkpoint() -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a scan works with; made once for each configuration.

    With *coverage* the scan has what it lists watched, and passes over what is unchanged. *endings* remembers from scan to scan
    which end is missing from files that wait.
    """

    journal: Journal
    config: Config
    clock: Clock
    guard: Guard
    coverage: Coverage | None = None
    checkpoint: Checkpoint = no_checkpoint
    endings: Endings = field(default_factory=Endings)

    def moment(self) -> Moment:
        """Return this moment."""
        return Moment.of(self.clock, self.guard.epoch)

    def network(self, path: bytes) -> bool:
        """Return True if a path below the inbox lies on a network file system."""
        return self.coverage is not None and self.coverage.shared(path)


@dataclass(frozen=True, slots=True)
class IssueFolder:
    """A folder whose files go to the issue *key*.

    *suspect*: the journal was lost, so that a new file may be attached already (``admission.add``).
    """

    key: str
    rules: Settle
    suspect: bool = False
