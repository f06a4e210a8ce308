"""Logs: one record a line, no secrets in it, and a line never waits for its reader."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pty
import re
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog

from attachd import config
from attachd.logs import lines as logs_lines
from attachd.logs import pipe as logs_pipe
from attachd.logs import setup

SECRET = 'not-a-"token\\0123'
LOG = structlog.get_logger()


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logs_lines, "_lasting", set())
    monkeypatch.setattr(logs_lines, "_passing", deque(maxlen=logs_lines.PASSING))
    monkeypatch.setattr(logs_lines, "_hidden", ())
    yield
    setup.close()
    assert "log" not in [thread.name for thread in threading.enumerate()]


class Reader:
    """The far end of a pipe that the logs go to."""

    def __init__(self) -> None:
        self.far, near = os.pipe()
        self.stream = os.fdopen(near, "w")

    def close(self) -> None:
        os.close(self.far)

    def text(self) -> str:
        """Close the logs and return all that they wrote."""
        self.stream.close()
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.extend(iter(lambda: os.read(self.far, 65536), b"")))
        thread.start()
        setup.close()
        thread.join()
        return b"".join(found).decode()

    def lines(self) -> list[str]:
        text = self.text()
        assert text == "" or text.endswith("\n")
        return text.split("\n")[:-1]

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]


@pytest.fixture
def reader() -> Iterator[Reader]:
    """Give a pipe to log into."""
    pipe = Reader()
    yield pipe
    setup.close()
    pipe.stream.close()
    pipe.close()


@pytest.fixture
def start(reader: Reader) -> Callable[..., Reader]:
    """Give a function that sends the logs into a pipe."""

    def start(environ: dict[str, str] | None = None, **settings: Any) -> Reader:
        setup.configure(config.Log(**settings), reader.stream, environ or {})
        return reader

    return start


Start = Callable[..., Reader]

# --- Formats ----------------------------------------------------------------------------------------------------


def test_json_is_an_object_a_line_with_the_time_in_utc(start: Start) -> None:
    reader = start(format="json")

    LOG.info("file.attached", file="report.pdf", issue="TEST-1", size=12, took=0.5, again=False, note=None)

    (record,) = reader.records()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("timestamp"))
    assert list(record.items()) == [
        ("level", "info"),
        ("event", "file.attached"),
        ("file", "report.pdf"),
        ("issue", "TEST-1"),
        ("size", 12),
        ("took", 0.5),
        ("again", False),
        ("note", None),
    ]


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)]
)
def test_the_journal_gets_a_readable_line_with_its_priority(start: Start, level: str, priority: int) -> None:
    reader = start(format="journald", level="debug")

    getattr(LOG, level)("file.attached", file="a b.pdf", issue="TEST-1", size=12, empty="", none=None)

    assert reader.lines() == [f'<{priority}>file.attached file="a b.pdf" issue=TEST-1 size=12 empty="" none=null']


def test_the_console_gets_time_level_event_and_keys(start: Start) -> None:
    reader = start(format="console")

    LOG.warning("site.unreachable", reason="time-out")

    assert re.fullmatch(r"\d\d:\d\d:\d\d warning  site\.unreachable reason=time-out", reader.lines()[0])


def test_auto_means_json_for_a_pipe(start: Start) -> None:
    reader = start(format="auto")
    LOG.info("a.happened")
    assert reader.records()[0]["event"] == "a.happened"


def test_auto_means_the_journal_where_stderr_is_its_stream(reader: Reader, start: Start) -> None:
    status = os.fstat(reader.stream.fileno())
    start({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    LOG.info("a.happened")
    assert reader.lines() == ["<6>a.happened"]


@pytest.mark.parametrize("other", ["8:1", "", "nonsense"])
def test_the_journals_variable_alone_proves_nothing(start: Start, other: str) -> None:
    reader = start({"JOURNAL_STREAM": other})
    LOG.info("a.happened")
    assert reader.records()


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_auto_means_colours_on_a_terminal(environ: dict[str, str], coloured: bool) -> None:
    far, near = pty.openpty()
    with os.fdopen(near, "w") as terminal:
        setup.configure(config.Log(), terminal, environ)
        LOG.info("a.happened", file="x")
        setup.flush()
        shown = os.read(far, 65536).decode()
        setup.close()
    os.close(far)

    assert ("\x1b[" in shown) == coloured
    assert "a.happened" in shown


def test_a_stream_in_memory_will_do() -> None:
    stream = StringIO()
    setup.configure(config.Log(), stream, {})

    LOG.info("a.happened")
    setup.flush()

    assert json.loads(stream.getvalue())["event"] == "a.happened"


@pytest.mark.parametrize(
    ("level", "told"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_what_is_below_the_level_is_left_out(start: Start, level: str, told: int) -> None:
    reader = start(level=level)

    for method in (LOG.debug, LOG.info, LOG.warning, LOG.error):
        method("a.happened")

    assert len(reader.records()) == told


def test_loggers_made_before_and_bound_context_are_no_matter(start: Start) -> None:
    reader = start()

    with structlog.contextvars.bound_contextvars(issue="TEST-1"):
        LOG.bind(file="x").info("a.happened", size=1)

    record = reader.records()[0]
    assert (record["issue"], record["file"], record["size"]) == ("TEST-1", "x", 1)


def test_a_caller_cannot_change_the_level_of_a_record(start: Start) -> None:
    reader = start(format="journald")
    LOG.info("a.happened", level="x", timestamp="y")
    assert reader.lines() == ["<6>a.happened timestamp=y"]


# --- Names ------------------------------------------------------------------------------------------------------

NAMES = [
    b"caf\xe9.pdf",
    "caf\udce9.pdf",
    "half \ud800 pair",
    b"two\nlines",
    "two\nlines\r\n<2>forged issue=TEST-1",
    "\x1b[2Jclear\x07",
    "\x9bcsi \x85 \u2028 \u2029 \u202e bidi",
    'quote" issue=OTHER-1 back\\slash',
    "ümlaut 漢字 😀",
    "",
    " ",
    b"\x00\xff" * 100,
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("log_format", ["json", "journald", "console"])
def test_any_name_is_shown_in_one_printable_line(start: Start, log_format: str, name: str | bytes) -> None:
    reader = start(format=log_format)

    LOG.info("file.attached", file=name, issue="TEST-1", more={"names": [name]})

    (line,) = reader.lines()
    assert line.isprintable()
    if log_format == "json":
        assert json.loads(line)["issue"] == "TEST-1"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"caf\xe9.pdf", r"caf\xe9.pdf"),
        ("caf\udce9.pdf", r"caf\xe9.pdf"),
        ("half \ud800 pair", r"half \ud800 pair"),
        (b"two\nlines", r"two\nlines"),
        ("two\nlines", "two\nlines"),
        ("ümlaut 漢字 😀", "ümlaut 漢字 😀"),
        (Path("/srv/a"), "/srv/a"),
    ],
)
def test_json_gives_a_name_back(start: Start, name: Any, shown: str) -> None:
    reader = start(format="json")
    LOG.info("file.attached", file=name)
    assert reader.records()[0]["file"] == shown


def test_a_name_cannot_forge_a_key(start: Start) -> None:
    reader = start(format="journald")
    LOG.info("file.attached", file='x" issue=OTHER-1 y="', issue="TEST-1")
    assert reader.lines() == [r'<6>file.attached file="x\" issue=OTHER-1 y=\"" issue=TEST-1']


def test_names_that_are_personal_data_are_left_out(start: Start) -> None:
    reader = start(file_names=False)
    LOG.info(
        "a", file="secret.pdf", path=b"x/secret", target="secret", name="secret", issue="T-1", id=7, deep={"file": 1}
    )
    (line,) = reader.lines()
    assert "secret" not in line
    record = json.loads(line)
    assert [record[key] for key in ("file", "path", "target", "name", "issue", "id", "deep")] == [
        "-",
        "-",
        "-",
        "-",
        "T-1",
        7,
        {"file": "-"},
    ]


def test_without_names_no_sentence_repeats_one(start: Start) -> None:
    """Jira and the system quote names in what they say; a folder that is no issue's is a name too."""
    reader = start(file_names=False)
    LOG.warning(
        "file.refused",
        id="F1",
        issue="TEST-1",
        file="TEST-1/Mueller HIV.pdf",
        reason="'Mueller HIV.pdf' is not allowed",
    )
    LOG.warning("folder.not_routed", folder="Patient Mueller", reason="'Patient Mueller' is not an issue key")
    said = "/srv/inbox/TEST-1/Mueller cannot be opened, nor Mueller-a; a pity"
    LOG.warning("file.blocked", file=b"TEST-1/Mueller/a", reason=said)
    LOG.info("file.moved", file="TEST-1/b", was="TEST-1/Mueller", reason="moved")
    full = OSError(28, "full", "M\xfcller: Mueller?.pdf".encode())
    said = f"The file 'M\xfcller_ Mueller_.pdf' is too large; {full}"
    LOG.warning("file.refused", file="TEST-1/M\xfcller: Mueller?.pdf", reason=said)
    LOG.info("watch.blind", folder="/srv/inbox/TEST-7", reason="nfs4")
    LOG.info("folder.not_listed", folder="TEST-7/Mueller", reason="Mueller: Permission denied")

    text = reader.text()
    assert "Mueller" not in text
    records = [json.loads(line) for line in text.splitlines()]
    assert [(r.get("file"), r.get("folder"), r["reason"]) for r in records] == [
        ("-", None, "'-' is not allowed"),
        (None, "-", "'-' is not an issue key"),
        ("-", None, "/srv/inbox/TEST-1/- cannot be opened, nor -; - pity"),
        ("-", None, "moved"),
        ("-", None, "The file '-' is too large; [Errno 28] full: b'-'"),
        (None, "/srv/inbox/TEST-7", "nfs4"),
        (None, "-", "-: Permission denied"),
    ]
    assert records[0]["issue"] == "TEST-1"


def test_without_names_an_exception_says_where_but_not_what(start: Start, tmp_path: Path) -> None:
    reader = start(file_names=False)
    try:
        (tmp_path / "alice.pdf").read_bytes()
    except OSError as error:
        LOG.exception("a.failed", error=error)

    (record,) = reader.records()
    assert "alice" not in record["exception"].replace('"alice.pdf").read', "")
    assert record["exception"].endswith("FileNotFoundError")
    assert record["error"] == "FileNotFoundError"


# --- Secrets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        *("authorization", "Authorization", "Proxy-Authorization", "cookie", "Set-Cookie", "token", "api_token"),
        *("password", "passphrase", "client_secret", "secret", "X-Api-Key", "api_key", "apikey", "credentials"),
    ],
)
def test_what_is_named_like_a_secret_is_masked(start: Start, key: str) -> None:
    reader = start()
    LOG.info("a", **{key: "open-sesame"}, headers={key: ["open-sesame"]}, deep=[{"x": {key: b"open-sesame"}}])
    assert "sesame" not in reader.text()


@pytest.mark.parametrize("key", ["token_expires", "key", "issue_key", "author", "tokens_left"])
def test_what_is_only_named_nearly_so_is_shown(start: Start, key: str) -> None:
    reader = start()
    LOG.info("a", **{key: "shown"})
    assert reader.records()[0][key] == "shown"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdef", "Authorization: Bearer ********"),
        ("authorization: basic bWU6d29yZA==", "authorization: basic ********"),
        ("{'x': 'Bearer a.b-c_d'}", "{'x': 'Bearer ********'}"),
        ("Bearer  tokenish", "Bearer  ********"),
        ("Basic authentication with passwords is deprecated.", "Basic authentication with passwords is deprecated."),
        ("the bearer token is old", "the bearer token is old"),
        ('Basic realm="Jira"', 'Basic realm="Jira"'),
    ],
)
def test_a_header_is_masked_wherever_it_stands(start: Start, text: str, shown: str) -> None:
    reader = start()
    LOG.info(text, reason=text, error=ValueError(text), deep=[text], raw=text.encode())
    record = reader.records()[0]
    assert record["event"] == record["reason"] == record["deep"][0] == record["raw"] == shown
    assert record["error"] == f"ValueError: {shown}"


class Shown:
    """Something that shows a secret."""

    def __str__(self) -> str:
        return f"<{SECRET}>"


@pytest.mark.parametrize("log_format", ["json", "journald", "console"])
def test_a_registered_secret_is_masked_everywhere(start: Start, log_format: str) -> None:
    setup.hide(SECRET)
    setup.hide("12345678")
    reader = start(format=log_format)

    LOG.info(
        f"with {SECRET}",
        a=SECRET,
        b=f"x{SECRET}y",
        c={SECRET: [SECRET, (SECRET,)]},
        d=Shown(),
        e=ValueError(SECRET),
        f=repr(SECRET),
        g=json.dumps({"x": SECRET}),
        h="https://x/?t=not-a-%22token%5C0123",
        i="bm90LWEtInRva2VuXDAxMjM=",
        j=12345678,
        k=SECRET.encode(),
        l={SECRET},
    )
    try:
        raise RuntimeError(SECRET) from ValueError(f"because {SECRET}")
    except RuntimeError:
        LOG.exception("a.failed")
    logging.getLogger("library").warning("it is %s", SECRET)
    shown = reader.text()

    for form in ("not-a-", "token\\", "0123", "bm90LWE", "12345678"):
        assert form not in shown.replace("20123", "")
    assert shown.count(logs_lines.MASK) >= 16


def test_secrets_that_replace_one_another_do_not_gather_and_push_out_no_lasting_one(reader: Reader) -> None:
    setup.hide("lasting-one")
    for number in range(100):
        setup.hide_for_now(f"passing-{number:03}")
    setup.configure(config.Log(format="json"), reader.stream)
    LOG.info("told", words="lasting-one passing-000 passing-068 passing-099")

    (record,) = reader.records()

    assert record["words"] == "******** passing-000 ******** ********"
    assert len(logs_lines._passing) == logs_lines.PASSING


def test_a_longer_secret_is_masked_whole_where_a_shorter_one_is_part_of_it(start: Start) -> None:
    setup.hide("abcdef")
    setup.hide("abcdefghij")
    reader = start()
    LOG.info("a", x="abcdefghij")
    assert reader.records()[0]["x"] == logs_lines.MASK


def test_a_secret_of_three_letters_does_not_blacken_the_log(start: Start) -> None:
    setup.hide("")
    setup.hide("abc")
    reader = start()
    LOG.info("a", x="abc")
    assert reader.records()[0]["x"] == "abc"


def test_a_traceback_shows_no_locals(start: Start) -> None:
    reader = start()
    try:
        fail("open-" + "sesame")
    except ZeroDivisionError:
        LOG.exception("a.failed")

    (record,) = reader.records()
    assert "ZeroDivisionError: integer division" in record["exception"]
    assert "in fail" in record["exception"]
    assert "open-sesame" not in str(record)


def fail(_secret: str) -> None:
    _ = 1 // 0


# --- Whatever is logged -----------------------------------------------------------------------------------------


class Broken:
    """Something that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def endless() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(("value", "reason"), [(Broken(), "RuntimeError"), (endless(), "RecursionError")])
def test_what_cannot_be_shown_is_said_to_be_so(start: Start, value: Any, reason: str) -> None:
    reader = start()

    LOG.info("a.happened", value=value)

    (record,) = reader.records()
    assert (record["event"], record["about"], record["reason"]) == ("log.failed", "a.happened", reason)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**200, {1: 2}, {1, 2}, (1,), object(), Exception(), {None: b"x"}]
)
@pytest.mark.parametrize("log_format", ["json", "journald", "console"])
def test_any_value_can_be_logged(start: Start, log_format: str, value: Any) -> None:
    reader = start(format=log_format)

    LOG.info("a.happened", value=value)

    (line,) = reader.lines()
    assert "log.failed" not in line
    if log_format == "json":
        json.loads(line, parse_constant=pytest.fail)


def test_a_long_text_is_cut(start: Start) -> None:
    reader = start()
    LOG.info("a.happened", text="x" * 40_000, many=list(range(1000)))
    (record,) = reader.records()
    assert record["text"].endswith("… (35904 characters more)")
    assert len(record["many"]) == logs_lines.MAXIMUM_ENTRIES


def test_on_a_console_a_traceback_is_indented_so_that_it_cannot_look_like_a_record(start: Start) -> None:
    reader = start(format="console")
    try:
        raise ValueError("first\n12:00:00 info     forged.event\x1b[2J")
    except ValueError:
        LOG.exception("a.failed")

    head, *trace = reader.lines()
    assert head.endswith("a.failed")
    assert trace[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in trace)


@pytest.mark.parametrize("log_format", ["json", "journald"])
def test_elsewhere_a_traceback_is_part_of_its_line(start: Start, log_format: str) -> None:
    reader = start(format=log_format)
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        LOG.error("a.failed", exc_info=error)

    (line,) = reader.lines()
    assert r"ValueError: first\nsecond" in line


# --- Libraries --------------------------------------------------------------------------------------------------


def test_libraries_are_heard_from_warning_up(start: Start) -> None:
    reader = start(level="debug")

    logging.getLogger("httpx").info("HTTP Request: GET https://jira.example.com/?jql=x")
    logging.getLogger("httpcore.http11").debug("headers")
    logging.getLogger("watchdog.observers").warning("queue %s", "overflow")
    logging.getLogger("odd").log(35, "between")

    found = [(r["level"], r["event"], r["logger"], r["message"]) for r in reader.records()]
    assert found == [
        ("warning", "library.logged", "watchdog.observers", "queue overflow"),
        ("warning", "library.logged", "odd", "between"),
    ]


def test_a_message_of_a_library_that_does_not_fit_its_arguments_is_shown_without_them(start: Start) -> None:
    """Not by way of its logger: the handler of pytest raises at such a message."""
    reader = start()
    (handler,) = (one for one in logging.getLogger().handlers if isinstance(one, setup.Foreign))

    handler.handle(logging.LogRecord("wrong", logging.WARNING, "", 0, "%d", ("text",), None))

    assert reader.records()[0]["message"] == "%d"


def test_the_traceback_of_a_library_is_kept(start: Start) -> None:
    reader = start()
    try:
        fail("")
    except ZeroDivisionError:
        logging.getLogger("watchdog").exception("oh")
    assert "ZeroDivisionError" in reader.records()[0]["exception"]


def test_a_warning_of_python_is_a_record(start: Start) -> None:
    reader = start()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old\nway", DeprecationWarning, stacklevel=1)

    (record,) = reader.records()
    assert record["logger"] == "py.warnings"
    assert "DeprecationWarning: old" in record["message"]


def test_close_gives_everything_back(start: Start) -> None:
    before = (structlog.get_config(), sys.excepthook, threading.excepthook, sys.unraisablehook)
    handlers, level, show = list(logging.getLogger().handlers), logging.getLogger().level, warnings.showwarning

    start()
    setup.report_crashes(lambda: None)
    setup.close()

    assert (structlog.get_config(), sys.excepthook, threading.excepthook, sys.unraisablehook) == before
    assert (list(logging.getLogger().handlers), logging.getLogger().level, warnings.showwarning) == (
        handlers,
        level,
        show,
    )


# --- The reader -------------------------------------------------------------------------------------------------


def test_no_line_is_lost_in_the_ordinary_case(start: Start) -> None:
    reader = start()
    threads = [threading.Thread(target=lambda n=n: [LOG.info("a", n=n, i=i) for i in range(500)]) for n in range(4)]

    received: list[bytes] = []
    reading = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(reader.far, 4096), b"")))
    reading.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    setup.close()
    reader.stream.close()
    reading.join()

    records = [json.loads(line) for line in b"".join(received).splitlines()]
    assert sorted((r["n"], r["i"]) for r in records) == [(n, i) for n in range(4) for i in range(500)]
    for n in range(4):
        assert [r["i"] for r in records if r["n"] == n] == list(range(500))


def test_a_reader_that_stalls_holds_nobody_and_is_told_what_it_missed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_pipe, "CAPACITY_BYTES", 50_000)
    reader = start()
    began = time.monotonic()

    for number in range(5000):
        LOG.info("a.happened", number=number, text="x" * 50)

    assert time.monotonic() - began < 5
    records = reader.records()
    dropped = sum(record.get("dropped", 0) for record in records)
    arrived = [record["number"] for record in records if record["event"] == "a.happened"]
    assert dropped > 3000
    assert len(arrived) + dropped == 5000
    assert arrived == sorted(arrived)
    assert records[-1]["event"] == "log.dropped"
    assert records[-1]["level"] == "warning"


def test_a_reader_that_went_away_is_no_matter(start: Start) -> None:
    reader = start()
    reader.close()
    try:
        for _ in range(10):
            LOG.info("a.happened")
        setup.flush()
        setup.close()
    finally:
        reader.far = os.open(os.devnull, os.O_RDONLY)


def test_what_was_lost_is_told_once_a_line_gets_through() -> None:
    lines: list[bytes] = []
    broken = [True]

    def sink(line: bytes) -> None:
        if broken[0]:
            raise BrokenPipeError
        lines.append(line)

    pipe = logs_pipe.Pipe(sink, lambda dropped: b"dropped=%d" % dropped)
    for _ in range(3):
        pipe.put(b"lost")
    pipe.flush(5)
    broken[0] = False
    pipe.put(b"arrives")
    assert pipe.close(5)

    assert lines == [b"arrives", b"dropped=3"]


def test_a_descriptor_that_does_not_block_loses_nothing(start: Start, reader: Reader) -> None:
    flags = fcntl.fcntl(reader.stream, fcntl.F_GETFL)
    fcntl.fcntl(reader.stream, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    start()

    for number in range(3000):
        LOG.info("a.happened", number=number, text="x" * 100)

    assert [record["number"] for record in reader.records()] == list(range(3000))


# --- A process --------------------------------------------------------------------------------------------------

HEAD = """
import sys, threading
import structlog
from attachd import config
from attachd.logs import setup as logs
log = structlog.get_logger()
"""


def program(code: str) -> list[str]:
    return [sys.executable, "-c", HEAD + textwrap.dedent(code)]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(program(code), capture_output=True, text=True, timeout=60, check=False)


def test_everything_is_written_before_the_process_ends() -> None:
    done = run("logs.configure(config.Log())\nfor i in range(3000): log.info('a', i=i)")

    assert done.returncode == 0
    assert done.stdout == ""
    assert [json.loads(line)["i"] for line in done.stderr.splitlines()] == list(range(3000))


def test_a_process_without_stdout_and_stderr_logs_into_no_file_of_its_own(tmp_path: Path) -> None:
    code = f"""
    logs.configure(config.Log())
    logs.report_crashes(lambda: None)
    files = [open({str(tmp_path)!r} + f"/{{n}}", "w") for n in range(4)]
    for _ in range(100): log.error("a.happened")
    logs.flush()
    open({str(tmp_path)!r} + "/done", "w").write("done")
    """

    done = subprocess.run(["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", *program(code)], timeout=60, check=False)

    assert done.returncode == 0
    assert (tmp_path / "done").read_text() == "done"
    assert [(tmp_path / str(n)).read_text() for n in range(4)] == [""] * 4


def test_closing_stderr_later_leads_no_line_into_another_file(tmp_path: Path) -> None:
    code = f"""
    import os
    logs.configure(config.Log())
    os.close(2)
    file = open({str(tmp_path / "file")!r}, "w")
    assert file.fileno() == 2
    log.error("a.happened")
    logs.flush()
    """

    done = run(code)

    assert (tmp_path / "file").read_text() == ""
    assert json.loads(done.stderr)["event"] == "a.happened"


def test_a_stalled_reader_does_not_keep_the_process_from_ending() -> None:
    code = "logs.FLUSH_SECONDS = 0.2\nlogs.flush.__defaults__ = (0.2,)\nlogs.configure(config.Log())\n"
    code += "for i in range(5000): log.info('a', i=i)\nprint('ends')"
    process = subprocess.Popen(program(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_reader_that_is_gone_does_not_change_the_exit_status() -> None:
    process = subprocess.Popen(
        program("sys.stdin.read()\nlogs.configure(config.Log())\nfor i in range(100): log.info('a', i=i)"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr
    assert process.stdin
    process.stderr.close()
    process.stdin.close()

    assert process.wait(30) == 0


def test_a_crash_is_a_record_and_ends_the_process() -> None:
    code = """
    logs.configure(config.Log())
    logs.report_crashes(lambda: None)
    logs.hide("open-" + "sesame")
    raise ValueError("open-" + "sesame")
    """

    done = run(code)

    assert done.returncode == 1
    (record,) = map(json.loads, done.stderr.splitlines())
    assert (record["level"], record["event"]) == ("critical", "process.crashed")
    assert record["exception"].endswith(f"ValueError: {logs_lines.MASK}")


def test_an_interrupt_is_no_crash() -> None:
    done = run("logs.configure(config.Log())\nlogs.report_crashes(lambda: None)\nraise KeyboardInterrupt")

    assert done.returncode == -2
    assert "process.crashed" not in done.stderr


def test_a_crash_of_a_thread_is_a_record_and_told() -> None:
    code = """
    logs.configure(config.Log())
    crashed = threading.Event()
    logs.report_crashes(crashed.set)
    threading.Thread(target=sys.exit, name="leaver").start()
    thread = threading.Thread(target=lambda: 1 // 0, name="worker-1")
    thread.start(); thread.join()
    sys.exit(7 if crashed.is_set() else 0)
    """

    done = run(code)

    assert done.returncode == 7
    (record,) = map(json.loads, done.stderr.splitlines())
    assert (record["level"], record["event"], record["thread"]) == ("critical", "thread.crashed", "worker-1")
    assert "ZeroDivisionError" in record["exception"]


def test_an_error_in_a_finaliser_is_a_record() -> None:
    code = """
    class Odd:
        def __del__(self): 1 // 0
    logs.configure(config.Log())
    logs.report_crashes(lambda: None)
    Odd()
    """

    (record,) = map(json.loads, run(code).stderr.splitlines())

    assert (record["level"], record["event"]) == ("error", "finaliser.failed")
