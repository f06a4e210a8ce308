"""What ``init`` writes: the first configuration, the secrets beside it, and the folders. It replaces nothing."""

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
# done and failed are beside it.
{state}projects = {projects}

[jira]
url = {url}
deployment = {deployment}
{more}
[jira.auth]
kind = {kind}
{account}{expires}"""


#: The files of secrets. With an underscore, the keys that name them.
SECRETS = ("token", "client-secret")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the configuration, the token beside it and the folders go. *system*: for a service that root sets up."""

    file: Path
    folder: Path
    system: bool

    def secret(self, name: str) -> Path:
        """Return the file of a secret, beside the configuration."""
        return self.file.parent / (name if self.file.name == loader.FILE_NAME else f"{self.file.stem}.{name}")

    def source(self, name: str) -> Mapping[str, str]:
        """Return how the configuration names a secret. For a system service it is a systemd credential."""
        return {"credential": name} if self.system else {"file": self.secret(name).name}


def place(file: Path | None, instance: str | None, folder: Path | None) -> Place:
    """Return where a first configuration and its folders go: the system's for root, else the user's own."""
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
    """Check that the configuration would replace nothing. Raises ``errors.Mistake`` (1)."""
    _are_free(place, [place.file])


def _are_free(place: Place, paths: Iterable[Path]) -> None:
    for path in paths:
        if os.path.lexists(path) and not _is_empty(place, path):
            remedy = "Change it by hand, or move it away first. `attachd check` tests it."
            raise Mistake(Problem(str(path), "already exists, and init replaces nothing.", remedy), exit_code=1)


def write(place: Place, signed: Signed, projects: Sequence[str], last_day: str) -> None:
    """Write everything, the configuration last. Raises ``errors.Mistake``: 1, or 78 for an invalid configuration."""
    wanted, keys = signed.known.wanted, signed.secrets
    more = "".join(
        f"{name} = {_toml(str(value))}\n"
        for name, value in (("ca_file", wanted.ca_file), ("proxy", wanted.proxy))
        if value
    )
    secrets = {name: text for name, text in zip(SECRETS, (keys.token, keys.client_secret), strict=True) if text}
    text = _FIRST.format(
        inbox=_toml(str(place.folder / "inbox")),
        # The default state folder belongs to the default configuration: two inboxes cannot share one.
        state="" if place.file in usual() else f"state = {_toml(str(place.folder / 'state'))}\n",
        projects=json.dumps(projects),
        url=_toml(wanted.url),
        deployment=_toml("cloud" if signed.known.cloud else "datacenter"),
        more=more,
        kind=_toml(wanted.kind),
        account="".join(_account(place, wanted, secrets)),
        expires=f"token_expires = {last_day}\n" if last_day else "",
    )
    # Find every mistake before anything is written.
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
        what = f"cannot be created: {error.strerror}."
        raise Mistake(Problem(str(error.filename), what, "The files written before it remain."), exit_code=1) from error
    print(f"\nWritten: {place.file}", *(f"Written: {place.secret(name)} (0600)" for name in secrets), sep="\n")


def _account(place: Place, wanted: Wanted, secrets: Collection[str]) -> Iterator[str]:
    """Yield the lines of ``[jira.auth]`` for the account and its secrets."""
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
    """Return a basic string of TOML, which allows JSON's escapes (https://toml.io/en/v1.0.0#string)."""
    return json.dumps(text, ensure_ascii=False)


def _is_empty(place: Place, path: Path) -> bool:
    """Return True if it is the empty file of a secret that `install` created."""
    is_secret = path in map(place.secret, SECRETS)
    return is_secret and place.system and not path.is_symlink() and path.stat().st_size == 0


def _create(path: Path, text: str, mode: int, *, empty: bool = False) -> None:
    """Write a file that is not there, or is an *empty* one. Raises FileExistsError otherwise."""
    write_whole(path.parent, os.fsencode(path.name), text.encode(), replace=empty, mode=mode, exact=True)


def usual() -> list[Path]:
    """Return the configurations that attachd finds without -c."""
    found = [loader.SYSTEM_FOLDER / loader.FILE_NAME]
    with suppress(Mistake):
        found.insert(0, loader.of_user(os.environ) / "attachd" / loader.FILE_NAME)
    return found
