"""The page, its buttons, and what machines ask: /metrics, /healthz, /readyz.

Every answer comes from the journal and from this process, and never waits for Jira or the inbox. The one exception is the
button that moves a failed file back. Endpoints are plain functions, which Starlette calls in threads of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sqlite3
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from attachd import errors, text
from attachd.errors import Mistake
from attachd.filing import retry as filing_retry
from attachd.journal import by_hand, moved_issues, terms
from attachd.logger import get_logger
from attachd.report import health, metrics, pauses
from attachd.report.health import Condition, Severity
from attachd.service.engine import Engine
from attachd.share import paths
from attachd.web import view
from attachd.web.access import Gate, Gatekeeper

log = get_logger()

_HERE = Path(__file__).parent
_STATIC = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

#: How often an open page gets what is new, in seconds; and how often a sign of life.
_TICK, _QUIET = 1.0, 15.0
#: How many browsers may stay connected at once; others have to ask again later.
MOST_WATCHERS = 20
#: The longest form in bytes; forms of the page have less than a hundred.
_LONGEST_FORM = 4096
#: How many answers to a pressed button are kept for the page that follows.
_MOST_SAID = 100


class Page:
    """The endpoints of the page, and what they share."""

    def __init__(self, engine: Engine, state: Path, gate: Gate, stopping: threading.Event) -> None:
        """Show what *engine* does; *stopping* ends the open connections."""
        self._engine, self._runtime, self._state, self._gate, self._stopping = (
            engine,
            engine.runtime,
            state,
            gate,
            stopping,
        )
        # Values in a template are escaped; only the page's own text is not.
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                                         loader=jinja2.FileSystemLoader(_HERE))  # fmt: skip
        self._whole, self._part = environment.get_template("page.html"), environment.get_template("live.html")
        self._rates, self._sums, self._lock = view.Rates(), view.Sums(), threading.Lock()
        self._said: OrderedDict[str, list[str]] = OrderedDict()
        self._watchers = 0
        self._made, self._made_at = "", -_TICK

    def application(self) -> Starlette:
        """The page as ASGI."""
        routes = [
            Route("/", self.page),
            Route("/events", self.events),
            Route("/resume", self.resume, methods=["POST"]),
            Route("/pause", self.pause, methods=["POST"]),
            Route("/retry", self.retry, methods=["POST"]),
            Route("/metrics", self.metrics),
            Route("/healthz", self.health),
            Route("/readyz", self.readiness),
            *(Route(f"/{name}", self.static) for name in _STATIC),
        ]
        handlers: Any = {sqlite3.OperationalError: _journal_fails}
        return Starlette(
            routes=routes, middleware=[Middleware(Gatekeeper, gate=self._gate)], exception_handlers=handlers
        )

    # --- The page -------------------------------------------------------------------------------------------------

    def page(self, request: Request) -> Response:
        """Return the whole page, so that it needs no script; ``?q=`` searches the history."""
        wanted = request.query_params.get("q", "").strip()[:200]
        found = view.found(self._runtime, wanted) if wanted else None
        with self._lock:
            said = self._said.pop(request.query_params.get("said", ""), [])
        frame, now = view.frame(self._runtime), self._runtime.clock.wall()
        return HTMLResponse(
            self._whole.render(
                frame=frame,
                live=self._live(),
                chart=view.chart(self._runtime, self._sums),
                said=said,
                wanted=wanted,
                found=found,
                form=self._gate.form,
                now=text.clock(now, now),
            )
        )

    def _live(self, *, fresh: bool = True) -> str:
        """Return the part that changes, as HTML. Without *fresh* it is made once for all open pages."""
        with self._lock:
            if fresh or time.monotonic() - self._made_at >= _TICK / 2:
                shown = view.live(self._runtime, self._rates, self._sums)
                self._made, self._made_at = self._part.render(live=shown, form=self._gate.form), time.monotonic()
            return self._made

    def static(self, request: Request) -> Response:
        """Return the page's style, script or icon."""
        name = request.url.path.rpartition("/")[2]
        return FileResponse(_HERE / "static" / name, media_type=_STATIC[name])

    async def events(self, _request: Request) -> Response:
        """Send what is new as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
        if self._watchers >= MOST_WATCHERS:
            return PlainTextResponse("Too many pages are open. This one shows an earlier state.\n", 503)
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[str]:
        self._watchers += 1
        before, quiet = "", 0.0
        try:
            while not self._stopping.is_set():
                fresh = await run_in_threadpool(self._live, fresh=False)
                if fresh != before:
                    yield f"data: {json.dumps(fresh)}\n\n"
                    before, quiet = fresh, 0.0
                elif quiet >= _QUIET:
                    yield "event: quiet\ndata:\n\n"
                    quiet = 0.0
                await asyncio.sleep(_TICK)
                quiet += _TICK
        finally:
            self._watchers -= 1

    # --- Buttons --------------------------------------------------------------------------------------------------

    async def resume(self, request: Request) -> Response:
        """End all pauses, or those of one issue, as the verb ``resume`` does."""
        return await self._pressed(request, self._resume)

    async def pause(self, request: Request) -> Response:
        """Pause everything until ``resume``."""
        return await self._pressed(request, self._pause)

    async def retry(self, request: Request) -> Response:
        """Move one failed file back into the inbox, as the verb ``retry`` does."""
        return await self._pressed(request, self._retry)

    async def _pressed(self, request: Request, act: Any) -> Response:
        form = await _form(request)
        if form is None or not self._gate.is_form(form.get("form", "")):
            return PlainTextResponse("This form is too old. Reload the page and press the button again.\n", 403)
        said: list[str] = await run_in_threadpool(act, form)
        number = secrets.token_hex(8)
        with self._lock:
            self._said[number] = said
            while len(self._said) > _MOST_SAID:
                self._said.popitem(last=False)
        return RedirectResponse(f"./?said={number}", 303)

    def _resume(self, form: dict[str, str]) -> list[str]:
        key, now = form.get("issue", ""), self._runtime.clock.now()
        with self._runtime.journal.transaction() as connection:
            done = by_hand.resume(connection, moved_issues.issue_of(connection, key) if key else "", now)
        self._runtime.wakeup.notify_all()
        log.info("page.resumed", issue=key)
        self._engine.note_by_hand(log_it=False)
        line = self._runtime.journal.timeline()
        return list(pauses.resumed_in_words(by_hand.shown(done, line), key, line.wall))

    def _pause(self, _form: dict[str, str]) -> list[str]:
        now = self._runtime.clock.now()
        with self._runtime.journal.transaction() as connection:
            made = by_hand.pause(connection, "", now, None)
        log.info("page.paused")
        self._engine.note_by_hand(log_it=False)
        line = self._runtime.journal.timeline()
        said = pauses.paused_in_words(line.pause(made), line.wall)
        return [re.sub("until `attachd resume[^`]*`", "until it is resumed", said)]

    def _retry(self, form: dict[str, str]) -> list[str]:
        runtime = self._runtime
        row = view.failed_row(runtime, form.get("id", ""))
        if row is None:
            return ["That file is no longer among the failed files."]
        sight = paths.sight(runtime.config, self._state, terms.known(runtime.journal))
        if not sight.there:
            return [f"Nothing was moved: {sight.reason}."]
        log.info("page.retried", id=row.ident, issue=row.issue)
        try:
            return [filing_retry.in_words(result) for result in filing_retry.retry(runtime.config, self._state, [row])]
        except Mistake as mistake:
            return [str(problem) for problem in mistake.problems]

    # --- Machines -------------------------------------------------------------------------------------------------

    def metrics(self, _request: Request) -> Response:
        """Return the metrics for Prometheus."""
        return Response(metrics.text(self._runtime, self._engine.intake.scanned_at), media_type=metrics.CONTENT_TYPE)

    def health(self, _request: Request) -> Response:
        """Return 503 if a loop is stuck and a restart would help; a file system that does not answer is no such case."""
        stuck = [str(hang) for hang in self._runtime.beats.hangs() if not hang.degraded]
        lines = stuck or ["ok", *_briefly(health.of_runtime(self._runtime))]
        return PlainTextResponse("".join(f"{line}\n" for line in lines), 503 if stuck else 200)

    def readiness(self, _request: Request) -> Response:
        """Return 200 always; the body names the kinds of conditions."""
        found = health.of_runtime(self._runtime)
        waits = any(each.severity is not Severity.WARNING for each in found)
        lines = ["degraded" if waits else "ready", *_briefly(found)]
        return PlainTextResponse("".join(f"{line}\n" for line in lines))


def _briefly(found: Sequence[Condition]) -> list[str]:
    """Return each kind once and no names, because anybody may ask."""
    return list(dict.fromkeys(each.brief for each in found))


async def _form(request: Request) -> dict[str, str] | None:
    """Return the fields of a form; None if the request is not a form or too long."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        return None
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            return None
    return {name: values[-1] for name, values in urllib.parse.parse_qs(body.decode("utf-8", "replace")).items()}


def _journal_fails(_request: Request, error: Exception) -> Response:
    """Answer 503 while the journal's disk fails."""
    assert isinstance(error, sqlite3.OperationalError)
    if not errors.disk_fails(error):
        raise error
    return PlainTextResponse(f"The journal cannot be read or written: {error}\n", 503)
