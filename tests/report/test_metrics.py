"""What Prometheus reads: the names of the contract, with values that are so, and never a file or an issue as a label."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from attachd.delivery import pause, runtime
from attachd.journal import retention
from attachd.model import Cure, Scope
from attachd.model import Fault as Trouble
from attachd.report import metrics
from memory_jira import World, world

#: docs/operations.md, "Metrics".
NAMES = {
    *("attachd_files_total", "attachd_sent_bytes_total", "attachd_waiting_files", "attachd_inflight_uploads"),
    *("attachd_oldest_waiting_timestamp_seconds", "attachd_paused", "attachd_token_expiry_timestamp_seconds"),
    *(
        "attachd_scan_found_files_total",
        "attachd_overflows_total",
        "attachd_takeovers_total",
        "attachd_last_scan_timestamp_seconds",
    ),
    *("attachd_request_seconds", "attachd_build_info"),
}


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    structlog.reset_defaults()
    with world(tmp_path) as made:
        yield made


def values(w: World, scanned_at: float | None = None) -> dict[str, float]:
    """Every sample by its name and labels."""
    text = metrics.text(w.runtime, scanned_at).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_every_name_of_the_contract_is_told(w: World) -> None:
    told = set(re.findall(r"(?m)^# TYPE (\S+)", metrics.text(w.runtime, 1.0).decode()))

    assert told >= NAMES


def test_files_are_counted_by_their_verdict_and_across_restarts(w: World) -> None:
    w.jira.missing.add("TEST-2")
    w.drop("TEST-1/a.txt", b"12345")
    w.drop("TEST-1/b.txt", b"123")
    w.deliver()
    w.drop("TEST-2/c.txt")
    w.settle()

    w.restart()

    told = values(w)
    assert told["attachd_files_total{verdict=attached}"] == 2
    assert told["attachd_files_total{verdict=failed}"] == 1
    assert told["attachd_files_total{verdict=withdrawn}"] == 0
    assert told["attachd_sent_bytes_total"] == 8
    with w.runtime.journal.transaction() as connection:
        retention.forget(connection, [row.id for row in w.rows() if row.state == "DONE"])
    assert values(w)["attachd_files_total{verdict=attached}"] == 2


def test_what_waits_is_told_with_the_moment_since_when(w: World) -> None:
    assert values(w)["attachd_waiting_files"] == 0
    assert "attachd_oldest_waiting_timestamp_seconds" not in values(w)
    w.tables["settle"] = {"max_bytes": 3}
    w.restart()
    since = w.clock.now()
    w.drop("TEST-1/large.bin", b"1234")
    (w.inbox / "stray").write_text("x")
    w.scan()
    w.clock.advance(60)
    w.drop("TEST-1/a.txt", b"1")
    w.scan()

    told = values(w, scanned_at=w.clock.now())

    assert told["attachd_waiting_files"] == 2
    assert told["attachd_blocked_files"] == 1
    assert told["attachd_unrouted_files"] == 1
    assert told["attachd_oldest_waiting_timestamp_seconds"] == since
    assert told["attachd_last_scan_timestamp_seconds"] == since + 60


def test_pauses_are_told_by_scope_and_kind_and_never_by_issue(w: World) -> None:
    pause.pause(w.runtime, Trouble(Scope.ACCOUNT, "refused", "the token expired", cure=Cure.PROBE))
    for issue in ("TEST-1", "TEST-2"):
        pause.pause(w.runtime, Trouble(Scope.ISSUE, "rate-limit", "too many", subject=issue, wait=60.0))

    told = values(w)

    assert told["attachd_paused{reason=refused,scope=account}"] == 1
    assert told["attachd_paused{reason=rate-limit,scope=issue}"] == 1
    assert "TEST-" not in metrics.text(w.runtime, None).decode()


def test_requests_are_timed(w: World) -> None:
    w.drop("TEST-1/a.txt")
    w.deliver()

    told = values(w)

    assert told["attachd_request_seconds_count{call=upload}"] == 1
    assert told["attachd_request_seconds_bucket{call=question,le=+Inf}"] >= 2


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (0.05, 0), (0.051, 1), (300.0, 10), (1e6, 11)])
def test_a_bound_belongs_to_its_bucket(seconds: float, bucket: int) -> None:
    timings = runtime.Timings()

    timings.observe("upload", seconds)

    assert [number for number, count in enumerate(timings.read()["upload"].counts) if count] == [bucket]


def test_the_token_ends_with_its_last_day(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        token = {"file": str(tmp_path / "token")}
        auth = {"user": "robot@example.com", "token": token, "token_expires": datetime.date(2027, 3, 1)}
        made.tables["jira"] = {"url": "https://jira.example.com", "auth": auth}
        made.restart()

        assert values(made)["attachd_token_expiry_timestamp_seconds"] == 1803945600.0


# --- In a folder ------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> Iterator[World]:
    structlog.reset_defaults()
    (tmp_path / "textfile").mkdir()
    with world(tmp_path, metrics={"textfile": str(tmp_path / "textfile")}) as made:
        yield made


def test_the_text_is_whole_and_everybody_may_read_it(written: World) -> None:
    metrics.write(written.runtime, None)
    metrics.write(written.runtime, None)

    (file,) = (written.home / "textfile").iterdir()
    assert file.name == "attachd.prom"
    assert file.stat().st_mode & 0o777 == 0o644
    assert "attachd_waiting_files 0.0\n" in file.read_text()


def test_instances_are_told_apart(written: World) -> None:
    written.runtime.config = written.runtime.config.model_copy(update={"file": Path("/etc/attachd/lab.toml")})

    metrics.write(written.runtime, None)

    text = (written.home / "textfile/attachd-lab.prom").read_text()
    assert 'attachd_waiting_files{name="lab"} 0.0\n' in text
    assert all('name="lab"' in line for line in text.splitlines() if not line.startswith("#"))


def test_a_folder_that_cannot_be_written_is_told_once_and_holds_up_nothing(
    written: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metrics, "text", full)
    monkeypatch.setattr(metrics, "WRITE_SECONDS", 0.0)
    rounds = iter([False, False, True])
    monkeypatch.setattr(written.runtime.stopping, "wait", lambda _: next(rounds))

    with capture_logs() as lines:
        metrics.loop(written.runtime, lambda: None)

    assert [line["event"] for line in lines] == ["metrics.not_written"]
    assert list((written.home / "textfile").iterdir()) == []


def test_the_rules_for_alerts_are_about_metrics_that_are_told(w: World) -> None:
    rules = (Path(__file__).parents[2] / "docs/alerts.yml").read_text()
    expressions = "\n".join(re.findall(r"(?m)^ +expr: (.*)$", rules))
    told = metrics.text(w.runtime, 1.0).decode()

    named = set(re.findall(r"attachd_\w+", expressions))

    assert len(named) == 6
    assert named <= set(re.findall(r"(?m)^# TYPE (\S+)", told))
    assert len(re.findall("- alert:", rules)) == 5
