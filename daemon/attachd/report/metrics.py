"""The metrics for Prometheus. No label names a file or an issue.

They are read at each request, from the journal, whose counters survive restarts, and from this process.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from attachd import __version__, errors
from attachd.config.loader import instance
from attachd.delivery import runtime
from attachd.delivery.runtime import Runtime
from attachd.fs.whole_file import write_whole
from attachd.journal import counts, lookup
from attachd.logger import get_logger
from attachd.model import Word
from attachd.report import health
from attachd.report.health import Kind

if TYPE_CHECKING:
    from prometheus_client import Metric

log = get_logger()

#: How often the metrics file is written, in seconds: Prometheus scrapes as often in many set-ups.
WRITE_SECONDS = 15.0

#: The media type of the text (https://prometheus.io/docs/instrumenting/exposition_formats/).
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(runtime: Runtime, scanned_at: float | None, name: str = "") -> bytes:
    """Return all metrics. *name* becomes a label that tells instances apart; "" adds none."""
    # Loaded only if metrics are wanted.
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reader(lambda: _all(runtime, scanned_at), {"name": name} if name else {}))
    return generate_latest(registry)


def write(runtime: Runtime, scanned_at: float | None) -> None:
    """Write the metrics whole, and readable by all, for the textfile collector of node_exporter. Raises OSError."""
    folder = runtime.config.metrics.textfile
    assert folder is not None
    name = instance(runtime.config.file)
    # The collector reads *.prom alone, so not the file while it is written, whose name ends otherwise.
    target = f"attachd-{name}.prom" if name else "attachd.prom"
    content = text(runtime, scanned_at, name)
    write_whole(folder, target.encode(), content, replace=True, mode=0o644, exact=True, durable=False)


def loop(runtime: Runtime, scanned_at: Callable[[], float | None]) -> None:
    """Write the metrics until the service stops, and once more then. A failure is logged once and stops nothing."""
    logged = ""
    while True:
        ended = runtime.stopping.wait(WRITE_SECONDS)
        with errors.left_to_workers():
            try:
                write(runtime, scanned_at())
                logged = ""
            except OSError as error:
                reason = str(error)
                if reason != logged:
                    remedy = "let attachd's user write there, or make room"
                    log.warning(
                        "metrics.not_written", folder=str(runtime.config.metrics.textfile), reason=reason, remedy=remedy
                    )
                logged = reason
        if ended:
            return


class _Reader:
    """A collector for the library."""

    def __init__(self, read: Callable[[], Iterator[Metric]], labels: dict[str, str]) -> None:
        self._read, self._labels = read, labels

    def collect(self) -> Iterator[Metric]:
        for metric in self._read():
            if self._labels:
                metric.samples = [
                    sample._replace(labels={**sample.labels, **self._labels}) for sample in metric.samples
                ]
            yield metric


def _all(runtime: Runtime, scanned_at: float | None) -> Iterator[Metric]:
    yield from _files(runtime)
    yield from _now(runtime)
    yield from _intake(runtime, scanned_at)
    yield from _requests(runtime.timings)
    yield from _about(runtime)


def _files(runtime: Runtime) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    tally = counts.tally(runtime.reader)
    files = CounterMetricFamily("attachd_files", "Files with this verdict.", labels=["verdict"])
    for word, (count, _) in tally.items():
        files.add_metric([str(word)], count)
    yield files
    sent = tally.get(Word.ATTACHED, (0, 0))[1]
    yield CounterMetricFamily("attachd_sent_bytes", "Bytes of all attached files.", value=sent)


def _now(runtime: Runtime) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    journal, standing = runtime.reader, counts.standing(runtime.reader)
    yield _gauge("attachd_waiting_files", "Files in the inbox that have not been filed yet.", standing.left)
    yield _gauge(
        "attachd_blocked_files", "Waiting files that are blocked until a person acts.", sum(standing.blocked.values())
    )
    yield _gauge("attachd_in_doubt_files", "Waiting files that may already be attached.", standing.words[Word.IN_DOUBT])
    unrouted = sum(each.files for each in counts.unrouted(journal))
    yield _gauge("attachd_unrouted_files", "Files in the inbox that are not in an issue folder.", unrouted)
    yield _gauge("attachd_inflight_uploads", "Uploads in progress.", counts.uploads(journal))
    oldest = lookup.oldest_waiting(journal)
    yield _gauge("attachd_oldest_waiting_timestamp_seconds", "When the file that has waited longest was found.", oldest)
    gauge = GaugeMetricFamily("attachd_paused", "1 for each kind of active pause.", labels=["scope", "reason"])
    conditions = health.of_runtime(runtime)
    pauses = {(each.scope, str(each.kind)) for each in conditions if each.pause or each.kind == Kind.DISK}
    for scope, kind in sorted(pauses):
        gauge.add_metric([scope, kind], 1)
    yield gauge
    about = "1 for each kind of problem that attachd reports."
    gauge = GaugeMetricFamily("attachd_condition", about, labels=["kind", "severity"])
    for kind, severity in sorted({(str(each.kind), str(each.severity)) for each in conditions}):
        gauge.add_metric([kind, severity], 1)
    yield gauge


def _intake(runtime: Runtime, scanned_at: float | None) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    events, there = counts.events(runtime.reader), runtime.guard.sight.there
    help_found = "Files that a scan found without an event from the kernel."
    yield CounterMetricFamily("attachd_scan_found_files", help_found, value=events.found)
    yield CounterMetricFamily("attachd_overflows", "Overflows of the kernel's event queue.", value=events.overflows)
    takeovers = int(str(lookup.fact(runtime.reader, "takeovers") or 0))
    yield CounterMetricFamily(
        "attachd_takeovers", "How often attachd took the inbox over from another journal.", value=takeovers
    )
    yield _gauge("attachd_last_scan_timestamp_seconds", "When the last scan of the inbox ended.", scanned_at)
    yield _gauge("attachd_inbox_present", "1 if the inbox is there and is the known one.", int(there))


def _requests(timings: runtime.Timings) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily("attachd_request_seconds", "How long Jira took to answer.", labels=["call"])
    for call, histogram in sorted(timings.read().items()):
        bounds = [*map(str, runtime.BUCKETS), "+Inf"]
        below = [sum(histogram.counts[: number + 1]) for number in range(len(bounds))]
        family.add_metric([call], list(zip(bounds, below, strict=True)), histogram.total)
    yield family


def _about(runtime: Runtime) -> Iterator[Metric]:
    from prometheus_client.core import InfoMetricFamily

    expires = runtime.config.jira.auth.token_expires
    about = "When the token expires, according to the configuration."
    yield _gauge("attachd_token_expiry_timestamp_seconds", about, _end_of(expires) if expires else None)
    built = {"version": __version__, "python": platform.python_version()}
    yield InfoMetricFamily("attachd_build", "The version of attachd and Python.", value=built)


def _end_of(day: datetime.date) -> float:
    """Return the end of the day: the token still works on its last day."""
    return (datetime.datetime.combine(day, datetime.time(), datetime.UTC) + datetime.timedelta(days=1)).timestamp()


def _gauge(name: str, about: str, value: float | None) -> Metric:
    """Return a gauge; without a sample if *value* is None."""
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, about, value=value)
