"""A multipart body, taken in as it arrives: strict where Jira is strict, and no more in memory than one chunk."""

from __future__ import annotations

import contextlib
import email.errors
import email.header
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from attachd.standin.records import Part

#: Far above what is refused, so that the refusal is ours.
_PARSER_HEADER_LIMIT = 1 << 16


class Malformed(Exception):
    """The body is not what Jira takes; ``status`` is what it answers, ``told`` whether in words."""

    def __init__(self, message: str, status: int = 500, *, told: bool = True) -> None:
        """Say what is wrong."""
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
        """Take in the next bytes of the body."""
        if self.closed:
            return
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Malformed(f"Processing of multipart/form-data request failed. {error}") from error

    def discard(self) -> None:
        """Forget the bytes of all parts; what was stored has its own link to them."""
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
    """Read parameters as Commons FileUpload does: no escape is undone, ``filename*`` is just another name."""
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
    """Decode the words of a name that look like ``=?utf-8?Q?...?=``, as FileUpload does whether meant so or not."""
    return re.sub(r"(?<!\S)=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=(?!\S)", lambda word: _encoded_word(word.group()), text)


def _encoded_word(word: str) -> str:
    try:
        return str(email.header.make_header(email.header.decode_header(word)))
    except (email.errors.HeaderParseError, LookupError, UnicodeError):
        return word
