"""What a configuration may not say: each with the key, what is wrong there, and what to do about it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from attachd import config
from attachd.config import validators
from attachd.errors import Mistake, Problem

HEAD = {
    "folders": '[folders]\ninbox = "/srv/inbox"',
    "jira": '[jira]\nurl = "http://localhost"',
    "jira.auth": '[jira.auth]\nkind = "anonymous"',
}


def tables(**replaced: str) -> str:
    """Write a valid configuration with some of its tables replaced or added; a dot in a name is written ``__``."""
    parts = HEAD | {name.replace("__", "."): f"[{name.replace('__', '.')}]\n{text}" for name, text in replaced.items()}
    return "\n".join(parts.values())


def problem(text: str, base: Path = Path("/srv")) -> Problem:
    """Parse what has one problem."""
    with pytest.raises(Mistake) as caught:
        config.parse(text, base=base, environ={"JIRA_TOKEN": "not-a-token"})
    (found,) = caught.value.problems
    return found


def test_the_head_is_valid() -> None:
    config.parse(tables(), base=Path("/srv"))


# --- Types and ranges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "line", "what", "remedy"),
    [
        ("settle", 'quiet_seconds = "2"', "is a text.", "a number without quotes or unit."),
        ("settle", "quiet_seconds = true", "is true or false.", "a number without quotes or unit."),
        ("settle", "quiet_seconds = -0.5", "is -0.5.", "at least 0."),
        ("settle", "quiet_seconds = 604801", "is 604801.", "at most 604800."),
        ("settle", "quiet_seconds = nan", "is nan.", "a finite number."),
        ("settle", "quiet_seconds = inf", "is inf.", "a finite number."),
        ("settle", "rescan_seconds = 0", "is 0.", "more than 0."),
        ("settle", 'ignore = "*.bak"', "is a text.", 'a list of patterns, for example ["*.bak", "drafts/"].'),
        ("settle", 'ignore = ["a", 2]', "entry 2 is a number.", "a text in quotes."),
        ("upload", "parallel = 0", "is 0.", "at least 1."),
        ("upload", "parallel = 65", "is 65.", "at most 64."),
        ("upload", "parallel = 4.0", "is a number.", "a whole number without quotes or unit."),
        ("upload", "parallel = 4.5", "is a number.", "a whole number without quotes or unit."),
        ("upload", 'parallel = "many"', "is a text.", "a whole number without quotes or unit."),
        ("upload", "slowest_bytes_per_second = 0", "is 0.", "more than 0."),
        ("upload", "max_bytes_per_second = 500", "is 500, too slow for any upload.", "at least 4096 bytes"),
        ("batch", "max_files = 0", "is 0.", "at least 1."),
        ("batch", f"max_bytes = {2**80}", f"is {2**80}.", "at most 1099511627776."),
        ("doubt", "looks_seconds = 5", "is a number.", "a list of seconds, for example [5.0, 30.0, 120.0]."),
        ("doubt", "looks_seconds = [0]", "entry 1 is 0.", "more than 0."),
        ("doubt", 'looks_seconds = [5, "30"]', "entry 2 is a text.", "a number without quotes or unit."),
        ("doubt", "give_up_hours = 0", "is 0.", "more than 0."),
        ("limits", "issue_files_per_hour = -1", "is -1.", "at least 0."),
        ("log", 'level = "INFO"', "is “INFO”.", "'debug', 'info', 'warning' or 'error'."),
        ("log", 'format = "text"', "is “text”.", "'auto', 'console', 'journald' or 'json'."),
        ("log", 'level = "\\u001b[2J"', r"is “\x1b[2J”.", "'debug', 'info', 'warning' or 'error'."),
        ("log", "level = 3", "is a number.", "'debug', 'info', 'warning' or 'error'."),
        ("log", 'file_names = "no"', "is a text.", "true or false, without quotes."),
        ("log", "file_names = 0", "is a number.", "true or false, without quotes."),
        ("aliases", "Invoices = 12", "is a number.", "a text in quotes."),
        ("jira.auth", 'kind = "ldap"', "is a text.", "'basic', 'bearer', 'oauth2' or 'anonymous'."),
        ("jira.auth", 'token_expires = "2027-03-01"', "is a text.", "a date without quotes, for example 2027-03-01."),
        ("jira.auth", "token_expires = 2027-03-01T00:00:00", "is something else.", "a date without quotes"),
        ("jira.auth", "user = 5", "is a number.", "a text in quotes."),
        ("jira.auth", "token = 5", "is a number.", "a table."),
    ],
)
def test_a_wrong_type_or_number_is_told_in_plain_words(table: str, line: str, what: str, remedy: str) -> None:
    found = problem(tables(**{table.replace(".", "__"): line}))

    assert found.where == f"{table}.{line.split(' = ')[0]}"
    entry, _, value = what.rpartition("is ")
    assert found.what.startswith(f"{entry}must be {remedy}")
    assert found.remedy == f"It is {value}"


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("settle = 5", "settle", "must be a table."),
        ("folder = 5", "folder", "must be tables that each begin with [[folder]]."),
        ("aliases = []", "aliases", "must be a table of names and texts."),
    ],
)
def test_a_table_has_to_be_one(line: str, where: str, what: str) -> None:
    found = problem(f"{line}\n{tables()}")

    assert (found.where, found.what) == (where, what)
    assert found.remedy


@pytest.mark.parametrize(
    ("table", "key", "remedy"),
    [
        ("settle", "quiet_second", "Did you mean “settle.quiet_seconds”?"),
        ("settle", "Quiet-Seconds", "Did you mean “settle.quiet_seconds”?"),
        ("settle", "parallel", "“parallel” belongs in [upload]."),
        ("jira.auth", "url", "“url” belongs in [jira]."),
        ("jira.auth", "usr", "Did you mean “jira.auth.user”?"),
        ("upload", "xyz", "Known here: parallel, connect_seconds"),
        ("upload", '"odd key"', "Known here: parallel, connect_seconds"),
    ],
)
def test_an_unknown_key_is_told_with_the_one_that_was_meant(table: str, key: str, remedy: str) -> None:
    text = f'{key} = "x"' if table != "jira.auth" else f'kind = "anonymous"\n{key} = "x"'

    found = problem(tables(**{table.replace(".", "__"): text}))

    assert found.where == f"{table}.{key}"
    assert found.what == "is not a key that attachd knows."
    assert found.remedy.startswith(remedy)


def test_an_unknown_table_is_told_with_the_one_that_was_meant() -> None:
    assert problem(tables(uploads="")).remedy == "Did you mean “upload”?"
    assert problem(tables(auth="")).remedy == "“auth” belongs in [jira]."
    assert problem(tables(settle__batch="")).remedy == "[batch] is a table of its own."


# --- Folders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "where", "what"),
    [
        ({"done": "/srv/inbox"}, "folders.done", "is the same folder as folders.inbox (/srv/inbox)."),
        ({"done": "/srv/x/../inbox/"}, "folders.done", "is the same folder as folders.inbox (/srv/inbox)."),
        ({"done": "/srv/inbox/done"}, "folders.done", "lies inside folders.inbox (/srv/inbox)."),
        ({"failed": "/srv/inbox/a/b"}, "folders.failed", "lies inside folders.inbox (/srv/inbox)."),
        ({"failed": "/srv/done/failed"}, "folders.failed", "lies inside folders.done (/srv/done)."),
        ({"inbox": "/srv/done"}, "folders.done", "is the same folder as folders.inbox (/srv/done)."),
        ({"done": "/", "failed": "/srv/f"}, "folders.done", "contains folders.inbox (/srv/inbox)."),
        ({"state": "/srv/inbox/.state"}, "folders.state", "lies inside folders.inbox (/srv/inbox)."),
        ({"state": "/srv/done"}, "folders.state", "is the same folder as folders.done (/srv/done)."),
        ({"state": "/srv/failed/x"}, "folders.state", "lies inside folders.failed (/srv/failed)."),
    ],
)
def test_folders_have_to_lie_apart(folders: dict[str, str], where: str, what: str) -> None:
    lines = {"inbox": "/srv/inbox"} | folders
    with pytest.raises(Mistake) as caught:
        config.parse(tables(folders="\n".join(f"{k} = '{v}'" for k, v in lines.items())), base=Path("/srv"))

    assert any((found.where, found.what) == (where, what) and found.remedy for found in caught.value.problems)


def test_a_state_folder_around_the_others_is_no_mistake() -> None:
    config.parse(tables(folders='inbox = "/srv/inbox"\nstate = "/srv"'), base=Path("/srv"))


def test_folders_whose_names_begin_alike_lie_apart() -> None:
    config.parse(tables(folders='inbox = "/srv/in"\ndone = "/srv/in-done"\nstate = "/srv/in2"'), base=Path("/srv"))


def test_folders_have_to_lie_apart_behind_symlinks_too(tmp_path: Path) -> None:
    (tmp_path / "inbox/sub").mkdir(parents=True)
    (tmp_path / "done").symlink_to("inbox/sub")

    found = problem(tables(folders='inbox = "inbox"'), tmp_path)

    assert (found.where, found.what) == ("folders.done", f"lies inside folders.inbox ({tmp_path}/inbox).")


def test_folders_whose_file_system_does_not_answer_are_compared_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those on a lost share: status and the other verbs must answer all the same."""
    answer, real = threading.Event(), os.path.realpath
    monkeypatch.setattr(validators, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(validators.os.path, "realpath", lambda path: (answer.wait(20), real(path))[1])
    began = time.monotonic()
    try:
        config.parse(tables(folders='inbox = "inbox"'), base=tmp_path)
        found = problem(tables(folders='inbox = "inbox"\ndone = "inbox/sub"'), tmp_path)
    finally:
        answer.set()

    assert time.monotonic() - began < 10
    assert (found.where, found.what) == ("folders.done", f"lies inside folders.inbox ({tmp_path}/inbox).")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ('""', "is empty."),
        ('"  "', "is empty."),
        ('"~/inbox"', "begins with “~”"),
        ('"a\\tb"', "contains control characters."),
    ],
)
def test_a_path_has_to_be_one(path: str, what: str) -> None:
    found = problem(tables(folders=f"inbox = {path}"))

    assert found.where == "folders.inbox"
    assert found.what.startswith(what)
    assert found.remedy


# --- Keys, projects, aliases, patterns --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("[A-Z", "is not a regular expression: unterminated character set"),
        ("(a", "is not a regular expression: missing ), unterminated subpattern"),
        (".*", "also accepts '', which is not an issue key."),
        ("[^/]+", "also accepts '.', which is not an issue key."),
        ("[A-Z]+( [A-Z]+)?-[0-9]+", "also accepts 'A B-1'"),
        ("[A-Z/]+-[0-9]+", "also accepts 'A/B-1'"),
    ],
)
def test_a_key_pattern_accepts_keys_alone(pattern: str, what: str) -> None:
    found = problem(tables(folders=f"inbox = 'inbox'\nkey_pattern = '{pattern}'"))

    assert found.where == "folders.key_pattern"
    assert found.what.startswith(what)
    assert found.remedy


@pytest.mark.parametrize(
    "pattern",
    ["([A-Z]+)+-[0-9]+", "([A-Z]|[A-Z0-9]+)*-[0-9]+", r"(\w+\d*)*-[0-9]+", r"([A-Z]+-?)+[0-9]", r"(?:\d+)*-[1-9]"],
)
def test_a_key_pattern_that_goes_on_trying_is_refused(pattern: str) -> None:
    found = problem(tables(folders=f"inbox = 'inbox'\nkey_pattern = '{pattern}'"))

    assert found.where == "folders.key_pattern"
    assert found.what.startswith("takes too long to reject “")


@pytest.mark.parametrize("pattern", ["[A-Z]+-[0-9]+", "(TEST|FIN)-[1-9][0-9]{0,4}", r"\w+-\d+"])
def test_a_key_pattern_may_be_narrower_or_wider(pattern: str) -> None:
    folders = config.parse(tables(folders=f"inbox = 'inbox'\nkey_pattern = '{pattern}'"), base=Path("/srv")).folders

    assert folders.key_pattern == pattern


@pytest.mark.parametrize(
    ("project", "remedy"),
    [
        ("test", "Write “TEST”."),
        (" TEST", "Write “TEST”."),
        ("TEST-1", "Write the part of an issue key before “-”."),
        ("", "Write the part of an issue key before “-”."),
        ("TÄST", "Write the part of an issue key before “-”."),
    ],
)
def test_a_project_has_to_be_a_key(project: str, remedy: str) -> None:
    found = problem(tables(folders=f"inbox = 'inbox'\nprojects = ['FIN', '{project}']"))

    assert found.where == "folders.projects"
    assert found.what.startswith(f"lists {project!r}")
    assert found.remedy == remedy


@pytest.mark.parametrize(
    ("alias", "where", "what"),
    [
        ("Invoices = 'FIN'", "aliases.Invoices", "points to 'FIN', which is not an issue key."),
        ("Invoices = 'fin-12'", "aliases.Invoices", "points to 'fin-12', which is not an issue key."),
        ("'In voices' = '../x'", 'aliases."In voices"', "points to '../x', which is not an issue key."),
        ("Invoices = '10012'", "aliases.Invoices", "points to '10012', which is not an issue key."),
        ('Invoices = "FIN-12\\n"', "aliases.Invoices", "points to 'FIN-12\\n', which is not an issue key."),
        ("'a/b' = 'FIN-12'", "aliases", "has 'a/b', which cannot be a folder name."),
        ("'' = 'FIN-12'", "aliases", "has '', which cannot be a folder name."),
        ("'..' = 'FIN-12'", "aliases", "has '..', which cannot be a folder name."),
    ],
)
def test_an_alias_leads_from_a_folder_to_an_issue(alias: str, where: str, what: str) -> None:
    found = problem(tables(aliases=alias))

    assert (found.where, found.what) == (where, what)
    assert found.remedy


@pytest.mark.parametrize(
    ("folders", "target", "valid"),
    [
        ("numeric_ids = true", "10012", True),
        ("numeric_ids = true", "10０12", False),
        ("projects = ['FIN']", "FIN-12", True),
        ("projects = ['TEST']", "FIN-12", False),
        ("projects = ['FIN']\nnumeric_ids = true", "10012", False),
        ("key_pattern = '[a-z]+-[0-9]+'", "fin-12", True),
    ],
)
def test_an_alias_is_judged_by_the_rules_for_folders(folders: str, target: str, valid: bool) -> None:
    text = tables(folders=f"inbox = 'inbox'\n{folders}", aliases=f"Invoices = '{target}'")

    if valid:
        assert config.parse(text, base=Path("/srv")).aliases == {"Invoices": target}
    else:
        assert problem(text).where == "aliases.Invoices"


@pytest.mark.parametrize("pattern", ["!", "a\\"])
def test_an_ignore_pattern_has_to_be_one(pattern: str) -> None:
    found = problem(tables(settle=f"ignore = ['*.bak', '{pattern}']"))

    assert found.where == "settle.ignore"
    assert found.what == f"lists {pattern!r}, which is not a pattern."
    assert ".gitignore" in found.remedy


@pytest.mark.parametrize(
    ("looks", "what"),
    [
        ("[]", "is empty."),
        ("[5, 5]", "must grow from entry to entry."),
        ("[5, 30, 10]", "must grow from entry to entry."),
    ],
)
def test_looks_come_one_after_the_other(looks: str, what: str) -> None:
    found = problem(tables(doubt=f"looks_seconds = {looks}"))

    assert (found.where, found.what) == ("doubt.looks_seconds", what)
    assert found.remedy


# --- Jira -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("jira.example.com", "does not begin with “https://”."),
        ("ftp://jira.example.com", "does not begin with “https://”."),
        ("", "does not begin with “https://”."),
        ("https://", "has no host."),
        ("https:///jira", "has no host."),
        ("https://jira.example.com:99999", "is not an address"),
        ("https://jira.example.com:x", "is not an address"),
        ("https://jira.example.com:0", "is not an address"),
        ("https://[::1", "is not an address"),
        ("https://me:word@jira.example.com", "contains a user name or a password."),
        ("https://me@jira.example.com", "contains a user name or a password."),
        ("https://jira.example.com/?a=b", "has a query"),
        ("https://jira.example.com/#x", "has a query"),
        ("https://jira.example.com?", "has a query"),
        ("https://jira.example com", "contains a space"),
        (" https://jira.example.com", "contains a space"),
        ("https://jira.example.com\\\\x", "contains a space, a backslash"),
        ("https://jira.example.com\\t", "contains a space, a backslash or a control character."),
        ("https://jira.example.com/browse/TEST-1", "is the address of a page (“/browse”)."),
        ("https://jira.example.com/jira/rest/api/2", "is the address of a page (“/rest”)."),
        ("http://jira.example.com", "is http, so "),
        ("http://127.0.0.1.example.com", "is http, so "),
        ("http://128.0.0.1", "is http, so "),
        ("http://localhost.example.com", "is http, so "),
        ("http://[::2]", "is http, so "),
    ],
)
def test_the_url_is_the_address_of_a_site(url: str, what: str) -> None:
    found = problem(tables(jira=f'url = "{url}"'))

    assert found.where == "jira.url"
    assert found.what.startswith(what)
    assert found.remedy


@pytest.mark.parametrize(
    ("proxy", "what"),
    [
        ("proxy.example.com:3128", "does not begin"),
        ("socks5://proxy.example.com", "does not begin"),
        ("http://me:word@proxy.example.com", "contains a user name or a password."),
        ("http://proxy.example.com/x", "has a path."),
        ("http://", "has no host."),
    ],
)
def test_the_proxy_is_the_address_of_one(proxy: str, what: str) -> None:
    found = problem(tables(jira=f'url = "https://jira.example.com"\nproxy = "{proxy}"'))

    assert found.where == "jira.proxy"
    assert found.what.startswith(what)
    assert "http://proxy.example.com:3128" in found.remedy


@pytest.mark.parametrize("proxy", ["http://proxy.example.com:3128", "https://proxy.example.com/"])
def test_a_proxy_is_taken(proxy: str) -> None:
    settings = config.parse(tables(jira=f'url = "https://jira.example.com"\nproxy = "{proxy}"'), base=Path("/srv"))

    assert settings.jira.proxy == proxy


@pytest.mark.parametrize(
    ("auth", "where", "what"),
    [
        ("", "jira.auth.user", 'is missing; kind = "basic" needs it.'),
        ("kind = 'basic'", "jira.auth.token", 'is missing; kind = "basic" needs it.'),
        ("kind = 'basic'\nuser = ''", "jira.auth.user", 'is missing; kind = "basic" needs it.'),
        ("kind = 'basic'\nuser = 'a:b'", "jira.auth.user", "contains “:” or a control character"),
        ("kind = 'bearer'", "jira.auth.token", 'is missing; kind = "bearer" needs it.'),
        ("kind = 'anonymous'\ntoken = { env = 'JIRA_TOKEN' }", "jira.auth.token", "is set, but"),
        ("kind = 'oauth2'", "jira.auth.client_id", 'is missing; kind = "oauth2" needs it.'),
        ("kind = 'oauth2'", "jira.auth.client_secret", 'is missing; kind = "oauth2" needs it.'),
        ("kind = 'oauth2'\nclient_id = ''", "jira.auth.client_id", "is empty, or contains a space"),
        ("kind = 'oauth2'\nclient_id = 'a b'", "jira.auth.client_id", "is empty, or contains a space"),
        ("kind = 'oauth2'\nscope = 'a  b'", "jira.auth.scope", "is not a list of scopes."),
        ("kind = 'oauth2'\nscope = ''", "jira.auth.scope", "is not a list of scopes."),
        ("kind = 'oauth2'\ntoken_url = 'auth.example.com'", "jira.auth.token_url", "does not begin with"),
        (
            "kind = 'oauth2'\ntoken_url = 'http://auth.example.com/t'",
            "jira.auth.token_url",
            "is http, so the network could read the client",
        ),
        ("kind = 'oauth2'\ntoken_url = 'https://me:x@example.com'", "jira.auth.token_url", "contains a user name"),
        ("kind = 'basic'\nclient_id = 'x'", "jira.auth.client_id", 'is set, but kind = "basic" does not use it.'),
        ("kind = 'bearer'\nscope = 'x'", "jira.auth.scope", 'is set, but kind = "bearer" does not use it.'),
        ("client_secret = { env = 'JIRA_TOKEN' }", "jira.auth.client_secret", 'is set, but kind = "basic" does not'),
    ],
)
def test_each_kind_of_signing_in_needs_its_own_keys(auth: str, where: str, what: str) -> None:
    with pytest.raises(Mistake) as caught:
        config.parse(tables(jira__auth=auth), base=Path("/srv"), environ={"JIRA_TOKEN": "not-a-token"})

    assert any(found.where == where and found.what.startswith(what) and found.remedy for found in caught.value.problems)


def test_a_client_key_without_its_certificate_is_of_no_use(tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch()

    found = problem(tables(jira='url = "https://jira.example.com"\nclient_key_file = "key.pem"'), tmp_path)

    assert found.where == "jira.client_key_file"
    assert found.remedy == "Name the certificate too."


@pytest.mark.parametrize("key", ["ca_file", "client_cert_file", "client_key_file"])
def test_a_file_that_is_named_has_to_be_there(tmp_path: Path, key: str) -> None:
    (tmp_path / "folder").mkdir()
    text = f'url = "https://jira.example.com"\n{key} = '

    assert (
        problem(tables(jira=f'{text} "none.pem"'), tmp_path).what == f"names {tmp_path}/none.pem, which does not exist."
    )
    assert problem(tables(jira=f'{text} "folder"'), tmp_path).what == f"names {tmp_path}/folder, which is not a file."


def test_files_that_are_there_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a.pem").touch()
    keys = "\n".join(f'{key} = "a.pem"' for key in ("ca_file", "client_cert_file", "client_key_file"))

    jira = config.parse(tables(jira=f'url = "https://jira.example.com"\n{keys}'), base=tmp_path).jira

    assert jira.ca_file == jira.client_cert_file == jira.client_key_file == tmp_path / "a.pem"


def test_a_file_that_this_user_may_not_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    (found,) = validators.readable(file)

    assert found.what == f"names {file}, which this user may not read."
    assert found.remedy


def test_a_file_behind_a_locked_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(path: Path, **_options: bool) -> os.stat_result:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(Path, "stat", locked)

    (found,) = validators.readable(tmp_path / "ca.pem")

    assert found.what.endswith("cannot be read: Permission denied.")


# --- Limits, and folders of their own ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("min_bytes = 2\nmax_bytes = 1", "settle.min_bytes", "is 2, more than max_bytes = 1."),
        ("min_age_seconds = 2\nmax_age_seconds = 1", "settle.min_age_seconds", "is 2, more than max_age_seconds = 1."),
    ],
)
def test_limits_let_something_through(line: str, where: str, what: str) -> None:
    found = problem(tables(settle=line.replace(" = 2\n", " = 2.0\n") if "age" in line else line))

    assert (found.where, found.what) == (where, what)
    assert not list(validators.bounds(1, 1, None, 5.0))


@pytest.mark.parametrize("suffix", ["/", "a/b", " ", "\\n", "x" * 65])
def test_a_suffix_is_the_end_of_a_name(suffix: str) -> None:
    found = problem(tables(settle=f'ready_suffix = "{suffix}"'))

    assert (found.where, found.what) == ("settle.ready_suffix", "cannot be the end of a file name.")


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("[[folder]]\nquiet_seconds = 1.0", "folder[1].match", "is missing."),
        ("[[folder]]\nmatch = 'a'\n[[folder]]\nmatch = 'a/b'", "folder[2].match", "matches no folder name."),
        ("[[folder]]\nmatch = ''", "folder[1].match", "matches no folder name."),
        (
            "[[folder]]\nmatch = 'a'\nrescan_seconds = 1.0",
            "folder[1].rescan_seconds",
            "is not a key that attachd knows.",
        ),
        ("[[folder]]\nmatch = 'a'\nmin_byte = 1", "folder[1].min_byte", "is not a key that attachd knows."),
        (
            "[[folder]]\nmatch = 'a'\nquiet_seconds = '1'",
            "folder[1].quiet_seconds",
            "must be a number without quotes or unit.",
        ),
        ("[[folder]]\nmatch = 'a'\nignore = ['!']", "folder[1].ignore", "lists '!', which is not a pattern."),
        (
            "[settle]\nmax_bytes = 5\n[[folder]]\nmatch = 'a'\nmin_bytes = 6",
            "folder",
            "with match = “a”: min_bytes is 6, more than max_bytes = 5.",
        ),
    ],
)
def test_a_table_for_folders_is_checked_like_any_other(text: str, where: str, what: str) -> None:
    found = problem(f"{tables()}\n{text}")

    assert (found.where, found.what) == (where, what)
    assert found.remedy


def test_a_key_of_settle_that_is_none_of_a_folder_is_told() -> None:
    text = "[[folder]]\nmatch = 'a'\n"
    assert problem(f"{tables()}\n{text}rescan_seconds = 1.0").remedy == "“rescan_seconds” belongs in [settle]."
    assert problem(f"{tables()}\n{text}quiet_second = 1.0").remedy == "Did you mean “folder.quiet_seconds”?"


# --- Metrics and the web page -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "good", ["unix:/run/attachd/web.sock", "127.0.0.1:8437", "127.9.9.9:1", "[::1]:80", "localhost:80"]
)
def test_where_the_page_may_be(good: str) -> None:
    assert config.parse(f"{tables()}\n[web]\nlisten = '{good}'", base=Path("/srv")).web.listen == good


def test_a_socket_counts_from_the_configuration_as_every_path_does() -> None:
    listen = config.parse(f"{tables()}\n[web]\nlisten = 'unix:web.sock'", base=Path("/srv")).web.listen

    assert listen == "unix:/srv/web.sock"


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        *((f"unix:/{'x' * 100}", "absolute path"), ("unix:", "absolute path"), ("8437", "neither")),
        *(("http://127.0.0.1:80", "neither"), ("127.0.0.1", "neither"), ("127.0.0.1:0", "neither"), ("", "neither")),
        *(
            ("127.0.0.1:80/x", "neither"),
            ("127.0.0.1:99999", "neither"),
            ("me@127.0.0.1:80", "neither"),
        ),
        *(
            ("0.0.0.0:80", "not a loopback address"),
            ("[::]:80", "not a loopback address"),
            ("10.1.2.3:80", "not a loopback address"),
        ),
        ("jira.example.com:80", "not a loopback address"),
    ],
)
def test_where_the_page_may_not_be(bad: str, what: str) -> None:
    found = problem(f"{tables()}\n[web]\nlisten = '{bad}'")

    assert found.where == "web.listen"
    assert what in found.what


def test_the_folder_for_metrics_has_to_be_there(tmp_path: Path) -> None:
    found = config.parse(f"{tables()}\n[metrics]\ntextfile = '{tmp_path}'", base=Path("/srv"))
    assert found.metrics.textfile == tmp_path
    wrong = problem(f"{tables()}\n[metrics]\ntextfile = '{tmp_path}/none'")
    assert wrong.where == "metrics.textfile"
    assert wrong.what.endswith("is not a folder.")


# --- Hooks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "good",
    [
        "url = 'https://hooks.example.com/services/T0/B0?key=not-a-secret'",
        "url = 'http://127.0.0.1:9/x'",
        "command = ['/usr/local/bin/attachd-hook', '--loud']",
        "events = ['failed', 'stuck']",
        "events = []",
    ],
)
def test_who_can_be_told(good: str) -> None:
    config.parse(f"{tables()}\n[hooks]\n{good}", base=Path("/srv"))


@pytest.mark.parametrize(
    ("bad", "where", "what"),
    [
        ("url = 'http://hooks.example.com/not-a-secret'", "hooks.url", "is http"),
        ("url = 'hooks.example.com'", "hooks.url", "does not begin with"),
        ("proxy = 'http://user:not-a-secret@proxy.example.com'", "hooks.proxy", "contains a user"),
        ("command = ['attachd-hook']", "hooks.command", "must begin with the full path of a program"),
        ("command = []", "hooks.command", "must begin with the full path"),
        ("command = ['/x', '']", "hooks.command", "must begin with the full path"),
        ("events = ['done']", "hooks.events", "lists 'done', which is not an event."),
        ("secret = 'not-a-secret'", "hooks.secret", "must not be in the configuration itself."),
    ],
)
def test_who_cannot_be_told(bad: str, where: str, what: str) -> None:
    found = problem(f"{tables()}\n[hooks]\n{bad}")

    assert found.where == where
    assert what in found.what
    assert "not-a-secret" not in str(found)


# --- OAuth ------------------------------------------------------------------------------------------------------

OAUTH = "kind = 'oauth2'\nclient_id = 'x'\nclient_secret = { env = 'JIRA_TOKEN' }"


def parsed_oauth(url: str, more: str = "", auth: str = "") -> config.Config:
    text = tables(jira=f"url = '{url}'\n{more}", jira__auth=f"{OAUTH}\n{auth}")
    return config.parse(text, base=Path("/srv"), environ={"JIRA_TOKEN": "not-a-token"})


@pytest.mark.parametrize(
    ("url", "more", "auth", "expected"),
    [
        ("https://api.atlassian.com/ex/jira/12ab", "", "", "https://auth.atlassian.com/oauth/token"),
        ("https://x.atlassian.net", "", "", "https://auth.atlassian.com/oauth/token"),
        ("https://jira.example.com", "deployment = 'cloud'", "", "https://auth.atlassian.com/oauth/token"),
        ("https://jira.example.com/jira/", "", "", "https://jira.example.com/jira/rest/oauth2/latest/token"),
        (
            "https://x.atlassian.net",
            "deployment = 'datacenter'",
            "",
            "https://x.atlassian.net/rest/oauth2/latest/token",
        ),
        ("http://127.0.0.1:8080", "", "", "http://127.0.0.1:8080/rest/oauth2/latest/token"),
        ("https://jira.example.com", "", "token_url = 'https://id.example.com/t'", "https://id.example.com/t"),
        ("https://jira.example.com", "", "token_url = 'http://[::1]:81/t'", "http://[::1]:81/t"),
    ],
)
def test_where_access_tokens_are_asked_for(url: str, more: str, auth: str, expected: str) -> None:
    assert parsed_oauth(url, more, auth).jira.token_url == expected


def test_allow_http_is_not_for_the_clients_secret() -> None:
    with pytest.raises(Mistake) as caught:
        parsed_oauth("http://jira.example.com", "allow_http = true")

    (found,) = caught.value.problems
    assert (found.where, found.what) == (
        "jira.url",
        'is http, so kind = "oauth2" would send the client secret in the clear.',
    )
    elsewhere = parsed_oauth("http://jira.example.com", "allow_http = true", "token_url = 'https://id.example.com'")
    assert elsewhere.jira.token_url == "https://id.example.com"


def test_a_clients_secret_in_the_configuration_is_refused_without_repeating_it() -> None:
    auth = "kind = 'oauth2'\nclient_id = 'x'\nclient_secret = 'not-a-secret'"
    with pytest.raises(Mistake) as caught:
        config.parse(tables(jira__auth=auth), base=Path("/srv"), environ={})

    found = next(p for p in caught.value.problems if p.where == "jira.auth.client_secret")
    assert found.what == "must not be in the configuration itself."
    assert 'client_secret = { file = "client-secret" }' in found.remedy
    assert "not-a-secret" not in str(caught.value)


# --- Retention ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("done_days = 60\nhistory_days = 40", "less than done_days = 60"),
        ("failed_days = 60\nhistory_days = 40", "less than failed_days = 60"),
        ("history_days = 30", "tell an outage from a refusal"),
    ],
)
def test_a_history_that_is_too_short_to_be_used_is_refused(line: str, what: str) -> None:
    found = problem(tables(retention=line))

    assert found.where.startswith("retention")
    assert what in found.what


def test_files_are_kept_for_less_than_the_history() -> None:
    text = tables(retention="done_days = 30\nhistory_days = 31")

    made = config.parse(text, base=Path("/srv"), environ={"JIRA_TOKEN": "not-a-token"})

    assert made.retention.history_days == 31
