"""``demo``: a stand-in Jira, an inbox and the daemon on one machine, to drop a file and watch."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attachd.cli import common, web
from attachd.errors import Mistake, Problem
from attachd.service.signals import Signals
from attachd.share import locks

if TYPE_CHECKING:
    from attachd.standin import Standin

#: The settings of the demo. Waits are short, because only a person and a file manager write there.
_CONFIG = """\
# The configuration of `attachd demo`; sample-config.toml explains every key.
[folders]
inbox = "inbox"
done = "done"
failed = "failed"
state = "state"

[jira]
url = "{url}"

[jira.auth]
user = "demo@example.com"
token = {{ file = "token" }}

[settle]
quiet_seconds = 1.0
quiet_seconds_unproven = 1.0
empty_seconds = 3.0

[fuse]
hold_minutes = 0.25

[web]
listen = "{listen}"

[log]
format = "console"
"""
_ISSUES = {
    "DEMO-1": "Printer on the third floor jams",
    "DEMO-2": "Measurement series of the new sensor",
    "DEMO-3": "Nightly build",
}
_FIRST_NAME = "welcome.txt"
_OWN = (_FIRST_NAME, "_STATUS.txt", "_WHY.txt")
_FIRST_FILE = "Welcome to attachd.\n\nThis file was dropped into inbox/DEMO-1/ and is now attached to DEMO-1.\n"


def demo(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", help="Folder for inbox, done and failed. Default: a temporary one.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option("--port", help="Port of the stand-in Jira. 0: any free port for both pages.", min=0, max=65535),
    ] = 8436,
) -> None:
    """Run a stand-in Jira, an inbox and the daemon: drop a file and watch what happens."""
    # No other verb loads the stand-in.
    from attachd.standin import Standin

    if folder is not None:
        with common.mistakes_printed():
            _is_ours(folder)
    with Signals() as signals, _home(folder) as home, _jira(Standin, home, port) as jira:
        listen = f"127.0.0.1:{_free_port(8437 if port else 0)}"
        config = _prepare(home, jira.url, listen)
        # S603: our own interpreter, module and file.
        daemon = subprocess.Popen([sys.executable, "-m", "attachd", "run", "-c", config])  # noqa: S603
        try:
            _explain(home, jira.url, web.address(listen, home / "state"), config)
            _drop_first_file(home)
            while not (stopped := signals.wait(0.3)) and daemon.poll() is None:
                pass
        finally:
            daemon.terminate()
            code = daemon.wait()
    if not stopped:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        again = f" To go on, start it with --folder {shlex.quote(str(home))}." if home.exists() else ""
        print(f"attachd: the demo ends because its daemon {how}.{again}", file=sys.stderr)
        raise typer.Exit(1)


def _is_ours(folder: Path) -> None:
    """Check that a folder is empty or belongs to an earlier demo that has ended. Raises ``errors.Mistake`` (1)."""
    config = folder / "config.toml"
    if folder.is_dir() and any(folder.iterdir()):
        first = _CONFIG.partition("\n")[0]
        if not config.is_file() or not config.read_text("utf-8", "replace").startswith(first):
            remedy = "Name an empty or a new folder."
            raise Mistake(
                Problem("--folder", f"names {folder}, which contains files and is not a demo.", remedy), exit_code=1
            )
        holder = locks.holder(folder / "state" / "lock")
        if holder is not None:
            raise Mistake(
                Problem(
                    "--folder",
                    f"names {folder}, where a demo is already running ({holder}).",
                    "Stop it, or name another folder.",
                ),
                exit_code=1,
            )


@contextmanager
def _home(folder: Path | None) -> Iterator[Path]:
    """Make the folder of the demo. Remove a temporary one at the end, unless it contains the user's files."""
    with common.mistakes_printed():
        try:
            home = (folder or Path(tempfile.mkdtemp(prefix="attachd-demo-"))).absolute()
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"cannot be created: {error.strerror or error}."
            raise Mistake(Problem("--folder", what, "Name a folder in which you may write."), exit_code=1) from error
    try:
        yield home
    finally:
        if folder is None:
            dropped = [
                path for name in ("inbox", "done", "failed") for path in (home / name).rglob("*") if path.is_file()
            ]
            if all(path.name in _OWN or ".attachd" in path.parts for path in dropped):
                shutil.rmtree(home)
            else:
                print(f"\nYour files are kept in {home}", flush=True)


def _jira(make: type[Standin], home: Path, port: int) -> Standin:
    """Start the stand-in, on another port if the usual one is in use."""
    jira = make(home / "jira", port, issues=list(_ISSUES))
    try:
        jira.start()
    except OSError:
        jira = make(home / "jira", 0, issues=list(_ISSUES))
        jira.start()
    jira.store.inbox = str(home / "inbox")
    for key, summary in _ISSUES.items():
        jira.store.add_issue(key, summary=summary)
    return jira


def _free_port(wanted: int) -> int:
    """Return the wanted port, or any free one if it is in use."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    return wanted


def _prepare(home: Path, url: str, listen: str) -> Path:
    (home / "state").mkdir(mode=0o700, exist_ok=True)
    for name in ("inbox", "done", "failed", *(f"inbox/{key}" for key in _ISSUES)):
        (home / name).mkdir(exist_ok=True)
    token = home / "token"
    if not token.exists():
        os.close(os.open(token, os.O_CREAT | os.O_WRONLY, 0o600))
        token.write_text("standin-token\n", "utf-8")
    config = home / "config.toml"
    config.write_text(_CONFIG.format(url=url, listen=listen), "utf-8")
    return config


def _drop_first_file(home: Path) -> None:
    """Write a file beside the inbox and rename it into a folder, as a careful sender does."""
    hidden = home / _FIRST_NAME
    hidden.write_text(_FIRST_FILE, "utf-8")
    hidden.rename(home / "inbox" / "DEMO-1" / _FIRST_NAME)


def _explain(home: Path, url: str, page: str, config: Path) -> None:
    print(
        f"""
attachd demo: a stand-in Jira, an inbox and the daemon. Ctrl-C ends it.

  1. Open the issues in a browser:   {url}/
  2. Drop a file into a folder:      cp FILE {home}/inbox/DEMO-1/
                                     (a folder is an issue; only DEMO-1, DEMO-2 and DEMO-3 exist)
  3. Follow it here:                 {page}
                                     {shlex.quote(os.path.normpath(os.path.abspath(sys.argv[0])))} status -c {config}
                                     ls {home}/done/DEMO-1 {home}/failed
""",
        flush=True,
    )
