"""Runs the command in a fork of a process that has it loaded: each case is one that costs no start. Cases come as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from typing import Any

from attachd import __main__
from attachd.cli import main as command

command.application()


def case(wanted: dict[str, Any]) -> dict[str, Any]:
    """What became of one."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            become(wanted, out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        told = [each.read().decode("utf-8", "backslashreplace") for each in (out, err)]
    return {"code": os.waitstatus_to_exitcode(status), "out": told[0], "err": told[1]}


def become(wanted: dict[str, Any], out: int, err: int) -> None:
    """Give the child what the case says, run the command in it, and end."""
    os.chdir(wanted["folder"])
    os.environ |= wanted["environ"]
    for name in wanted["without"]:
        os.environ.pop(name, None)
    if wanted["gone"]:
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
    for number, where in ((0, "/dev/null"), (1, out), (2, err)):
        where = wanted["streams"].get(str(number), where)
        if where is None:
            os.close(number)
        else:
            os.dup2(os.open(where, os.O_RDWR) if isinstance(where, str) else where, number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        closed = wanted["streams"].get(str(number), "") is None
        made = None if closed else io.TextIOWrapper(io.FileIO(number, "w", closefd=False), wanted["encoding"])
        setattr(sys, name, made)
    if wanted["streams"].get("0", "") is None:
        sys.stdin = None  # type: ignore[assignment]
    sys.argv = ["attachd", *wanted["words"]]
    code = 99
    try:
        __main__.main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # noqa: BLE001 - as the interpreter would
        sys.excepthook(*sys.exc_info())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    json.dump([case(wanted) for wanted in json.load(sys.stdin)], sys.stdout)
