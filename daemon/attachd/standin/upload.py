"""``POST issue/{key}/attachments``: receives files, and decides what happens to them."""

from __future__ import annotations

import contextlib
import email.errors
import email.header
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from attachd.standin import shapes
from attachd.standin.access import concerned, visible
from attachd.standin.exchange import Exchange, Struck
from attachd.standin.faults import Fault
from attachd.standin.settings import refusal_headers
from attachd.standin.store import Attachment, Issue, Part

# A multipart body, read as it arrives: strict where Jira is strict, with at most one chunk in memory.

#: Far above what is refused, so that the refusal is ours.
_PARSER_HEADER_LIMIT = 1 << 16


class Malformed(Exception):
    """Jira refuses the body with ``status``; ``told``: with a message."""

    def __init__(self, message: str, status: int = 500, *, told: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.told = told


class Intake:
    """The files of one request. Feed it chunks; ``closed`` is true once the closing boundary has arrived."""

    def __init__(self, folder: Path, content_type: str, *, header_limit: int, size_limit: int, file_limit: int) -> None:
        """Keep arriving files in *folder*: bytes beyond *size_limit* and files beyond *file_limit* only by number."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Malformed("the request doesn't contain a multipart/form-data stream")
        self.parts: list[Part] = []
        self.closed = False
        self._folder = folder
        self._header_limit, self._size_limit, self._file_limit = header_limit, size_limit, file_limit
        self._names, self._values = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_ends,
                "on_end": self._ends,
            },
            max_header_size=_PARSER_HEADER_LIMIT,
        )

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the body."""
        if self.closed:
            return
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Malformed(f"Processing of multipart/form-data request failed. {error}") from error

    def discard(self) -> None:
        """Delete the bytes of all parts. Stored files have their own links."""
        if self._file is not None:
            self._file.close()
            self._file = None
        for part in self.parts:
            with contextlib.suppress(FileNotFoundError):
                part.path.unlink()

    # --- what the parser calls -----------------------------------------------------------------------------------

    def _part_begins(self) -> None:
        self._headers, self._header_bytes, self._names, self._values = {}, 0, b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._names += data[start:end]
        self._count(end - start)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._values += data[start:end]
        self._count(end - start)

    def _header_ends(self) -> None:
        self._headers[self._names.lower()] = self._values
        self._names, self._values = b"", b""
        self._count(len(": \r\n"))

    def _count(self, more: int) -> None:
        self._header_bytes += more
        if self._header_bytes + len("\r\n") > self._header_limit:
            raise Malformed(
                f"Header section has more than {self._header_limit} bytes (maybe it is not properly terminated)", 400
            )

    def _headers_finished(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"").decode("utf-8", "replace")
        options = dict(_parameters(disposition))
        if not disposition.lower().startswith("form-data") or options.get("name") != "file":
            raise Malformed("Every part of the request must be named 'file'.", 400)
        if not options.get("filename"):
            # Jira logs "Cannot create attachment without a filename" and answers with an empty body.
            raise Malformed("Cannot create attachment without a filename", told=False)
        mime = self._headers.get(b"content-type", b"application/octet-stream").decode("latin-1")
        part = Part(self._folder / os.urandom(12).hex(), options["filename"], mime)
        self._digest = hashlib.sha256()
        self.parts.append(part)
        if len(self.parts) <= self._file_limit:
            self._file = part.path.open("wb", buffering=0)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        part.size += end - start
        part.too_large = part.too_large or part.size > self._size_limit
        if self._file is not None and not part.too_large:
            view = memoryview(data)[start:end]
            self._digest.update(view)
            self._file.write(view)

    def _part_ends(self) -> None:
        part = self.parts[-1]
        part.sha256 = self._digest.hexdigest()
        part.whole = True
        if self._file is not None:
            self._file.close()
            self._file = None

    def _ends(self) -> None:
        self.closed = True


def _parameters(value: str) -> Iterator[tuple[str, str]]:
    """Read parameters as Commons FileUpload does: keep escapes, and treat ``filename*`` as any other name."""
    for piece in _pieces(value)[1:]:
        name, _, text = piece.partition("=")
        text = text.strip()
        if len(text) >= 2 and text[0] == text[-1] == '"':
            text = text[1:-1]
        yield name.strip().lower(), _decoded(text).strip("".join(map(chr, range(0x21))))


def _pieces(value: str) -> list[str]:
    """Split at semicolons outside quotes, where a backslash keeps a quote from counting."""
    pieces, quoted, escaped = [""], False, False
    for character in value:
        if character == ";" and not quoted:
            pieces.append("")
            escaped = False
            continue
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = character == "\\" and not escaped
        pieces[-1] += character
    return pieces


def _decoded(text: str) -> str:
    """Decode words of a name that look like ``=?utf-8?Q?...?=``, as FileUpload always does."""
    return re.sub(r"(?<!\S)=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=(?!\S)", lambda word: _encoded_word(word.group()), text)


def _encoded_word(word: str) -> str:
    try:
        return str(email.header.make_header(email.header.decode_header(word)))
    except (email.errors.HeaderParseError, LookupError, UnicodeError):
        return word


async def upload(x: Exchange) -> Response:
    """Store the files of one request, all or none, unless the settings or the fault say otherwise."""
    issue = x.store.find_issue(x.http.path_params["key"])
    reply = _refused_by_head(x, issue)
    if reply is not None or issue is None:
        await _counted(x)
        return reply or shapes.refusal(404, shapes.NOT_THERE)
    return await _taken_in(x, issue)


async def _counted(x: Exchange) -> None:
    """Read a body that is already refused, only to log how many files it has."""
    intake: Intake | None = None
    try:
        intake = _intake(x)
        async for chunk in x.body():
            if not intake.closed:
                intake.feed(chunk)
                x.record.files = len(intake.parts)
    except Malformed:
        async for _ in x.body():
            pass
    finally:
        if intake is not None:
            intake.discard()


async def _taken_in(x: Exchange, issue: Issue) -> Response:
    reply: Response | None = None
    intake: Intake | None = None
    try:
        intake = _intake(x)
        async for chunk in x.body():
            if reply is None:
                reply = _fed(x, issue, intake, chunk)
    except Malformed as error:
        reply = _malformed(error)
        async for _ in x.body():
            pass
    except (ClientDisconnect, Struck):
        if intake is not None and reply is None:
            _keep_arrived(x, issue, intake)
        raise
    finally:
        if intake is not None:
            intake.discard()
    return reply or _malformed(Malformed("Processing of multipart/form-data request failed. Stream ended unexpectedly"))


def _intake(x: Exchange) -> Intake:
    store = x.store
    return Intake(
        store.incoming,
        x.http.headers.get("content-type", ""),
        header_limit=store.part_header_limit,
        size_limit=store.upload_limit,
        file_limit=store.files_per_request,
    )


def _fed(x: Exchange, issue: Issue, intake: Intake, chunk: bytes) -> Response | None:
    """Read the next bytes. The closing boundary ends the body, whatever follows it."""
    try:
        intake.feed(chunk)
    except Malformed as error:
        _keep_arrived(x, issue, intake)
        return _malformed(error)
    finally:
        x.record.files = len(intake.parts)
    return _settled(x, issue, intake) if intake.closed else None


def _malformed(error: Malformed) -> Response:
    if not error.told:
        return Response(b"", error.status, media_type="application/json")
    return shapes.refusal(error.status, str(error))


def _refused_by_head(x: Exchange, issue: Issue | None) -> Response | None:
    """Check what can be checked before the body, in the order of Jira's filters."""
    headers = x.http.headers
    if headers.get("x-atlassian-token") != "no-check" or headers.get("user-agent", "").startswith("Mozilla/"):
        return shapes.xsrf_refusal()
    if x.declared is None:
        return shapes.proxy_page(411, "Length Required")
    if x.store.proxy_limit and x.declared > x.store.proxy_limit:
        return shapes.proxy_page(413, "Request Entity Too Large")
    if issue is None or not visible(x.store, x.who, issue):
        return shapes.refusal(404, shapes.NOT_THERE)
    if not x.store.attachments_enabled:
        return shapes.refusal(403, "Attachments are disabled.")
    if concerned(issue, x.store.read_only):
        return shapes.refusal(403, shapes.MAY_NOT_ATTACH)
    return None


def _settled(x: Exchange, issue: Issue, intake: Intake) -> Response:
    refusal = _refused_by_content(x, issue, intake.parts)
    if refusal is not None:
        _keep_arrived(x, issue, intake)
        return refusal
    headers: dict[str, str] = {}
    if x.store.limits and x.store.cloud:
        writes = len(intake.parts) if x.store.count_files_as_writes else 1
        grant = x.site.writes.admit(issue.id, writes, x.store.moment())
        headers = grant.headers
        if grant.wait:
            headers |= refusal_headers("jira-per-issue-on-write", grant.wait, x.store.now_ms() / 1000)
            return shapes.refusal(429, "Too many writes to this issue.", headers=headers)
    stored = _stored(x, issue, intake.parts)
    shown = [shapes.attachment(x.store, x.site.base, one) for one in stored]
    return JSONResponse(shown[::-1] if x.store.shuffle else shown, headers=headers)


def _refused_by_content(x: Exchange, issue: Issue, parts: list[Part]) -> Response | None:
    store = x.store
    if len(parts) > store.files_per_request:
        return shapes.refusal(413, f"A request may have {store.files_per_request} files at most.")
    if any(part.too_large for part in parts):
        return shapes.refusal(
            413 if store.cloud else 404,
            f"The file exceeds its maximum permitted size of {store.upload_limit} bytes.",
        )
    if len(store.of_issue(issue)) + len(parts) > store.attachment_limit:
        return shapes.refusal(413, f"An issue may have {store.attachment_limit} attachments at most.")
    return None


def _stored(x: Exchange, issue: Issue, parts: list[Part]) -> list[Attachment]:
    """Store the files that the fault permits. The answer lists all of them."""
    fault = x.fault
    if fault is None:
        return _keep(x, issue, parts)
    parts = [replace(part, filename=_new_name(fault, part.filename)) for part in parts]
    if fault.kind == "late":
        _keep_later(x, issue, parts, fault.delay or 0.0)
    if not fault.stores:
        return x.store.prepare(issue, parts)
    if fault.kind == "half":
        count = len(parts) // 2 if fault.count is None else fault.count
        return _keep(x, issue, parts[:count])
    stored = _keep(x, issue, parts)
    if fault.kind == "twice":
        _keep(x, issue, parts)
    return stored


def _new_name(fault: Fault, name: str) -> str:
    if fault.name is not None:
        return fault.name
    stem, extension = os.path.splitext(name)
    return f"{stem}-renamed{extension}" if fault.kind == "rename" else name


def _keep_later(x: Exchange, issue: Issue, parts: list[Part], delay: float) -> None:
    aside = [x.store.set_aside(part) for part in parts]

    def keep() -> None:
        attachments = x.store.prepare(issue, aside)
        x.store.keep(attachments, aside)
        for part in aside:
            part.path.unlink()
        _noted(x, attachments)

    x.site.later(delay, keep)


def _keep(x: Exchange, issue: Issue, parts: list[Part]) -> list[Attachment]:
    attachments = x.store.prepare(issue, parts)
    x.store.keep(attachments, parts)
    _noted(x, attachments)
    return attachments


def _noted(x: Exchange, attachments: list[Attachment]) -> None:
    x.record.committed += [attachment.id for attachment in attachments]
    x.site.log.touch()


def _keep_arrived(x: Exchange, issue: Issue, intake: Intake) -> None:
    """Keep complete files if requests are not atomic, whatever happens to the others."""
    if x.store.atomic:
        return
    whole = [part for part in intake.parts[: x.store.files_per_request] if part.whole and not part.too_large]
    _keep(x, issue, whole)
