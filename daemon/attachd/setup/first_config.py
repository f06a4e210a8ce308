"""What ``init`` writes: the first configuration, the secrets beside it, and the folders. Nothing is ever replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from attachd import config as config_
from attachd.config import loader
from attachd.errors import Mistake, Problem
from attachd.fs.whole_file import write_whole
from attachd.setup.sign_in import Signed, Wanted

_FIRST = """\
# Made by `attachd init`. Every other key has its default; sample-config.toml explains them all.
[folders]
inbox = {inbox}
# done and failed lie beside it.
{state}projects = {projects}

[jira]
url = {url}
deployment = {deployment}
{more}
[jira.auth]
kind = {kind}
{account}{expires}"""


#: The files of secrets, and with an underscore the keys that name them.
SECRETS = ("token", "client-secret")


@dataclass(frozen=True, slots=True)
class Place:
    """Where things go: the configuration, the token beside it, and the folders. *system*: of a service that root sets up."""

    file: Path
    folder: Path
    system: bool

    def secret(self, name: str) -> Path:
        """The file of a secret, beside the configuration."""
        return self.file.parent / (name if self.file.name == loader.FILE_NAME else f"{self.file.stem}.{name}")

    def source(self, name: str) -> Mapping[str, str]:
        """How the configuration names it; systemd hands the system's to the service alone."""
        return {"credential": name} if self.system else {"file": self.secret(name).name}


def place(file: Path | None, instance: str | None, folder: Path | None) -> Place:
    """Where a first configuration goes: as root the system's, for anybody else one's own; the folders below it, or a home."""
    root = os.geteuid() == 0
    if instance:
        file = loader.SYSTEM_FOLDER / f"{instance}.toml"
    if file is None:
        file = (loader.SYSTEM_FOLDER if root else loader.of_user(os.environ) / "attachd") / loader.FILE_NAME
    where = file.absolute()
    system = root and where.parent == loader.SYSTEM_FOLDER
    if folder is None and system:
        folder = Path("/srv/attachd", *([instance] if instance else []))
    return Place(where, (folder or loader.home(os.environ) / "attachd").absolute(), system)


def is_free(place: Place) -> None:
    """See that the configuration would replace nothing. Raises ``errors.Mistake`` (1)."""
    _are_free(place, [place.file])


def _are_free(place: Place, paths: Iterable[Path]) -> None:
    for path in paths:
        if os.path.lexists(path) and not _is_empty(place, path):
            remedy = "Change it by hand, or move it away first; `attachd check` tries what is there."
            raise Mistake(Problem(str(path), "is there already; init replaces nothing.", remedy), exit_code=1)


def write(place: Place, signed: Signed, projects: Sequence[str], last_day: str) -> None:
    """Write everything, the configuration last. Raises ``errors.Mistake`` (1), and 78 for what the configuration would refuse."""
    wanted, keys = signed.known.wanted, signed.secrets
    more = "".join(
        f"{name} = {_toml(str(value))}\n"
        for name, value in (("ca_file", wanted.ca_file), ("proxy", wanted.proxy))
        if value
    )
    secrets = {name: text for name, text in zip(SECRETS, (keys.token, keys.client_secret), strict=True) if text}
    text = _FIRST.format(
        inbox=_toml(str(place.folder / "inbox")),
        # The usual state folder belongs to the usual configuration: two inboxes cannot share one.
        state="" if place.file in usual() else f"state = {_toml(str(place.folder / 'state'))}\n",
        projects=json.dumps(projects),
        url=_toml(wanted.url),
        deployment=_toml("cloud" if signed.known.cloud else "datacenter"),
        more=more,
        kind=_toml(wanted.kind),
        account="".join(_account(place, wanted, secrets)),
        expires=f"token_expires = {last_day}\n" if last_day else "",
    )
    # Whatever is wrong with it is said before anything is written.
    config_.parse(text, base=place.file.parent, check_token=False)
    _are_free(place, map(place.secret, secrets))
    try:
        place.file.parent.mkdir(parents=True, exist_ok=True)
        for name, secret in secrets.items():
            path = place.secret(name)
            _create(path, f"{secret}\n", 0o600, empty=os.path.lexists(path) and _is_empty(place, path))
        _create(place.file, text, 0o644)
        for name in ("inbox", "done", "failed") if not place.system else ():
            (place.folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot be made: {error.strerror}."
        raise Mistake(Problem(str(error.filename), what, "What was written before it stays."), exit_code=1) from error
    print(f"\nWritten: {place.file}", *(f"Written: {place.secret(name)} (0600)" for name in secrets), sep="\n")


def _account(place: Place, wanted: Wanted, secrets: Collection[str]) -> Iterator[str]:
    """The lines of ``[jira.auth]`` that say who signs in, and where the secrets are."""
    for key, value in (
        ("user", wanted.user),
        ("client_id", wanted.client_id),
        ("scope", wanted.scope),
        ("token_url", wanted.token_url),
    ):
        if value:
            yield f"{key} = {_toml(value)}\n"
    for name in secrets:
        source = ", ".join(f"{kind} = {_toml(value)}" for kind, value in place.source(name).items())
        yield f"{name.replace('-', '_')} = {{ {source} }}\n"


def _toml(text: str) -> str:
    """A basic string of TOML; JSON's escapes are among its own (https://toml.io/en/v1.0.0#string)."""
    return json.dumps(text, ensure_ascii=False)


def _is_empty(place: Place, path: Path) -> bool:
    """Whether it is a secret's file as `install` has made it, for somebody to fill in."""
    is_secret = path in map(place.secret, SECRETS)
    return is_secret and place.system and not path.is_symlink() and path.stat().st_size == 0


def _create(path: Path, text: str, mode: int, *, empty: bool = False) -> None:
    """Write a file that is not there, or is an *empty* one. Raises FileExistsError otherwise."""
    write_whole(path.parent, os.fsencode(path.name), text.encode(), replace=empty, mode=mode, exact=True)


def usual() -> list[Path]:
    """The configurations that are found without being named."""
    found = [loader.SYSTEM_FOLDER / loader.FILE_NAME]
    with suppress(Mistake):
        found.insert(0, loader.of_user(os.environ) / "attachd" / loader.FILE_NAME)
    return found
