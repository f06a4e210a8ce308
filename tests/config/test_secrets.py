"""Where a token comes from, who else may read it, and that it shows itself to nobody."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.errors
import pytest

from attachd import config
from attachd.config import secrets
from attachd.config.secrets import Secret, TokenSource
from attachd.errors import Mistake, Problem

WORD = "not-a-token-0123"
STRANGER = 54321


def read(source: TokenSource, base: Path = Path("/"), environ: dict[str, str] | None = None) -> str:
    return secrets.read(source, environ=os.environ if environ is None else environ, base=base).reveal()


def problem(source: TokenSource, base: Path = Path("/"), environ: dict[str, str] | None = None) -> Problem:
    """Read what cannot be read; whatever was found there is in no message."""
    with pytest.raises(Mistake) as caught:
        read(source, base, environ)
    (found,) = caught.value.problems
    assert found.where == "jira.auth.token"
    assert found.remedy
    assert WORD not in str(caught.value)
    return found


def token(folder: Path, mode: int = 0o600, content: bytes = WORD.encode() + b"\n") -> TokenSource:
    file = folder / "token"
    file.write_bytes(content)
    file.chmod(mode)
    return TokenSource(file=file)


# --- A file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440, 0o700])
def test_a_file_of_the_service_alone_is_read(tmp_path: Path, mode: int) -> None:
    assert read(token(tmp_path, mode)) == WORD


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601, 0o660, 0o620, 0o666, 0o777])
def test_a_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    found = problem(token(tmp_path, mode))

    assert found.what == f"names {tmp_path}/token, which other users can read or change (mode {mode:04o})."
    assert f"chmod 0600 {tmp_path}/token" in found.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another group")
def test_a_group_may_read_only_if_the_service_is_in_it_or_it_is_roots(tmp_path: Path) -> None:
    source = token(tmp_path, 0o640)
    os.chown(tmp_path / "token", -1, STRANGER)

    assert f"group {STRANGER} can read" in problem(source).what
    os.chmod(tmp_path / "token", 0o600)
    assert read(source) == WORD


def test_a_group_of_the_service_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = token(tmp_path, 0o640)
    gid = (tmp_path / "token").stat().st_gid
    monkeypatch.setattr(os, "getgid", lambda: STRANGER)
    monkeypatch.setattr(os, "getegid", lambda: STRANGER)
    monkeypatch.setattr(os, "getgroups", lambda: [gid])

    assert read(source) == WORD


def test_a_relative_file_counts_from_the_configuration(tmp_path: Path) -> None:
    token(tmp_path)

    assert read(TokenSource(file=Path("token")), base=tmp_path) == WORD


def test_a_symlink_is_followed_to_the_file_whose_mode_counts(tmp_path: Path) -> None:
    source = token(tmp_path, 0o644)
    (tmp_path / "link").symlink_to("token")

    assert "mode 0644" in problem(TokenSource(file=tmp_path / "link")).what
    (tmp_path / "token").chmod(0o600)
    assert read(TokenSource(file=tmp_path / "link")) == read(source)


def test_a_file_that_is_missing_is_told_without_its_name(tmp_path: Path) -> None:
    """Somebody who takes ``file`` for the token itself must not find it in the log."""
    found = problem(TokenSource(file=tmp_path / WORD))

    assert found.what == "names a file that cannot be read: No such file or directory."


def test_a_folder_a_fifo_and_a_device_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)

    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        assert problem(TokenSource(file=path)).what == f"names {path}, which is not a regular file."


def test_a_file_that_is_no_token_is_not_read_as_one(tmp_path: Path) -> None:
    assert "too large" in problem(token(tmp_path, content=b"x" * 100_000)).what


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    source = token(tmp_path)
    assert read(source) == WORD

    assert read(token(tmp_path, content=b"another-one")) == read(source) == "another-one"


# --- What is in it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b" ", b"\t\n", b"\n\n"])
def test_what_an_editor_puts_at_the_end_is_taken_away(tmp_path: Path, end: bytes) -> None:
    assert read(token(tmp_path, content=WORD.encode() + end)) == WORD


def test_a_password_may_have_spaces_within(tmp_path: Path) -> None:
    assert read(token(tmp_path, content=b"two words\n")) == "two words"


@pytest.mark.parametrize("content", [b"", b"\n", b"  \r\n"])
def test_an_empty_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    assert problem(token(tmp_path, content=content)).what == "is empty."


@pytest.mark.parametrize(
    "wrong",
    [b"%s\nsecond line", b"\n%s", b"%s\x00", b"a\x1b[31m%s", b"%s\x7f", b"\xef\xbb\xbf%s", b"%s\xc3\xa4", b"%s\xff"],
)
def test_what_does_not_fit_into_a_header_is_refused(tmp_path: Path, wrong: bytes) -> None:
    found = problem(token(tmp_path, content=wrong.replace(b"%s", WORD.encode())))

    assert found.what == "contains a line break, a control character or a character that is not ASCII."


# --- A variable, a credential -----------------------------------------------------------------------------------


def test_a_variable_is_read() -> None:
    assert read(TokenSource(env="JIRA_TOKEN"), environ={"JIRA_TOKEN": WORD}) == WORD


def test_a_variable_has_to_be_set_and_not_empty() -> None:
    assert problem(TokenSource(env="JIRA_TOKEN"), environ={}).what == "names a variable that is not set."
    assert problem(TokenSource(env="JIRA_TOKEN"), environ={"JIRA_TOKEN": ""}).what == "is empty."
    assert "not ASCII" in problem(TokenSource(env="T"), environ={"T": f"{WORD}\udcff"}).what


def test_a_credential_is_read_whatever_its_mode(tmp_path: Path) -> None:
    token(tmp_path, 0o444)

    assert read(TokenSource(credential="token"), environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}) == WORD
    assert read(TokenSource(file=tmp_path / "token"), environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}) == WORD


def test_a_symlink_out_of_the_credentials_is_no_credential(tmp_path: Path) -> None:
    token(tmp_path, 0o644)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/token").symlink_to("../token")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}

    assert "other users can read" in problem(TokenSource(credential="token"), environ=environ).what


def test_a_credential_has_to_exist_in_a_unit_that_has_it(tmp_path: Path) -> None:
    source = TokenSource(credential="token")

    assert "$CREDENTIALS_DIRECTORY is not set" in problem(source, environ={}).what
    assert "No such file" in problem(source, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}).what


# --- A command --------------------------------------------------------------------------------------------------


def python(code: str) -> TokenSource:
    return TokenSource(command=(sys.executable, "-c", code))


def test_a_command_prints_it() -> None:
    assert read(python(f"print('{WORD}')")) == WORD


def test_a_command_gets_the_environment_and_no_input() -> None:
    code = "import os, sys; print(os.environ['MINE'] + sys.stdin.read())"

    assert read(python(code), environ={"MINE": WORD}) == WORD


def test_a_command_is_not_given_to_a_shell() -> None:
    assert read(TokenSource(command=("/bin/echo", "$HOME;x"))) == "$HOME;x"


def test_a_command_that_fails_is_told_with_its_status_and_its_first_complaint() -> None:
    code = f"import sys; print('{WORD}'); print('\\nlocked \\x1b\\nsecond', file=sys.stderr); sys.exit(3)"

    what = problem(python(code)).what

    assert what.endswith(r"which ended with exit status 3 and said “locked \x1b”.")


def test_a_complaint_that_contains_the_secret_is_not_repeated() -> None:
    code = f"import sys; print('{WORD}'); print('bad: {WORD}', file=sys.stderr); sys.exit(1)"

    assert problem(python(code)).what.endswith("which ended with exit status 1.")


def test_a_command_that_was_killed_is_told() -> None:
    assert "was ended by signal 9" in problem(python("import os; os.kill(os.getpid(), 9)")).what


def test_a_command_that_prints_nothing_gives_an_empty_secret() -> None:
    assert problem(python("pass")).what == "is empty."


def test_a_command_that_does_not_exist_is_told_without_its_name() -> None:
    what = problem(TokenSource(command=(WORD,)), environ={"PATH": "/usr/bin"}).what

    assert what == "names a command that does not start: No such file or directory."


def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "COMMAND_SECONDS", 0.5)
    code = f"""
import os, subprocess
child = subprocess.Popen(["sleep", "60"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
child.wait()
"""

    assert "took more than 0.5 s" in problem(python(code)).what

    assert_gone(int((tmp_path / "pid").read_text()))


def assert_gone(pid: int) -> None:
    """The killed grandchild is reaped by its new parent; until then it is a zombie."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"{pid} lives")


# --- In the configuration ---------------------------------------------------------------------------------------


def load(source: Any, base: Path, **environ: str) -> config.Config:
    jira = {"url": "http://localhost", "auth": {"kind": "bearer", "token": source}}
    return config.parse({"folders": {"inbox": "inbox"}, "jira": jira}, base=base, environ=environ)


def refused(source: Any, base: Path, **environ: str) -> Problem:
    with pytest.raises(Mistake) as caught:
        load(source, base, **environ)
    (found,) = caught.value.problems
    assert found.remedy
    return found


@pytest.mark.parametrize(
    ("source", "where", "what"),
    [
        (WORD, "jira.auth.token", "must not be in the configuration itself."),
        ("", "jira.auth.token", "must not be in the configuration itself."),
        ({}, "jira.auth.token", "needs exactly one of file, env, credential, command and keyring, but has none."),
        ({"file": "token", "env": "T"}, "jira.auth.token", "needs exactly one of"),
        ({"file": ""}, "jira.auth.token.file", "is empty."),
        ({"file": "none"}, "jira.auth.token", "names a file that cannot be read: No such file or directory."),
        ({"env": ""}, "jira.auth.token.env", "is not the name of a variable."),
        ({"env": "A=B"}, "jira.auth.token.env", "is not the name of a variable."),
        ({"env": "T"}, "jira.auth.token", "names a variable that is not set."),
        ({"credential": "../token"}, "jira.auth.token.credential", "is not a credential name."),
        ({"credential": ".."}, "jira.auth.token.credential", "is not a credential name."),
        ({"credential": ""}, "jira.auth.token.credential", "is not a credential name."),
        ({"credential": "token"}, "jira.auth.token", "names a credential, but $CREDENTIALS_DIRECTORY is not set."),
        ({"command": []}, "jira.auth.token.command", "is empty."),
        ({"command": ["pass", ""]}, "jira.auth.token.command", "is empty."),
        ({"command": "pass show"}, "jira.auth.token.command", "must be a list"),
    ],
)
def test_a_source_is_checked_when_the_configuration_is_loaded(
    tmp_path: Path, source: Any, where: str, what: str
) -> None:
    found = refused(source, tmp_path)

    assert found.where == where
    assert found.what.startswith(what)
    assert WORD not in str(found)


def test_a_token_in_the_configuration_is_answered_with_the_way_to_do_it(tmp_path: Path) -> None:
    assert 'token = { file = "token" }' in refused(WORD, tmp_path).remedy


def test_modes_and_content_are_checked_when_the_configuration_is_loaded(tmp_path: Path) -> None:
    token(tmp_path, 0o644)
    assert "mode 0644" in refused({"file": "token"}, tmp_path).what
    token(tmp_path, content=b"")
    assert refused({"file": "token"}, tmp_path).what == "is empty."
    token(tmp_path)
    assert load({"file": "token"}, tmp_path).jira.auth.token == TokenSource(file=tmp_path / "token")


def test_a_command_is_not_run_when_the_configuration_is_loaded(tmp_path: Path) -> None:
    load({"command": ["touch", str(tmp_path / "ran")]}, tmp_path)

    assert not (tmp_path / "ran").exists()


# --- The value --------------------------------------------------------------------------------------------------


def test_a_secret_shows_itself_only_when_it_is_asked_to() -> None:
    secret = Secret(WORD)

    for shown in (str(secret), repr(secret), f"{secret}", f"{secret:>40}", f"{secret!r}", str([secret])):
        assert WORD not in shown
        assert "****" in shown
    assert secret.reveal() == WORD
    assert not hasattr(secret, "__dict__")


def test_secrets_are_compared_by_what_they_hold() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(WORD), protocol)
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(Secret(WORD))


# --- The keyring ------------------------------------------------------------------------------------------------


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory, or one that is locked."""

    priority = 1.0  # type: ignore[assignment]

    def __init__(self, held: dict[tuple[str, str], str], locked: bool = False) -> None:
        super().__init__()
        self.held, self.locked = held, locked

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked(f"{WORD} is in here")
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    made = Ring({("attachd", "token"): f"{WORD}\n"})
    monkeypatch.setattr(keyring, "get_password", made.get_password)
    return made


def from_ring(name: str) -> str:
    return read(TokenSource(keyring=name))


def test_the_keyring_is_asked_when_the_token_is_needed(ring: Ring) -> None:
    assert from_ring("attachd") == WORD


@pytest.mark.parametrize(("locked", "what"), [(False, "holds nothing for 'other'"), (True, "cannot be read")])
def test_a_keyring_that_does_not_tell_is_a_mistake_with_what_to_do(ring: Ring, locked: bool, what: str) -> None:
    ring.locked = locked

    with pytest.raises(Mistake) as caught:
        from_ring("other")

    assert what in str(caught.value)
    assert "keyring set other token" in str(caught.value)
    assert WORD not in str(caught.value)


def test_without_its_package_the_keyring_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)

    with pytest.raises(Mistake, match="Install it: pip install keyring"):
        from_ring("attachd")
