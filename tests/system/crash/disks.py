"""Disks whose power can be cut: an ext4 in a file, shut down by the kernel without its log being written.

What was not synced is lost, as at a power cut (ioctl EXT4_IOC_SHUTDOWN, since Linux 4.16). Needs root, and loop devices.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

_SHUTDOWN, _NOLOGFLUSH = 0x8004587D, struct.pack("=I", 2)
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000
_BYTES = 96 * 1024 * 1024


def lacking() -> str:
    """What keeps a disk from being made here; "" if nothing does."""
    if os.geteuid() != 0:
        return "only root can mount a disk"
    if shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is not installed"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    return ""


def apart() -> None:
    """Make mounts to come this process's own: others that copy all mounts, as containers do, would keep a disk alive."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def other_device(home: Path) -> Path:
    """A folder for temporary files on another device than *home*."""
    here = home.stat().st_dev
    return next(path for path in map(Path, ("/dev/shm", "/var/tmp", "/tmp")) if path.stat().st_dev != here)


class Disk:
    """One disk, mounted at ``folder/disk``."""

    def __init__(self, folder: Path) -> None:
        """Make it and mount it."""
        # Beside the folder: what lies within is read by the oracle.
        self._image, self.path = folder.with_name(f"{folder.name}.image"), folder / "disk"
        with self._image.open("wb") as file:
            file.truncate(_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1", self._image], check=True)
        self.path.mkdir()
        self._mount()

    def _mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self._image, self.path], check=True)
        self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)

    def sync(self) -> None:
        """Have on disk all that was written until now: its dropper was promised that it is safe."""
        subprocess.run(["sync", "-f", self.path], check=True)

    def cut(self) -> None:
        """Cut the power: from now on nothing reaches the disk any more."""
        fcntl.ioctl(self._root, _SHUTDOWN, _NOLOGFLUSH)

    def restart(self) -> None:
        """Have the power back: the file system recovers as after a power cut."""
        self._unmount()
        self._mount()

    def close(self) -> None:
        """Take it away for good."""
        self._unmount()
        self._image.unlink()

    def _unmount(self) -> None:
        os.close(self._root)
        subprocess.run(["umount", self.path], check=True)
