"""``init``: asks for what only a person knows, finds out the rest, tries it, and writes it down; each question is an option."""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from attachd import config as config_
from attachd.cli import checking, common, questioning
from attachd.cli.questioning import Asking
from attachd.config import checks, loading
from attachd.model import Fault, Mistake, Problem
from attachd.service import acquainting, inspecting
from attachd.service.acquainting import Known, Wanted

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
{user}token = {token}
{expires}"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where things go: the configuration, the token beside it, and the folders. *system*: of a service that root sets up."""

    file: Path
    folder: Path
    system: bool

    @property
    def token(self) -> Path:
        """The token's file."""
        return self.file.parent / ("token" if self.file.name == loading.FILE_NAME else f"{self.file.stem}.token")

    @property
    def source(self) -> Mapping[str, str]:
        """How the configuration names it; systemd hands the system's to the service alone."""
        return {"credential": "token"} if self.system else {"file": self.token.name}


def init(
    url: Annotated[
        str | None, typer.Option("--url", help="The site, such as your-domain.atlassian.net.", show_default=False)
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="The account's e-mail address (Jira Cloud).", show_default=False)
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file", metavar="FILE", help="Take the token from this file; - is stdin.", show_default=False
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="basic or bearer; found out if not given.", show_default=False),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where inbox, done and failed go.", show_default=False)
    ] = None,
    projects: Annotated[
        str | None,
        typer.Option(
            "--projects", metavar="KEYS", help="Only these projects, as in TEST,FIN; '' is all.", show_default=False
        ),
    ] = None,
    token_expires: Annotated[
        str | None,
        typer.Option(
            "--token-expires", metavar="DAY", help="The token's last day, as in 2027-03-01.", show_default=False
        ),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", help="Certificates to trust.", show_default=False)
    ] = None,
    proxy: Annotated[
        str | None, typer.Option("--proxy", help="The proxy on the way to Jira.", show_default=False)
    ] = None,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
) -> None:
    """Set attachd up: ask for site, account and token, try them, and write a configuration.

    Asks for what is not given as an option, on a terminal; elsewhere all that is needed has to be given.
    """
    with common.mistakes_told():
        place = _place(config, instance, folder)
        _is_free(place)
        ask = questioning.Asking(sys.stdin.isatty() and sys.stdout.isatty())
        wanted = Wanted("", kind or "", user or "", ca_file.absolute() if ca_file else None, proxy)
        wanted, cloud = _site(ask, wanted, url)
        known = _signed(ask, wanted, cloud, token_file)
        served = ask.text(
            "Projects that may receive files, as in TEST,FIN (empty: all)", projects, default="", check=_projects
        )
        last_day = ask.text(
            "The token's last day, as in 2027-03-01 (empty: not known)", token_expires, default="", check=_day
        )
        if not place.system and folder is None and ask.terminal:
            answer = ask.text("Folder for inbox, done and failed", None, default=str(place.folder), check=_path)
            place = replace(place, folder=Path(answer).expanduser().absolute())
        _write(place, known.known, known.token, served, last_day)
        _go_on(place)


# --- What is an answer ---------------------------------------------------------------------------------------------


def _projects(text: str) -> str:
    return " ".join(map(str, checks.projects(_keys(text))))


def _keys(text: str) -> list[str]:
    return [key.strip() for key in text.split(",") if key.strip()]


def _day(text: str) -> str:
    try:
        datetime.date.fromisoformat(text or "2027-03-01")
    except ValueError:
        return "This is no day: write it as in 2027-03-01."
    return ""


def _path(text: str) -> str:
    return "" if text.strip() else "Name a folder."


# --- Where it goes ------------------------------------------------------------------------------------------------


def _place(file: Path | None, instance: str | None, folder: Path | None) -> Place:
    root = os.geteuid() == 0
    if instance:
        file = loading.SYSTEM_FOLDER / f"{instance}.toml"
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    where = file or (loading.SYSTEM_FOLDER if root else home / "attachd") / loading.FILE_NAME
    system = root and where.parent == loading.SYSTEM_FOLDER
    usual = Path("/srv/attachd", *([instance] if instance else [])) if system else Path.home() / "attachd"
    return Place(where.absolute(), (folder or usual).absolute(), system)


def _is_free(place: Place) -> None:
    """Nothing is ever replaced."""
    for path in (place.file, place.token):
        if os.path.lexists(path) and not _is_empty(place, path):
            remedy = "Change it by hand, or move it away first; `attachd check` tries what is there."
            raise Mistake(Problem(str(path), "is there already; init replaces nothing.", remedy), exit_code=1)


# --- The site and the account --------------------------------------------------------------------------------------


def _site(ask: Asking, wanted: Wanted, given: str | None) -> tuple[Wanted, bool]:
    """The site's address, and whether it is Jira Cloud; asked again where nobody answers there."""
    for _ in range(questioning.TRIES):
        text = ask.text("Address of your Jira, as in your-domain.atlassian.net", given, option="--url", check=_address)
        wanted = replace(wanted, url=acquainting.address(text))
        cloud = acquainting.kind_of_site(wanted)
        if not isinstance(cloud, Fault):
            print(f"{wanted.url} is Jira {'Cloud' if cloud else 'Data Center'}.")
            return wanted, cloud
        problem = Problem(
            wanted.url, f"{cloud.reason.removesuffix('.')}.", "Correct the address, or see to the network."
        )
        if given is not None or not ask.terminal:
            raise Mistake(problem, exit_code=1)
        print(f"  {problem}")
    raise Mistake(Problem("", "no Jira was found; nothing was written."), exit_code=1)


def _address(text: str) -> str:
    url = acquainting.address(text) if text else ""
    return " ".join(map(str, checks.url(url))) if url else "Name the site."


@dataclass(frozen=True, slots=True)
class Signed:
    """A site that knows us, with the token that it knows us by."""

    known: Known
    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return f"Signed({self.known!r})"


def _signed(ask: Asking, wanted: Wanted, cloud: bool, token_file: str | None) -> Signed:
    kind = ask.text("", wanted.kind or ("basic" if cloud else "bearer"), option="--kind", check=_kind)
    wanted = replace(wanted, kind=kind)
    for _ in range(questioning.TRIES):
        if kind == "basic":
            question = (
                "E-mail address of the account that attaches" if cloud else "User name of the account that attaches"
            )
            user = ask.text(question, wanted.user or None, option="--user", check=_user)
        else:
            user = ""
        token = _token(ask, token_file, cloud)
        found = acquainting.sign_in(replace(wanted, user=user), token, cloud=cloud)
        if isinstance(found, Known):
            print(f"Jira knows this account as {found.account}.")
            if found.wanted.url != wanted.url:
                print(f"The token has scopes: it is good at {found.wanted.url}, which goes into the configuration.")
            return Signed(found, token)
        problem = Problem(wanted.url, f"{found.reason.removesuffix('.')}.", _remedy(cloud))
        if token_file is not None or not ask.terminal:
            raise Mistake(problem, exit_code=1)
        print(f"  {problem}")
    raise Mistake(Problem("", "Jira does not accept the account; nothing was written."), exit_code=1)


def _kind(text: str) -> str:
    return "" if text in ("basic", "bearer") else "init sets up basic and bearer; for others, copy sample-config.toml."


def _user(text: str) -> str:
    found = [problem for problem in checks.auth("basic", text, has_token=True) if problem.where == "user"]
    return " ".join(problem.what for problem in found)


def _remedy(cloud: bool) -> str:
    if cloud:
        return "Make an API token at id.atlassian.com (Security, API tokens), for the account of that e-mail address."
    return "Make a personal access token in your profile in Jira, or give --kind basic with a user's name and password."


def _token(ask: Asking, file: str | None, cloud: bool) -> str:
    if file is None:
        question = "API token (is not shown)" if cloud else "Personal access token (is not shown)"
        text = ask.text(question, None, option="--token-file", hidden=True)
    else:
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Mistake(Problem("--token-file", f"{file} cannot be read: {error}."), exit_code=2) from None
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Mistake(Problem("--token-file", "holds no token: it has to be one word of plain text."), exit_code=2)
    return token


# --- Writing ------------------------------------------------------------------------------------------------------


def _write(place: Place, known: Known, token: str, projects: str, last_day: str) -> None:
    wanted = known.wanted
    more = "".join(
        f"{name} = {_toml(str(value))}\n"
        for name, value in (("ca_file", wanted.ca_file), ("proxy", wanted.proxy))
        if value
    )
    text = _FIRST.format(
        inbox=_toml(str(place.folder / "inbox")),
        # The usual state folder belongs to the usual configuration: two inboxes cannot share one.
        state="" if place.file in _usual() else f"state = {_toml(str(place.folder / 'state'))}\n",
        projects=json.dumps(_keys(projects)),
        url=_toml(wanted.url),
        deployment=_toml("cloud" if known.cloud else "datacenter"),
        more=more,
        kind=_toml(wanted.kind),
        user=f"user = {_toml(wanted.user)}\n" if wanted.user else "",
        token="{ " + ", ".join(f"{name} = {_toml(value)}" for name, value in place.source.items()) + " }",
        expires=f"token_expires = {last_day}\n" if last_day else "",
    )
    # Whatever is wrong with it is said before anything is written.
    config_.parse(text, base=place.file.parent, check_token=False)
    try:
        place.file.parent.mkdir(parents=True, exist_ok=True)
        _create(place.token, f"{token}\n", 0o600, empty=os.path.lexists(place.token) and _is_empty(place, place.token))
        _create(place.file, text, 0o644)
        for name in ("inbox", "done", "failed") if not place.system else ():
            (place.folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot be made: {error.strerror}."
        raise Mistake(Problem(str(error.filename), what, "What was written before it stays."), exit_code=1) from error
    print(f"\nWritten: {place.file}\nWritten: {place.token} (0600)")


def _toml(text: str) -> str:
    """A basic string of TOML; JSON's escapes are among its own (https://toml.io/en/v1.0.0#string)."""
    return json.dumps(text, ensure_ascii=False)


def _is_empty(place: Place, path: Path) -> bool:
    """Whether it is the token's file as `install` has made it, for somebody to fill in."""
    return path == place.token and place.system and not path.is_symlink() and path.stat().st_size == 0


def _create(path: Path, text: str, mode: int, *, empty: bool = False) -> None:
    """Write a file that is not there, or is an *empty* one; whole or not at all. Raises FileExistsError otherwise."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(
            os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w", encoding="utf-8"
        ) as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if empty:
            fresh.replace(path)
        else:
            os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def _go_on(place: Place) -> None:
    """Check all of it, and say what comes next. Ends 1 where something failed."""
    c = "" if place.file in _usual() else f" -c {place.file}"
    if place.system:
        named = f" --instance {place.file.stem}" if place.file.name != loading.FILE_NAME else ""
        unit = f"attachd@{place.file.stem}" if named else "attachd"
        print(f"\nNext: attachd install{named}, which makes user, folders and unit, then systemctl enable --now {unit}")
        return
    settings, state = common.prepared(place.file, None)
    findings = list(inspecting.inspect(settings, state, os.environ, offline=False))
    checking.tell([finding for finding in findings if finding.result != "ok"])
    if any(finding.result == "failed" for finding in findings):
        print(f"\nNext: see to what failed, then attachd check{c}")
        raise typer.Exit(1)
    inbox = settings.folders.inbox
    print(
        f"\nAll is well. Put a file into a folder that is named like an issue, such as {inbox}/TEST-123/, and then\n"
        f"  attachd once{c}           attaches what is there, and ends\n"
        f"  attachd run{c}            does so until Ctrl-C\n"
        f"  attachd install --user{c} makes a service of yours that does so from now on"
    )


def _usual() -> list[Path]:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [home / "attachd" / loading.FILE_NAME, loading.SYSTEM_FOLDER / loading.FILE_NAME]
