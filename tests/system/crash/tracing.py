"""A process that is stopped before each system call that reaches beyond its memory, to be killed there or refused the call.

By ptrace(2) and a seccomp(2) filter that stops at the calls of ``CALLS`` and at no other, so that a run takes hardly
longer than without. Counted over all threads together, in the order in which they came. x86_64 only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

#: The calls before which the process can die, with their numbers on x86_64: those that change a file, a folder or a lock, or that
#: another process notices. Between two of them it makes no difference where it dies.
CALLS = {
    "write": 1, "close": 3, "pwrite64": 18, "writev": 20, "sendfile": 40, "connect": 42, "sendto": 44, "recvfrom": 45,
    "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "fcntl": 72, "flock": 73, "fsync": 74, "fdatasync": 75,
    "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
    "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "setxattr": 188, "fsetxattr": 190,
    "openat": 257, "mkdirat": 258, "fchownat": 260, "unlinkat": 263, "renameat": 264, "linkat": 265,
    "symlinkat": 266, "fchmodat": 268, "utimensat": 280, "fallocate": 285, "pwritev": 296, "renameat2": 316,
    "copy_file_range": 326,
}  # fmt: skip
#: Calls that may fail without the process having asked for anything beyond reading; faults are put into them too.
READING = {"read": 0, "lstat": 6, "pread64": 17, "getdents64": 217, "newfstatat": 262, "statx": 332}
_NAMES = {number: name for name, number in (CALLS | READING).items()}
_F_SETLEASE, _F_OFD_SETLK = 1024, 37

_TRACEME, _CONT, _SETREGSET, _GETREGSET, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 7, 0x4205, 0x4204, 0x4200, 0x420E
_NT_PRSTATUS = 1
_OPTIONS = 0x02 | 0x04 | 0x08 | 0x80 | 0x100000  # fork, vfork, clone, seccomp; the process dies with its tracer
_EVENT_SECCOMP = 7
WALL = 0x40000000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER_MODE = 38, 22, 2
_TRACE, _ALLOW = 0x7FF00000, 0x7FFF0000
#: struct user_regs_struct: 27 registers; rax and orig_rax are these.
_REGISTERS, _RAX, _ORIG_RAX = 27, 10, 15

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def lacking() -> str:
    """What keeps a process from being traced here; "" if nothing does."""
    if platform.machine() != "x86_64":
        return f"numbers of system calls are known for x86_64, not for {platform.machine()}"
    return ""


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that is about to be made: the how-manieth of the process, and by name."""

    number: int
    name: str
    argument: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The call is not made, and fails with this error."""

    error: int


KILL = object()
#: What is done about a call: nothing, or one of the above.
Decision = Refuse | object | None


@dataclass(frozen=True, slots=True)
class Ended:
    """How it went: the exit code (negative: the signal), and how many calls were reached."""

    code: int
    calls: int


class _Filter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Filter)))


def _ptrace(request: int, pid: int, address: int = 0, data: ctypes.Array | int | None = None) -> int:
    where = ctypes.addressof(data) if isinstance(data, ctypes.Array) else data
    got: int = _libc.ptrace(request, pid, address, where)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"ptrace {request:#x}")
    return got


def _stop_at(numbers: list[int]) -> None:
    """Ask the kernel to stop this process, and all its threads to come, before these calls."""
    load, equal, answer, bits = 0x20, 0x15, 0x06, 0x45
    program = [_Filter(load, 0, 0, 0)]
    for number in numbers:
        # Of some calls only those that change something: the arguments begin at offset 16, with 8 bytes each.
        match _NAMES[number]:
            case "openat":
                which = [_Filter(load, 0, 0, 16 + 2 * 8), _Filter(bits, 0, 1, os.O_CREAT)]
            case "fcntl":  # SQLite's own locks say nothing to anybody who would come after
                which = [
                    _Filter(load, 0, 0, 16 + 8),
                    _Filter(equal, 1, 0, _F_SETLEASE),
                    _Filter(equal, 0, 1, _F_OFD_SETLK),
                ]
            case _:
                which = []
        rest = [_Filter(answer, 0, 0, _TRACE)] + ([_Filter(answer, 0, 0, _ALLOW)] if which else [])
        program += [_Filter(equal, 0, len(which) + len(rest), number), *which, *rest]
    program.append(_Filter(answer, 0, 0, _ALLOW))
    made = (_Filter * len(program))(*program)
    whole = _Program(len(program), made)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(whole)):
        raise OSError(ctypes.get_errno(), "no seccomp filter")


def fork(work: Callable[[], int]) -> int:
    """Start a child that does *work* and ends with what that returns; its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  the child ends here, whatever it was
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _begin(work: Callable[[], int], numbers: list[int], begin: Callable[[], None]) -> int:
    begin()
    _ptrace(_TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    _stop_at(numbers)
    return work()


def run(
    work: Callable[[], int],
    decide: Callable[[Call], Decision],
    numbers: dict[str, int] = CALLS,
    begin: Callable[[], None] = lambda: None,
    started: Callable[[int], None] = lambda pid: None,
) -> Ended:
    """Do *work* in a child; *decide* what happens at each of its calls.

    Other children of this process that end meanwhile are waited for too. *begin* is done in the child
    before anything is counted; *started* gets the child's id.
    """
    leader = fork(lambda: _begin(work, list(numbers.values()), begin))
    os.waitpid(leader, WALL)
    _ptrace(_SETOPTIONS, leader, 0, _OPTIONS)
    started(leader)
    _ptrace(_CONT, leader)
    known, calls = {leader}, 0
    while True:
        pid, status = os.waitpid(-1, WALL)
        if not os.WIFSTOPPED(status):
            if pid == leader:
                return Ended(os.waitstatus_to_exitcode(status), calls)
            continue
        passed_on = os.WSTOPSIG(status)
        if status >> 16 == _EVENT_SECCOMP:
            passed_on, calls = 0, calls + 1
            _act(decide(_call(pid, calls)), pid, leader)
        elif status >> 16 or pid not in known:
            known.add(pid)
            passed_on = 0
        _go_on(pid, passed_on)


def _go_on(pid: int, passed_on: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # killed meanwhile
        _ptrace(_CONT, pid, 0, passed_on)


def _call(pid: int, number: int) -> Call:
    info = ctypes.create_string_buffer(88)
    try:
        _ptrace(_GET_SYSCALL_INFO, pid, len(info), info)
    except ProcessLookupError:  # killed meanwhile, with the thread that was to be reported here
        return Call(number, "", 0)
    call, argument = struct.unpack_from("=QQ", info.raw, 24)
    return Call(number, _NAMES.get(call, str(call)), argument)


def _act(decision: Decision, pid: int, leader: int) -> None:
    if decision is KILL:
        os.kill(leader, signal.SIGKILL)
    elif isinstance(decision, Refuse):
        registers = (ctypes.c_ulonglong * _REGISTERS)()
        vector = (ctypes.c_ulonglong * 2)(ctypes.addressof(registers), ctypes.sizeof(registers))
        _ptrace(_GETREGSET, pid, _NT_PRSTATUS, vector)
        registers[_ORIG_RAX] = ctypes.c_ulonglong(-1).value  # no call at all
        registers[_RAX] = ctypes.c_ulonglong(-decision.error).value
        _ptrace(_SETREGSET, pid, _NT_PRSTATUS, vector)


#: Errors that a call may plausibly give; what a call never gives (ENOSPC from a read) is no fault but nonsense.
_DISK = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_RIGHTS = (errno.EACCES, errno.EPERM)
_SOCKET = (errno.ECONNRESET, errno.ETIMEDOUT, errno.EPIPE)
ERRORS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("write", "pwrite64", "writev", "pwritev", "ftruncate", "fallocate"), _DISK[:3]),
    **dict.fromkeys(("fsync", "fdatasync"), _DISK[:3]),
    **dict.fromkeys(("openat", "creat"), (*_DISK, *_RIGHTS, errno.EMFILE, errno.ENOMEM, errno.ESTALE)),
    **dict.fromkeys(("mkdir", "mkdirat", "link", "linkat"), (*_DISK, *_RIGHTS, errno.ESTALE)),
    **dict.fromkeys(("rename", "renameat", "renameat2"), (*_DISK, *_RIGHTS, errno.EXDEV, errno.EINVAL, errno.ESTALE)),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), (errno.EIO, errno.EROFS, *_RIGHTS, errno.ESTALE)),
    **dict.fromkeys(("fchmod", "fchmodat", "fchown", "utimensat", "fsetxattr"), (errno.EIO, errno.EPERM, errno.EROFS)),
    **dict.fromkeys(("fcntl", "flock"), (errno.EAGAIN, errno.ENOLCK, errno.EIO)),
    "connect": (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.ENETUNREACH),
    **dict.fromkeys(("sendto", "sendmsg", "sendfile", "recvfrom", "recvmsg"), _SOCKET),
    "copy_file_range": (*_DISK[:3], errno.EXDEV, errno.ENOSYS),
    "read": (errno.EIO, errno.ESTALE),
    "pread64": (errno.EIO,),
    "getdents64": (errno.EIO, errno.ESTALE),
    **dict.fromkeys(("lstat", "newfstatat", "statx"), (errno.EIO, errno.ESTALE, errno.EACCES)),
}
