"""Where the token comes from, and the one value that holds it.

A secret never appears in the configuration, an error, a log line or a command line. Every message here says where attachd
looked, and none says what it found.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, Self

import pydantic

from attachd import errors, model
from attachd.config.table import AbsolutePath, Context, Table, Texts, complain

# Credentials that root has read for a process that systemd did not start.


@dataclass(frozen=True, slots=True)
class Handed:
    """The content of a credential's *file*, or why it cannot be read."""

    file: Path
    content: bytes = field(default=b"", repr=False)
    error: str = ""


#: By the credential's name.
known: dict[str, Handed] = {}

#: How long a command may take to print the secret, in seconds.
COMMAND_SECONDS = 30.0
#: Longer than any token: a larger file is not a token.
MAXIMUM_BYTES = 65_536
_KEY = "jira.auth.token"
_MASK = "********"
_VISIBLE = re.compile(r"[ -~]*")


class Secret:
    """A text that shows itself only through ``reveal``: not in a message, a log, a traceback or a pickle."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself, for the request that needs it."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({_MASK!r})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, spec: str) -> str:
        return _MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class TokenSource(Table):
    """Where a secret is read from: exactly one of these."""

    file: AbsolutePath | None = None
    env: str | None = None
    credential: str | None = None
    command: Texts | None = None
    keyring: str | None = None

    @pydantic.model_validator(mode="after")
    def _usable(self, info: pydantic.ValidationInfo) -> Self:
        complain(_wrong_choice(self))
        if isinstance(info.context, Context) and info.context.check_token and not (self.command or self.keyring):
            complain(_unreadable(self, info.context))
        return self


def refuse_literal(value: Any, info: pydantic.ValidationInfo) -> Any:
    """Refuse a secret that was written into the configuration, without repeating it."""
    if isinstance(value, str):
        key = info.field_name or "token"
        remedy = _ELSEWHERE.format(key=key, file=key.replace("_", "-"))
        complain([errors.Problem("", "must not be in the configuration itself.", remedy)])
    return value


_ELSEWHERE = (
    'Put it in a file with mode 0600, and write {key} = {{ file = "{file}" }}. '
    "Create a new secret if other people could read this one."
)


def _wrong_choice(source: TokenSource) -> Iterator[errors.Problem]:
    given = [name for name, value in source if value is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        yield errors.Problem(
            "", f"needs exactly one of file, env, credential, command and keyring, but has {found}.", "Keep one."
        )
    elif source.command is not None and not (source.command and all(source.command)):
        yield errors.Problem(
            "command", "is empty.", 'Write a program and its arguments, for example ["pass", "show", "jira"].'
        )
    elif source.credential is not None and not re.fullmatch(r"(?!\.\.?$)[^/\0]+", source.credential):
        yield errors.Problem(
            "credential", "is not a credential name.", "Write the name from LoadCredential= in the unit."
        )
    elif source.env is not None and not re.fullmatch(r"[^=\0]+", source.env):
        yield errors.Problem(
            "env", "is not the name of a variable.", 'Write it without “$”, for example { env = "JIRA_TOKEN" }.'
        )


def _unreadable(source: TokenSource, context: Context) -> Iterator[errors.Problem]:
    try:
        read(source, environ=context.environ, base=context.base, where="")
    except errors.Mistake as mistake:
        yield from mistake.problems


def read(source: TokenSource, *, environ: Mapping[str, str], base: Path, where: str = _KEY) -> Secret:
    """Read the secret from its *source* again; a relative file counts from *base*.

    Raises ``errors.Mistake`` for the key *where*. It never contains what was read.
    """
    try:
        return Secret(_clean(_raw(source, environ, base)))
    except errors.Mistake as mistake:
        raise errors.Mistake(*(replace(problem, where=where) for problem in mistake.problems)) from None


def _unusable(what: str, remedy: str) -> errors.Mistake:
    return errors.Mistake(errors.Problem("", what, remedy))


def _raw(source: TokenSource, environ: Mapping[str, str], base: Path) -> bytes:
    if source.file is not None:
        return _from_file(base / source.file, environ)
    if source.credential is not None:
        return _from_credential(source.credential, environ)
    if source.env is not None:
        return _from_environment(source.env, environ)
    if source.command:
        return _from_command(source.command, environ)
    assert source.keyring is not None
    return _from_keyring(source.keyring)


def _clean(raw: bytes) -> str:
    """Remove the line end that editors add, and check that the rest fits into a header as it is."""
    text = raw.decode("latin-1").rstrip(" \t\r\n")
    if not text:
        raise _unusable("is empty.", "Put the token there as one line.")
    if not _VISIBLE.fullmatch(text):
        raise _unusable(
            "contains a line break, a control character or a character that is not ASCII.",
            "Put only the token there, as one line of plain text without a byte order mark.",
        )
    return text


# --- The sources ------------------------------------------------------------------------------------------------


def _from_environment(name: str, environ: Mapping[str, str]) -> bytes:
    if name not in environ:
        raise _unusable("names a variable that is not set.", "Set it for the service, or use a file.")
    return os.fsencode(environ[name])


def _from_credential(name: str, environ: Mapping[str, str]) -> bytes:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if folder:
        return _from_file(Path(folder, name), environ)
    if name not in known:
        raise _unusable(
            "names a credential, but $CREDENTIALS_DIRECTORY is not set.",
            "Only a systemd unit with LoadCredential= has credentials, or root if /etc/attachd holds the "
            "configuration and only root can change it.",
        )
    found = known[name]
    if found.error:
        raise _unusable(f"names a credential whose file {found.file} cannot be read: {found.error}.", _CREATE)
    return _sized(found.file, found.content)


def _from_file(path: Path, environ: Mapping[str, str]) -> bytes:
    try:
        content = _read(path, environ)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "its name is impossible"
        raise _unusable(f"names a file that cannot be read: {reason}.", _CREATE) from None
    return _sized(path, content)


def _sized(path: Path, content: bytes) -> bytes:
    if len(content) > MAXIMUM_BYTES:
        raise _unusable(f"names {path}, which is too large for a token.", "Name the file that holds only the token.")
    return content


def _read(path: Path, environ: Mapping[str, str]) -> bytes:
    # Non-blocking: opening a FIFO would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _refuse_open_file(path, os.fstat(descriptor), environ)
        return os.read(descriptor, MAXIMUM_BYTES + 1)
    finally:
        os.close(descriptor)


#: Does not repeat the name of a missing file, because people sometimes paste the token there.
_CREATE = (
    "Create it with the token as its only line, owned by the service's user, mode 0600. "
    "A relative path counts from the configuration file."
)
_CLOSE = "Its mode must be 0600, or 0640 with root's or the service's group: chmod 0600 {path}"


def _refuse_open_file(path: Path, status: os.stat_result, environ: Mapping[str, str]) -> None:
    """Refuse a file that is not regular, or that other users can read or change."""
    if not stat.S_ISREG(status.st_mode):
        raise _unusable(
            f"names {path}, which is not a regular file.", "Name a file that holds the token as its only line."
        )
    if _is_credential(path, environ):
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o027:
        raise _unusable(
            f"names {path}, which other users can read or change (mode {mode:04o}).", _CLOSE.format(path=path)
        )
    if mode & 0o040 and status.st_gid not in _groups():
        group = f"group {status.st_gid} can read (mode {mode:04o}). That group is neither root's nor the service's"
        raise _unusable(f"names {path}, which {group}.", _CLOSE.format(path=path))


def _groups() -> set[int]:
    return {0, os.getgid(), os.getegid(), *os.getgroups()}


def _is_credential(path: Path, environ: Mapping[str, str]) -> bool:
    """Return True if systemd made the file. It protects the whole folder, and its modes inside differ by version."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and os.path.realpath(path).startswith(os.path.realpath(folder or "") + "/")


#: The user name of the secret in the keyring; the configuration names the service.
KEYRING_USER = "token"


def _from_keyring(service: str) -> bytes:
    """Ask the desktop's keyring through the optional package keyring (https://pypi.org/project/keyring/)."""
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise _unusable(
            "needs the package keyring, which is not installed.", "Install it: pip install keyring"
        ) from None
    put_there = f"Put it there as the service's user: keyring set {service} {KEYRING_USER}"
    try:
        found = keyring.get_password(service, KEYRING_USER)
    except (keyring.errors.KeyringError, RuntimeError) as error:
        raise _unusable(f"names a keyring that cannot be read: {type(error).__name__}.", put_there) from None
    if found is None:
        raise _unusable(f"names a keyring that holds nothing for {service!r}.", put_there)
    return found.encode()


def _from_command(words: tuple[str, ...], environ: Mapping[str, str]) -> bytes:
    """Run the command without a shell, in a session of its own, so that a timeout ends everything it started."""
    try:
        process = subprocess.Popen(  # noqa: S603
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it contains a NUL"
        raise _unusable(f"names a command that does not start: {reason}.", _TRY_IT) from None
    with process:
        output, complaint = _finish(process, words[0])
    if process.returncode:
        raise _unusable(_failed(words[0], process.returncode, output, complaint), _TRY_IT)
    return output


_TRY_IT = "Try it by hand as the service's user, with the service's environment."


def _finish(process: subprocess.Popen[bytes], name: str) -> tuple[bytes, bytes]:
    try:
        return process.communicate(timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        raise _unusable(f"names the command {name!r}, which took more than {COMMAND_SECONDS:g} s.", _TRY_IT) from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)


def _failed(name: str, status: int, output: bytes, complaint: bytes) -> str:
    """Return the exit status and the first line of stderr, unless that line contains the secret."""
    first = next(iter(complaint.strip().splitlines()), b"")[:200]
    secret = output.strip()
    said = f" and said “{model.printable(first)}”" if first and not (secret and secret in first) else ""
    how = f"ended with exit status {status}" if status > 0 else f"was ended by signal {-status}"
    return f"names the command {name!r}, which {how}{said}."
