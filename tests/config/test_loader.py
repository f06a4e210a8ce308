"""From a file to a configuration, or to everything that is wrong with it at once."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attachd import config
from attachd.config import loader, schema
from attachd.errors import Mistake, Problem

MINIMAL = """
[folders]
inbox = "in/inbox"

[jira]
url = "https://jira.example.com"

[jira.auth]
kind = "bearer"
token = { env = "JIRA_TOKEN" }
"""
ENVIRON = {"JIRA_TOKEN": "not-a-token"}


def parse(text: str, base: Path = Path("/srv/attachd"), environ: Mapping[str, str] = ENVIRON) -> config.Config:
    return config.parse(text, base=base, environ=environ)


def problems(text: str | Mapping[str, Any]) -> list[Problem]:
    """Parse what must not be valid."""
    with pytest.raises(Mistake) as caught:
        config.parse(text, base=Path("/srv/attachd"), environ=ENVIRON)
    assert caught.value.exit_code == 78
    return list(caught.value.problems)


def test_paths_count_from_the_file_and_done_and_failed_lie_beside_the_inbox() -> None:
    folders = parse(MINIMAL).folders

    assert folders.inbox == Path("/srv/attachd/in/inbox")
    assert folders.done == Path("/srv/attachd/in/done")
    assert folders.failed == Path("/srv/attachd/in/failed")
    assert folders.state is None


def test_an_absolute_path_stays() -> None:
    assert parse(MINIMAL.replace("in/inbox", "/mnt/drop")).folders.done == Path("/mnt/done")


def test_values_come_as_the_types_that_the_rooms_expect() -> None:
    text = MINIMAL.replace("[jira.auth]", "[jira.auth]\ntoken_expires = 2027-03-01")
    found = parse(text + '[doubt]\nlooks_seconds = [1, 2]\n[settle]\nignore = ["*.bak"]\n[aliases]\n"In 1" = "FIN-12"')

    assert found.doubt.looks_seconds == (1.0, 2.0)
    assert found.settle.ignore == ("*.bak",)
    assert found.aliases == {"In 1": "FIN-12"}
    assert found.jira.auth.token_expires == datetime.date(2027, 3, 1)
    assert found.file == Path("/srv/attachd/config.toml")


@pytest.mark.parametrize(
    ("url", "tidy"),
    [
        ("https://jira.example.com/", "https://jira.example.com"),
        ("HTTPS://Jira.Example.com", "https://jira.example.com"),
        ("https://example.com/Jira/", "https://example.com/Jira"),
        ("https://api.atlassian.com/ex/jira/0-1", "https://api.atlassian.com/ex/jira/0-1"),
        ("https://jira.example.com:8443", "https://jira.example.com:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.9:8080/", "http://127.0.0.9:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_url_keeps_its_base_path_and_loses_its_last_slash(url: str, tidy: str) -> None:
    assert parse(MINIMAL.replace("https://jira.example.com", url)).jira.url == tidy


def test_http_to_another_host_is_possible_where_it_is_asked_for() -> None:
    text = MINIMAL.replace('"https://jira.example.com"', '"http://jira.example.com"\nallow_http = true')

    assert parse(text).jira.url == "http://jira.example.com"


def test_a_configuration_can_be_made_of_tables() -> None:
    tables = {
        "folders": {"inbox": Path("/drop/in")},
        "jira": {"url": "http://localhost", "auth": {"kind": "anonymous"}},
    }

    found = config.parse(tables, base=Path("/"))

    assert found.folders.failed == Path("/drop/failed")
    assert found.jira.auth.kind == "anonymous"


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(MINIMAL).folders.nested = "ignore"  # type: ignore[misc]


def test_keys_without_a_function_yet_may_stand_there_with_their_defaults() -> None:
    parse(MINIMAL + '[retention]\ndone_days = 0\n[settle]\nready_suffix = ""\n[limits]\ngive_up_days = 0\n[web]\n')


# --- Everything at once -----------------------------------------------------------------------------------------


def test_every_problem_is_told_at_once_and_none_hides_another() -> None:
    found = problems(
        """
        [folders]
        inbox = "inbox"
        done = "inbox/done"
        [jira]
        url = "ftp://jira.example.com"
        parallel = 4
        [jira.auth]
        usr = "me"
        [settle]
        quiet_seconds = "2 s"
        [log]
        level = "INFO"
        """
    )

    assert {problem.where for problem in found} == {
        "folders.done",
        "jira.url",
        "jira.parallel",
        "jira.auth.usr",
        "settle.quiet_seconds",
        "log.level",
    }


def test_that_a_table_is_missing_hides_no_other_problem() -> None:
    found = problems("[jira]\nurll = 'x'\n")

    assert sorted(problem.where for problem in found) == [
        *("folders", "jira.auth.token", "jira.auth.user", "jira.url", "jira.urll"),
    ]


def test_an_empty_file_names_the_tables_that_are_needed() -> None:
    assert [problem.where for problem in problems("")] == ["folders", "jira"]


@pytest.mark.parametrize("secret", ["hunter2-hunter2", "-hunter2-hunter2-"])
@pytest.mark.parametrize(
    "line",
    [
        'auth = "{}"',
        'auth = ["{}"]',
        'auth = {{ token = "{}" }}',
        'auth = {{ token = ["{}"] }}',
        'auth = {{ token = {{ file = "{}" }} }}',
        'auth = {{ token = {{ env = "{}" }} }}',
        'auth = {{ token = {{ credential = "{}" }} }}',
        'auth = {{ token = {{ command = "{}" }} }}',
        'auth = {{ token = {{ command = ["{}", ""] }} }}',
        'auth = {{ token = {{ value = "{}" }} }}',
        'auth = {{ password = "{}" }}',
        'auth = {{ kind = "{}" }}',
        'auth = {{ user = "me:{}" }}',
        'url = "https://me:{}@jira.example.com"',
        'url = "https://jira.example.com?token={}"',
        'url = "{}"',
        'proxy = "http://me:{}@proxy.example.com"',
        'password = "{}"',
    ],
)
def test_no_message_repeats_what_may_be_a_secret(line: str, secret: str) -> None:
    found = problems(f'[folders]\ninbox = "inbox"\n[jira]\n{line.format(secret)}')

    assert secret not in "\n".join(map(str, found))
    assert secret not in "\n".join(map(repr, found))


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["basic", "https://x", "~", "/a", "TEST-1", "\0"]),
    st.dates(),
    st.datetimes(),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=5) | st.sampled_from(["file", "env", "x"]), st.text(max_size=3), max_size=2),
)


def _tables(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys) | st.text(max_size=5), _VALUES, max_size=4)


@settings(deadline=None, max_examples=150)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "folders": _tables(*schema.Folders.model_fields) | _VALUES,
            "aliases": _VALUES,
            "jira": st.builds(
                dict.__or__,
                _tables(*schema.Jira.model_fields),
                st.dictionaries(st.just("auth"), _tables(*schema.Auth.model_fields)),
            )
            | _VALUES,
            "settle": _tables(*schema.Settle.model_fields) | _VALUES,
            "doubt": _tables(*schema.Doubt.model_fields) | _VALUES,
            "folder": st.lists(_tables(*schema.Folder.model_fields), max_size=3) | _VALUES,
            "hooks": _tables(*schema.Hooks.model_fields) | _VALUES,
            "log": _tables(*schema.Log.model_fields) | _VALUES,
        },
    )
)
def test_whatever_stands_in_a_file_it_is_valid_or_a_mistake_in_plain_words(tables: dict[str, Any]) -> None:
    try:
        config.parse(tables, base=Path("/srv"), environ={})
    except Mistake as mistake:
        for problem in mistake.problems:
            assert problem.where
            assert problem.what
            assert problem.remedy
            assert "pydantic" not in str(problem)
            assert "of another kind" not in str(problem)
            assert str(problem).isprintable()


# --- The file ---------------------------------------------------------------------------------------------------


def test_a_file_is_loaded_and_remembered(tmp_path: Path) -> None:
    file = tmp_path / "attachd.toml"
    file.write_text(MINIMAL)

    found = config.load(file, environ=ENVIRON)

    assert found.file == file
    assert found.folders.inbox == tmp_path / "in/inbox"


def test_a_file_is_found_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "attachd.toml").write_text(MINIMAL)
    monkeypatch.chdir(tmp_path)

    assert config.load(Path("attachd.toml"), environ=ENVIRON).folders.inbox == tmp_path / "in/inbox"


def test_the_byte_order_mark_and_line_ends_of_windows_are_no_matter(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())

    assert config.load(file, environ=ENVIRON).jira.auth.kind == "bearer"


def test_a_verb_that_does_not_speak_to_jira_needs_no_token(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(MINIMAL)

    assert config.load(file, environ={}, check_token=False).jira.auth.token is not None


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "does not exist."),
        (b"[folders]\n\ninbox = 'caf\xe9'\n", "is not UTF-8: line 3 has the byte 0xe9."),
        (b"a = " + b"1" * 5000, "a number is too long"),
        (b"a = " + b"[" * 5000, "lists are nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path, content: bytes | None, what: str) -> None:
    file = tmp_path / "config.toml"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(Mistake) as caught:
        config.load(file)

    (problem,) = caught.value.problems
    assert problem.where == str(file)
    assert what in problem.what


def test_a_folder_in_place_of_the_file_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"cannot be read: Is a directory\. Name the file in it"):
        config.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("[folders]\ninbox = /srv", "line 2, column 9", "a value is missing or is not TOML"),
        ("[folders]\ninbox =", "end of the file", "a value is missing or is not TOML"),
        ("[folders]\nnumeric_ids = True", "line 2, column 15", "yes and no are true and false"),
        ("[settle]\nquiet_seconds = 2 s", "line 2, column 19", "something follows a value on the same line"),
        ("[folders]\ninbox", "end of the file", "a key needs “=”"),
        ("[folders\ninbox = 1", "line 1, column 9", "a table's name in [brackets] is not closed"),
        ('[folders]\ninbox = "a', "end of the file", "a text in quotes is not closed"),
        ("[folders]\n[folders]", "line 2, column 9", "a table stands twice"),
        ("[log]\nlevel = 1\nlevel = 2\n", "line 3, column 10", "a key stands twice"),
        ('[folders]\ninbox = "C:\\q"', "line 2, column 14", "begins an escape"),
        ('[folders]\ninbox = "a\nb"', "line 2, column 11", "a line break or control character"),
        ("= 1", "line 1, column 1", "Invalid statement"),
    ],
)
def test_a_syntax_error_says_where_it_is(text: str, place: str, what: str) -> None:
    (problem,) = problems(text)

    assert problem.file == f"/srv/attachd/config.toml, {place}"
    assert what in problem.what
    assert "(at" not in problem.what


# --- Which file -------------------------------------------------------------------------------------------------


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder in place of /etc/attachd."""
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr(loader, "SYSTEM_FOLDER", folder)
    return folder


def made(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


def test_the_first_place_that_has_a_file_counts(tmp_path: Path, system: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}

    at_system = made(system / "config.toml")
    assert config.find(None, None, environ) == at_system
    at_home = made(tmp_path / "home/.config/attachd/config.toml")
    assert config.find(None, None, environ) == at_home
    at_xdg = made(tmp_path / "xdg/attachd/config.toml")
    assert config.find(None, None, environ | {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}) == at_xdg
    named = made(tmp_path / "named.toml")
    assert config.find(None, None, environ | {"ATTACHD_CONFIG": str(named)}) == named
    argument = made(tmp_path / "argument.toml")
    assert config.find(argument, None, environ | {"ATTACHD_CONFIG": str(named)}) == argument


def test_an_instance_has_its_own_file(system: Path) -> None:
    file = made(system / "lab.toml")

    assert config.find(None, "lab", {"ATTACHD_CONFIG": "/nowhere"}) == file


def test_every_place_that_was_looked_at_is_named(system: Path) -> None:
    with pytest.raises(Mistake) as caught:
        config.find(None, None, {"HOME": "/nowhere", "XDG_CONFIG_HOME": "relative"})

    assert "/nowhere/.config/attachd/config.toml, " in str(caught.value)
    assert f"{system}/config.toml" in str(caught.value)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("argument", "instance", "environ"),
    [
        (Path("/nowhere/a.toml"), None, {}),
        (None, "lab", {}),
        (None, None, {"ATTACHD_CONFIG": "/nowhere/a.toml"}),
    ],
)
def test_a_file_that_was_named_is_not_replaced_by_another(
    system: Path, argument: Path | None, instance: str | None, environ: dict[str, str]
) -> None:
    made(system / "config.toml")

    with pytest.raises(Mistake, match="No configuration found"):
        config.find(argument, instance, environ)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a b", "x\n"])
def test_an_instance_cannot_lead_elsewhere(name: str) -> None:
    with pytest.raises(Mistake) as caught:
        config.find(None, name, {})

    assert caught.value.exit_code == 2


def test_an_instance_and_a_file_are_a_contradiction() -> None:
    with pytest.raises(Mistake) as caught:
        config.find(Path("a"), "b", {})

    assert caught.value.exit_code == 2


def test_a_file_behind_a_locked_folder_counts_as_there(
    tmp_path: Path, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_path: Path, **_options: bool) -> os.stat_result:
        raise PermissionError

    monkeypatch.setattr(Path, "stat", locked)

    assert config.find(None, None, {}) == system / "config.toml"


def test_somebody_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr("pwd.getpwuid", nobody)

    with pytest.raises(Mistake) as told:
        loader.home({"HOME": ""})

    assert told.value.exit_code == 1
    assert str(told.value).startswith("$HOME is not set")
    assert loader.home({"HOME": "/home/robot"}) == Path("/home/robot")
    assert loader.of_user({"HOME": "/home/robot", "XDG_CONFIG_HOME": "relative"}) == Path("/home/robot/.config")
