"""A Jira with moods, for lives. It shares no code with the program, nor with its stand-in.

What it answers follows the public descriptions of Jira Cloud and Data Center. A life says beforehand what it *does*:
hold an upload, commit late, show a listing that lags, answer for another issue. It keeps every byte that it was given, so
that an oracle can count.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lives.house import LAST_LOOK, REPLY

#: The account that the service uses.
US = "us"
#: How long an upload is held if nobody lets it go, in seconds.
LONGEST_HOLD = 20.0


@dataclass(frozen=True)
class Mood:
    """What becomes of one upload. It happens in the order of these fields."""

    #: It is held, before anything is stored, until it is let go; or after, before the answer.
    hold: str = ""
    #: "yes", "no", "part" (the first half of several files), or "late" (``late`` seconds after the answer).
    commit: str = "yes"
    late: float = 0.0
    #: The status that is answered; 0: the connection is cut instead.
    status: int = 200
    #: Another name than the one that was sent.
    renamed: bool = False
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Attachment:
    """A file of an issue."""

    id: int
    name: str
    content: bytes
    author: str
    created: float
    shown_from: float
    #: Put there by other means than the service.
    by_hand: bool = False
    #: No program can know that it is there: stored after the last look, or under another name before the journal was lost.
    unknowable: bool = False
    sha256: str = ""

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256(self.content).hexdigest()


@dataclass
class Issue:
    """An issue with the keys that it has had; the last one is its key now."""

    id: int
    keys: list[str]
    attachments: list[Attachment] = field(default_factory=list)


class FakeJira:
    """One site. Told what to do by attributes and methods; asked over HTTP."""

    def __init__(self, kind: str = "cloud") -> None:
        """*kind*: "cloud", "datacenter" (hands out contents to whom it knows), or "blind" (it does not)."""
        self.kind = kind
        self.lock = threading.RLock()
        self.issues: list[Issue] = []
        self.moods: deque[Mood] = deque()
        self.lag = 0.0
        self.reorders = False
        self.date_ahead = 0.0
        self.clock_ahead = 0.0
        #: How much later it is than the machine thinks, for everybody in this life.
        self.later = 0.0
        self.denied: set[str] = set()
        self.accepts_account = True
        self.refuses: set[str] = set()
        self.wrong_for: dict[str, str] = {}
        self.arrived = threading.Event()
        self.released = threading.Event()
        self.uploads = 0
        #: The journal is lost, older or another host's in the course of this life.
        self.forgotten = False
        self._timers: list[threading.Timer] = []
        self._next = 10000
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """End it."""
        self.calm()
        self._server.shutdown()
        self._server.server_close()

    def forget(self, kind: str) -> None:
        """Begin again, as another site at the same address."""
        self.calm()
        with self.lock:
            self.kind, self.issues, self.uploads = kind, [], 0
            self.lag = self.date_ahead = self.clock_ahead = self.later = 0.0

    def calm(self) -> None:
        """Have no moods any more: what is held is let go, what is late is stored now."""
        with self.lock:
            self.moods.clear()
            self.lag, self.reorders, self.accepts_account, self.date_ahead = 0.0, False, True, 0.0
            self.denied.clear()
            self.refuses.clear()
            self.wrong_for.clear()
            timers, self._timers = self._timers, []
        self.released.set()
        for timer in timers:
            timer.join()

    # --- What a life says -------------------------------------------------------------------------------------

    def mood(self, mood: Mood) -> None:
        """Have the next upload go so, for which nothing else is set."""
        with self.lock:
            if mood.hold:
                self.arrived.clear()
                self.released.clear()
            self.moods.append(mood)

    def issue(self, key: str) -> Issue:
        """The issue of this key, made where it is not there."""
        with self.lock:
            found = next((issue for issue in self.issues if key in issue.keys), None)
            if found is None:
                found = Issue(self._number(), [key])
                self.issues.append(found)
            return found

    def move(self, key: str, to: str) -> bool:
        """Move an issue: it answers to both keys from now on. False where the other key is another issue's."""
        with self.lock:
            issue = self.issue(key)
            if any(to in other.keys for other in self.issues):
                return False
            issue.keys.append(to)
            return True

    def attach(
        self, key: str, name: str, content: bytes, author: str = US, *, by_hand: bool = False, unknowable: bool = False
    ) -> Attachment:
        """Store a file."""
        with self.lock:
            now = time.time()
            created, shown_from = now + self.later + self.clock_ahead, now + self.lag
            attachment = Attachment(self._number(), name, content, author, created, shown_from, by_hand, unknowable)
            self.issue(key).attachments.append(attachment)
            return attachment

    def count(self, issue: Issue, sha256: str) -> int:
        """How often the service has attached this content to an issue."""
        with self.lock:
            return sum(a.sha256 == sha256 and not a.by_hand for a in issue.attachments)

    def holds(self, issue: Issue, sha256: str) -> int:
        """How many attachments of the service on an issue have this content by now."""
        with self.lock:
            ours = [a for a in issue.attachments if not a.by_hand]
            return sum(hashlib.sha256(a.content).hexdigest() == sha256 for a in ours)

    def _number(self) -> int:
        self._next += 1
        return self._next

    # --- What is answered --------------------------------------------------------------------------------------

    def take_mood(self) -> Mood:
        with self.lock:
            self.uploads += 1
            return self.moods.popleft() if self.moods else Mood()

    def store(self, key: str, files: list[tuple[str, bytes]], mood: Mood) -> list[Attachment]:
        """Store what the mood lets be stored; what is late comes by itself."""
        # A verdict about one file is believed: Jira does not decline what it stores whole.
        files = files[: len(files) // 2] if mood.commit == "part" else files
        if mood.commit == "no":
            return []
        if mood.commit == "late":
            timer = threading.Timer(mood.late, self.store, (key, files, Mood(late=mood.late)))
            with self.lock:
                self._timers.append(timer)
            timer.start()
            return []
        unknowable = mood.late > LAST_LOOK or (mood.renamed and self.forgotten)
        return [
            self.attach(key, _changed(name) if mood.renamed else name, content, unknowable=unknowable)
            for name, content in files
        ]

    def shown(self, issue: Issue) -> list[dict[str, Any]]:
        """What a listing shows at this moment."""
        with self.lock:
            found = [a for a in issue.attachments if a.shown_from <= time.time()]
            return [self.described(a) for a in (reversed(found) if self.reorders else found)]

    def described(self, attachment: Attachment) -> dict[str, Any]:
        """One attachment as Jira has it."""
        who = {"accountId": attachment.author} if self.kind == "cloud" else {"name": attachment.author}
        created = datetime.datetime.fromtimestamp(attachment.created, datetime.UTC)
        return {
            "id": str(attachment.id),
            "filename": attachment.name,
            "size": len(attachment.content),
            "author": who,
            "created": created.strftime("%Y-%m-%dT%H:%M:%S.") + f"{created.microsecond // 1000:03}+0000",
        }

    def content(self, attachment: int) -> bytes | None:
        """The bytes of one attachment."""
        with self.lock:
            everything = (a for issue in self.issues for a in issue.attachments)
            return next((a.content for a in everything if a.id == attachment), None)


def _changed(name: str) -> str:
    stem, dot, end = name.rpartition(".")
    return f"{stem} (changed){dot}{end}" if dot else f"{name} (changed)"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed while it talks is no error of ours."""


def _handler(jira: FakeJira) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        site = jira

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: FakeJira

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time.time() + self.site.later + self.site.date_ahead, usegmt=True)

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        with _Quiet():
            for pattern, answer in self._answers():
                if found := re.fullmatch(pattern, path):
                    answer(*found.groups())
                    return
            self._json(404, {"errorMessages": ["null for uri"]})

    def _answers(self) -> Iterator[tuple[str, Callable[..., None]]]:
        api = r"/rest/api/[23]"
        yield rf"{api}/serverInfo", self._server_info
        yield rf"{api}/myself", self._myself
        yield rf"{api}/attachment/meta", lambda: self._json(200, {"enabled": True, "uploadLimit": 100_000_000})
        yield rf"{api}/attachment/content/(\d+)", self._content
        yield rf"{api}/attachment/(\d+)", self._attachment
        yield r"/secure/attachment/(\d+)/.*", self._secure
        yield rf"{api}/issue/([^/]+)", self._issue
        yield rf"{api}/mypermissions", self._permissions

    def _server_info(self) -> None:
        kind = "Cloud" if self.site.kind == "cloud" else "Server"
        self._json(200, {"deploymentType": kind, "version": "10.3.24", "baseUrl": self.site.url})

    def _myself(self) -> None:
        if self._may():
            self._json(200, {"accountId": US, "name": US, "key": US, "emailAddress": "us@example.com"})

    def _permissions(self) -> None:
        names = ("BROWSE_PROJECTS", "CREATE_ATTACHMENTS")
        self._json(200, {"permissions": {name: {"key": name, "havePermission": True} for name in names}})

    def _may(self) -> bool:
        if not self.site.accepts_account:
            self._json(401, {"errorMessages": ["You do not have the permission to see the specified issue."]})
        return self.site.accepts_account

    def _issue(self, key: str) -> None:
        if not self._may():
            return
        with self.site.lock:
            key = self.site.wrong_for.pop(key, key)
        if key in self.site.denied:
            self._json(404, {"errorMessages": ["Issue does not exist or you do not have permission to see it."]})
            return
        issue = self.site.issue(key)
        fields = {"summary": f"About {key}", "attachment": self.site.shown(issue)}
        self._json(200, {"id": str(issue.id), "key": issue.keys[-1], "fields": fields})

    def _attachment(self, number: str) -> None:
        with self.site.lock:
            everything = (a for issue in self.site.issues for a in issue.attachments)
            found = next((a for a in everything if a.id == int(number)), None)
            said = self.site.described(found) if found else None
        self._json(200, said) if said else self._json(404, {"errorMessages": ["The attachment does not exist."]})

    def _content(self, number: str) -> None:
        content = self.site.content(int(number))
        if self.site.kind != "cloud" or content is None:
            self._json(404, {"errorMessages": ["The attachment does not exist."]})
        elif self._may():
            self._send(200, "application/octet-stream", content)

    def _secure(self, number: str) -> None:
        content = self.site.content(int(number))
        if self.site.kind == "blind":
            self._send(200, "text/html;charset=UTF-8", b"<html><title>Log in</title></html>")
        elif self.site.kind == "cloud" or content is None:
            self._json(404, {"errorMessages": ["The attachment does not exist."]})
        elif self._may():
            self._send(200, "application/octet-stream", content)

    def do_POST(self) -> None:
        with _Quiet():
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = re.fullmatch(r"/rest/api/[23]/issue/([^/]+)/attachments", urllib.parse.unquote(self.path))
            if found is None:
                self._json(404, {"errorMessages": ["null for uri"]})
            elif self._may():
                self._upload(found[1], _parts(body, self.headers.get("Content-Type", "")))

    def _upload(self, key: str, files: list[tuple[str, bytes]]) -> None:
        if key in self.site.denied:
            self._json(404, {"errorMessages": ["Issue does not exist or you do not have permission to see it."]})
            return
        if key in self.site.refuses:
            self._json(400, {"errorMessages": ["The file is not welcome here."]})
            return
        mood = self.site.take_mood()
        if mood.hold == "before":
            held = self._hold()
            # The answer is no longer waited for, and then the last look was made.
            mood = replace(mood, late=held - REPLY if held > REPLY else 0.0)
        stored = self.site.store(key, files, mood)
        if mood.hold == "after":
            self._hold()
        if mood.status == 0:
            self.close_connection = True
        elif mood.status == 200:
            self._json(200, [self.site.described(a) for a in stored])
        else:
            self._json(mood.status, {"errorMessages": ["It did not work."]}, mood.headers)

    def _hold(self) -> float:
        """Wait until it is let go; for how many seconds that was."""
        began = time.monotonic()
        self.site.arrived.set()
        self.site.released.wait(LONGEST_HOLD)
        return time.monotonic() - began

    def _json(self, status: int, content: Any, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._send(status, "application/json", json.dumps(content).encode(), headers)

    def _send(self, status: int, kind: str, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Quiet:
    """A client that is gone is not waited for."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, (ConnectionError, TimeoutError))


def _parts(body: bytes, content_type: str) -> list[tuple[str, bytes]]:
    """The files of a multipart/form-data body; none where it is cut."""
    boundary = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    pieces = body.split(boundary)
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        return []
    found = []
    for piece in pieces[1:-1]:
        head, _, content = piece[2:-2].partition(b"\r\n\r\n")
        if name := re.search(rb'filename="([^"]*)"', head):
            found.append((name[1].decode("utf-8", "replace"), content))
    return found
