"""Notice that an open file was written to, or its times set, even if all of that happened between two looks.

It uses inotify(7) on the file itself, which notices neither a store to memory that was mapped before, nor what another machine
does to a file on a share.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from attachd import heartbeat

_LIBC = ctypes.CDLL(None, use_errno=True)
_add_watch = _LIBC.inotify_add_watch
_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_remove_watch = _LIBC.inotify_rm_watch
_remove_watch.argtypes = (ctypes.c_int, ctypes.c_int)
_read = _LIBC.read
_read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_read.restype = ctypes.c_ssize_t
_IN_MODIFY, _IN_ATTRIB, _IN_CLOSE_WRITE = 0x2, 0x4, 0x8
_IN_Q_OVERFLOW = 0x4000
#: What may have been a write; of what is lost in an overflow nothing is known.
_WRITES = _IN_MODIFY | _IN_CLOSE_WRITE | _IN_Q_OVERFLOW
#: One file is watched by one wire alone: a second one would share its number, and take it along when it goes.
_IN_MASK_CREATE = 0x10000000
_EVENT = struct.Struct("iIII")
_BUFFER_BYTES = 4096


class Wire:
    """A watch on one file."""

    def __init__(self, wires: _Wires, number: int) -> None:
        self._wires, self._number = wires, number

    @property
    def tripped(self) -> bool:
        """Return True if the file was written to, or its times or mode were set, since the wire was made or armed again."""
        return bool(self._wires.seen(self._number))

    @property
    def written(self) -> bool:
        """Return True if it was written to since then, as far as the kernel noticed. A new mode or time alone is no write."""
        return bool(self._wires.seen(self._number) & _WRITES)

    def rearm(self) -> None:
        """Forget what happened so far, because the file is about to be read."""
        self._wires.rearm(self._number)


class _Wires:
    """All wires of this process. Their inotify instance stays open, because closing one takes the kernel milliseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._instance: int | None = None
        #: What happened to each file, as a mask.
        self._tripped: dict[int, int] = {}
        self._buffer = ctypes.create_string_buffer(_BUFFER_BYTES)

    @heartbeat.on_share()
    def add(self, file: int) -> int | None:
        with self._lock:
            if self._instance is None:
                instance = _LIBC.inotify_init1(ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))
                if instance < 0:
                    return None
                self._instance = instance
            mask = _IN_MODIFY | _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_MASK_CREATE
            path = b"/proc/self/fd/%d" % file
            number = int(_add_watch(self._instance, path, mask))
            if number < 0 or number in self._tripped:
                return None
            self._tripped[number] = 0
            return number

    @heartbeat.on_share()
    def remove(self, number: int) -> None:
        with self._lock:
            del self._tripped[number]
            _remove_watch(self._instance or 0, number)

    @heartbeat.on_share()
    def seen(self, number: int) -> int:
        with self._lock:
            self._read()
            return self._tripped[number]

    @heartbeat.on_share()
    def rearm(self, number: int) -> None:
        with self._lock:
            self._read()
            self._tripped[number] = 0

    def _read(self) -> None:
        while (read := _read(self._instance or 0, self._buffer, _BUFFER_BYTES)) > 0:
            position = 0
            while position < read:
                number, mask, _, length = _EVENT.unpack_from(self._buffer, position)
                position += _EVENT.size + length
                for concerned in list(self._tripped) if mask & _IN_Q_OVERFLOW else [number]:
                    if concerned in self._tripped:
                        self._tripped[concerned] |= mask


_wires = _Wires()


@contextmanager
def stretched(file: int) -> Iterator[Wire | None]:
    """Watch an open file; None if the kernel grants no watch, so that nothing is known."""
    number = _wires.add(file)
    try:
        yield None if number is None else Wire(_wires, number)
    finally:
        if number is not None:
            _wires.remove(number)
