"""Bugs that are planted, so that it shows whether the campaign would have found them.

Each is an edit of a copy of the program. A bug that nothing catches says that the oracle is blind on that side.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from system.crash import driving
from system.crash.campaign import NEVER, Death, Told

PACKAGE = Path(__file__).resolve().parents[3] / "daemon" / "attachd"
#: Lives with one bug, at the most, until it is caught.
MOST = 240


@dataclass(frozen=True, slots=True)
class Seed:
    """One bug: what a text of a file is exchanged for, and where it has to show."""

    name: str
    file: str
    old: str
    new: str
    workload: str
    #: "never": without a death; "kill" or "cut", in one of the windows of ``_window``.
    how: str = "kill"
    window: str = "sending"
    #: Further edits (file, old, new): what two rules forbid is no bug before both are gone.
    more: tuple[tuple[str, str, str], ...] = ()


SEEDS = (
    Seed("no look after a restart", "delivery/outcome.py", "    if row.sha256 is None:\n", "    if True:\n", "one"),
    Seed(
        "marked as attached before it is sent", "delivery/upload.py",
        "    answer = _exchange(runtime, client, batch, body)\n",
        "    sooner = {row.id: outcome.attached(Stored(f'X{row.id}', row.name), 1.0) for row in batch}\n"
        "    with runtime.journal.transaction() as connection:\n        rows.change_many(connection, sooner)\n"
        "    answer = _exchange(runtime, client, batch, body)\n",
        "one",
    ),
    Seed(
        "moved before it is sent", "delivery/upload.py",
        "    answer = _exchange(runtime, client, batch, body)\n",
        "    for row in batch:\n        to = runtime.config.folders.done / row.path.decode()\n"
        "        to.parent.mkdir(parents=True, exist_ok=True)\n        (runtime.guard.inbox / row.path.decode()).rename(to)\n"
        "    answer = _exchange(runtime, client, batch, body)\n",
        "one",
    ),
    Seed("NORMAL instead of FULL", "journal/database.py", "synchronous = FULL", "synchronous = NORMAL", "one", "cut"),
    Seed("OFF instead of FULL", "journal/database.py", "synchronous = FULL", "synchronous = OFF", "one", "cut"),
    Seed(
        "a name given by Jira is not looked for", "delivery/attribution.py",
        "return Fit.RENAMED if attempt and (after or attachment.created is None) else None", "return None", "renamed", "never",
    ),
    Seed(
        "a half-stored request is sent again", "jira/verdict.py",
        'InDoubt(f"Jira declined the request ({reply.status}: {words})", brief=True, share=share)',
        'NotDelivered(f"Jira declined the request ({reply.status}: {words})")', "half", "never",
    ),
    Seed(
        "the fate lost to a fault of the account", "jira/verdict.py",
        "        return Judgement(tuple(_pair(stored, files)), fault)\n",
        '        return Judgement(tuple(_pair(stored, files))) if not fault else _all(NotDelivered("no"), files, fault)\n',
        "login", "never",
    ),
    Seed(
        "an inbox that is not mounted read as empty", "share/inbox_marker.py",
        "        if marker is None:\n            return Sight(\n",
        "        if marker is None:\n            return Sight(True, mount=mount)\n            return Sight(\n",
        "unmounted", "kill", "sending",
        # Since what comes while the service starts is claimed, a lock that cannot be taken there forbids it too.
        more=(("share/inbox_marker.py", "if self._claim and (reason :=", "if False and self._claim and (reason :="),),
    ),
    Seed(
        "folders not synchronised", "fs/folders.py",
        "        os.fsync(folder)\n", "        pass\n", "apart", "cut", "filing",
    ),
    Seed(
        "a copy to another device not synchronised", "fs/cross_device.py",
        "        os.fsync(written)\n", "", "devices", "cut", "removing",
    ),
    Seed(
        "an answer that names nothing taken for success", "jira/verdict.py",
        "    return _all(InDoubt(reason, nonsense=reply.status == 200 and not reply.is_cut), files, fault)\n",
        "    return Judgement(tuple(Stored(f'X{id(reply)}', file.name) for file in files))\n", "page", "never",
    ),
    Seed(
        "looked for by name alone", "delivery/attribution.py",
        "    if attachment.size != row.size or ", "    if ", "namesake", "never",
        more=(("delivery/attribution.py", "(content, Digest) and content.sha256 == row.sha256:", "(content, Digest):"),),
    ),
    Seed(
        "a streamed file without its checksum before the end", "delivery/upload.py",
        "            queue.checksums(connection, batch, sums)\n", "            pass\n", "large",
    ),
    Seed(
        "size and time as proof of the content", "intake/identity.py",
        "    return Look.ADOPT if sums[row.path] == row.sha256 else Look.REPLACED\n", "    return Look.ADOPT\n",
        "replaced", "kill", "sending",
    ),
    Seed(
        "one look for an upload in doubt", "delivery/outcome.py",
        "    if not is_last_look(row, doubts, fresh=fresh):\n", "    if False:\n", "late", "never",
        more=(("delivery/upload.py", "if first.ever_doubtful and not is_still_missing", "if False and not is_still_missing"),),
    ),
    Seed(
        "the token in a line of the log", "jira/auth.py",
        '            return f"Bearer {token}"\n        return "Basic "',
        '            return f"Bearer {token}"\n        print(self._user, token)\n        return "Basic "', "one", "never",
    ),
    Seed(
        "a lost journal forgotten", "journal/admission.py",
        "return 0.0 if suspect else None", "return None", "lost", "kill", "filing",
    ),
    Seed(
        "a note that came back taken for a file", "share/notes.py",
        "    line = _FIRST_LINE.match(first_bytes)\n", "    line = None\n", "returned", "never",
    ),
    Seed(
        "an event taken for told before it is", "hooks/dispatcher.py",
        "    told, reason = target.tell(waiting, ended)\n",
        "    events.told(runtime.journal, target.name, waiting[0].id)\n    told, reason = target.tell(waiting, ended)\n",
        "hooked", "kill", "filing",
    ),
    Seed(
        "a note of our own not known again", "share/notes.py",
        "            if _ident_of(folder, name) == ident:\n", "            if False:\n", "linked", "kill", "filing",
    ),
    Seed("what was being sent forgotten", "journal/doubt.py", "WHERE state = 'SENDING'\")]", "WHERE 0\")]", "one"),
)  # fmt: skip


def planted(seed: Seed, folder: Path) -> Path:
    """Copy the program into *folder* with the bug in it; the folder. Raises ``AssertionError`` where its text is not there."""
    shutil.copytree(PACKAGE, folder / "attachd", ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in ((seed.file, seed.old, seed.new), *seed.more):
        file = folder / "attachd" / name
        text = file.read_text("utf-8")
        assert old in text, f"{seed.name}: {name} does not have {old!r} any more"
        file.write_text(text.replace(old, new), "utf-8")
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
