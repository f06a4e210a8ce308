"""A machine with a real systemd, for what only that can show: a container of Debian's packages that boots in half a second.

Needs root, ``systemd-nspawn`` (package systemd-container) and ``mmdebstrap``. The tree is made once, with the program's
dependencies in /opt/attachd as an administrator would install them, and kept below ``$ATTACHD_TREES``; each machine writes to
an overlay of its own, which is thrown away. ``$ATTACHD_SUITE`` names another Debian than 12: trixie.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
TREES = Path(os.environ.get("ATTACHD_TREES", "/var/tmp/attachd-trees"))
#: Which Debian: 12 (systemd 252), or 13 (systemd 257); and which Python it has.
_SUITE = os.environ.get("ATTACHD_SUITE", "bookworm")
_PYTHON = {"bookworm": "3.11", "trixie": "3.13"}[_SUITE]
_PACKAGES = "systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,python3,python3-venv,procps,acl"
_LOCK = ROOT / "requirements" / "demo.lock"
#: Units of the tree that would touch something outside, or wait for it.
_UNWANTED = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer", "dpkg-db-backup.timer")
_ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
}
#: Where systemd is not the first process here, nspawn can neither register the machine nor make a scope for it.
_ALONE = [] if Path("/run/systemd/system").is_dir() else ["--register=no", "--keep-unit"]


def lacking() -> str:
    """What keeps a machine from being booted here; "" if nothing does."""
    if os.geteuid() != 0:
        return "only root can boot a machine"
    for program in ("systemd-nspawn", "mmdebstrap"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return ""


#: Each machine has control groups of its own: two in one would take each other's units for theirs.
_APART = """
for group in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
  [ -w $group/cgroup.procs ] && mkdir -p $group/$0 && echo $$ > $group/$0/cgroup.procs
done 2>/dev/null
exec "$@"
"""


def _groups() -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/attachd-{os.getpid()}"))


class Machine:
    """One machine, from entering to leaving. It has loopback and no other network."""

    def __init__(self, folder: Path) -> None:
        """Put what it writes below *folder*, and what it boots from there together."""
        self._folder, self._tree, self._leader = folder, _tree(), 0
        self._root = folder / "root"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Boot it, and wait until systemd has started everything."""
        for name in ("upper", "work", "root"):
            (self._folder / name).mkdir()
        layers = f"lowerdir={self._tree},upperdir={self._folder}/upper,workdir={self._folder}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self._root], check=True)
        try:
            self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Shut it down, and throw away what it wrote."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()  # nspawn's way to ask for an orderly shutdown
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                if self._leader:
                    os.kill(self._leader, signal.SIGKILL)
                process.kill()
                process.wait()
        subprocess.run(["umount", "-l", self._root], check=False)
        for group in _groups():
            subprocess.run(["find", group, "-depth", "-type", "d", "-delete"], check=False, stderr=subprocess.DEVNULL)

    def _boot(self) -> None:
        words = ["systemd-nspawn", "-q", "-D", self._root, "-M", f"attachd-{os.getpid()}", "-b", *_ALONE]
        # nspawn's own filter would hide what a real machine allows (IPAddressDeny=, keyrings).
        words += ["--private-network", "--console=read-only", "--system-call-filter=bpf @memlock @keyring"]
        words += ["--resolv-conf=off", "--timezone=off", "--hostname=machine"]
        with (self._folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                [
                    "sh",
                    "-c",
                    _APART,
                    f"attachd-{os.getpid()}",
                    *words,
                    "--",
                    "systemd.show_status=0",
                    "systemd.firstboot=no",
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )
        until(self._is_up, "the machine did not boot", 30.0)
        self.run("systemctl", "is-system-running", "--wait", check=False)
        self._install()

    def _install(self) -> None:
        """Install this checkout as its README says: the program, and `attachd install` for one site and for an instance."""
        wheels = self._root / "opt" / "wheels"
        python = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
        subprocess.run([*python, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT], check=True)
        (wheel,) = wheels.glob("attachd-*.whl")
        self.run("/opt/attachd/bin/pip", "install", "-q", "--no-index", "--no-deps", f"/opt/wheels/{wheel.name}")
        self.run("/opt/attachd/bin/attachd", "install")
        self.run("/opt/attachd/bin/attachd", "install", "--instance", "lab")

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError((self._folder / "console").read_text("utf-8", "replace"))
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._leader = next((int(child) for child in children if _name(child) == "systemd"), 0)
        return bool(self._leader) and self._said("test", "-S", "/run/dbus/system_bus_socket").returncode == 0

    def _said(self, *words: str | Path, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        return subprocess.run(
            [*inside, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_ENVIRON, timeout=seconds
        )

    # --- What tests do in it ------------------------------------------------------------------------------------

    def run(self, *words: str | Path, check: bool = True, seconds: float = 60.0) -> str:
        """Run a command as root; what it printed, to either stream. Raises ``AssertionError`` with that where it fails."""
        done = self._said(*words, seconds=seconds)
        assert not check or done.returncode == 0, f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def code(self, *words: str | Path) -> int:
        """Run a command as root; how it ended."""
        return self._said(*words).returncode

    def put(self, path: str, text: str, mode: int = 0o644, owner: str = "root:root") -> None:
        """Write a file, and the folders above it."""
        self.run("mkdir", "-p", str(Path(path).parent))
        (self._root / path.lstrip("/")).write_text(text)
        self.run("chown", owner, path)
        self.run("chmod", f"{mode:o}", path)

    def property(self, unit: str, name: str) -> str:
        """What ``systemctl show`` says of a unit."""
        return self.run("systemctl", "show", "-P", name, unit).strip()

    def journal(self, unit: str) -> str:
        """All that a unit has logged."""
        return self.run("journalctl", "--no-pager", "-q", "-o", "cat", "-u", unit)


def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Look again and again until *condition* holds. Raises ``AssertionError`` with *what* has not come about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def _name(process: str) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def _tree() -> Path:
    """The tree that machines are booted from."""
    TREES.mkdir(parents=True, exist_ok=True)
    what = hashlib.sha256(f"{_SUITE} {_PACKAGES} {_LOCK.read_text()} {inspect.getsource(_make)}".encode()).hexdigest()[
        :12
    ]
    tree = TREES / what
    with (TREES / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (tree / ".complete").exists():
            shutil.rmtree(tree, ignore_errors=True)
            _make(tree)
            (tree / ".complete").touch()
    return tree


def _make(tree: Path) -> None:
    def do(*words: str | Path) -> None:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    do("mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, tree)
    for unit in _UNWANTED:
        (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 machine\n")
    (tree / "etc/machine-id").write_text("")
    (tree / "etc/hostname").unlink(missing_ok=True)
    (tree / "var/log/journal").mkdir(exist_ok=True)
    wheels = tree / "opt/wheels"
    wheels.mkdir(parents=True)
    python = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    do(
        *python,
        "download",
        "--require-hashes",
        "-r",
        _LOCK,
        "-d",
        wheels,
        "--only-binary=:all:",
        f"--python-version={_PYTHON}",
    )
    inside = ["systemd-nspawn", "-q", "-D", tree, "--private-network", *_ALONE, "--"]
    do(*inside, "python3", "-m", "venv", "/opt/attachd")
    do(*inside, "sh", "-c", "/opt/attachd/bin/pip install -q --no-index --no-deps /opt/wheels/*.whl")
