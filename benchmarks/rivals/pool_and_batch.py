"""What a skilled user would write instead: watchdog, four threads, up to 60 files a request. For measuring only.

It keeps no journal, so that it loses and repeats files in many ways. It walks the folders every two seconds, because the kernel's
queue of events may overflow.
"""

import sys
import threading
import time
from collections import OrderedDict
from pathlib import Path

import requests
from watchdog.events import FileClosedEvent, FileMovedEvent, FileSystemEventHandler
from watchdog.observers import Observer

THREADS, MOST, WALK_SECONDS = 4, 60, 2.0
inbox, done, url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]


class Queue:
    """Files by issue; an issue is served by one thread at a time."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, list[Path]] = OrderedDict()
        self._known: set[Path] = set()
        self._busy: set[str] = set()
        self._changed = threading.Condition()

    def put(self, path: Path) -> None:
        with self._changed:
            if path not in self._known:
                self._known.add(path)
                self._waiting.setdefault(path.parent.name, []).append(path)
                self._changed.notify()

    def take(self) -> tuple[str, list[Path]]:
        with self._changed:
            while (issue := next((each for each in self._waiting if each not in self._busy), None)) is None:
                self._changed.wait()
            paths = self._waiting.pop(issue)
            if paths[MOST:]:
                self._waiting[issue] = paths[MOST:]
            self._busy.add(issue)
            return issue, paths[:MOST]

    def give_back(self, issue: str) -> None:
        with self._changed:
            self._busy.discard(issue)
            self._changed.notify()


class Handler(FileSystemEventHandler):
    def on_closed(self, event: FileClosedEvent) -> None:
        queue.put(Path(str(event.src_path)))

    def on_moved(self, event: FileMovedEvent) -> None:
        queue.put(Path(str(event.dest_path)))


def work() -> None:
    session = requests.Session()
    session.auth = ("demo@example.com", "standin-token")
    session.headers["X-Atlassian-Token"] = "no-check"
    while True:
        issue, paths = queue.take()
        files = [("file", (path.name, path.read_bytes())) for path in paths]
        answer = session.post(f"{url}/rest/api/3/issue/{issue}/attachments", files=files, timeout=60)
        answer.raise_for_status()
        (done / issue).mkdir(exist_ok=True)
        for path in paths:
            path.rename(done / issue / path.name)
        queue.give_back(issue)


queue = Queue()
observer = Observer()
observer.schedule(Handler(), str(inbox), recursive=True)
observer.start()
for _ in range(THREADS):
    threading.Thread(target=work, daemon=True).start()
print("ready", flush=True)
while True:
    for found in inbox.glob("*/*"):
        queue.put(found)
    time.sleep(WALK_SECONDS)
