"""The stand-in as its own process, which survives tests that kill the daemon."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from attachd.standin.server import Standin


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. The first line on stdout is the address."""
    options = _parser().parse_args(arguments)
    awaited = {signal.SIGTERM, signal.SIGINT}
    # Before the server's thread begins, so that it inherits the mask and sigwait gets the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    tls = (options.tls_cert, options.tls_key) if options.tls_cert else None
    with Standin(
        options.folder,
        options.port,
        page=options.page,
        issues=options.issue,
        auto_issues=options.auto_issues,
        deployment=options.deployment,
        base_path=options.base_path,
        user=options.user,
        token=options.token,
        tls=tls,
    ) as jira:
        print(jira.url, flush=True)
        signal.sigwait(awaited)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m attachd.standin", description=main.__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder for attachments and the log")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--page", action=argparse.BooleanOptionalAction, default=True, help="serve the web page")
    parser.add_argument("--issue", action="append", default=[], metavar="KEY", help="an issue that exists (repeatable)")
    parser.add_argument("--auto-issues", action="store_true", help="every well-formed key exists")
    parser.add_argument("--deployment", choices=("Cloud", "Server"), default="Cloud")
    parser.add_argument("--base-path", default="")
    parser.add_argument("--user", default="demo@example.com")
    parser.add_argument("--token", default="standin-token")
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
