"""What a user would do without attachd: the script that most would write, ``inotifywait`` with curl, and curl alone."""

from __future__ import annotations

SCRIPT = """
import shutil, sys, time
from pathlib import Path
from jira import JIRA
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

inbox, done, url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
jira = JIRA(server=url, basic_auth=("demo@example.com", "not-a-secret"), get_server_info=False)

class Handler(FileSystemEventHandler):
    def on_closed(self, event):
        path = Path(event.src_path)
        issue = path.parent.name
        try:
            jira.add_attachment(issue=issue, attachment=str(path))
            target = done / issue
            target.mkdir(exist_ok=True)
            shutil.move(path, target / path.name)
            print(path.name, flush=True)
        except Exception as error:
            print("failed", path, error, flush=True)

observer = Observer()
observer.schedule(Handler(), str(inbox), recursive=True)
observer.start()
print("ready", flush=True)
try:
    while True:
        time.sleep(1)
finally:
    observer.stop()
"""
