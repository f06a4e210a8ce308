"""Patterns in the syntax of gitignore(5) mean what they mean to Git, and cost no more than their length allows."""

from __future__ import annotations

import os
import subprocess
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pathspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from attachd import gitignore
from attachd.gitignore import NoPattern, Pattern

#: Parts of patterns, the odd ones of which Git treats in ways of its own.
PARTS = [*"aab-/[]*?!^\\: ", "**/", "/**", "**", "[a-b]", "[!a]", "[]a]", "[^]-a]", "[[:alpha:]]", "[[:", ":]", "\\*"]
NAME = st.text("ab-[]*?!:\\", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(st.lists(NAME, min_size=1, max_size=4).map("/".join), min_size=1, max_size=40, unique=True)
LINES = st.lists(st.lists(st.sampled_from(PARTS), min_size=1, max_size=7).map("".join), min_size=1, max_size=3)


def patterns(lines: Sequence[str]) -> gitignore.Patterns:
    parsed = map(gitignore.parse, lines)
    return gitignore.Patterns([each for each in parsed if isinstance(each, Pattern)])


def hides(made: gitignore.Patterns, path: str) -> str:
    """The line by which a file is ignored, as Git tells it: of the first folder that is, or its own."""
    parts = path.split("/")
    for end in range(1, len(parts) + 1):
        match = made.last("/".join(parts[:end]), folder=end < len(parts))
        if match and (match.hides or end == len(parts)):
            return match.line
    return ""


# --- As Git ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


def of_git(repository: Path, lines: Sequence[str], paths: Sequence[str]) -> list[str]:
    """The lines by which Git ignores these files."""
    (repository / ".git/info/exclude").write_text("\n".join(lines) + "\n")
    told = subprocess.run(
        ["git", "-C", repository, "check-ignore", "--no-index", "--verbose", "--non-matching", "-z", "--stdin"],
        input="\0".join(f"./{path}" for path in paths).encode(),
        stdout=subprocess.PIPE,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"},
    ).stdout.decode()
    fields = told.split("\0")[:-1]
    assert fields[3::4] == [f"./{path}" for path in paths]
    return fields[2::4]


def trimmed(line: str) -> str:
    return line.rstrip(" ")


# One call of Git answers for some forty names; its start is what a test pays for.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, PATHS)
def test_patterns_mean_what_they_mean_to_git(repository: Path, lines: list[str], paths: list[str]) -> None:
    backwards = [each for each in map(gitignore.parse, lines) if isinstance(each, NoPattern) and "back" in each.reason]
    assume(not backwards)
    made = patterns(lines)

    mine = [trimmed(hides(made, path)) for path in paths]

    assert mine == [trimmed(line) for line in of_git(repository, lines, paths)]


@pytest.mark.parametrize(
    "line",
    ["*.log", "/a", "a/", "a/b", "**/a", "a/**", "a/**/b", "!b", "?b", "[ab]", "[!a]b", "a*b*", "\\#a", "\\!a", "a\\ "],
)
def test_sane_patterns_mean_what_they_mean_to_another_library(line: str) -> None:
    """A second reading of the same rules, which shares no code with Git."""
    paths = ["a", "b", "ab", "aab", "a.log", "b/a", "a/b", "a/ab/b", "b/a.log", "#a", "!a", "a ", "x/a/b/c"]
    other = pathspec.GitIgnoreSpec.from_lines([line])

    made = patterns([line])

    for path in paths:
        ignored = hides(made, path) != "" and not line.startswith("!")
        assert ignored == other.match_file(path), path


@pytest.mark.parametrize(
    ("line", "name", "fits"),
    [
        ("?.txt", "ü.txt", True),
        ("[äö]", "ö", True),
        ("*.\udcff", "a.\udcff", True),
        ("a\nb", "a\nb", True),
        ("*", "a\nb", True),
        ("[[:space:]]", "\n", True),
        ("[a-\\]]", "]", False),
        ("[\\]]", "]", True),
    ],
)
def test_names_are_characters(line: str, name: str, fits: bool) -> None:
    parsed = gitignore.parse(line)
    if isinstance(parsed, NoPattern):
        assert not fits
        return
    assert (patterns([line]).last(name, folder=False) is not None) is fits


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("!", ""),
        ("/", ""),
        ("a\\", ""),
        ("a\\\\\\", ""),
        ("[z-a].txt", "its range z-a runs backwards"),
        ("a[", "its [ is never closed"),
        ("a[]", "its [ is never closed"),
        ("[a\\", ""),
        ("[[:alpha:]", "its [ is never closed"),
        ("[[:letters:]]", "there is no class [:letters:]"),
        ("a\0b", "it has a NUL character; save the file as UTF-8 text"),
    ],
)
def test_what_can_never_fit_is_no_pattern(line: str, reason: str) -> None:
    assert gitignore.parse(line) == NoPattern(reason)


@pytest.mark.parametrize("line", ["", "   ", "# a", "#"])
def test_blank_lines_and_comments_say_nothing(line: str) -> None:
    assert gitignore.parse(line) is None


# --- Bounded -----------------------------------------------------------------------------------------------------

HARD = {
    "stars": "*a" * 60 + "b",
    "folders": "**/a*/" * 20 + "b",
    "any": "?*" * 60 + "b",
    "sets": "[ab]*" * 30 + "c",
    "mixed": "*a**a*?[a-z]*" * 10 + "/b",
}


@pytest.mark.parametrize("line", HARD.values(), ids=list(HARD))
def test_no_pattern_takes_long_for_a_long_name(line: str) -> None:
    made = patterns([line] * 50)
    path = "/".join(["a" * 255] * 32)
    began = time.process_time()

    assert made.last(path, folder=False) is None
    assert time.process_time() - began < 5.0  # Backtracking, it would not end.


def steps(line: str, length: int) -> int:
    """How often an automaton asks which states a character leads to, for a name of this length."""
    made = patterns([line])
    made.last("a" * length, folder=False)
    calls = 0
    for automaton in (made._names, made._paths):
        taking = automaton._taking

        def count(char: str, taking: object = taking) -> int:
            nonlocal calls
            calls += 1
            return taking(char)  # type: ignore[operator,no-any-return]

        automaton._taking = count  # type: ignore[method-assign]
    made.last("a" * length, folder=False)
    return calls


@pytest.mark.parametrize("line", HARD.values(), ids=list(HARD))
def test_a_name_is_read_once(line: str) -> None:
    assert steps(line, 200) <= 200


def test_many_patterns_take_little_memory() -> None:
    lines = ["".join(chr(0x4E00 + (7 * i + k) % 5000) for k in range(5)) for i in range(1000)]
    tracemalloc.start()
    made = patterns(lines)
    for i in range(300):
        made.last("".join(chr(0x4E00 + (i * k) % 5000) for k in range(80)), folder=False)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 1024 * 1024
