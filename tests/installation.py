"""The installed command, real folders, and a Jira in a process of its own that survives whatever happens to the daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

#: What the service writes into the inbox for people.
NOTICES = ("_STATUS.txt", "_WHY.txt")

ATTACHD = Path(sys.executable).with_name("attachd")


class Jira:
    """The stand-in as a process; asked and told over HTTP."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "attachd.standin", "--folder", folder, "--port", "0", "--auto-issues"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http"), self.url

    def ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/__standin__/{what}", timeout=30) as answer:
            return json.load(answer)

    def tell(self, what: str, content: dict[str, Any]) -> None:
        request = urllib.request.Request(
            f"{self.url}/__standin__/{what}", json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=30).close()

    def clear_faults(self) -> None:
        request = urllib.request.Request(f"{self.url}/__standin__/faults", method="DELETE")
        urllib.request.urlopen(request, timeout=30).close()

    def attachments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("attachments")
        return found

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Place:
    """One installation: a configuration, its folders, and the command on them."""

    def __init__(self, home: Path, url: str) -> None:
        self.home, self.config = home, home / "config.toml"
        self.inbox, self.done, self.failed, self.state = (home / name for name in ("inbox", "done", "failed", "state"))
        for folder in (self.inbox, self.done, self.failed):
            folder.mkdir()
        (home / "token").write_text("standin-token\n")
        (home / "token").chmod(0o600)
        self.configure(url)

    def configure(self, url: str, more: str = "", folders: str = 'inbox = "inbox"\nstate = "state"') -> None:
        self.config.write_text(f"""
[folders]
{folders}
[jira]
url = "{url}"
[jira.auth]
user = "demo@example.com"
token = {{ file = "token" }}
[settle]
quiet_seconds = 0.0
quiet_seconds_unproven = 0.0
empty_seconds = 0.0
rescan_seconds = 1.0
{more}
""")

    def command(self, *words: str | Path) -> list[str | Path]:
        return [ATTACHD, words[0], "-c", self.config, *words[1:]]

    def run(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=100, **options)

    def start(self, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command("run"), **options)

    def drop(self, path: str | bytes, content: bytes) -> Path:
        """Written beside the inbox and renamed into it."""
        target = self.inbox / os.fsdecode(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.inbox.parent / f"fresh-{os.getpid()}"
        fresh.write_bytes(content)
        fresh.rename(target)
        return target

    def is_emptied(self) -> bool:
        """Whether no file is left in the inbox. Reads none: it may be moved at this moment."""
        return not any({*names} - {*NOTICES} for above, _, names in os.walk(self.inbox) if ".attachd" not in above)

    def files(self, folder: Path) -> dict[bytes, bytes]:
        """Everything below a folder by its path, but for what the service writes for itself and for people."""
        found = {}
        for above, _, names in os.walk(bytes(folder)):
            for name in names:
                path = os.path.join(above, name)
                relative = os.path.relpath(path, bytes(folder))
                if not relative.startswith(b".attachd") and os.fsdecode(name) not in NOTICES:
                    with open(path, "rb") as file:
                        found[relative] = file.read()
        return found
