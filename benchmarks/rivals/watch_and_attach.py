"""What a user would write instead: watchdog and the jira library. For measuring only; it loses files in many ways."""

import shutil
import sys
import time
from pathlib import Path

from jira import JIRA
from watchdog.events import FileClosedEvent, FileSystemEventHandler
from watchdog.observers import Observer

inbox, done, url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
jira = JIRA(server=url, basic_auth=("demo@example.com", "standin-token"), get_server_info=False)


class Handler(FileSystemEventHandler):
    """Attaches each file that was closed, and moves it away."""

    def on_closed(self, event: FileClosedEvent) -> None:
        """One after the other, in watchdog's thread."""
        path = Path(str(event.src_path))
        issue = path.parent.name
        jira.add_attachment(issue=issue, attachment=str(path))
        (done / issue).mkdir(exist_ok=True)
        shutil.move(path, done / issue / path.name)


observer = Observer()
observer.schedule(Handler(), str(inbox), recursive=True)
observer.start()
print("ready", flush=True)
while True:
    time.sleep(1)
