"""The texts of the units and other files for systemd, and what a configuration changes in them."""

from __future__ import annotations

import importlib.resources
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attachd.config import Config
from attachd.config import credentials as config_credentials

#: Paths in the shipped units, which ``unit`` replaces with those of this machine.
COMMAND, CONFIGURATION = "/opt/attachd/bin/attachd", "/etc/attachd/config.toml"
USER_CONFIGURATION = "%E/attachd/config.toml"
#: The first line of a generated file.
MADE = "# Made by `attachd install` of the configuration"
_FOLDERS, _STATE = Path("/srv/attachd"), Path("/var/lib/attachd")
#: Folders that ``ProtectHome=`` hides from a service.
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
#: A path with fewer parts than this is shared by many programs, so it cannot be the service's own folder.
_OWN_PARTS = 3
#: Below these folders one more part is necessary: /var/lib is shared too.
_SHARED = (("var",), ("usr",), ("etc",), ("run",), ("opt",), ("media",), ("mnt",))


def shipped(name: str) -> str:
    """Return the text of a file of ``systemd/``, or of the sample configuration, from the package or the checkout."""
    packed = importlib.resources.files("attachd").joinpath("shipped", name)
    if packed.is_file():
        return packed.read_text("utf-8")
    checkout = Path(__file__).resolve().parents[3]
    return (checkout / name if name.endswith(".toml") else checkout / "systemd" / name).read_text("utf-8")


def unit(name: str, command: Path, configuration: Path | None = None) -> str:
    """Return a shipped unit with these paths of the program and the configuration."""
    there = {COMMAND: _word(command)}
    if configuration is not None:
        there |= dict.fromkeys((USER_CONFIGURATION, CONFIGURATION), _word(configuration))
    return re.sub("|".join(map(re.escape, there)), lambda found: there[found[0]], shipped(name))


def sample(instance: str | None, inbox: Path | None = None) -> str:
    """Return the sample configuration with the folders of this instance and the token as a systemd credential.

    With an *inbox* it is for a user's own service, whose token is a file.
    """
    text = shipped("sample-config.toml")
    if inbox is not None:
        return text.replace('inbox = "/srv/attachd/inbox"', f'inbox = "{inbox}"')
    below = f"/{instance}" if instance else ""
    return (
        text.replace('inbox = "/srv/attachd/inbox"', f'inbox = "{_FOLDERS}{below}/inbox"')
        .replace('# state = "/var/lib/attachd"', f'state = "{_STATE}{below}"')
        .replace('\ntoken = { file = "token" }', '\ntoken = { credential = "token" }')
    )


def in_home(path: Path) -> bool:
    """Return True if a path is in a folder that the hardened service cannot see."""
    return any(path.is_relative_to(home) for home in _HOMES)


def roots(config: Config) -> list[Path]:
    """Return the folders that the service must write to: the parent of inbox, done and failed, so that a move is a rename.

    If that parent is shared with other programs, return all three; each move is then a copy.
    """
    three = [config.folders.inbox, config.folders.done, config.folders.failed]
    common = Path(os.path.commonpath(three))
    shared = in_home(common) or common.parts[1:2] in _SHARED
    return [common] if len(common.parts) >= _OWN_PARTS + shared else three


def drop_in(config: Config, instance: str | None) -> str:
    """Return the drop-in with what this configuration changes in the shipped unit, or ""."""
    below = instance or ""
    paths = [path for path in roots(config) if not path.is_relative_to(_FOLDERS / below)]
    state = config.folders.state
    if state is not None and not state.is_relative_to(_STATE / below):
        paths.append(state)
    credentials = [name for name in config_credentials.names(config) if name != "token"]
    if not paths and not credentials:
        return ""
    lines = [f"{MADE}; `attachd install --refresh` updates it."]
    if paths:
        lines += ["", "[Unit]", *(f"RequiresMountsFor={_quoted(path)}" for path in paths)]
    lines += ["", "[Service]", *_writable(paths), *_handed_over(credentials, instance)]
    return "\n".join(lines) + "\n"


def _writable(paths: Sequence[Path]) -> list[str]:
    homes = [path for path in paths if in_home(path)]
    lines = [f"ReadWritePaths={_quoted(path)}" for path in paths if path not in homes]
    if homes:
        # ":ro", because on systemd 247 and 252 ProtectHome=tmpfs alone leaves writable homes in memory.
        lines += ["ProtectHome=tmpfs", "TemporaryFileSystem=/home:ro /root:ro /run/user:ro"]
        lines += [f"BindPaths={_quoted(path)}" for path in homes]
    return lines


def credential_files(config: Config, instance: str | None) -> list[Path]:
    """Return the files of the secrets that the unit passes to the service."""
    return [config_credentials.file(name, instance) for name in config_credentials.names(config)]


def _handed_over(credentials: Sequence[str], instance: str | None) -> list[str]:
    lines = []
    for name in credentials:
        # If the file is missing, the service receives an empty line and reports that; see the unit.
        lines += [f"LoadCredential={name}:{config_credentials.file(name, instance)}", f"SetCredential={name}:\\n"]
    return lines


@dataclass(frozen=True, slots=True)
class Needed:
    """A folder with its mode. *inherited*: the service may also empty folders that others create in it."""

    path: Path
    mode: str
    inherited: bool
    group: str = "attachd-drop"

    @property
    def lines(self) -> list[str]:
        """Lines for tmpfiles.d(5). The ACLs are for folders that other users create under umask 022."""
        made = [f"d  {_quoted(self.path)} {self.mode} attachd {self.group} -"]
        # Not rwX: systemd 252 silently ignores such a line.
        return made + ([f"a+ {_quoted(self.path)} - - - - {_rights('default:')}"] if self.inherited else [])

    @property
    def commands(self) -> list[str]:
        """The same as shell commands."""
        quoted = shlex.quote(str(self.path))
        made = [f"install -d -m {self.mode} -o attachd -g {self.group} {quoted}"]
        return made + ([f"setfacl -m {_rights('d:')} {quoted}"] if self.inherited else [])


def _rights(which: str) -> str:
    return f"{which}user:attachd:rwx,{which}group:attachd-drop:rwx,{which}mask::rwx"


def needed(config: Config) -> list[Needed]:
    """Return the folders of the files, and that of the journal if systemd does not create it."""
    own = config.folders
    found = [Needed(own.inbox, "2770", True), Needed(own.done, "2750", False), Needed(own.failed, "2770", True)]
    if own.state is not None and not own.state.is_relative_to(_STATE):
        found.append(Needed(own.state, "0700", False, "attachd"))
    return found


def tmpfiles(made: Iterable[Needed]) -> str:
    """Return a tmpfiles.d(5) file that creates these folders."""
    lines = [f"{MADE}. It never empties or removes a folder.", ""]
    lines += ["d  /etc/attachd 0750 root attachd -", *(line for each in made for line in each.lines)]
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    """Quote a path for systemd.syntax(7) and tmpfiles.d(5): double ``%``, and quote blanks, quotes and colons."""
    text = str(path).replace("%", "%%")
    if any(character in text for character in " \t\"'\\:"):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _word(path: Path) -> str:
    """Quote a path as a word of a command line (systemd.service(5)): double ``$`` too."""
    return _quoted(path).replace("$", "$$")
