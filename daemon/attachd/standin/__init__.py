"""A stand-in Jira for the demo and the tests, with a web page and faults on demand. It imports nothing else of attachd."""

from __future__ import annotations

from attachd.standin.faults import Fault, Faults
from attachd.standin.server import Standin
from attachd.standin.store import Attachment, Issue, Request, Store

__all__ = ["Attachment", "Fault", "Faults", "Issue", "Request", "Standin", "Store"]
