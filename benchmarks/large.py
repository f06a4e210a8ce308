"""One large file: beside curl, beside OpenSSL's SHA-256, and beside a loop that does nothing but send the same bytes."""

from __future__ import annotations

import os
import socket
import ssl
import statistics
import subprocess
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from benchmarks import figures, installed

_PIECE = 1 << 20
_KEY = "TEST-1"
#: It uses the processor's own instructions, as Python does; coreutils may not.
_DIGEST = "openssl dgst -sha256"


def measure(size: int, repetitions: int) -> figures.Table:
    """From the drop of a file to its place in done, plain and over TLS, each beside what else sends the same file."""
    with installed.folder() as home:
        path = _content(home / "large.bin", size)
        certificate = installed.Certificate.make(home)
        digest = _median(lambda: _run("openssl", "dgst", "-sha256", str(path)), repetitions)
        lines = [[_DIGEST, _rate(size, digest), "", ""]]
        for name, secured in (("plain", None), ("TLS", certificate)):
            with installed.sinking(certificate=secured) as site:
                lines += _beside(site, path, name, digest, repetitions)
    return figures.Table(
        f"One file of {size / figures.MIB:.0f} MiB",
        ["", "MiB/s", "against curl -F", f"against the slower of curl -F and {_DIGEST}"],
        lines,
        "attachd: from the rename into the inbox to the place in done, with SHA-256, journal and move. The bare loop shows "
        "what the server takes: it has to be well above what is measured.",
    )


def _beside(site: installed.Site, path: Path, name: str, digest: float, repetitions: int) -> list[list[str]]:
    """The three that send, in turn, so that what else the machine does meets all of them."""
    size, floor, curl, ours = path.stat().st_size, list[float](), list[float](), list[float]()
    with site.running():
        _dropped(site, path)
        for _ in range(repetitions):
            floor.append(figures.seconds(lambda: _bare(site.url, path)))
            curl.append(figures.seconds(lambda: _curl(site.url, path)))
            ours.append(_dropped(site, path))
    bare, rival, own = map(statistics.median, (floor, curl, ours))
    return [
        [f"bare loop, {name}", _rate(size, bare), figures.ratio(rival, bare), ""],
        [f"curl -F, {name}", _rate(size, rival), "", ""],
        [f"attachd, {name}", _rate(size, own), figures.ratio(rival, own), figures.ratio(max(rival, digest), own)],
    ]


def memory(size: int, files: int) -> figures.Table:
    """How much more memory the service takes at the highest while it sends several large files at once."""
    with installed.sinking() as site, site.running() as process:
        path = _content(site.home / "small.bin", 4096)
        _dropped(site, path)
        idle, _ = figures.memory_bytes(process)
        Path(f"/proc/{process}/clear_refs").write_text("5")  # The highest is counted from now on (proc(5)).
        for number in range(files):
            folder = site.inbox / f"TEST-{number + 2}"
            folder.mkdir()
            with (site.home / "large.bin").open("wb") as file:
                file.truncate(size)
            (site.home / "large.bin").rename(folder / "large.bin")
        installed.wait_until(lambda: site.filed() == files, every=0.02)
        _, highest = figures.memory_bytes(process)
    lines = [
        [
            f"{idle / figures.MIB:.1f} MiB",
            f"{highest / figures.MIB:.1f} MiB",
            f"{(highest - idle) / figures.MIB:.1f} MiB",
        ]
    ]
    title = f"Resident memory while {files} files of {size / figures.MIB:.0f} MiB are sent at once"
    return figures.Table(title, ["idle", "at the highest", "more"], lines)


def _content(path: Path, size: int) -> Path:
    block = os.urandom(_PIECE)
    with path.open("wb") as file:
        for start in range(0, size, _PIECE):
            file.write(block[: min(_PIECE, size - start)])
    return path


def _dropped(site: installed.Site, path: Path) -> float:
    """Drop the file, wait until it is filed, and put it back where it was. Returns the seconds until it was filed."""
    (site.inbox / _KEY).mkdir(exist_ok=True)
    filed = site.done / _KEY / path.name
    began = time.perf_counter()
    path.rename(site.inbox / _KEY / path.name)
    installed.wait_until(filed.exists, every=0.002)
    took = time.perf_counter() - began
    filed.rename(path)
    return took


def _curl(url: str, path: Path) -> None:
    address = f"{url}/rest/api/3/issue/{_KEY}/attachments"
    _run("curl", "-sfk", "-o", os.devnull, "-H", "X-Atlassian-Token: no-check", "-F", f"file=@{path}", address)


def _bare(url: str, path: Path) -> None:
    """Send the same bytes in a loop."""
    where = urllib.parse.urlsplit(url)
    size = path.stat().st_size
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="large.bin"\r\n\r\n'
    tail = b"\r\n--b--\r\n"
    with (
        socket.create_connection((where.hostname or "", where.port or 0)) as plain,
        path.open("rb", buffering=0) as file,
    ):
        peer = plain
        if where.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            peer = context.wrap_socket(plain)
        request = f"POST /rest/api/3/issue/{_KEY}/attachments HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b"
        peer.sendall(f"{request}\r\nContent-Length: {len(head) + size + len(tail)}\r\n\r\n".encode() + head)
        buffer = bytearray(_PIECE)
        while read := file.readinto(buffer):
            peer.sendall(memoryview(buffer)[:read])
        peer.sendall(tail)
        assert peer.recv(4096).startswith(b"HTTP/1.1 200")
        peer.close()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _median(act: Callable[[], object], repetitions: int) -> float:
    return statistics.median(figures.seconds(act) for _ in range(repetitions))


def _rate(size: int, seconds: float) -> str:
    return f"{size / figures.MIB / seconds:.0f}"
