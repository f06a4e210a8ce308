"""Which secrets root reads for a verb that it runs by itself, and for whose configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from attachd import config
from attachd.config import credentials, loader, secrets
from attachd.errors import Mistake

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root reads them")

TEXT = """
[folders]
inbox = "/srv/attachd/inbox"
[jira]
url = "https://jira.example.com"
[jira.auth]
user = "robot@example.com"
token = { credential = "token" }
"""


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In the place of /etc/attachd."""
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    monkeypatch.setattr(loader, "SYSTEM_FOLDER", folder)
    monkeypatch.setattr(secrets, "known", {})
    for name, secret in (("token", "of-the-site"), ("lab.token", "of-the-lab"), ("hook", "of-the-hook")):
        (folder / name).write_text(f"{secret}\n")
        (folder / name).chmod(0o600)
    return folder


def put(file: Path, text: str = TEXT, mode: int = 0o640) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def token(file: Path) -> str:
    """What the configuration's token is, for root. Raises Mistake where there is none for it."""
    settings = config.load(file, check_token=False)
    credentials.read_by_root(settings)
    source = settings.jira.auth.token
    assert source is not None
    return secrets.read(source, environ={}, base=file.parent).reveal()


def test_each_configuration_has_its_own(etc: Path) -> None:
    assert token(put(etc / "config.toml")) == "of-the-site"
    assert token(put(etc / "lab.toml")) == "of-the-lab"


def test_a_path_from_where_one_stands_is_the_same(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(etc / "lab.toml")
    monkeypatch.chdir(etc)

    assert token(Path("lab.toml")) == "of-the-lab"


@pytest.mark.parametrize("how", ["elsewhere", "of another user", "others can change it", "a link out", "systemd"])
def test_nobody_elses_configuration_is_given_a_secret(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    file = etc / "config.toml"
    match how:
        case "elsewhere":
            file = put(tmp_path / "config.toml")
        case "of another user":
            os.chown(put(file), 65534, 0)
        case "others can change it":
            put(file)
            etc.chmod(0o775)
        case "a link out":
            (tmp_path / "open").mkdir(mode=0o777)
            (tmp_path / "open").chmod(0o777)
            file.symlink_to(put(tmp_path / "open/config.toml"))
        case "systemd":
            put(file)
            monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    with pytest.raises(Mistake, match="names a credential, but"):
        token(file)
    assert secrets.known == {}


def test_a_file_that_is_not_there_is_named(etc: Path) -> None:
    with pytest.raises(Mistake, match=r"other\.token cannot be read: No such file or directory"):
        token(put(etc / "other.toml"))


def test_one_that_is_too_large_is_no_token(etc: Path) -> None:
    (etc / "token").write_bytes(b"x" * (secrets.MAXIMUM_BYTES + 1))

    with pytest.raises(Mistake, match="too large"):
        token(put(etc / "config.toml"))


def test_the_secret_of_a_hook_is_handed_over_too(etc: Path) -> None:
    text = TEXT + '[hooks]\nurl = "https://hooks.example.com"\nsecret = { credential = "hook" }\n'
    settings = config.load(put(etc / "config.toml", text), check_token=False)
    credentials.read_by_root(settings)

    assert credentials.names(settings) == ["token", "hook"]
    assert secrets.known["hook"].content == b"of-the-hook\n"
    assert "of-the-hook" not in repr(secrets.known)
    assert config.load(etc / "config.toml").hooks.secret is not None
