"""Every key of the configuration with its type, range and default. The names are those of the TOML file.

The checks across a table run once all of its own keys have the right type, so that one wrong key does not hide other mistakes.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from attachd.config import addresses, secrets, validators
from attachd.config.table import AbsolutePath, Context, Table, Texts, complain

#: Upper bounds: a larger number is certainly a typo.
_DAY = 86_400.0
_TEBIBYTE = 2**40

Seconds = Annotated[float, Field(ge=0, le=7 * _DAY)]
PositiveSeconds = Annotated[float, Field(gt=0, le=7 * _DAY)]
TimeOut = Annotated[float, Field(gt=0, le=_DAY)]
Minutes = Annotated[float, Field(ge=0, le=60 * 24 * 365)]
Hours = Annotated[float, Field(gt=0, le=24 * 365)]
Days = Annotated[int, Field(ge=0, le=36_500)]
Bytes = Annotated[int, Field(ge=0, le=_TEBIBYTE)]
PositiveBytes = Annotated[int, Field(gt=0, le=_TEBIBYTE)]
#: Files may be years old; more than a century is certainly a typo.
Age = Annotated[float, Field(ge=0, le=36_500 * _DAY)]
Suffix = Annotated[str, pydantic.AfterValidator(lambda text: _checked(validators.suffix, text))]
Patterns = Annotated[Texts, pydantic.AfterValidator(lambda patterns: _checked(validators.ignore, patterns))]
Url = Annotated[
    str, pydantic.AfterValidator(lambda url: _checked(addresses.url, url)), pydantic.AfterValidator(addresses.tidy)
]


def _checked(check: Any, value: Any) -> Any:
    complain(check(value))
    return value


class Folders(Table):
    """Where files come from and where they go."""

    inbox: AbsolutePath
    done: AbsolutePath = Field(default_factory=lambda data: data["inbox"].parent / "done")
    failed: AbsolutePath = Field(default_factory=lambda data: data["inbox"].parent / "failed")
    state: AbsolutePath | None = None
    share_status: Literal["counts", "names", "off"] = "counts"
    nested: Literal["flatten", "ignore"] = "flatten"
    projects: Annotated[Texts, pydantic.AfterValidator(lambda names: _checked(validators.projects, names))] = ()
    key_pattern: Annotated[str, pydantic.AfterValidator(lambda text: _checked(validators.key_pattern, text))] = (
        "[A-Z][A-Z0-9_]*-[1-9][0-9]*"
    )
    numeric_ids: bool = False
    link_notes: bool = False

    @pydantic.model_validator(mode="after")
    def _apart(self) -> Self:
        complain(validators.folders_apart(self.inbox, self.done, self.failed, self.state))
        return self


class Auth(Table):
    """Which account attaches the files."""

    kind: Literal["basic", "bearer", "oauth2", "anonymous"] = "basic"
    user: str | None = None
    token: Annotated[secrets.TokenSource | None, pydantic.BeforeValidator(secrets.refuse_literal)] = None
    token_expires: datetime.date | None = None
    client_id: str | None = None
    client_secret: Annotated[secrets.TokenSource | None, pydantic.BeforeValidator(secrets.refuse_literal)] = None
    token_url: Annotated[str | None, pydantic.AfterValidator(lambda url: _checked(addresses.token_url, url))] = None
    scope: str | None = None

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Self:
        given = [name for name in validators.OAUTH_KEYS if getattr(self, name) is not None]
        found = validators.auth(self.kind, self.user, has_token=self.token is not None)
        complain([*found, *validators.oauth(self.kind, given, self.client_id, self.scope)])
        return self


class Jira(Table):
    """Which Jira, and how to reach it. ``url`` has no slash at its end."""

    url: Url
    deployment: Literal["auto", "cloud", "datacenter"] = "auto"
    ca_file: Annotated[
        AbsolutePath | None, pydantic.AfterValidator(lambda file: _checked(validators.readable, file))
    ] = None
    client_cert_file: Annotated[
        AbsolutePath | None, pydantic.AfterValidator(lambda file: _checked(validators.readable, file))
    ] = None
    client_key_file: Annotated[
        AbsolutePath | None, pydantic.AfterValidator(lambda file: _checked(validators.readable, file))
    ] = None
    proxy: Annotated[str | None, pydantic.AfterValidator(lambda url: _checked(addresses.proxy, url))] = None
    allow_http: bool = False
    # Not Auth(): its complaints would hide all others. The check of the table finds what is missing there.
    auth: Auth = Field(default_factory=dict, validate_default=True)

    @pydantic.model_validator(mode="after")
    def _safe(self) -> Self:
        complain(addresses.transport(self.url, self.allow_http, self.client_cert_file, self.client_key_file))
        if self.auth.kind == "oauth2":
            complain(addresses.derived_token_url(self.token_url))
        return self

    @property
    def token_url(self) -> str:
        """The endpoint that issues access tokens."""
        return self.auth.token_url or addresses.usual_token_url(self.url, self.deployment)


class Settle(Table):
    """When a file counts as complete."""

    quiet_seconds: Seconds = 2.0
    quiet_seconds_unproven: Seconds = 30.0
    empty_seconds: Seconds = 60.0
    incomplete_seconds: Seconds = 600.0
    rescan_seconds: PositiveSeconds = 30.0
    ready_suffix: Suffix = ""
    min_bytes: Bytes | None = None
    max_bytes: Bytes | None = None
    min_age_seconds: Age | None = None
    max_age_seconds: Age | None = None
    ignore: Patterns = ()

    @pydantic.model_validator(mode="after")
    def _satisfiable(self) -> Self:
        complain(validators.bounds(*self.bounds))
        return self

    @property
    def bounds(self) -> validators.Bounds:
        """The smallest and largest size, and the lowest and highest age, that attachd takes."""
        return self.min_bytes, self.max_bytes, self.min_age_seconds, self.max_age_seconds


class Folder(Table):
    """What differs from ``[settle]`` in the folders that *match*, a pattern for their names or their issue keys."""

    match: Annotated[str, pydantic.AfterValidator(lambda pattern: _checked(validators.match, pattern))]
    quiet_seconds: Seconds | None = None
    quiet_seconds_unproven: Seconds | None = None
    empty_seconds: Seconds | None = None
    incomplete_seconds: Seconds | None = None
    ready_suffix: Suffix | None = None
    min_bytes: Bytes | None = None
    max_bytes: Bytes | None = None
    min_age_seconds: Age | None = None
    max_age_seconds: Age | None = None
    ignore: Patterns | None = None

    def overrides(self) -> dict[str, Any]:
        """The keys of ``[settle]`` that are set here, with their values."""
        return self.model_dump(exclude={"match"}, exclude_none=True)


class Upload(Table):
    """How attachd uploads files."""

    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    connect_seconds: TimeOut = 10.0
    stall_seconds: TimeOut = 60.0
    reply_seconds: TimeOut = 60.0
    slowest_bytes_per_second: PositiveBytes = 262_144
    max_bytes_per_second: Annotated[
        Bytes, pydantic.AfterValidator(lambda rate: _checked(validators.bandwidth, rate))
    ] = 0


class Batch(Table):
    """How many small files may share a request."""

    max_files: Annotated[int, Field(ge=1, le=1000)] = 60
    max_bytes: PositiveBytes = 33_554_432


class Doubt(Table):
    """When attachd looks for an upload in its issue if the outcome is unknown."""

    looks_seconds: Annotated[
        tuple[PositiveSeconds, ...],
        Field(strict=False),
        pydantic.AfterValidator(lambda looks: _checked(validators.looks, looks)),
    ] = (5.0, 30.0, 120.0)
    give_up_hours: Hours = 24.0


class Fuse(Table):
    """How long a refusal waits while nothing proves that the account works."""

    hold_minutes: Minutes = 2.0


class Limits(Table):
    """When attachd warns people, and what keeps a mistake small."""

    warn_after_minutes: Minutes = 60.0
    remind_hours: Hours = 24.0
    give_up_days: Days = 0
    issue_files_per_hour: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    stop_seconds: Seconds = 60.0


class Retention(Table):
    """How long attachd keeps finished files and their history; 0 is for ever."""

    done_days: Days = 0
    failed_days: Days = 0
    history_days: Days = 0
    dry_run: bool = False

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Self:
        complain(validators.retention(self.done_days, self.failed_days, self.history_days))
        return self


class Log(Table):
    """What the service writes to stderr."""

    format: Literal["auto", "console", "journald", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    file_names: bool = True


def _socket(text: Any, info: pydantic.ValidationInfo) -> Any:
    """Make the path of a socket absolute; like every path, it counts from the configuration file."""
    path = text.removeprefix("unix:") if isinstance(text, str) and text.startswith("unix:") else ""
    return f"unix:{info.context.base / path}" if path and isinstance(info.context, Context) else text


class Web(Table):
    """A web page on a unix socket or a loopback port. *hosts* are the names under which a proxy serves it."""

    listen: Annotated[
        str | None,
        pydantic.AfterValidator(lambda text: _checked(addresses.listen, text)),
        pydantic.BeforeValidator(_socket),
    ] = None
    hosts: Annotated[Texts, pydantic.AfterValidator(lambda names: _checked(addresses.hosts, names))] = ()


class Metrics(Table):
    """A folder for Prometheus' textfile collector."""

    textfile: Annotated[
        AbsolutePath | None, pydantic.AfterValidator(lambda path: _checked(validators.folder, path))
    ] = None


class Hooks(Table):
    """What receives events of verdicts and pauses."""

    url: Annotated[str | None, pydantic.AfterValidator(lambda url: _checked(addresses.hook_url, url))] = None
    proxy: Annotated[str | None, pydantic.AfterValidator(lambda url: _checked(addresses.proxy, url))] = None
    secret: Annotated[secrets.TokenSource | None, pydantic.BeforeValidator(secrets.refuse_literal)] = None
    command: Annotated[
        Texts | None, pydantic.AfterValidator(lambda words: _checked(validators.hook_command, words))
    ] = None
    events: Annotated[Texts, pydantic.AfterValidator(lambda names: _checked(validators.hook_events, names))] = ()
    issue_comment: bool = False


class Tables(Table):
    """The configuration file as a whole."""

    folders: Folders
    aliases: dict[str, str] = Field(default_factory=dict)
    jira: Jira
    settle: Settle = Settle()
    upload: Upload = Upload()
    batch: Batch = Batch()
    doubt: Doubt = Doubt()
    fuse: Fuse = Fuse()
    limits: Limits = Limits()
    retention: Retention = Retention()
    log: Log = Log()
    folder: Annotated[tuple[Folder, ...], Field(strict=False)] = ()
    web: Web = Web()
    metrics: Metrics = Metrics()
    hooks: Hooks = Hooks()

    @pydantic.field_validator("aliases")
    @classmethod
    def _aliases_lead_to_issues(cls, aliases: dict[str, str], info: pydantic.ValidationInfo) -> dict[str, str]:
        folders = info.data.get("folders")
        if folders is not None:
            keys, served = folders.key_pattern, folders.projects
            complain(validators.aliases(aliases, keys, served, numeric_ids=folders.numeric_ids))
        return aliases

    @pydantic.field_validator("folder")
    @classmethod
    def _folders_are_satisfiable(cls, folders: tuple[Folder, ...], info: pydantic.ValidationInfo) -> tuple[Folder, ...]:
        settle = info.data.get("settle")
        if settle is not None:
            complain(
                validators.folders((each.match, settle.model_copy(update=each.overrides()).bounds) for each in folders)
            )
        return folders


class Config(Tables):
    """A valid configuration, with the file that it came from."""

    file: Path
