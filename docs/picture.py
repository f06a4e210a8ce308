"""Makes docs/demo.png: the demo as it is installed, files dropped as people drop them, and a picture of its web page.

``scripts/demo-picture`` calls it; it needs Debian's chromium.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
#: What is dropped: a path below the inbox, and how many bytes.
DROPPED = (
    ("DEMO-1/photo of the jam.jpg", 2_400_000),
    ("DEMO-1/service report.pdf", 180_000),
    ("DEMO-2/run-17.csv", 5_100_000),
    ("DEMO-2/run-18.csv", 4_700_000),
    ("DEMO-3/build.log", 310_000),
    ("DEMO-33/build.log", 42_000),
    ("Printer/scan 004.pdf", 640_000),
)


def main() -> None:
    """Start the demo, drop, wait, and take the picture."""
    with tempfile.TemporaryDirectory(prefix="attachd-picture-") as folder:
        command = [sys.executable, "-m", "attachd", "demo", "--folder", folder, "--port", "0"]
        demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert demo.stdout is not None
            address = ""
            while not address:
                found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", demo.stdout.readline())
                address = found[0] if found else ""
            _drop(Path(folder) / "inbox")
            time.sleep(25)  # The last one fails once its refusal is certain; an upload that waits follows.
            _photograph(address)
        finally:
            demo.terminate()
            demo.wait()
            assert demo.stdout is not None
            demo.stdout.close()


def _drop(inbox: Path) -> None:
    for name, size in DROPPED:
        target = inbox / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = inbox.parent / "fresh"
        fresh.write_bytes(name.encode() * (size // len(name)))
        fresh.rename(target)
        time.sleep(0.4)


def _photograph(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 760})
        page.goto(address)
        page.wait_for_timeout(2000)
        # The folder of the demo is another one each time.
        page.evaluate("document.querySelector('header bdi').textContent = '/srv/attachd/inbox'")
        page.screenshot(path=ROOT / "docs/demo.png")
        browser.close()


if __name__ == "__main__":
    main()
