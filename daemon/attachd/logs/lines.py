"""Make a log line of an event and its keys: without secrets, in exactly one line.

Everything in a line passes ``_plain``. People who drop files choose their names, so a line break or an escape sequence in a
name must neither forge a record nor reach a terminal.
"""

from __future__ import annotations

import base64
import datetime
import functools
import itertools
import json
import math
import re
import sys
import traceback
import urllib.parse
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any

from attachd import model
from attachd.logger import structlog
from attachd.logs import redact

MASK = "********"
#: Longer texts and lists are cut: one warning of a library must not fill the log.
MAXIMUM_CHARACTERS = 4_096
MAXIMUM_TRACEBACK = 32_768
MAXIMUM_ENTRIES = 100
#: Masking a shorter secret would hide half of every line.
MINIMUM_SECRET = 4
#: How many secrets that replace one another are masked: those in use, and those that a late line may still contain.
PASSING = 32

_SECRET_KEY = re.compile(
    r"(?:.*[_-])?(?:authorization|cookies?|credentials?|passphrase|passwd|password|secrets?|token|api[_-]?key)",
    re.IGNORECASE,
)
#: A scheme and the word behind it, unless that belongs to a sentence about the scheme.
_SCHEME = re.compile(
    r"\b(bearer|basic)(\s+|\s*:\s*)(?!(?:access|auth|authentication|authorization|realm|tokens?)(?![\w+/.~-]))[^\s\"',;]+",
    re.IGNORECASE,
)
_BARE = re.compile(r"[^\s\"=\[\]{}]+")

Fields = Mapping[str, Any]
Render = Callable[[Fields], str]

_lasting: set[str] = set()
_passing: deque[str] = deque(maxlen=PASSING)
#: The longest first, so that nothing is left of one around a shorter one.
_hidden: tuple[str, ...] = ()


def hide(secret: str) -> None:
    """Mask *secret* in every line from now on: as it is, and as a URL, a header, ``repr`` or JSON write it."""
    _lasting.add(secret)
    _mask()


def hide_for_now(secret: str) -> None:
    """Mask a *secret* that others will replace: only the last ``PASSING`` of them are masked."""
    _passing.append(secret)
    _mask()


def _mask() -> None:
    global _hidden
    secrets = [secret for secret in {*_lasting, *_passing} if len(secret) >= MINIMUM_SECRET]
    _hidden = tuple(sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True))
    _key.cache_clear()


def _forms(secret: str) -> set[str]:
    forms = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe="")}
    return forms | {base64.b64encode(secret.encode()).decode()}


class Lines:
    """Makes one line of each event. Never raises: if an event cannot be shown, the line says so."""

    def __init__(self, render: Render, file_names: bool = True) -> None:
        """Use *render* for the format; without *file_names* the names of files are left out."""
        self._render = render
        self._file_names = file_names

    def __call__(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
        """Make the line; this is structlog's last processor."""
        try:
            return self.line(method, event)
        except Exception as error:  # noqa: BLE001 A value that cannot be shown must not fail an upload.
            shown = {"about": str(event.get("event", ""))[:200], "reason": type(error).__name__}
            return self.line("error", {"event": "log.failed", **shown})

    def line(self, method: str, event: Mapping[str, Any]) -> bytes:
        """Return the line with its end."""
        level = _level(method)
        told: dict[str, Any] = {"level": level, "event": "", **event}
        told["level"], told["event"] = level, str(told["event"])
        if not self._file_names:
            told = redact.told(told)
        if "exc_info" in told and (exception := _exception(told.pop("exc_info"))) is not None:
            told["exception"] = _traceback(exception, messages=self._file_names)
        if not _may_be_shown(told):
            told = _plain(told, file_names=self._file_names)
        return f"{self._render(told)}\n".encode()


@functools.lru_cache
def _level(method: str) -> str:
    """Return structlog's name for the level of a method."""
    return str(structlog.processors.add_log_level(None, method, {})["level"])


# --- What may be shown ------------------------------------------------------------------------------------------


def _may_be_shown(told: Mapping[str, Any]) -> bool:
    """Return True if ``_plain`` would change nothing: so for nearly all lines, in a fifth of its time."""
    texts: list[str] = []
    for key, value in told.items():
        if _is_secret(key):
            return False
        kind = type(value)
        if kind is str or kind is int:
            texts += (key, str(value))
        elif value is not None and kind is not bool:
            return False
    text = "\n".join(texts)
    return len(text) <= MAXIMUM_CHARACTERS and _encodable(text) == text and _masked(text) == text


def _plain(value: Any, *, file_names: bool) -> Any:
    """Reduce *value* to the types of JSON, without secrets and, if configured, without file names."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {_key(str(key)): _of_key(str(key), below, file_names=file_names) for key, below in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(below, file_names=file_names) for below in itertools.islice(value, MAXIMUM_ENTRIES)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and math.isfinite(value) and not _has_secret(str(value)):
        return value
    return _text(_words(value, file_names=file_names))


@functools.lru_cache(1024)
def _key(key: str) -> str:
    """Return a key as it is shown; most keys recur in every line."""
    return _text(key)


@functools.lru_cache(1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.fullmatch(key) is not None


def _of_key(key: str, value: Any, *, file_names: bool) -> Any:
    if _is_secret(key):
        return MASK
    if not file_names and redact.hidden(key, value):
        return redact.HIDDEN
    if key == "exception":
        return _text(str(value), MAXIMUM_TRACEBACK)
    return _plain(value, file_names=file_names)


def _words(value: Any, *, file_names: bool) -> str:
    if isinstance(value, bytes):
        return model.printable(value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}" if file_names else type(value).__name__
    return str(value)


def _text(text: str, maximum: int = MAXIMUM_CHARACTERS) -> str:
    text = _masked(_encodable(text))
    return text if len(text) <= maximum else f"{text[:maximum]}… ({len(text) - maximum} characters more)"


def _encodable(text: str) -> str:
    r"""Show the bytes of a name that is not UTF-8, which are surrogates in the text, as ``\x..``."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        named = re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
        return named.encode("utf-8", "backslashreplace").decode()
    return text


def _masked(text: str) -> str:
    for secret in _hidden:
        text = text.replace(secret, MASK)
    # Few texts have one of these words, and the search for them takes a tenth of the expression's time.
    lower = text.lower()
    return _SCHEME.sub(rf"\1\2{MASK}", text) if "bearer" in lower or "basic" in lower else text


def _has_secret(text: str) -> bool:
    return any(secret in text for secret in _hidden)


# --- Tracebacks -------------------------------------------------------------------------------------------------


def _exception(exc_info: Any) -> BaseException | None:
    """Return the exception that *exc_info* means, in any form that logging knows."""
    if isinstance(exc_info, BaseException):
        return exc_info
    found: BaseException | None = (exc_info if isinstance(exc_info, tuple) else sys.exc_info())[1] if exc_info else None
    return found


def _traceback(error: BaseException, *, messages: bool) -> str:
    """Format a traceback without locals; without *messages* also without the words of exceptions."""
    if messages:
        return "".join(traceback.format_exception(error)).rstrip()
    return f"{_frames(error.__traceback__)}{type(error).__qualname__}"


def _frames(trace: TracebackType | None) -> str:
    return "".join(["Traceback (most recent call last):\n", *traceback.format_tb(trace)]) if trace else ""


# --- Formats ----------------------------------------------------------------------------------------------------


#: Syslog's numbers, as sd-daemon(3) wants them in front of a line.
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}


#: Made once: ``json.dumps`` makes an encoder for each call.
_JSON = json.JSONEncoder(ensure_ascii=False).encode


def json_line(fields: Fields) -> str:
    """Render a JSON object with the time in UTC."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return _one_line(_JSON({"timestamp": f"{now}Z", **fields}))


def journal_line(fields: Fields) -> str:
    """Render for journald, which adds the time and reads the priority from the prefix."""
    level, event, *rest = fields.items()
    return _one_line(f"<{PRIORITIES[level[1]]}>{' '.join([event[1], *(f'{k}={_value(v)}' for k, v in rest)])}")


def console_line(fields: Fields, *, colours: bool) -> str:
    """Render for a terminal. Only a traceback takes further lines, which are indented."""
    (_, level), (_, event), *rest = ((key, value) for key, value in fields.items() if key != "exception")
    paint = _paint if colours else _plainly
    time = paint("2", f"{datetime.datetime.now().astimezone():%H:%M:%S}")
    keys = (f"{paint('36', _one_line(key))}={_one_line(_value(value))}" for key, value in rest)
    head = " ".join([time, paint(_COLOURS[level], f"{level:<8}"), paint("1", _one_line(event)), *keys])
    trace = (f"    {_one_line(line)}" for line in str(fields.get("exception", "")).splitlines())
    return "\n".join([head, *trace])


def _paint(colour: str, text: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"


def _plainly(_colour: str, text: str) -> str:
    return text


def _value(value: Any) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value):
        return value
    return _JSON(value)


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
