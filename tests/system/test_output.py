"""What is printed with --json is what docs/output.schema.json says, with the daemon up and down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

from installation import Jira, Place
from system.test_operator import running

SCHEMA = json.loads((Path(__file__).parent.parent.parent / "docs/output.schema.json").read_text("utf-8"))


def valid(verb: str, printed: str) -> Any:
    """The output of a verb, which is as the schema says."""
    found = json.loads(printed)
    jsonschema.Draft202012Validator({"$ref": f"#/$defs/{verb}", "$defs": SCHEMA["$defs"]}).validate(found)
    return found


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_verb_prints_what_the_schema_says_with_the_daemon_up_and_down(place: Place, jira: Jira) -> None:
    place.configure(jira.url, "[fuse]\nhold_minutes = 0.0\n[upload]\nmax_bytes_per_second = 2000000\n")
    jira.tell("set", {"auto_issues": False})
    jira.tell("issues", {"key": "TEST-1"})
    place.drop("TEST-1/a.txt", b"a")
    place.drop("NOPE-1/b.txt", b"b")
    place.drop("no key/c.txt", b"c")
    (place.inbox / "loose").write_text("x")
    once = valid("once", place.run("once", "--json").stdout)
    assert (once["attached"], once["failed"], once["stray"]) == (1, 1, 2)

    assert [each["returned"] for each in valid("retry", place.run("retry", "--all", "--json").stdout)] == [
        "NOPE-1/b.txt"
    ]
    assert valid("retry", place.run("retry", "nothing", "--json").stdout)[0]["returned"] is None
    assert place.run("once").returncode == 3

    for what in ("up", "down"):
        assert valid("pause", place.run("pause", "--issue", "TEST-2", "--json").stdout)["until"] is None
        if what == "up":
            with running(place):
                place.drop("TEST-2/waits.txt", b"w")
                place.drop("TEST-1/large.bin", b"x" * 14_000_000)
                for _ in range(40):
                    status = valid("status", place.run("status", "--json").stdout)
                    if any(each["sent"] for each in status["sending"]) and status["queue"]:
                        break
                else:
                    raise AssertionError("no upload was seen")
                _others(place)
        else:
            status = valid("status", place.run("status", "--json").stdout)
            assert status["running"] is None
            _others(place)
        assert status["pauses"][0]["scope"] == "operator"
        assert len(status["strays"]) == 2
    assert len(valid("resume", place.run("resume", "--json").stdout)["ended"]) == 1


def _others(place: Place) -> None:
    assert len(valid("history", place.run("history", "--json").stdout)) >= 2
    assert valid("why", place.run("why", "--json", str(place.inbox)).stdout)
    assert valid("why", place.run("why", "--json", str(place.failed)).stdout)
    assert valid("check", place.run("check", "--json").stdout)
    assert valid("verify", place.run("verify", "--json").stdout)["compared"] >= 1
