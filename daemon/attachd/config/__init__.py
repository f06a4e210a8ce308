"""The configuration: TOML into one frozen, validated tree, every problem told at once."""

from attachd.config import secrets
from attachd.config.loading import find, load, parse
from attachd.config.rules import Rulebook
from attachd.config.schema import (
    Auth,
    Batch,
    Config,
    Doubt,
    Folder,
    Folders,
    Fuse,
    Jira,
    Limits,
    Log,
    Retention,
    Settle,
    Upload,
)
from attachd.config.secrets import Secret, TokenSource

__all__ = [
    "Auth",
    "Batch",
    "Config",
    "Doubt",
    "Folder",
    "Folders",
    "Fuse",
    "Jira",
    "Limits",
    "Log",
    "Retention",
    "Rulebook",
    "Secret",
    "Settle",
    "TokenSource",
    "Upload",
    "find",
    "load",
    "parse",
    "secrets",
]
