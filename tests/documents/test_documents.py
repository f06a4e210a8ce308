"""The documents say what is so: commands that exist, verbs, keys and exit codes as they are, files that are there."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import attachd
from attachd import errors

ROOT = Path(__file__).parents[2]
PACKAGE = Path(attachd.__file__).parent
DOCUMENTS = (
    *("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
)


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def section(title: str) -> str:
    """A section of the README, from its heading to the next."""
    found = re.search(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text("README.md"))
    assert found, title
    return found[1]


def blocks(markdown: str) -> list[str]:
    return re.findall(r"(?ms)^```sh\n(.*?)^```", markdown)


def spans(markdown: str) -> set[str]:
    """What stands in backticks outside of blocks."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", markdown)))


def trees() -> Iterator[ast.Module]:
    for path in PACKAGE.rglob("*.py"):
        if "standin" not in path.relative_to(PACKAGE).parts:
            yield ast.parse(path.read_text("utf-8"))


# --- Commands ---------------------------------------------------------------------------------------------------


def test_the_two_commands_of_the_readme_can_be_run() -> None:
    commands = [block.strip() for block in blocks(section("Try it"))]

    assert commands == ["scripts/demo", "scripts/check"]
    for command in commands:
        assert os.access(ROOT / command, os.X_OK), command


def test_ci_runs_the_second_command_of_the_readme() -> None:
    second = blocks(section("Try it"))[1].strip()

    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert text(".ci/run").splitlines()[-1] == f"exec {second}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_script_and_file_that_is_named_is_there(name: str) -> None:
    named = {word for span in spans(text(name)) for word in span.split()}
    paths = {
        word.rstrip("/")
        for word in named
        if re.match(r"(?:scripts|tests|systemd|requirements|daemon|\.ci)/", word) and "*" not in word
    }
    linked = set(re.findall(r"\]\(([^)#:]+)\)", text(name)))
    here = (ROOT / name).parent

    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [path for path in linked if not (here / path).exists()] == []


def test_every_heading_that_is_linked_is_there() -> None:
    readme = text("README.md")
    headings = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"(?m)^#+ (.+)$", readme)}

    assert set(re.findall(r"\]\(#([^)]+)\)", readme)) - headings == set()


# --- Verbs and exit codes ---------------------------------------------------------------------------------------


def test_the_readme_has_the_verbs_that_the_command_has() -> None:
    environ = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    told = subprocess.run(
        [sys.executable, "-m", "attachd", "--help"], env=environ, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    exist = set(re.findall(r"(?m)^│ ([a-z]+) ", told))

    assert set(re.findall(r"(?m)^\| `attachd ([a-z]+)`", section("Commands"))) == exist
    assert {"run", "once"} <= exist


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_verb_is_promised_that_does_not_exist(name: str) -> None:
    exist = set(re.findall(r"(?m)^\| `attachd ([a-z]+)`", section("Commands")))

    told = "\n".join([*spans(text(name)), *blocks(text(name))])

    assert set(re.findall(r"(?<![-/.\w])attachd ([a-z]+)\b(?!\))", told)) <= exist


def test_the_exit_codes_of_the_readme_are_those_of_the_code() -> None:
    table = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", section("Commands"))}

    assert table == set(_exit_codes())
    assert {inspect.signature(errors.Mistake).parameters["exit_code"].default, errors.TEMPORARY} <= table


def _exit_codes() -> Iterator[int]:
    """Every number that the code ends with: given to an exit or a mistake, or returned as ``once``'s conclusion."""
    yield 0
    yield errors.TEMPORARY
    yield inspect.signature(errors.Mistake).parameters["exit_code"].default
    for tree in trees():
        for node in ast.walk(tree):
            given: list[ast.expr] = []
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("typer.Exit", "sys.exit"):
                given = node.args
            elif isinstance(node, ast.keyword) and node.arg == "exit_code":
                given = [node.value]
            elif isinstance(node, ast.FunctionDef) and node.name == "_conclude":
                given = [n.value for n in ast.walk(node) if isinstance(n, ast.Return) and n.value]
            # What is beyond 128 is a shell's way to say which signal ended a program.
            yield from (n for g in given for n in _numbers(g) if n < 128)


def _numbers(node: ast.expr) -> Iterator[int]:
    """Numbers that an expression can come to; those in a condition are none of them."""
    if isinstance(node, ast.IfExp):
        yield from _numbers(node.body)
        yield from _numbers(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _numbers(value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield node.value


# --- Keys -------------------------------------------------------------------------------------------------------


def sample_keys() -> set[str]:
    """Every table and key of the sample, also those that are commented out."""
    keys, above = set(), ""
    for line in text("sample-config.toml").splitlines():
        if table := re.fullmatch(r"(?:# )?\[\[?([a-z.]+)\]\]?", line):
            above = table[1]
            keys.add(above)
        elif key := re.match(r"(?:# )?([a-z_]+) = ", line):
            keys.add(f"{above}.{key[1]}")
    return keys


def named_keys(markdown: str) -> set[str]:
    tables = {key.partition(".")[0] for key in sample_keys()}
    found = {re.match(r"[a-z_.]+", span) for span in spans(markdown) if re.match(r"[a-z]+\.(?!py\b)[a-z_]+", span)}
    return {match[0] for match in found if match and match[0].partition(".")[0] in tables}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_key_that_a_document_names_is_in_the_sample(name: str) -> None:
    # The sample names the sources of a token in the comment above the key.
    sources = ("jira.auth.token.", "jira.auth.client_secret.")
    assert {key for key in named_keys(text(name)) if not key.startswith(sources)} - sample_keys() == set()


def test_the_documents_name_keys() -> None:
    assert len(named_keys("".join(text(name) for name in DOCUMENTS))) > 30


def test_the_configurations_that_documents_show_are_made_of_keys_of_the_sample() -> None:
    shown = [part for name in DOCUMENTS for part in re.findall(r"(?ms)^```toml\n(.*?)^```", text(name))]

    assert len(shown) >= 3
    for part in shown:
        for table, values in tomllib.loads(part).items():
            names = values[0] if isinstance(values, list) else values
            assert {f"{table}.{key}" for key in names} - sample_keys() - {"folder.match"} == set(), part


def test_every_key_is_read() -> None:
    """A key that nothing reads would be a promise that nobody keeps."""
    read = {node.attr for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    keys = {key for key in sample_keys() if "." in key}

    assert {key for key in keys if key.rpartition(".")[2] not in read and key not in sample_tables()} == set()


def sample_tables() -> set[str]:
    return set(re.findall(r"(?m)^(?:# )?\[\[?([a-z.]+)\]\]?$", text("sample-config.toml")))


# --- What is generated ------------------------------------------------------------------------------------------


def test_what_is_made_from_the_program_is_as_the_program_is() -> None:
    code = "import generate; print([str(p) for p, t in generate.documents().items() if p.read_text('utf-8') != t])"
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "docs", capture_output=True, text=True, timeout=60, check=True
    )  # fmt: skip

    assert made.stdout == "[]\n", "run scripts/generate"


# --- The others -------------------------------------------------------------------------------------------------


def test_the_changelog_has_the_version() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]

    assert attachd.__version__ == project["version"]
    assert re.search(rf"(?m)^## \[{re.escape(attachd.__version__)}\]", text("CHANGELOG.md"))
    assert f"Version {attachd.__version__} " in text("README.md")


def test_the_architecture_fits_its_page_and_has_every_room() -> None:
    page = text("ARCHITECTURE.md")
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}

    assert len(page.splitlines()) <= 80
    assert set(re.findall(r"(?m)^\| `([a-z]+)/` \|", page)) == rooms
    modules = {path.name for path in PACKAGE.rglob("*.py")} | {"test_random_lives.py", "memory_jira.py"}
    assert {Path(span).name for span in spans(page) if re.fullmatch(r"[a-z_/]+\.py", span)} - modules == set()


def test_the_random_lives_are_made_longer_as_contributing_says() -> None:
    assert "ATTACHD_LIVES=1500 .venv/bin/pytest tests/promise/test_random_lives.py" in text("CONTRIBUTING.md")
    assert 'environ.get("ATTACHD_LIVES"' in text("tests/promise/test_random_lives.py")


def test_what_is_installed_is_locked_with_its_hashes() -> None:
    """pip refuses what does not fit: a package that was exchanged on its way, or at its source."""
    assert 'pip install -qq --disable-pip-version-check --require-hashes -r "$lock"' in text("scripts/setup")
    for lock in ("requirements/demo.lock", "requirements/dev.lock"):
        named = re.findall(r"(?m)^[a-z0-9][^\n]*", text(lock))
        assert named
        assert all(re.fullmatch(r"[a-z0-9._-]+==[^ ]+( ;[^\\]*)? \\", line) for line in named), lock
        assert len(re.findall(r" \\\n    --hash=sha256:[0-9a-f]{64}", text(lock))) >= len(named)
