"""What holds for all tests."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest
import structlog

# As the service does: a writer that opens a file on which a lease is held sends this signal, whose default is to kill.
signal.signal(signal.SIGIO, signal.SIG_IGN)


@pytest.fixture(autouse=True)
def _quiet_log() -> Iterator[None]:
    """Only warnings are worth reading under a failed test; 10,000 files make 10,000 lines of debug."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    yield
    structlog.reset_defaults()
