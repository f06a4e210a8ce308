"""The files that systemd is given: those that are shipped, and what a configuration changes of them. Texts, and nothing else."""

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

#: What the shipped units say, and what stands in its place on a machine where that is elsewhere.
COMMAND, CONFIGURATION = "/opt/attachd/bin/attachd", "/etc/attachd/config.toml"
USER_CONFIGURATION = "%E/attachd/config.toml"
#: How a file begins that is made here.
MADE = "# Made by `attachd install` of the configuration"
_FOLDERS, _STATE = Path("/srv/attachd"), Path("/var/lib/attachd")
#: Where a service with ``ProtectHome=`` sees nothing.
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
#: A folder so near to the root is everybody's; only below that many parts of a path lies one of the service's own.
_OWN_PARTS = 3
#: Below these it is one part more: /var/lib is as little anybody's own as /home/me is attachd's.
_SHARED = (("var",), ("usr",), ("etc",), ("run",), ("opt",), ("media",), ("mnt",))


def shipped(name: str) -> str:
    """The text of a file of ``systemd/``, or of the sample configuration: from the package, or from the checkout."""
    packed = importlib.resources.files("attachd").joinpath("shipped", name)
    if packed.is_file():
        return packed.read_text("utf-8")
    checkout = Path(__file__).resolve().parents[3]
    return (checkout / name if name.endswith(".toml") else checkout / "systemd" / name).read_text("utf-8")


def unit(name: str, command: Path, configuration: Path | None = None) -> str:
    """A shipped unit for a program, and a configuration, that lie where these do."""
    there = {COMMAND: _word(command)}
    if configuration is not None:
        there |= dict.fromkeys((USER_CONFIGURATION, CONFIGURATION), _word(configuration))
    return re.sub("|".join(map(re.escape, there)), lambda found: there[found[0]], shipped(name))


def sample(instance: str | None, inbox: Path | None = None) -> str:
    """A first configuration: the sample, with the folders of this instance and the token that systemd hands over.

    With an *inbox* it is a user's own, whose token is a file.
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
    """Whether a hardened service would not see it."""
    return any(path.is_relative_to(home) for home in _HOMES)


def roots(config: Config) -> list[Path]:
    """What the service has to write to: the common folder of inbox, done and failed, so that a move is a rename.

    All three by themselves where that folder is not theirs alone; each move is then a copy.
    """
    three = [config.folders.inbox, config.folders.done, config.folders.failed]
    common = Path(os.path.commonpath(three))
    shared = in_home(common) or common.parts[1:2] in _SHARED
    return [common] if len(common.parts) >= _OWN_PARTS + shared else three


def drop_in(config: Config, instance: str | None) -> str:
    """What this configuration changes of the shipped unit; "" if nothing."""
    below = instance or ""
    paths = [path for path in roots(config) if not path.is_relative_to(_FOLDERS / below)]
    state = config.folders.state
    if state is not None and not state.is_relative_to(_STATE / below):
        paths.append(state)
    credentials = [name for name in config_credentials.names(config) if name != "token"]
    if not paths and not credentials:
        return ""
    lines = [f"{MADE}; `attachd install --refresh` makes it anew."]
    if paths:
        lines += ["", "[Unit]", *(f"RequiresMountsFor={_quoted(path)}" for path in paths)]
    lines += ["", "[Service]", *_writable(paths), *_handed_over(credentials, instance)]
    return "\n".join(lines) + "\n"


def _writable(paths: Sequence[Path]) -> list[str]:
    homes = [path for path in paths if in_home(path)]
    lines = [f"ReadWritePaths={_quoted(path)}" for path in paths if path not in homes]
    if homes:
        # ":ro": on systemd 247 and 252 ProtectHome=tmpfs alone leaves homes that can be written to, in memory.
        lines += ["ProtectHome=tmpfs", "TemporaryFileSystem=/home:ro /root:ro /run/user:ro"]
        lines += [f"BindPaths={_quoted(path)}" for path in homes]
    return lines


def credential_files(config: Config, instance: str | None) -> list[Path]:
    """Where the secrets are put that the unit hands over."""
    return [config_credentials.file(name, instance) for name in config_credentials.names(config)]


def _handed_over(credentials: Sequence[str], instance: str | None) -> list[str]:
    lines = []
    for name in credentials:
        # Where the file is missing, it is handed an empty line, and the service says so; see the unit.
        lines += [f"LoadCredential={name}:{config_credentials.file(name, instance)}", f"SetCredential={name}:\\n"]
    return lines


@dataclass(frozen=True, slots=True)
class Needed:
    """A folder, with the mode of its purpose; *inherited*: what is made in it is the service's to empty too."""

    path: Path
    mode: str
    inherited: bool
    group: str = "attachd-drop"

    @property
    def lines(self) -> list[str]:
        """For tmpfiles.d(5). The rights are for folders that somebody makes under umask 022."""
        made = [f"d  {_quoted(self.path)} {self.mode} attachd {self.group} -"]
        # Not rwX: systemd 252 ignores such a line without a word.
        return made + ([f"a+ {_quoted(self.path)} - - - - {_rights('default:')}"] if self.inherited else [])

    @property
    def commands(self) -> list[str]:
        """The same, by hand."""
        quoted = shlex.quote(str(self.path))
        made = [f"install -d -m {self.mode} -o attachd -g {self.group} {quoted}"]
        return made + ([f"setfacl -m {_rights('d:')} {quoted}"] if self.inherited else [])


def _rights(which: str) -> str:
    return f"{which}user:attachd:rwx,{which}group:attachd-drop:rwx,{which}mask::rwx"


def needed(config: Config) -> list[Needed]:
    """The folders that files walk through, and that of the journal where systemd does not make it."""
    own = config.folders
    found = [Needed(own.inbox, "2770", True), Needed(own.done, "2750", False), Needed(own.failed, "2770", True)]
    if own.state is not None and not own.state.is_relative_to(_STATE):
        found.append(Needed(own.state, "0700", False, "attachd"))
    return found


def tmpfiles(made: Iterable[Needed]) -> str:
    """A file of tmpfiles.d(5) that makes these folders."""
    lines = [f"{MADE}. No folder is ever emptied or removed.", ""]
    lines += ["d  /etc/attachd 0750 root attachd -", *(line for each in made for line in each.lines)]
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    """As systemd.syntax(7) and tmpfiles.d(5) read it: ``%`` is doubled, and what has a blank, a quote or a colon is quoted."""
    text = str(path).replace("%", "%%")
    if any(character in text for character in " \t\"'\\:"):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _word(path: Path) -> str:
    """As a word of a command line (systemd.service(5)): a ``$`` is doubled too."""
    return _quoted(path).replace("$", "$$")
