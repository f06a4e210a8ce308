"""What Prometheus is told, in the names of the contract; never a file or an issue as a label.

Everything is read when it is asked for: from the journal, whose counters go on across restarts, and from this process.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import structlog

from attachd import __version__, errors
from attachd.config.loader import instance
from attachd.delivery import runtime
from attachd.delivery.runtime import Runtime
from attachd.fs.whole_file import write_whole
from attachd.journal import counts, lookup
from attachd.model import Word
from attachd.report import health
from attachd.report.health import Kind

if TYPE_CHECKING:
    from prometheus_client import Metric

log = structlog.get_logger()

#: How often the text is written into a folder, in seconds: as often as Prometheus asks, where nobody has told it otherwise.
WRITE_SECONDS = 15.0

#: The media type of the text (https://prometheus.io/docs/instrumenting/exposition_formats/).
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(runtime: Runtime, scanned_at: float | None, name: str = "") -> bytes:
    """All metrics now. *name* tells instances apart whose texts come into one place; "" adds nothing."""
    # Loaded by those who want metrics alone.
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reader(lambda: _all(runtime, scanned_at), {"name": name} if name else {}))
    return generate_latest(registry)


def write(runtime: Runtime, scanned_at: float | None) -> None:
    """Put the metrics where the textfile collector of node_exporter finds them, whole; all may read them. Raises OSError."""
    folder = runtime.config.metrics.textfile
    assert folder is not None
    name = instance(runtime.config.file)
    # The collector reads *.prom alone, so not the file while it is written, whose name ends otherwise.
    target = f"attachd-{name}.prom" if name else "attachd.prom"
    content = text(runtime, scanned_at, name)
    write_whole(folder, target.encode(), content, replace=True, mode=0o644, exact=True, durable=False)


def loop(runtime: Runtime, scanned_at: Callable[[], float | None]) -> None:
    """Write them until the end, and once more then. That they cannot be written is told once, and holds up nothing."""
    told = ""
    while True:
        ended = runtime.stopping.wait(WRITE_SECONDS)
        with errors.left_to_workers():
            try:
                write(runtime, scanned_at())
                told = ""
            except OSError as error:
                reason = str(error)
                if reason != told:
                    remedy = "give attachd's user the right to write there, or make room"
                    log.warning(
                        "metrics.not_written", folder=str(runtime.config.metrics.textfile), reason=reason, remedy=remedy
                    )
                told = reason
        if ended:
            return


class _Reader:
    """A collector that the library asks."""

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
    files = CounterMetricFamily("attachd_files", "Files that came to this verdict.", labels=["verdict"])
    for word, (count, _) in tally.items():
        files.add_metric([str(word)], count)
    yield files
    sent = tally.get(Word.ATTACHED, (0, 0))[1]
    yield CounterMetricFamily("attachd_sent_bytes", "Bytes of the files that Jira has accepted.", value=sent)


def _now(runtime: Runtime) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    journal, standing = runtime.reader, counts.standing(runtime.reader)
    yield _gauge("attachd_waiting_files", "Files in the inbox that are known and not filed yet.", standing.left)
    yield _gauge("attachd_blocked_files", "Those of them that wait for a person.", sum(standing.blocked.values()))
    yield _gauge("attachd_in_doubt_files", "Those of them that may be attached.", standing.words[Word.IN_DOUBT])
    unrouted = sum(each.files for each in counts.unrouted(journal))
    yield _gauge("attachd_unrouted_files", "Files in the inbox that are in no issue's folder.", unrouted)
    yield _gauge("attachd_inflight_uploads", "Requests with files that are under way.", counts.uploads(journal))
    oldest = lookup.oldest_waiting(journal)
    yield _gauge("attachd_oldest_waiting_timestamp_seconds", "When the file was found that has waited longest.", oldest)
    gauge = GaugeMetricFamily("attachd_paused", "1 for each kind of pause that holds.", labels=["scope", "reason"])
    conditions = health.of_runtime(runtime)
    pauses = {(each.scope, str(each.kind)) for each in conditions if each.pause or each.kind == Kind.DISK}
    for scope, kind in sorted(pauses):
        gauge.add_metric([scope, kind], 1)
    yield gauge
    about = "1 for each kind of thing that is not as it should be."
    gauge = GaugeMetricFamily("attachd_condition", about, labels=["kind", "severity"])
    for kind, severity in sorted({(str(each.kind), str(each.severity)) for each in conditions}):
        gauge.add_metric([kind, severity], 1)
    yield gauge


def _intake(runtime: Runtime, scanned_at: float | None) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    events, there = counts.events(runtime.reader), runtime.guard.sight.there
    help_found = "Files that a scan found and of which no event had told."
    yield CounterMetricFamily("attachd_scan_found_files", help_found, value=events.found)
    yield CounterMetricFamily("attachd_overflows", "Overflows of the kernel's queue of events.", value=events.overflows)
    takeovers = int(str(lookup.fact(runtime.reader, "takeovers") or 0))
    yield CounterMetricFamily("attachd_takeovers", "How often the inbox was taken over.", value=takeovers)
    yield _gauge("attachd_last_scan_timestamp_seconds", "When the inbox was looked through last.", scanned_at)
    yield _gauge("attachd_inbox_present", "Whether the inbox is there, and is the one that is known.", int(there))


def _requests(timings: runtime.Timings) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily("attachd_request_seconds", "How long Jira was waited for.", labels=["call"])
    for call, histogram in sorted(timings.read().items()):
        bounds = [*map(str, runtime.BUCKETS), "+Inf"]
        below = [sum(histogram.counts[: number + 1]) for number in range(len(bounds))]
        family.add_metric([call], list(zip(bounds, below, strict=True)), histogram.total)
    yield family


def _about(runtime: Runtime) -> Iterator[Metric]:
    from prometheus_client.core import InfoMetricFamily

    expires = runtime.config.jira.auth.token_expires
    about = "When the token ends, as the configuration says."
    yield _gauge("attachd_token_expiry_timestamp_seconds", about, _end_of(expires) if expires else None)
    built = {"version": __version__, "python": platform.python_version()}
    yield InfoMetricFamily("attachd_build", "What runs.", value=built)


def _end_of(day: datetime.date) -> float:
    """The last day counts to its end."""
    return (datetime.datetime.combine(day, datetime.time(), datetime.UTC) + datetime.timedelta(days=1)).timestamp()


def _gauge(name: str, about: str, value: float | None) -> Metric:
    """A gauge; without a sample where there is nothing to tell."""
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, about, value=value)
