"""Makes the man page and the reference of the configuration from the program: its help texts, its model, its sample.

``scripts/generate`` writes them; ``tests/documents/test_documents.py`` compares what is there with what this would write.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from attachd.cli.main import application
from attachd.config.schema import Tables

ROOT = Path(__file__).parent.parent

#: The order of the verbs is that of ``--help``.
EXIT_CODES = (
    ("0", "All is well: attached, or nothing to do."),
    ("1", "A check or an operation failed."),
    ("2", "Usage: no such verb, option, issue key or length of time."),
    ("3", "once: some files failed."),
    ("4", "once: none failed, but some still wait, are in doubt, or are in no issue's folder."),
    (
        "75",
        "Try again later: another process holds the inbox or the state folder, or the journal's disk is full or fails.",
    ),
    ("78", "The configuration is wrong, every problem at once; or the journal is damaged, or from a later version."),
)
FILES = (
    (
        "/etc/attachd/config.toml, /etc/attachd/NAME.toml",
        "The configuration of a system service, or of one of several.",
    ),
    ("~/.config/attachd/config.toml", "The configuration of a per-user service."),
    (
        "journal.db in the state folder",
        "What was sent, and what became of it. Do not edit it; attachd backup copies it.",
    ),
    ("inbox/.attachd/", "The inbox's id, which journal worked with it last, and the lock. Do not touch it."),
)
ENVIRONMENT = (
    ("ATTACHD_CONFIG", "The configuration, where neither -c nor --instance is given."),
    ("STATE_DIRECTORY", "The state folder, set by systemd. The key folders.state wins over it."),
    ("CREDENTIALS_DIRECTORY", "Where systemd puts the credentials that the configuration names."),
    ("NO_COLOR", "No colours in the log on a terminal."),
)


# --- The man page -------------------------------------------------------------------------------------------------


def man_page() -> str:
    """attachd(1), in man(7)."""
    command: Any = typer.main.get_command(application())
    lines = [
        '.\\" Made by scripts/generate from the help texts.',
        ".TH ATTACHD 1",
        ".SH NAME",
        "attachd \\- attaches what is dropped into a folder to the Jira issue that the folder names",
        ".SH SYNOPSIS",
        ".B attachd",
        ".I verb",
        "[\\fIoptions\\fR]",
        ".SH DESCRIPTION",
        _roff(command.help or ""),
        "A file lies at every moment in inbox, done or failed.",
        "After a timeout or a crash attachd looks at the issue before it sends anything again.",
        ".SH VERBS",
    ]
    for name, verb in command.commands.items():
        lines += _verb(name, verb)
    lines += [".SH EXIT STATUS", *_list(EXIT_CODES), ".SH ENVIRONMENT", *_list(ENVIRONMENT), ".SH FILES", *_list(FILES)]
    lines += [".SH SEE ALSO", "The README, and docs/ beside it: operations, configuration, troubleshooting, recipes."]
    return "\n".join(line for line in lines if line) + "\n"


def _verb(name: str, verb: Any) -> list[str]:
    arguments = " ".join(_metavar(each) for each in verb.params if each.param_type_name == "argument")
    lines = [f".SS attachd {name} {arguments}".rstrip(), _roff(inspect.cleandoc(verb.help or ""))]
    for each in verb.params:
        if each.param_type_name == "option" and "--help" not in each.opts:
            names = ", ".join(f"\\fB{_roff(option)}\\fR" for option in each.opts)
            value = "" if each.is_flag else f" \\fI{_roff(_metavar(each))}\\fR"
            lines += [".TP", f"{names}{value}", _roff(each.help or "")]
    return lines


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper().replace("_", "-"))


def _list(items: tuple[tuple[str, str], ...]) -> list[str]:
    return [line for term, text in items for line in (".TP", f"\\fB{_roff(term)}\\fR", _roff(text))]


def _roff(text: str) -> str:
    """Plain text as man(7) wants it: no line begins with a dot, and a hyphen is one."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    escaped = [part.replace("\\", "\\e").replace("-", "\\-").replace("`", "") for part in paragraphs]
    return "\n.PP\n".join(f"\\&{part}" if part.startswith((".", "'")) else part for part in escaped)


# --- The reference of the configuration ---------------------------------------------------------------------------


def reference() -> str:
    """docs/configuration.md."""
    schema = Tables.model_json_schema()
    comments = explanations((ROOT / "sample-config.toml").read_text("utf-8"))
    lines = [
        "<!-- Made by scripts/generate from the model and from sample-config.toml. -->",
        "# The configuration",
        "",
        "One file in [TOML](https://toml.io/en/v1.0.0), found by `-c FILE`, `--instance NAME` (`/etc/attachd/NAME.toml`),",
        "`$ATTACHD_CONFIG`, `~/.config/attachd/config.toml` or `/etc/attachd/config.toml`, in this order. A relative path counts",
        "from the file. Unknown keys are errors, and attachd reports all problems at once.",
        "[sample-config.toml](../sample-config.toml) has every key with its default. `attachd check` tests the configuration,",
        "and `attachd reload` makes a running service read it again.",
    ]
    for path, table in _tables(schema, schema, ()):
        lines += ["", f"## `[{'.'.join(path)}]`" if path != ("folder",) else "## `[[folder]]`", ""]
        if about := comments.get(path):
            lines += [about, ""]
        if "properties" not in table:
            # Its keys are the user's: the sample explains the first.
            lines += [text for key, text in comments.items() if key[:-1] == path][:1]
            continue
        lines += ["| key | is | default | |", "|---|---|---|---|"]
        for name, field in table["properties"].items():
            if not _is_table(schema, field):
                about = comments.get((*path, name), "").replace("|", "\\|")
                lines.append(f"| `{name}` | {_kind(field)} | {_default(path, name, field)} | {about} |")
    return "\n".join(lines) + "\n"


def explanations(sample: str) -> dict[tuple[str, ...], str]:
    """What the sample says of each table and key, in the lines above it."""
    found: dict[tuple[str, ...], str] = {}
    table: tuple[str, ...] = ()
    comment: list[str] = []
    previous = ""
    for line in sample.splitlines():
        header = re.fullmatch(r"(?:# )?\[+([a-z.]+)\]+", line)
        setting = re.fullmatch(r'(?:# )?"?(\w+)"? = .*', line)
        if header:
            table = tuple(header[1].split("."))
            found[table] = " ".join(comment)
            comment = []
        elif setting:
            # A comment stands for all keys that follow it directly.
            found[*table, setting[1]] = " ".join(comment) or (
                f"With `{previous}`, above." if (*table, previous) in found and previous else ""
            )
            comment, previous = [], setting[1]
            continue
        elif line.startswith("# "):
            comment.append(line[2:])
        else:
            comment = []
        previous = ""
    return {path: text for path, text in found.items() if text}


def _tables(schema: Any, table: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, field in table["properties"].items():
        below = _resolved(schema, field)
        if below.get("type") == "array":
            below = _resolved(schema, below.get("items", {}))
        if below.get("type") == "object" and "Source" not in below.get("title", ""):
            yield (*path, name), below
            if "properties" in below:
                yield from _tables(schema, below, (*path, name))


def _is_table(schema: Any, field: Any) -> bool:
    below = _resolved(schema, field)
    return below.get("type") == "object" and "properties" in below and "Source" not in below.get("title", "")


def _resolved(schema: Any, field: Any) -> Any:
    for each in [field, *field.get("allOf", []), *field.get("anyOf", [])]:
        if "$ref" in each:
            return schema["$defs"][each["$ref"].rpartition("/")[2]]
    return field


#: What a type of JSON is called here.
_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "array": "list of texts",
}


def _kind(field: Any) -> str:
    options = [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]
    one = options[0] if options else field
    if "$ref" in one:
        return "a source: `{ file = PATH }` and the like"
    if "enum" in one:
        return " or ".join(f"`{value!r}`".replace("'", '"') for value in one["enum"])
    kind = {"path": "path", "date": "day"}.get(
        one.get("format", ""), _KINDS.get(one.get("type", ""), one.get("type", ""))
    )
    if one.get("type") == "array" and one.get("items", {}).get("type") == "number":
        kind = "list of numbers"
    least, most = one.get("minimum", one.get("exclusiveMinimum")), one.get("maximum")
    bounds = [f"{'more than' if 'exclusiveMinimum' in one else 'from'} {least:g}"] if least is not None else []
    bounds += [f"to {most:,.0f}".replace(",", "\N{NO-BREAK SPACE}")] if most is not None else []
    return " ".join([kind, *bounds])


def _default(path: tuple[str, ...], name: str, field: Any) -> str:
    if "default" in field:
        value = field["default"]
        return "" if value is None else f"`{str(value).lower() if isinstance(value, bool) else _toml(value)}`"
    if (path, name) in ((("folders",), "done"), (("folders",), "failed")):
        return "beside the inbox"
    return "**needed**"


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def documents() -> dict[Path, str]:
    """Where each belongs, and what it says."""
    return {ROOT / "docs/attachd.1": man_page(), ROOT / "docs/configuration.md": reference()}


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, "utf-8")
