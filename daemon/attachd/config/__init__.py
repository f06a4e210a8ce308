"""The configuration: TOML into one frozen, validated tree, every problem told at once."""

import os

# Nothing that happens to be installed beside attachd has a say in its configuration; and all that is need not be searched for it.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

from attachd.config import secrets
from attachd.config.folder_rules import Rulebook
from attachd.config.loader import find, load, parse
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
