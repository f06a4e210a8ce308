"""From a file to a valid configuration, or to all of its mistakes at once."""

from __future__ import annotations

import os
import pwd
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from attachd import errors
from attachd.config import messages
from attachd.config.schema import Config, Tables
from attachd.config.table import Context

if TYPE_CHECKING:
    pass

#: Where the configuration of a system service is.
SYSTEM_FOLDER = Path("/etc/attachd")
FILE_NAME = "config.toml"


def load(path: Path, *, environ: Mapping[str, str] = os.environ, check_token: bool = True) -> Config:
    """Read the file at *path*. Raises ``errors.Mistake`` (78) with every problem that it has.

    Verbs that do not speak to Jira pass ``check_token=False``: only the service can read, for example, a systemd credential.
    """
    path = path.absolute()
    return parse(_text(path), base=path.parent, environ=environ, file=path, check_token=check_token)


def parse(
    source: str | Mapping[str, Any],
    *,
    base: Path,
    environ: Mapping[str, str] = os.environ,
    file: Path | None = None,
    check_token: bool = True,
) -> Config:
    """Return the configuration in TOML text or in tables; relative paths count from *base*."""
    shown = str(file) if file else ""
    file = file or base / FILE_NAME
    tables = dict(source) if isinstance(source, Mapping) else _tables(source, file)
    try:
        valid = Tables.model_validate(tables, context=Context(base, environ, check_token))
    except pydantic.ValidationError as error:
        raise errors.Mistake(*messages.problems(error, shown)) from None
    return Config.model_construct(file=file, **dict(valid))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read()
    except OSError as error:
        raise errors.Mistake(_unreadable(path, error)) from None
    if mode & stat.S_IWOTH and stat.S_ISREG(mode):
        # A user who can write the file chooses where the token goes, and which command prints it.
        what = f"can be changed by every user of this machine (mode {stat.S_IMODE(mode):04o})."
        raise errors.Mistake(errors.Problem(str(path), what, f"chmod o-w {path}"))
    try:
        # Editors on Windows begin a file with a byte order mark.
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        what = f"is not UTF-8: line {line} has the byte 0x{raw[error.start]:02x}."
        raise errors.Mistake(errors.Problem(str(path), what, "Save the file as UTF-8.")) from None


def _unreadable(path: Path, error: OSError) -> errors.Problem:
    remedies = {
        FileNotFoundError: "`attachd init` writes one. sample-config.toml shows every key.",
        PermissionError: "Let this user read it, or run attachd as the service's user.",
        IsADirectoryError: f"Name the file in it, for example {path / FILE_NAME}.",
    }
    reason = "does not exist." if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}."
    return errors.Problem(str(path), reason, remedies.get(type(error), "Correct the path."))


def _tables(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise errors.Mistake(_syntax(str(error), file)) from None
    except (ValueError, RecursionError):
        # Integers of thousands of digits, or lists within lists within lists.
        what = "is not TOML that attachd can read: a number is too long, or lists are nested too deeply."
        raise errors.Mistake(errors.Problem(str(file), what)) from None


def _syntax(message: str, file: Path) -> errors.Problem:
    """Put the place first. tomllib appends it to its message, which quotes at most a character or a key."""
    at = re.fullmatch(
        r"(?s)(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", message
    )
    what = at["what"] if at else message
    place = f"line {at['line']}, column {at['column']}" if at and at["line"] else "end of the file"
    plain = next((words for start, words in _SYNTAX.items() if what.startswith(start)), f"{what}.")
    return errors.Problem("", plain, "https://toml.io describes the syntax.", f"{file}, {place}")


_SYNTAX: Mapping[str, str] = {
    "Invalid value": "a value is missing or is not TOML. Texts need quotes; yes and no are true and false.",
    "Expected newline or end of document": "something follows a value on the same line. Texts need quotes.",
    "Expected '='": "a key needs “=” and a value after it.",
    "Expected ']'": "a table's name in [brackets] is not closed.",
    "Unterminated string": "a text in quotes is not closed.",
    "Unclosed": "a list or an inline table is not closed.",
    "Cannot overwrite a value": "a key stands twice, or as a value and as a table.",
    "Cannot declare": "a table stands twice.",
    "Cannot mutate": "a table in {braces} is complete. Add its keys inside the braces.",
    "Unescaped '\\'": "a “\\” in double quotes begins an escape. Write “\\\\”, or use 'single quotes'.",
    "Illegal character": "a line break or control character is not allowed here.",
    "Found invalid character": "a line break or control character is not allowed here.",
}


# --- Which file -------------------------------------------------------------------------------------------------


def find(argument: Path | None, instance: str | None, environ: Mapping[str, str]) -> Path:
    """Return the configuration file: the named one, else the first that exists in the usual places.

    Raises ``errors.Mistake``: 78 with every place that was searched, 2 for options that contradict each other.
    """
    if argument and instance:
        raise _usage("--instance", "cannot be combined with -c.", "Give one of them.")
    places = list(_places(argument, instance, environ))
    for place in places:
        if _exists(place):
            return place
    looked = ", ".join(map(str, places))
    remedy = "Correct the name, or let `attachd init` write one there." if argument or instance else ""
    remedy = remedy or "Run `attachd init` to write one, or name a file with -c FILE."
    raise errors.Mistake(errors.Problem("", f"No configuration found. attachd searched: {looked}.", remedy))


def _places(argument: Path | None, instance: str | None, environ: Mapping[str, str]) -> Iterator[Path]:
    if argument:
        yield argument
    elif instance:
        yield of_instance(instance)
    elif named := environ.get("ATTACHD_CONFIG"):
        yield Path(named)
    else:
        yield from _of_user(environ)
        yield SYSTEM_FOLDER / FILE_NAME


def of_instance(name: str) -> Path:
    """Return the configuration file of an instance. Raises ``errors.Mistake`` (2)."""
    if not re.fullmatch(r"[A-Za-z0-9_@:-][A-Za-z0-9_.@:-]*", name):
        raise _usage(
            "--instance", f"{name!r} is not a name of an instance.", f"Give the NAME of {SYSTEM_FOLDER}/NAME.toml."
        )
    return SYSTEM_FOLDER / f"{name}.toml"


def home(environ: Mapping[str, str]) -> Path:
    """Return the user's home from $HOME or the user database. Raises ``errors.Mistake`` (1) for a user without one."""
    if (given := environ.get("HOME", "")).startswith("/"):
        return Path(given)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        what = "is not set, and this user has no home in the user database."
        raise errors.Mistake(errors.Problem("$HOME", what, "Set it to a folder that is yours."), exit_code=1) from None


def of_user(environ: Mapping[str, str]) -> Path:
    """Return the folder of the user's own configurations. Raises ``errors.Mistake`` (1)."""
    # The XDG Base Directory Specification asks programs to ignore a relative path.
    given = environ.get("XDG_CONFIG_HOME", "")
    return Path(given) if given.startswith("/") else home(environ) / ".config"


def _of_user(environ: Mapping[str, str]) -> Iterator[Path]:
    # The XDG Base Directory Specification asks programs to ignore a relative $XDG_CONFIG_HOME.
    home = environ.get("XDG_CONFIG_HOME", "")
    if not home.startswith("/"):
        home = os.path.join(environ.get("HOME", ""), ".config")
    if home.startswith("/"):
        yield Path(home, "attachd", FILE_NAME)


def _exists(path: Path) -> bool:
    """Return True if the file exists, or if this user may not look: reading it then says what is wrong."""
    try:
        path.stat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _usage(where: str, what: str, remedy: str) -> errors.Mistake:
    return errors.Mistake(errors.Problem(where, what, remedy), exit_code=2)


def instance(config: Path) -> str:
    """Return what distinguishes this instance on the machine: the name of its configuration, or "" for config.toml."""
    return "" if config.stem == "config" else config.stem
