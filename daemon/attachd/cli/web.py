"""``web``: prints the address of the web page."""

from __future__ import annotations

from pathlib import Path

from attachd.cli import common
from attachd.errors import Mistake, Problem
from attachd.share import locks
from attachd.web import token


def web(config: common.ConfigFile = None, instance: common.Instance = None, as_json: common.AsJson = False) -> None:
    """Print the address of the web page with its token.

    Anyone who has this address may see everything and press the buttons.
    """
    with common.session(config, instance) as session:
        settings, state = session.config, session.state
        listen = settings.web.listen
        if listen is None:
            remedy = f'Add [web] and listen = "127.0.0.1:8437" to {settings.file}, and restart attachd.'
            raise Mistake(Problem("web.listen", "is not set, so there is no page.", remedy), exit_code=1)
        path = listen.removeprefix("unix:") if listen.startswith("unix:") else None
        where = _address(listen, state) if path is None else ""
    running = locks.holder(state / "lock") is not None
    if as_json:
        common.print_json({"address": where or None, "socket": path, "running": running})
        return
    print("\n".join([where] if path is None else _socket(path)))
    if not running:
        print("attachd is not running. The page appears when it starts.")


def _address(listen: str, state: Path) -> str:
    try:
        return address(listen, state)
    except OSError as error:
        remedy = "Run this as root, or as attachd's user."
        problem = Problem(str(state / token.FILE_NAME), f"cannot be read or created: {error.strerror}.", remedy)
        raise Mistake(problem, exit_code=1) from error


def address(listen: str, state: Path) -> str:
    """Return the page's address on a port, with its token. Raises OSError."""
    return f"http://{listen}/?token={token.made(state)}"


def _socket(path: str) -> list[str]:
    return [
        f"The page is on the socket {path}, for users who may write to it. To open it on your own machine:",
        f"  ssh -L 8437:{path} THIS-MACHINE",
        "and then open http://localhost:8437/ in a browser.",
    ]
