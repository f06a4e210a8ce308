"""Bugs that are planted, so that it shows whether the campaign would have found them.

Each is an edit of a copy of the program. A bug that nothing catches says that the oracle is blind on that side.
"""

from __future__ import annotations

import ast
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from system.crash import driving
from system.crash.campaign import NEVER, Death, Told

PACKAGE = Path(__file__).resolve().parents[3] / "daemon" / "attachd"
#: The most lives with one bug, until it is caught.
MOST = 240


#: Where each behaviour stands: its module and function, or the module alone if several functions say it. A move changes one
#: line here, and nothing in ``SEEDS``.
PLACES = {
    "a file that was being sent when the process died": "delivery.outcome:orphaned",
    "an upload in doubt that is not found": "delivery.outcome:not_found",
    "sending again what was in doubt": "delivery.upload:send",
    "the exchange of one request": "delivery.upload:_send",
    "the checksums before the end of a body": "delivery.upload:_send.before_end",
    "whether an attachment fits a file": "delivery.attribution:fit",
    "whether an attachment's content fits a file": "delivery.attribution:_matched",
    "the journal's durability": "journal.database",
    "the rows that were being sent": "journal.doubt:orphans",
    "a new file after the journal was lost": "journal.admission:_suspect_at",
    "a request that Jira declines": "jira.verdict:_declined",
    "a request that Jira accepts": "jira.verdict:_success",
    "the header that signs in": "jira.auth:Credentials.header",
    "whether the inbox is there": "share.inbox_marker:Guard._look",
    "whether a file is a note": "share.notes:is_note",
    "writing a note once": "share.notes:_write_once",
    "the sync of a folder": "fs.folders:synchronise",
    "the copy to another device": "fs.cross_device:copy",
    "reading a copy back": "fs.cross_device:_reread",
    "whether a file that was sent is still the same": "intake.identity:_judge_sent",
    "telling a webhook": "hooks.dispatcher:step",
}


@dataclass(frozen=True, slots=True)
class Edit:
    """A text of a place that is exchanged for another."""

    place: str
    old: str
    new: str

    @property
    def file(self) -> str:
        """Return the path of the place's module, below the package."""
        return f"{PLACES[self.place].partition(':')[0].replace('.', '/')}.py"

    def apply(self, package: Path) -> None:
        """Edit the copy of the program in *package*. Raises ``AssertionError`` if the place does not hold the text."""
        file, function = package / self.file, PLACES[self.place].partition(":")[2]
        lines = file.read_text("utf-8").splitlines(keepends=True)
        first, last = _lines_of(function, "".join(lines)) if function else (0, len(lines))
        text = "".join(lines[first:last])
        assert self.old in text, f"{PLACES[self.place]} no longer holds {self.old!r}"
        file.write_text("".join([*lines[:first], text.replace(self.old, self.new), *lines[last:]]), "utf-8")


def _lines_of(function: str, source: str) -> tuple[int, int]:
    """Return the slice of the lines that hold a function, which may be nested in a class or in another function."""
    found: ast.AST = ast.parse(source)
    for name in function.split("."):
        parts = (each for each in ast.walk(found) if isinstance(each, ast.FunctionDef | ast.ClassDef))
        part = next((each for each in parts if each.name == name and each is not found), None)
        assert part is not None, f"there is no {function}"
        found = part
    assert isinstance(found, ast.FunctionDef)
    return found.lineno - 1, found.end_lineno or found.lineno


@dataclass(frozen=True, slots=True)
class Seed:
    """One bug: what is edited, and in which life it has to show."""

    name: str
    #: Several where one rule alone does not keep the bug out.
    edits: tuple[Edit, ...]
    workload: str
    #: "never": without a death; "kill" or "cut", in one of the windows of ``_window``.
    how: str = "kill"
    window: str = "sending"


SEEDS = (
    Seed(
        "no look after a restart",
        (Edit("a file that was being sent when the process died", "    if row.sha256 is None:\n", "    if True:\n"),),
        "one",
    ),
    Seed(
        "marked as attached before it is sent",
        (Edit(
            "the exchange of one request",
            "    answer = _exchange(runtime, client, batch, body)\n",
            "    sooner = {row.id: outcome.attached(Stored(f'X{row.id}', row.name), 1.0) for row in batch}\n"
            "    with runtime.journal.transaction() as connection:\n        rows.change_many(connection, sooner)\n"
            "    answer = _exchange(runtime, client, batch, body)\n",
        ),),
        "one",
    ),
    Seed(
        "moved before it is sent",
        (Edit(
            "the exchange of one request",
            "    answer = _exchange(runtime, client, batch, body)\n",
            "    for row in batch:\n        to = runtime.config.folders.done / row.path.decode()\n"
            "        to.parent.mkdir(parents=True, exist_ok=True)\n        (runtime.guard.inbox / row.path.decode()).rename(to)\n"
            "    answer = _exchange(runtime, client, batch, body)\n",
        ),),
        "one",
    ),
    Seed(
        "NORMAL instead of FULL",
        (Edit("the journal's durability", "synchronous = FULL", "synchronous = NORMAL"),), "one", "cut",
    ),
    Seed(
        "OFF instead of FULL",
        (Edit("the journal's durability", "synchronous = FULL", "synchronous = OFF"),), "one", "cut",
    ),
    Seed(
        "a name given by Jira is not looked for",
        (Edit(
            "whether an attachment fits a file",
            "return Fit.RENAMED if after or attachment.created is None else Fit.EARLIER", "return None",
        ),),
        "renamed", "never",
    ),
    Seed(
        "a half-stored request is sent again",
        (Edit(
            "a request that Jira declines",
            'InDoubt(f"Jira refused the request ({reply.status}: {words})", brief=True, share=share)',
            'NotDelivered(f"Jira refused the request ({reply.status}: {words})")',
        ),),
        "half", "never",
    ),
    Seed(
        "the fate lost to a fault of the account",
        (Edit(
            "a request that Jira accepts",
            "        return Judgement(tuple(_pair(stored, files)), fault)\n",
            '        return Judgement(tuple(_pair(stored, files))) if not fault else _all(NotDelivered("no"), files, fault)\n',
        ),),
        "login", "never",
    ),
    Seed(
        "an inbox that is not mounted read as empty",
        (
            Edit(
                "whether the inbox is there",
                "        if marker is None:\n            return Sight(\n",
                "        if marker is None:\n            return Sight(True, mount=mount)\n            return Sight(\n",
            ),
            # The service claims what comes while it starts: a lock that cannot be taken there forbids it too.
            Edit("whether the inbox is there", "if self._claim and (reason :=", "if False and self._claim and (reason :="),
        ),
        "unmounted",
    ),
    Seed(
        "folders not synchronised",
        (Edit("the sync of a folder", "        os.fsync(folder)\n", "        pass\n"),), "apart", "cut", "filing",
    ),
    Seed(
        "a copy to another device not synchronised",
        (
            Edit("the copy to another device", "        _durable(written)\n", ""),
            # Dropping the pages starts to write them too, so that the folder's sync nearly always finds them on disk.
            Edit("reading a copy back", "os.posix_fadvise(written, 0, 0, os.POSIX_FADV_DONTNEED)", "pass"),
        ),
        "devices", "cut", "removing",
    ),
    Seed(
        "an answer that names nothing taken for success",
        (Edit(
            "a request that Jira accepts",
            "    return _all(InDoubt(reason, nonsense=reply.status == 200 and not reply.is_cut), files, fault)\n",
            "    return Judgement(tuple(Stored(f'X{id(reply)}', file.name) for file in files))\n",
        ),),
        "page", "never",
    ),
    Seed(
        "looked for by name alone",
        (
            Edit("whether an attachment fits a file", "    if attachment.size != row.size:", "    if False:"),
            Edit(
                "whether an attachment's content fits a file",
                "(content, Digest) and content.sha256 == row.sha256:", "(content, Digest):",
            ),
        ),
        "namesake", "never",
    ),
    Seed(
        "a streamed file without its checksum before the end",
        (Edit(
            "the checksums before the end of a body",
            "            queue.checksums(connection, batch, sums)\n", "            pass\n",
        ),),
        "large",
    ),
    Seed(
        "size and time as proof of the content",
        (Edit(
            "whether a file that was sent is still the same",
            "    return Look.ADOPT if sums[row.path] == row.sha256 else Look.REPLACED\n", "    return Look.ADOPT\n",
        ),),
        "replaced",
    ),
    Seed(
        "one look for an upload in doubt",
        (
            Edit(
                "an upload in doubt that is not found",
                "    if not is_last_look(row, doubts, fresh=fresh):\n", "    if False:\n",
            ),
            Edit(
                "sending again what was in doubt",
                "if first.ever_doubtful and not is_still_missing", "if False and not is_still_missing",
            ),
        ),
        "late", "never",
    ),
    Seed(
        "the token in a line of the log",
        (Edit(
            "the header that signs in",
            '            return f"Bearer {token}"\n        return "Basic "',
            '            return f"Bearer {token}"\n        print(self._user, token)\n        return "Basic "',
        ),),
        "one", "never",
    ),
    Seed(
        "a lost journal forgotten",
        (Edit("a new file after the journal was lost", "return 0.0 if suspect else None", "return None"),),
        "lost", "kill", "filing",
    ),
    Seed(
        "a note that came back taken for a file",
        (Edit("whether a file is a note", "    line = _FIRST_LINE.match(first_bytes)\n", "    line = None\n"),),
        "returned", "never",
    ),
    Seed(
        "an event taken for told before it is",
        (Edit(
            "telling a webhook",
            "    count, reason = target.send(waiting, ended)\n",
            "    outbox.told(runtime.journal, target.name, waiting[0].id)\n    count, reason = target.send(waiting, ended)\n",
        ),),
        "hooked", "kill", "filing",
    ),
    Seed(
        "a note of our own not known again",
        (Edit("writing a note once", "            if _ident_of(folder, name) == ident:\n", "            if False:\n"),),
        "linked", "kill", "filing",
    ),
    Seed(
        "what was being sent forgotten",
        (Edit("the rows that were being sent", "WHERE state = 'SENDING'\")]", "WHERE 0\")]"),), "one",
    ),
)  # fmt: skip


def planted(seed: Seed, folder: Path) -> Path:
    """Copy the program into *folder* with the bug in it; the folder. Raises ``AssertionError`` if a text is not there."""
    package = folder / "attachd"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in seed.edits:
        edit.apply(package)
    return folder


def caught_by(seed: Seed, workers: int, most: int = MOST) -> str:
    """Live with the bug until something is found to be wrong, and say what; "" if nothing was."""
    found: list[Told] = []

    def heard(told: Told) -> None:
        found.extend([told] if told.wrong else [])

    with tempfile.TemporaryDirectory(prefix="attachd-seed-") as folder:
        package = planted(seed, Path(folder))
        with driving.workers(workers, power=seed.how == "cut", package=package) as started:
            tried = driving.live(started, [Death(seed.workload, "kill", NEVER)], heard)
            if not found and seed.how != "never":
                numbers = _window(seed.window, tried[0].names)
                deaths = [Death(seed.workload, seed.how, at) for at in numbers] * (1 + most // len(numbers))
                tried += driving.live(started, deaths[:most], heard, lambda: bool(found))
    if not found:
        return ""
    told = found[0]
    where = f"before `{told.call}` ({told.death.how})" if told.reached else "without a death"
    rule = told.wrong[0].removeprefix("at death: ").partition(" ")[0]
    return f"{rule} {where}, life {len(tried)}"


def _window(window: str, names: Sequence[str]) -> list[int]:
    """Numbers of the calls at which a bug of this sort shows, the likeliest first."""
    sent = max((at for at, name in enumerate(names, 1) if name in ("sendto", "sendmsg")), default=1)
    answered = max((at for at, name in enumerate(names, 1) if name == "recvfrom"), default=1)
    last = len(names)
    match window:
        case "sending":
            return [*range(sent, min(answered + 30, last)), *range(max(1, sent - 25), sent)]
        case "filing":
            return [*range(answered, last)]
        case "removing":
            removed = [at for at, name in enumerate(names, 1) if name in ("unlink", "unlinkat") and at > sent]
            return sorted({near for at in removed for near in range(at + 1, min(at + 5, last))}, reverse=True)
        case _:
            raise ValueError(window)
