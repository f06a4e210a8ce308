"""A fate and perhaps a fault for every reply, line by line of docs/design/delivery.md.

The stand-in really gives each reply, over a socket. What is expected is what the design says. The lines that need more than
one request are in ``promise/test_reply_stories.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attachd.standin import Fault
from socket_jira import LARGE, SHORT, Like, Line, Wired, both, wired

JSON = {"content_type": "application/json"}
HTML = {"content_type": "text/html", "body": "<html><h1>Forbidden</h1></html>"}


def jira_says(status: int, words: str = "as told") -> Fault:
    """A refusal in Jira's words."""
    return Fault("status", status=status, body=f'{{"errorMessages": ["{words}"], "errors": {{}}}}', **JSON)


def throttled(reason: str) -> Fault:
    return Fault("ratelimit", reason=reason, retry_after="60")


def cut(kind: str, point: str) -> Fault:
    return Fault(kind, point=point, bytes=5)


def witnessed(w: Wired) -> None:
    """Another issue accepts a file first."""
    w.drop("OPS-1/witness.txt", b"witness")
    w.deliver()
    assert w.stand("OPS-1") == "attached"


def several(line: Line, **changes: object) -> Line:
    return replace(line, what=f"{line.what}, several", files=4, **changes)  # type: ignore[arg-type]


HASTY = {"upload": {"stall_seconds": SHORT, "reply_seconds": SHORT}}
#: An attempt in doubt that stored nothing: three looks, one directly before the next attempt, and one after it.
SENT_AGAIN = {"then": "POST 1, 5 issue(, 1 (myself|serverInfo))?"}
SENT_SINGLY = {"then": "POST 1 1 1 1, [0-9]+ issue(, 1 (myself|serverInfo))?"}
#: Until a listing is proven to be newer than the request that was declined, its files are looked for.
SENT_HALVED = {"stand": "in-doubt", "then": "POST 2 2(, [0-9]+ issue)?"}
SENT_SINGLY_LATER = {"stand": "in-doubt", "then": "POST 1 1 1 1, [0-9]+ issue"}
PASSWORD = {"pauses": "account::password"}


def played(lines: list[Line]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("line", "site"), both(lines))


def each(words: str, files: int) -> str:
    """One word for all files, or a word for each."""
    return " ".join([words] * files if " " not in words else sorted(words.split()))


def dropped(w: Wired, line: Line) -> list[bytes]:
    """Drop the files of a line, no two of one size."""
    contents = [line.content or b"x" * (10 + number) for number in range(line.files)]
    for number, content in enumerate(contents):
        w.drop(f"TEST-1/{'abcdefgh'[number]}.txt", content)
    return contents


def plays(w: Wired, line: Line) -> None:
    """Lay out a line, hold what comes of it against what it says, and again when the trouble is gone."""
    usual = {name: getattr(w.jira.store, name) for name in line.settings}
    w.jira.store.configure(line.settings)
    w.meet()
    line.before(w)
    w.jira.faults.add(*line.faults)
    contents = dropped(w, line)
    w.count_anew()

    w.deliver()

    assert w.stand() == each(line.stand, line.files)
    assert w.paused() == line.pauses
    assert [row.reason or "" for row in w.of("TEST-1")] == [Like(f".*({line.says}).*")] * line.files
    assert w.told() == Like(f".*{line.tells}.*")
    assert w.requests() == Like(line.folder_key)
    assert len(w.on("TEST-1")) == line.stored
    w.proven()

    w.jira.faults.clear()
    w.jira.store.configure(usual)
    line.after(w)
    w.count_anew()
    w.settle(hours=4)

    assert w.stand() == each(line.at_last, line.files)
    assert w.requests() == Like(line.then)
    if line.at_last == "attached":
        assert w.contents("TEST-1") == contents
        assert w.files(w.inbox) == w.files(w.failed) == {}
    else:
        assert len(w.on("TEST-1")) == line.stored
    w.proven()


def play(line: Line, site: str, home: Path) -> None:
    with wired(home, deployment=site, **line.tables) as w:
        plays(w, line)


# --- Nothing connected ----------------------------------------------------------------------------------------------

SILENCE = Line(
    "nothing listens",
    before=lambda w: w.jira.stop(),
    after=lambda w: w.jira.start(),
    pauses="site::unreachable",
    tells="cannot be reached",
    folder_key="",
    then="POST 1, 1 serverInfo",
)
NOTHING_CONNECTED = [SILENCE, several(SILENCE, then="POST 4, 1 serverInfo")]


@played(NOTHING_CONNECTED)
def test_what_never_connected_is_not_delivered(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)


# --- 200 ------------------------------------------------------------------------------------------------------------

STORED = Line("stored", stand="attached", folder_key="POST 1", stored=1, then="")
IN_DOUBT = Line("in doubt", stand="in-doubt", folder_key="POST 1", **SENT_AGAIN)
FOUND = Line("found", stand="in-doubt", folder_key="POST 1", stored=1, then="[14] content, 1 issue")
FOUR = {"folder_key": "POST 4", "stored": 4}
OTHER_LOGIN = {"X-Seraph-LoginReason": "SOMETHING_NEW"}

PROVEN = [
    STORED,
    several(STORED, **FOUR),
    replace(STORED, what="object", faults=(Fault("object200"),)),
    replace(STORED, what="renamed", faults=(Fault("rename"),)),
    several(replace(STORED, what="renamed", faults=(Fault("rename"),)), **FOUR),
    several(replace(STORED, what="shuffled", faults=(Fault("shuffle200"),)), **FOUR),
    several(replace(STORED, what="shuffled by the site", settings={"shuffle": True}), **FOUR),
    replace(STORED, what="Retry-After 0", faults=(Fault("slow", headers={"Retry-After": "0"}),)),
    replace(STORED, what="Beta-Retry-After", faults=(Fault("slow", headers={"Beta-Retry-After": "3600"}),)),
    replace(STORED, what="login", faults=(Fault("login200"),), pauses="account::refused", server=PASSWORD),
    several(replace(STORED, what="login", faults=(Fault("login200"),), pauses="account::refused", server=PASSWORD), **FOUR),
    replace(
        STORED,
        what="login of an unknown kind",
        faults=(Fault("slow", headers=OTHER_LOGIN),),
        pauses="account::refused",
        server=PASSWORD,
    ),
]  # fmt: skip


@played(PROVEN)
def test_a_200_with_ids_of_the_right_sizes_is_proof(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)


MISSTORED = Line(
    "wrong size",
    faults=(Fault("wrongsize200"),),
    stand="failed",
    says=r"person must look at attachment 2\d+",
    folder_key="POST 1",
    stored=1,
    then="",
    at_last="failed",
)


@played([MISSTORED, several(MISSTORED, **FOUR)])
def test_a_wrong_size_fails_with_the_id(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)


PAGE = replace(IN_DOUBT, what="html", faults=(Fault("html200"),), pauses="account::login-page", tells="login page")
NO_PROOF = [
    PAGE,
    several(PAGE, folder_key="POST 4", **SENT_SINGLY),
    replace(IN_DOUBT, what="empty", faults=(Fault("empty200"),)),
    replace(IN_DOUBT, what="empty list", faults=(Fault("emptylist200"),)),
    several(replace(IN_DOUBT, what="empty list", faults=(Fault("emptylist200"),)), folder_key="POST 4", **SENT_SINGLY),
    replace(IN_DOUBT, what="no JSON", faults=(Fault("nojson200"),)),
    replace(FOUND, what="ids missing", faults=(Fault("noids200"),)),
    several(replace(FOUND, what="ids missing", faults=(Fault("noids200"),)), **FOUR),
    several(replace(FOUND, what="object", faults=(Fault("object200"),)), **FOUR),
]


@played(NO_PROOF)
def test_a_200_without_ids_is_looked_up(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)


# --- 429 ------------------------------------------------------------------------------------------------------------

#: Data Center gives no reason.
EVERYWHERE = {"pauses": "site::rate-limit"}
TOO_MANY = Line("429", folder_key="POST 1", then="POST 1")
NO_REASON = Fault("status", status=429, body='{"errorMessages": ["too many"]}', **JSON)
LOOKED_FIRST = {"folder_key": "POST 4, 1 issue", "stand": "in-doubt", "then": "POST [0-9 ]+(, [0-9]+ issue)?"}
#: While the site is paused it is not looked at either.
LOOKED_LATER = {"folder_key": "POST 4", "stand": "in-doubt", "then": "POST [0-9 ]+, [0-9]+ issue"}


def too_many(reason: str, pause: str) -> Line:
    return replace(
        TOO_MANY, what=f"429 {reason}", faults=(throttled(reason),), pauses=f"{pause}:rate-limit", server=EVERYWHERE
    )


PER_ISSUE = too_many("jira-per-issue-on-write", "issue:TEST-1")
BURST = too_many("jira-burst-based", "endpoint:")
THROTTLED = [
    PER_ISSUE,
    BURST,
    too_many("jira-quota-tenant-based", "site:"),
    too_many("jira-quota-global-based", "site:"),
    too_many("jira-something-new", "site:"),
    replace(TOO_MANY, what="429 without a reason", faults=(NO_REASON,), **EVERYWHERE),
    several(PER_ISSUE, **LOOKED_FIRST, server=EVERYWHERE | LOOKED_LATER),
    several(BURST, **LOOKED_FIRST, server=EVERYWHERE | LOOKED_LATER),
    several(too_many("jira-quota-tenant-based", "site:"), **LOOKED_LATER),
]


@played(THROTTLED)
def test_a_429_delivers_nothing_and_pauses_what_it_names(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)


# --- 401, and denied logins -----------------------------------------------------------------------------------------

DENIED = Line(
    "401", faults=(Fault("unauthorized"),), pauses="account::refused", folder_key="POST 1", then="POST 1, 1 myself"
)
CAPTCHA = replace(DENIED, what="CAPTCHA", faults=(Fault("captcha"),), pauses="account::captcha", tells="CAPTCHA")
ACCOUNTS = [
    replace(DENIED, server=PASSWORD),
    several(DENIED, folder_key="POST 4", then="POST 4, 1 myself", server=PASSWORD),
    replace(DENIED, what="401 of a proxy", faults=(Fault("status", status=401, **HTML),), server=PASSWORD),
    CAPTCHA,
    several(CAPTCHA, folder_key="POST 4", then="POST 4, 1 myself"),
    replace(
        DENIED, what="scope", faults=(Fault("scope"),), pauses="account::scope", tells="write:(jira-work|attachment:jira)",
        server=None,
    ),
]  # fmt: skip


@played(ACCOUNTS)
def test_a_refused_account_delivers_nothing_and_holds_everything(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)


# --- 403 and 404 in Jira's words (docs/design/delivery.md, "Whose fault is a 403 or 404") ---------------------------

#: Data Center says 404 of a file that is too large as well, so that the limit may be asked.
META = {"folder_key": "POST 1(, 1 issue)?(, 1 meta)?, 1 myself"}
UNKNOWN = Line(
    "404 without a witness", settings={"invisible": {"TEST-1"}}, stand="held", folder_key="POST 1, 1 myself", then="",
    at_last="failed", server=META,
)  # fmt: skip
BELIEVED = replace(
    UNKNOWN, what="404 with a witness", before=witnessed, stand="failed", folder_key="POST 1, 1 issue, 1 myself"
)
FORBIDDEN = Line(
    "403", settings={"read_only": {"TEST-1"}}, stand="held", pauses="project:TEST:forbidden", folder_key="POST 1, 1 myself",
    then="POST 1",
)  # fmt: skip
CONTESTED = [
    UNKNOWN,
    BELIEVED,
    FORBIDDEN,
    several(
        UNKNOWN, folder_key="POST 4, 1 issue, 1 myself", server={"folder_key": "POST 4, 1 issue, 1 meta, 1 myself"}
    ),
    several(
        BELIEVED, folder_key="POST 4, 2 issue, 1 myself", server={"folder_key": "POST 4, 2 issue, 1 meta, 1 myself"}
    ),
    several(
        Line("404 of an issue that is visible", faults=(jira_says(404),)),
        folder_key="POST 4, 1 issue",
        **SENT_SINGLY_LATER,
    ),
    several(
        Line("403 of an issue that is visible", faults=(jira_says(403),)),
        folder_key="POST 4, 1 issue",
        **SENT_SINGLY_LATER,
    ),
]


@played(CONTESTED)
def test_a_403_or_404_is_a_question_of_who_is_to_blame(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)


# --- Other 4xx ------------------------------------------------------------------------------------------------------

REFUSED = Line("refused", stand="failed", folder_key="POST 1", then="", at_last="failed")
DECLINED = several(Line("declined", folder_key="POST 4, 1 issue", **SENT_HALVED))
BY_A_PROXY = (Fault("proxy413"),)
REFUSALS = [
    # After a 413 the limit is asked for a second time.
    replace(
        REFUSED,
        what="413",
        folder_key="POST 1, 1 meta",
        settings={"attachment_limit": 0},
        says="413.*An issue may have 0",
    ),
    replace(REFUSED, what="413 of a proxy", folder_key="POST 1, 1 meta", faults=BY_A_PROXY, says="proxy"),
    *(
        replace(REFUSED, what=str(status), faults=(jira_says(status, "bad name"),), says="bad name")
        for status in (400, 409, 411, 415, 422)
    ),
    replace(DECLINED, what="413, several", settings={"files_per_request": 2}, folder_key="POST 4, 1 issue, 1 meta"),
    # Of a proxy is learned how many bytes it may take, half of what it declined: the two larger of the four go alone.
    replace(
        DECLINED,
        what="413 of a proxy, several",
        faults=BY_A_PROXY,
        folder_key="POST 4, 1 issue, 1 meta",
        then="POST 2 1 1(, [0-9]+ issue)?",
    ),
    *(replace(DECLINED, what=f"{status}, several", faults=(jira_says(status),)) for status in (400, 411, 415)),
]


@played(REFUSALS)
def test_a_refusal_of_one_file_is_believed_and_one_of_several_is_sent_halved(
    line: Line, site: str, tmp_path: Path
) -> None:
    play(line, site, tmp_path)


STRANGER = Line("a stranger's", folder_key="POST 1", pauses="site::proxy", then="POST 1, 1 serverInfo")


def stranger(what: str, fault: Fault, tells: str) -> Line:
    return replace(STRANGER, what=f"a stranger's {what}", faults=(fault,), tells=tells)


XSRF = stranger("XSRF check", Fault("xsrf"), "403.*XSRF check failed")
STRANGERS = [
    XSRF,
    several(XSRF, folder_key="POST 4", then="POST 2 2, 1 serverInfo"),
    stranger("403", Fault("status", status=403, **HTML), "403.*page"),
    several(
        stranger("403", Fault("status", status=403, **HTML), "403.*page"),
        folder_key="POST 4",
        then="POST 2 2, 1 serverInfo",
    ),
    stranger("404", Fault("status", status=404, **HTML), "404.*page"),
    stranger("400", Fault("status", status=400, body="no"), "400"),
    stranger("451", Fault("status", status=451, body=""), "451"),
    stranger("404 in JSON", Fault("status", status=404, body='{"message": "no such path"}', **JSON), "404"),
]


@played(STRANGERS)
def test_a_4xx_of_something_else_than_jira_is_the_sites_trouble(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)


# --- A body that did not reach its end ------------------------------------------------------------------------------

UNFINISHED = Line("unfinished", content=LARGE, pauses="site::network", then="POST 1, (1 issue, )?1 serverInfo")
BODIES = [
    replace(UNFINISHED, what="reset in a large body", faults=(Fault("reset", point="body", bytes=100),)),
    replace(UNFINISHED, what="write stall", faults=(Fault("stall", point="body", bytes=100),), tables=HASTY),
]


@played(BODIES)
def test_a_body_that_did_not_reach_its_end_is_not_delivered(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)


# --- In doubt -------------------------------------------------------------------------------------------------------

TROUBLE = replace(IN_DOUBT, pauses="endpoint::server-error")
REDIRECT = replace(IN_DOUBT, pauses="site::redirect", tells="redirects to /login.jsp")
NO_ANSWER = [
    replace(IN_DOUBT, what="close-headers", faults=(cut("close", "headers"),), folder_key="POST 0"),
    replace(IN_DOUBT, what="408", faults=(jira_says(408),)),
    *(replace(IN_DOUBT, what=str(status), faults=(Fault("status", status=status),)) for status in (201, 204, 299)),
    *(replace(TROUBLE, what=str(status), faults=(Fault("status", status=status),)) for status in (500, 501, 502, 504)),
    replace(TROUBLE, what="500 in Jira's words", faults=(jira_says(500),)),
    replace(TROUBLE, what="503", faults=(Fault("status", status=503, headers={"Retry-After": "20"}),)),
    replace(TROUBLE, what="599", faults=(Fault("status", status=599),)),
    replace(REDIRECT, what="302", faults=(Fault("redirect"),)),
    *(
        replace(IN_DOUBT, what=f"{kind}-body", faults=(cut(kind, "body"),), folder_key="POST 0")
        for kind in ("reset", "close")
    ),
    *(replace(IN_DOUBT, what=f"{kind}-last-byte", faults=(cut(kind, "last-byte"),)) for kind in ("reset", "close")),
    replace(IN_DOUBT, what="time-out, not stored", faults=(Fault("stall", point="reply-before"),), tables=HASTY),
    several(replace(TROUBLE, what="500", faults=(Fault("status", status=500),)), folder_key="POST 4", **SENT_SINGLY),
    several(replace(IN_DOUBT, what="reset", faults=(cut("reset", "last-byte"),)), folder_key="POST 4", **SENT_SINGLY),
    several(replace(REDIRECT, what="302", faults=(Fault("redirect"),)), folder_key="POST 4", **SENT_SINGLY),
]


@played(NO_ANSWER)
def test_what_was_not_answered_and_not_stored_is_sent_again_after_all_looks(
    line: Line, site: str, tmp_path: Path
) -> None:
    play(line, site, tmp_path)


POINTS = ("reply", "reply-head", "reply-body")
ANSWER_LOST = [
    *(
        replace(FOUND, what=f"{kind}-{point}", faults=(Fault(kind, point=point),))
        for kind in ("reset", "close")
        for point in POINTS
    ),
    replace(FOUND, what="time-out, stored", faults=(Fault("stall", point="reply-none"),), tables=HASTY),
    replace(FOUND, what="trickle", faults=(Fault("trickle", delay=0.2),), tables=HASTY),
    replace(
        FOUND, what="500, stored", faults=(Fault("status", status=500, commit=True),), pauses="endpoint::server-error"
    ),
    several(replace(FOUND, what="reset-reply", faults=(Fault("reset"),)), **FOUR),
]


@played(ANSWER_LOST)
def test_what_was_stored_without_an_answer_is_found_and_not_sent_again(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)


HALF = several(Line("half", faults=(Fault("half"),), stored=2))
HALVES = [
    replace(
        HALF, stand="attached attached in-doubt in-doubt", folder_key="POST 4, 2 content, 1 issue", then="POST 2(, [0-9]+ issue)?"
    ),
    replace(
        HALF, what="half, no answer", faults=(Fault("half", status=None),), stand="in-doubt", folder_key="POST 4",
        then="POST 1 1, 2 content, [0-9]+ issue",
    ),
]  # fmt: skip


@played(HALVES)
def test_of_a_request_that_was_stored_by_half_only_the_rest_is_sent_again(
    line: Line, site: str, tmp_path: Path
) -> None:
    play(line, site, tmp_path)


# --- Before a byte is sent ------------------------------------------------------------------------------------------

TOO_LARGE = replace(
    REFUSED, what="larger than the limit", settings={"upload_limit": 5}, says="allows 5", folder_key="(1 meta)?"
)
NOT_EVEN_TRIED = [
    Line(
        "attachments disabled", settings={"attachments_enabled": False}, pauses="site::disabled", folder_key="(1 meta)?",
        then="POST 1(, [0-9] meta)?(, [0-9] serverInfo)?",
    ),
    TOO_LARGE,
    several(replace(TOO_LARGE, settings={"upload_limit": 12}), says="allows 12|^$", stand="attached attached attached failed",
            folder_key="POST 3(, 1 meta)?", stored=3, at_last="attached attached attached failed"),
]  # fmt: skip


@played(NOT_EVEN_TRIED)
def test_what_jira_would_refuse_anyway_is_not_sent(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)


LARGE_FIRST = [
    Line("large", content=LARGE, stand="attached", folder_key="POST 1, 1 issue", stored=1, then=""),
    replace(
        UNKNOWN, what="large, 404", content=LARGE, folder_key="[12] issue(, 1 meta)?, 1 myself",
        server={"folder_key": "[12] issue(, 1 meta)?, 1 myself"},
    ),
]  # fmt: skip


@played(LARGE_FIRST)
def test_before_a_large_file_its_issue_is_asked_for(line: Line, site: str, tmp_path: Path) -> None:
    play(line, site, tmp_path)
