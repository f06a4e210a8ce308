"""Every reply and every exception is read as docs/design/delivery.md says ("What an answer means"), row by row.

The table there is the norm, and the cases here are in its order. What each row says stands above its cases.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attachd.jira.multipart import Changed, Cut
from attachd.jira.rate_limits import retry_after
from attachd.jira.reply import Broken, Exchange, Reply, Stage, parse_date
from attachd.jira.verdict import Judgement, Sent, failed_login, judge
from attachd.model import Contested, Fate, Fault, InDoubt, Misstored, NotDelivered, Refused, Stored

ISSUE = "TEST-1"
ONE = (Sent("a.txt", 10),)
THREE = (Sent("a.txt", 10), Sent("b.txt", 20), Sent("c.txt", 30))

NO = {"errorMessages": ["No."], "errors": {}}
PAGE = "<!DOCTYPE html><html><title>Log in - Jira</title></html>"
NGINX = "<html>\r\n<head><title>413 Request Entity Too Large</title></head></html>\r\n"
JSON, HTML, TEXT = "application/json", "text/html;charset=UTF-8", "text/plain"

NOW = 1_800_000_000.0
DATE = formatdate(NOW, usegmt=True)


def reply(status: int, body: Any = NO, *, whole: bool = True, exhausted: bool = True, **headers: str) -> Reply:
    """An answer: text is a page or plain, anything else is JSON. Header names are written with underscores."""
    content = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = JSON if not isinstance(body, str) else HTML if body.startswith("<") else TEXT
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"content-type": kind} | named, content, whole, exhausted)


def attachments(*entries: tuple[Any, str, int]) -> list[dict[str, Any]]:
    return [{"id": identity, "filename": name, "size": size} for identity, name, size in entries]


RIGHT = {1: attachments(("1", "a.txt", 10)), 3: attachments(("1", "a.txt", 10), ("2", "b.txt", 20), ("3", "c.txt", 30))}


def shape(fate: Fate) -> str:
    """A fate without its words."""
    match fate:
        case Stored(attachment, _, remark):
            return f"stored {attachment}" + (", pairing unknown" if "pairing unknown" in remark else "")
        case Misstored(attachment):
            return f"wrong {attachment}"
        case Refused():
            return "refused"
        case Contested(status):
            return f"contested {status}"
        case NotDelivered():
            return "not delivered"
        case InDoubt(_, brief, share, nonsense):
            how = f", listed once, then by {share}" if brief else "" if share == 1 else f", then by {share}"
            return "in doubt" + how + (", two rounds" if nonsense else "")


def shapes(judged: Judgement) -> str:
    """The fates of a request, once if they are all the same."""
    return " | ".join(dict.fromkeys(map(shape, judged.fates)))


def told(fault: Fault | None) -> str:
    """A fault without its words: scope, kind, subject, wait and cure."""
    if fault is None:
        return ""
    wait = "" if fault.wait is None else f"{fault.wait:g}"
    return " ".join(filter(None, [fault.scope, fault.kind, fault.subject, wait, fault.cure]))


def held(outcome: Exchange, one: str, three: str, fault: str) -> None:
    """Hold what becomes of one file, of three, and of the world against what is expected."""
    alone, together = judge(outcome, ONE, ISSUE), judge(outcome, THREE, ISSUE)

    assert (shapes(alone), told(alone.fault)) == (one, fault)
    assert (shapes(together), told(together.fault)) == (three, fault)


NOT, DOUBT, NONSENSE = "not delivered", "in doubt", "in doubt, two rounds"
SINGLY, ALL_THREE = "in doubt, listed once, then by 1", "in doubt, listed once, then by 3"
UNREACHABLE, NETWORK, STRANGER = "site unreachable probe", "site network probe", "site proxy probe"
TROUBLE, LOGIN_PAGE, ACCOUNT = "endpoint server-error time", "account login-page probe", "account refused probe"
CAPTCHA, REDIRECT = "account captcha 600 probe", "site redirect probe"
BOTH = pytest.mark.parametrize("exhausted", [True, False])


# --- "could not connect, pool, TLS, proxy, DNS | not delivered | site, growing probes; a certificate fault says so" ----


def test_nothing_connected() -> None:
    held(Broken(Stage.CONNECTING, "ConnectError: Connection refused"), NOT, NOT, UNREACHABLE)


def test_a_certificate_that_was_not_accepted_says_so() -> None:
    outcome = Broken(Stage.CONNECTING, "CERTIFICATE_VERIFY_FAILED: self-signed", certificate=True)

    held(outcome, NOT, NOT, "site certificate probe")
    assert "certificate" in reason(judge(outcome, ONE, ISSUE).fault)
    assert "jira.ca_file" in reason(judge(outcome, ONE, ISSUE).fault)


def test_a_client_certificate_that_was_not_accepted_says_so() -> None:
    error = "ReadError: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2576)"
    outcome = Broken(Stage.CONNECTING, error, certificate=True)

    held(outcome, NOT, NOT, "site certificate probe")
    assert "jira.client_cert_file" in reason(judge(outcome, ONE, ISSUE).fault)


def reason(fault: Fault | None) -> str:
    assert fault is not None
    return fault.reason


# --- "200, JSON, ids | stored" --------------------------------------------------------------------------------------


def fates(body: Any, *files: tuple[str, int], **options: Any) -> list[str]:
    sent = [Sent(name, size) for name, size in files]
    return [shape(fate) for fate in judge(reply(200, body, **options), sent, ISSUE).fates]


def test_stored() -> None:
    held(reply(200, RIGHT[1]), "stored 1", NONSENSE, "")
    held(reply(200, RIGHT[3]), NONSENSE, "stored 1 | stored 2 | stored 3", "")


def test_the_name_that_jira_gave_is_kept() -> None:
    judged = judge(reply(200, attachments(("7", "a (2).txt", 10))), ONE, ISSUE)

    assert judged.fates == (Stored("7", "a (2).txt"),)


def test_one_object_where_a_list_is_usual() -> None:
    held(reply(200, RIGHT[1][0]), "stored 1", NONSENSE, "")


@pytest.mark.parametrize("identity", [20001, "20001"])
def test_an_id_is_text_whatever_jira_makes_it(identity: Any) -> None:
    assert fates(attachments((identity, "a.txt", 10)), ("a.txt", 10)) == ["stored 20001"]


def test_several_by_name_and_size_in_any_order() -> None:
    body = attachments(("3", "c", 5), ("1", "a", 5), ("2", "b", 7))

    assert fates(body, ("a", 5), ("b", 7), ("c", 5)) == ["stored 1", "stored 2", "stored 3"]


def test_several_of_one_name_by_their_sizes() -> None:
    body = attachments(("2", "A.txt", 7), ("1", "A.txt", 5))

    assert fates(body, ("A.txt", 5), ("A.txt", 7)) == ["stored 1", "stored 2"]


def test_names_are_compared_as_jira_may_have_changed_their_form() -> None:
    body = attachments(("1", "U\u0308ber.pdf ", 5), ("2", "Aber.pdf", 5))

    assert fates(body, ("Aber.pdf", 5), ("Über.pdf", 5)) == ["stored 2", "stored 1"]


def test_changed_names_by_size() -> None:
    body = attachments(("2", "y", 7), ("1", "x", 5))

    assert fates(body, ("a", 5), ("b", 7)) == ["stored 1", "stored 2"]


def test_equal_sizes_with_changed_names_in_part_order() -> None:
    body = attachments(("1", "x", 5), ("2", "y", 5), ("3", "c", 5))

    found = fates(body, ("a", 5), ("b", 5), ("c", 5))

    assert found == ["stored 1, pairing unknown", "stored 2, pairing unknown", "stored 3"]


def test_a_single_changed_name_among_equal_sizes_is_known_by_elimination() -> None:
    body = attachments(("1", "x", 5), ("2", "b", 5))

    assert fates(body, ("a", 5), ("b", 5)) == ["stored 1", "stored 2"]


@pytest.mark.parametrize("name", ["a.txt", "renamed.txt"])
def test_one_file_of_the_wrong_size(name: str) -> None:
    """Failed with the id, a person must look."""
    judged = judge(reply(200, attachments(("9", name, 11))), ONE, ISSUE)

    (fate,) = judged.fates
    assert isinstance(fate, Misstored)
    assert (fate.attachment, fate.name) == ("9", name)
    assert "11" in fate.reason
    assert "person" in fate.reason
    assert judged.fault is None


def test_several_with_a_wrong_size_lose_no_file_that_was_stored_right() -> None:
    body = attachments(("1", "a.txt", 10), ("2", "b.txt", 21), ("3", "c.txt", 30))

    assert fates(body, *((f.name, f.size) for f in THREE)) == ["stored 1", "wrong 2", "stored 3"]


def test_several_of_wrong_sizes_are_not_mistaken_for_each_other() -> None:
    body = attachments(("1", "a", 20), ("2", "b", 21))

    assert fates(body, ("a", 10), ("b", 20)) == ["wrong 1", "wrong 2"]


def test_several_with_a_wrong_size_and_changed_names() -> None:
    body = attachments(("1", "x", 10), ("2", "y", 21))

    assert fates(body, ("a", 10), ("b", 20)) == ["stored 1", "wrong 2"]


@pytest.mark.parametrize("size", [True, 10.0, "10", None])
def test_a_size_that_is_no_whole_number_proves_nothing(size: Any) -> None:
    assert fates(attachments(("1", "a", size)), ("a", 1)) == [NONSENSE]


def test_a_failed_login_takes_nothing_back() -> None:
    """`X-Seraph-LoginReason` not OK: account. Stored all the same."""
    outcome = reply(200, RIGHT[1], x_seraph_loginreason="AUTHENTICATED_FAILED")

    held(outcome, "stored 1", NONSENSE, ACCOUNT)


@pytest.mark.parametrize("text", ["OK", "ok", " OK ", "OK, OK", "OK,", ""])
def test_a_login_that_went_well(text: str) -> None:
    assert not failed_login(reply(200, RIGHT[1], x_seraph_loginreason=text))


@pytest.mark.parametrize("text", ["AUTHENTICATED_FAILED", "AUTHENTICATION_DENIED", "OUT", "OK, OUT", "OKAY", "?"])
def test_what_is_not_known_to_be_ok_is_not_ok(text: str) -> None:
    assert failed_login(reply(200, RIGHT[1], x_seraph_loginreason=text))


def test_a_captcha_takes_nothing_back() -> None:
    outcome = reply(200, RIGHT[1], x_authentication_denied_reason="CAPTCHA_CHALLENGE; login-url=x")

    held(outcome, "stored 1", NONSENSE, CAPTCHA)


# --- "200 otherwise | in doubt, at most two rounds | account if a login page" ---------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        [],
        {},
        [[]],
        [None],
        "text",
        b'[{"id": "20',
        b"\xff\xfe\x00",
        b"null",
        b"NaN",
        b"[" * 200_000,
        [{"filename": "a.txt", "size": 10}],
        [{"id": "", "filename": "a.txt", "size": 10}],
        [{"id": None, "filename": "a.txt", "size": 10}],
        [{"id": True, "filename": "a.txt", "size": 10}],
        [{"id": ["1"], "filename": "a.txt", "size": 10}],
        [{"id": "1", "size": 10}],
        [{"id": "1", "filename": "a.txt"}],
        attachments(("1", "a.txt", 10), ("2", "a.txt", 10)),
        attachments(("1", "a.txt", 10), ("1", "b.txt", 20), ("3", "c.txt", 30)),
        {"errorMessages": ["No."]},
    ],
    ids=lambda body: repr(body)[:40],
)
def test_a_200_that_proves_nothing(body: Any) -> None:
    held(reply(200, body), NONSENSE, NONSENSE, "")


@pytest.mark.parametrize("kind", ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml; html", TEXT])
def test_a_200_that_is_a_login_page(kind: str) -> None:
    held(reply(200, PAGE, content_type=kind), NONSENSE, NONSENSE, LOGIN_PAGE)


def test_a_page_is_known_by_its_label_as_well() -> None:
    held(reply(200, "Log in", content_type="TEXT/HTML"), NONSENSE, NONSENSE, LOGIN_PAGE)


def test_a_login_page_that_says_why() -> None:
    outcome = reply(200, PAGE, x_seraph_loginreason="AUTHENTICATION_DENIED", x_authentication_denied_reason="CAPTCHA_X")

    held(outcome, NONSENSE, NONSENSE, CAPTCHA)


@BOTH
@pytest.mark.parametrize("status", [201, 202, 204, 206, 299])
def test_another_success_is_a_status_not_named(status: int, exhausted: bool) -> None:
    held(reply(status, RIGHT[1], exhausted=exhausted), DOUBT, DOUBT, "")


@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_success_before_the_body_ended_is_in_doubt(status: int) -> None:
    judged = judge(reply(status, RIGHT[1], exhausted=False), ONE, ISSUE)

    assert isinstance(judged.fates[0], InDoubt)
    assert "before" in judged.fates[0].reason
    assert judged.fault is None


def test_a_success_that_came_before_all_had_left_is_in_doubt() -> None:
    """Where a write may have come far enough into the end, the rest counts as sent: no server error proves anything."""
    early = replace(reply(200, RIGHT[1]), abandoned=True)
    (fate,) = judge(early, ONE, ISSUE).fates
    assert isinstance(fate, InDoubt)
    assert "before" in fate.reason

    assert isinstance(judge(replace(early, status=503), ONE, ISSUE).fates[0], InDoubt)
    assert isinstance(judge(replace(early, status=401), ONE, ISSUE).fates[0], NotDelivered)


def test_a_login_page_before_the_body_ended() -> None:
    assert told(judge(reply(200, PAGE, exhausted=False), ONE, ISSUE).fault) == LOGIN_PAGE


def test_the_words_name_the_status_that_came() -> None:
    for status in (200, 201):
        (fate,) = judge(reply(status, []), ONE, ISSUE).fates
        assert isinstance(fate, InDoubt)
        assert str(status) in fate.reason


# --- "429 | not delivered (several files: one listing first) | by RateLimit-Reason" ---------------------------------


@BOTH
@pytest.mark.parametrize(
    ("given_reason", "fault"),
    [
        ("jira-per-issue-on-write", "issue rate-limit TEST-1 7 time"),
        ("jira-burst-based", "endpoint rate-limit 7 time"),
        ("jira-quota-global-based", "site rate-limit 7 time"),
        ("jira-quota-tenant-based", "site rate-limit 7 time"),
        ("something-new", "site rate-limit 7 time"),
        ("", "site rate-limit 7 time"),
    ],
)
def test_a_429_by_its_reason(given_reason: str, fault: str, exhausted: bool) -> None:
    outcome = reply(429, exhausted=exhausted, ratelimit_reason=given_reason, retry_after="7")

    held(outcome, NOT, ALL_THREE, fault)


def test_an_unknown_reason_for_a_pause_is_named() -> None:
    assert "something-new" in reason(judge(reply(429, ratelimit_reason="something-new"), ONE, ISSUE).fault)
    assert "no reason given" in reason(judge(reply(429), ONE, ISSUE).fault)


@pytest.mark.parametrize("body", [NO, PAGE, b"", b"{"])
def test_a_429_whatever_it_says(body: Any) -> None:
    held(reply(429, body, retry_after="7"), NOT, ALL_THREE, "site rate-limit 7 time")
    held(reply(429, body, whole=False, retry_after="7"), NOT, ALL_THREE, "site rate-limit 7 time")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "1847"}, 1847.0),
        ({"retry_after": " 7 "}, 7.0),
        ({"retry_after": "0.2"}, 0.2),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": "-5"}, 0.0),
        ({"retry_after": formatdate(NOW + 90, usegmt=True), "date": DATE}, 90.0),
        ({"retry_after": formatdate(NOW - 90, usegmt=True), "date": DATE}, 0.0),
        ({"retry_after": "Fri, 15 Jan 2027 08:01:30 -0000", "date": DATE}, 90.0),
        ({"retry_after": formatdate(NOW + 90, usegmt=True)}, None),
        ({"retry_after": formatdate(NOW + 90, usegmt=True), "date": "never"}, None),
        ({"retry_after": "99999999999"}, 99999999999.0),
        ({"retry_after": "1e999"}, None),
        ({"retry_after": "inf"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "5, 5"}, None),
        ({"retry_after": "Mon, 99 Foo 2027 08:00:00 GMT", "date": DATE}, None),
        ({"retry_after": ""}, None),
        ({}, None),
        ({"beta_retry_after": "60"}, None),
        ({"x_beta_ratelimit_reset": "2027-01-15T08:00:00Z"}, None),
    ],
)
def test_retry_after(headers: dict[str, Any], seconds: float | None) -> None:
    assert retry_after(reply(429, **headers)) == seconds


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({"retry_after": "0"}, "site rate-limit 1 time"),
        ({"retry_after": "-5"}, "site rate-limit 1 time"),
        ({"retry_after": "0.2"}, "site rate-limit 1 time"),
        ({}, "site rate-limit time"),
        ({"retry_after": "soon"}, "site rate-limit time"),
        ({"beta_retry_after": "60"}, "site rate-limit time"),
    ],
)
def test_a_429_waits_a_second_at_least_and_grows_where_jira_says_nothing(headers: dict[str, Any], fault: str) -> None:
    assert told(judge(reply(429, **headers), ONE, ISSUE).fault) == fault


# --- "401; X-Authentication-Denied-Reason | not delivered | account" ------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("body", "headers", "fault"),
    [
        (NO, {"x_seraph_loginreason": "AUTHENTICATED_FAILED"}, ACCOUNT),
        ({"message": "no"}, {}, ACCOUNT),
        ({"code": 401, "message": "Unauthorized; scope does not match"}, {}, "account scope probe"),
        (PAGE, {}, ACCOUNT),
        (b"", {}, ACCOUNT),
        ("Basic authentication with passwords is deprecated.", {}, ACCOUNT),
        (PAGE, {"x_authentication_denied_reason": "CAPTCHA_CHALLENGE; login-url=x"}, CAPTCHA),
    ],
)
def test_a_401(body: Any, headers: dict[str, Any], fault: str, exhausted: bool) -> None:
    held(reply(401, body, exhausted=exhausted, **headers), NOT, NOT, fault)
    held(
        reply(401, body, exhausted=exhausted, whole=False, **headers),
        NOT,
        NOT,
        fault if "scope" not in fault else ACCOUNT,
    )


def test_what_jira_says_of_the_account_is_told() -> None:
    assert reason(judge(reply(401), ONE, ISSUE).fault).endswith("(401: No.)")
    assert reason(judge(reply(401, b""), ONE, ISSUE).fault).endswith("(401)")


def test_a_missing_scope_is_named() -> None:
    outcome = reply(401, {"code": 401, "message": "Unauthorized; scope does not match"})

    assert "scope does not match" in reason(judge(outcome, ONE, ISSUE).fault)


@BOTH
@pytest.mark.parametrize("status", [400, 403, 404, 413])
@pytest.mark.parametrize("body", [NO, PAGE])
def test_a_captcha(status: int, body: Any, exhausted: bool) -> None:
    outcome = reply(status, body, exhausted=exhausted, x_authentication_denied_reason="CAPTCHA_CHALLENGE; login-url=x")

    held(outcome, NOT, NOT, CAPTCHA)


def test_another_reason_for_which_the_login_was_denied() -> None:
    held(reply(403, PAGE, x_authentication_denied_reason="BLOCKED"), NOT, NOT, ACCOUNT)


@pytest.mark.parametrize("status", [302, 408, 500, 503])
def test_a_denied_login_proves_nothing_of_a_status_that_proves_nothing(status: int) -> None:
    held(reply(status, PAGE, x_authentication_denied_reason="CAPTCHA_CHALLENGE"), DOUBT, DOUBT, CAPTCHA)


# --- 403 and 404 from Jira: contested for one file, in doubt for several, which are then sent singly -----------------


@BOTH
@pytest.mark.parametrize("status", [403, 404])
def test_a_403_or_404_in_jiras_words(status: int, exhausted: bool) -> None:
    held(reply(status, exhausted=exhausted, x_seraph_loginreason="OK"), f"contested {status}", SINGLY, "")


@BOTH
@pytest.mark.parametrize("status", [400, 403, 404, 413])
def test_a_4xx_that_says_that_the_login_failed_is_the_accounts(status: int, exhausted: bool) -> None:
    """What nobody in particular may do says nothing of what the account may do. Of several files some may be stored."""
    held(reply(status, exhausted=exhausted, x_seraph_loginreason="AUTHENTICATED_FAILED"), NOT, SINGLY, ACCOUNT)


@pytest.mark.parametrize("status", [403, 404])
def test_a_batch_that_an_issue_does_not_take_is_sent_singly(status: int) -> None:
    batch = [Sent(f"{number}.txt", number) for number in range(60)]

    assert shapes(judge(reply(status), batch, ISSUE)) == SINGLY


def test_a_contested_answer_keeps_jiras_words() -> None:
    assert judge(reply(404), ONE, ISSUE).fates == (Contested(404, "No."),)


# --- "413 with Jira's JSON, one file | refused"; "400, 411, 415 and other 4xx with Jira's JSON, one file | refused with
#     Jira's words"; "these and 413, several files, complete reply | one listing; ... halved" -------------------------


OTHERS = [400, 402, 405, 406, 407, 409, 410, 411, 412, 413, 414, 415, 418, 421, 422, 423, 425, 426, 428, 431, 451, 499]


@BOTH
@pytest.mark.parametrize("status", OTHERS)
def test_another_4xx_in_jiras_words(status: int, exhausted: bool) -> None:
    held(reply(status, exhausted=exhausted), "refused", SINGLY, "")
    (fate,) = judge(reply(status), ONE, ISSUE).fates
    assert isinstance(fate, Refused)
    assert "No." in fate.reason


def test_the_two_causes_of_a_413_are_told() -> None:
    (fate,) = judge(reply(413), ONE, ISSUE).fates

    assert isinstance(fate, Refused)
    assert "larger than Jira allows" in fate.reason
    assert "or the issue is full" in fate.reason


@pytest.mark.parametrize("status", [400, 413])
@pytest.mark.parametrize(("count", "half"), [(2, 1), (3, 1), (4, 2), (60, 30)])
def test_a_declined_batch_is_halved(status: int, count: int, half: int) -> None:
    batch = [Sent(f"{number}.txt", number) for number in range(count)]

    for body in (NO, NGINX) if status == 413 else (NO,):
        assert shapes(judge(reply(status, body), batch, ISSUE)) == f"in doubt, listed once, then by {half}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"errorMessages": ["One.", "Two."], "errors": {}, "status": 400}, "One.; Two."),
        ({"errorMessages": [], "errors": {"file": "Too large."}}, "Too large."),
        ({"errors": ["Odd."]}, "Odd."),
        ({"errors": "odd"}, "no explanation"),
        ({"errorMessage": "Single."}, "Single."),
        ({"errorMessages": ["Same."], "errorMessage": "Same.", "message": "Same."}, "Same."),
        ({"errorMessages": []}, "no explanation"),
        ({"errorMessages": None, "errors": None}, "no explanation"),
        ({"errorMessages": ["two\nlines\x1b[31m\x00"]}, "two lines [31m"),
        ({"errorMessages": [{"code": 5}]}, "{'code': 5}"),
        ({"errorMessages": ["cut \ud83d"]}, "cut"),
    ],
)
def test_jiras_words_in_every_shape(body: Any, words: str) -> None:
    (fate,) = judge(reply(400, body), ONE, ISSUE).fates

    assert fate == Refused(f"Jira refused the file (400: {words})")


def test_jiras_words_end_somewhere() -> None:
    (fate,) = judge(reply(400, {"errorMessages": ["x" * 100_000, *map(str, range(100_000))]}), ONE, ISSUE).fates

    assert isinstance(fate, Refused)
    assert len(fate.reason) < 10_000


@pytest.mark.parametrize("depth", range(900, 1000, 3))
def test_words_nested_as_deep_as_they_can_be_read_at_all(depth: int) -> None:
    body = b'{"errorMessages": ' + b"[" * depth + b"]" * depth + b"}"

    assert len(judge(reply(400, body), ONE, ISSUE).fates) == 1


# --- "413 without Jira's JSON | one file: refused naming the proxy" -------------------------------------------------


@BOTH
@pytest.mark.parametrize("whole", [True, False])
def test_a_413_of_a_proxy(exhausted: bool, whole: bool) -> None:
    outcome = reply(413, NGINX, exhausted=exhausted, whole=whole, server="nginx/1.22")

    held(outcome, "refused", SINGLY, "")
    (fate,) = judge(outcome, ONE, ISSUE).fates
    assert isinstance(fate, Refused)
    assert "proxy" in fate.reason
    assert "nginx/1.22" in fate.reason


@pytest.mark.parametrize("body", ["Payload Too Large", b"", {"message": "Request Too Long"}])
def test_a_413_of_a_gateway(body: Any) -> None:
    held(reply(413, body), "refused", SINGLY, "")


# --- "any other 4xx without Jira's JSON | not delivered | site: a proxy or a wrong base path answers, named" ---------


@BOTH
@pytest.mark.parametrize("status", [403, 404, *(status for status in OTHERS if status != 413)])
@pytest.mark.parametrize("body", [PAGE, "XSRF check failed", b"", {"message": "null for uri", "status-code": 404}, []])
def test_another_4xx_not_in_jiras_words(status: int, body: Any, exhausted: bool) -> None:
    held(reply(status, body, exhausted=exhausted), NOT, NOT, STRANGER)


def test_a_stranger_is_named() -> None:
    found = [
        reason(judge(outcome, ONE, ISSUE).fault)
        for outcome in (
            reply(403, "XSRF check failed\x1b[2J", server="AtlassianEdge\u0085"),
            reply(404, PAGE, via="1.1 squid"),
            reply(404, PAGE),
        )
    ]

    assert "XSRF check failed" in found[0]
    assert "AtlassianEdge" in found[0]
    assert "1.1 squid" in found[1]
    assert "unknown" in found[2]
    assert all("jira.url" in text and text.isprintable() for text in found)


# --- "body not exhausted: reset, write stall, our own abort | not delivered | site if it was the network" -----------


def test_a_connection_that_broke_in_the_body() -> None:
    held(Broken(Stage.SENDING, "WriteTimeout: timed out"), NOT, NOT, NETWORK)


@pytest.mark.parametrize("ours", [Changed("it has shrunk"), Cut("stopped"), OSError(5, "Input/output error")])
def test_a_body_that_we_ended(ours: Exception) -> None:
    held(Broken(Stage.SENDING, str(ours), ours=ours), NOT, NOT, "")
    (fate,) = judge(Broken(Stage.SENDING, str(ours), ours=ours), ONE, ISSUE).fates
    assert fate == NotDelivered(str(ours))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_before_the_body_ended(status: int) -> None:
    held(reply(status, b"", exhausted=False, location="https://sso.invalid/"), NOT, NOT, REDIRECT)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_error_of_the_server_before_the_body_ended(status: int) -> None:
    held(reply(status, PAGE, exhausted=False), NOT, NOT, TROUBLE)


@pytest.mark.parametrize("status", [101, 199, 408])
def test_a_status_not_named_before_the_body_ended(status: int) -> None:
    held(reply(status, b"", exhausted=False), NOT, NOT, "")


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
@pytest.mark.parametrize("body", [b'{"errorMess', b"", b"  "])
def test_an_answer_that_is_cut_before_the_body_ended(status: int, body: bytes) -> None:
    held(reply(status, body, whole=False, exhausted=False), NOT, NOT, NETWORK)


# --- "408, 5xx, time-out, reset, protocol error, cut answer, every status not named | in doubt | 5xx: endpoint, short;
#     3xx: site, naming Location" ------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [NO, PAGE, b""])
@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 507, 599])
def test_an_error_of_the_server(status: int, body: Any) -> None:
    held(reply(status, body), DOUBT, DOUBT, TROUBLE)
    held(reply(status, body, whole=False), DOUBT, DOUBT, TROUBLE)


@pytest.mark.parametrize(("given_text", "wait"), [("120", "120 "), ("0", "0 "), ("soon", "")])
def test_a_503_with_retry_after_is_in_doubt_all_the_same(given_text: str, wait: str) -> None:
    held(reply(503, NO, retry_after=given_text), DOUBT, DOUBT, f"endpoint server-error {wait}time")


def test_an_invalid_status_is_an_error_of_the_server() -> None:
    """RFC 9110, 15: an invalid status code is to be processed as a 5xx."""
    for status in (600, 700, 999):
        held(reply(status), DOUBT, DOUBT, TROUBLE)


@pytest.mark.parametrize("status", [100, 101, 103, 199, 408])
@pytest.mark.parametrize("body", [NO, PAGE, b""])
def test_a_status_not_named(status: int, body: Any) -> None:
    held(reply(status, body), DOUBT, DOUBT, "")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect(status: int) -> None:
    held(reply(status, b"", location="https://sso.invalid/login"), DOUBT, DOUBT, REDIRECT)
    assert "https://sso.invalid/login" in reason(
        judge(reply(status, location="https://sso.invalid/login"), ONE, ISSUE).fault
    )


def test_a_redirect_to_nowhere_and_one_of_any_length() -> None:
    assert "nowhere" in reason(judge(reply(302, b""), ONE, ISSUE).fault)
    assert len(reason(judge(reply(302, b"", location="https://x/?SAMLRequest=" + "A" * 9000), ONE, ISSUE).fault)) < 1000


@pytest.mark.parametrize("error", ["ReadTimeout: timed out", "ReadError: reset", "RemoteProtocolError: garbage"])
def test_a_connection_that_broke_behind_the_body(error: str) -> None:
    held(Broken(Stage.REPLY, error), DOUBT, DOUBT, "")


def test_a_certificate_that_is_refused_behind_the_handshake() -> None:
    """TLS 1.3: the server says so only when the client has already sent."""
    error = "ReadError: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2576)"

    held(Broken(Stage.REPLY, error, certificate=True), DOUBT, DOUBT, "site certificate probe")


@pytest.mark.parametrize("ours", [Changed("x"), OSError(5, "x")])
def test_whatever_happened_behind_the_body_it_is_in_doubt(ours: Exception) -> None:
    held(Broken(Stage.REPLY, "x", ours=ours), DOUBT, DOUBT, "")


@pytest.mark.parametrize("body", [b"", b'[{"id": "20'])
def test_a_200_that_is_cut_is_no_nonsense(body: bytes) -> None:
    held(reply(200, body, whole=False), DOUBT, DOUBT, "")


def test_a_200_that_is_cut_where_all_was_said_proves_nothing() -> None:
    held(reply(200, RIGHT[1], whole=False), DOUBT, DOUBT, "")


def test_a_login_page_that_is_cut() -> None:
    held(reply(200, PAGE, whole=False), NONSENSE, NONSENSE, LOGIN_PAGE)


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
@pytest.mark.parametrize("body", [b'{"errorMess', b"", b"  ", NO])
def test_a_4xx_that_is_cut_where_jira_may_have_spoken(status: int, body: Any) -> None:
    """Several files may be stored in part, which its words would have told us to look for."""
    held(reply(status, body, whole=False), DOUBT, DOUBT, "")


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_a_4xx_that_is_cut_and_certainly_not_jiras(status: int) -> None:
    held(reply(status, PAGE, whole=False), NOT, NOT, STRANGER)


# --- Dates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (DATE, NOW),
        ("Fri, 15 Jan 2027 08:00:00 -0000", NOW),
        ("Fri, 15 Jan 2027 08:00:00", NOW),
        ("Fri Jan 15 08:00:00 2027", NOW),
        ("Fri, 15 Jan 2027 09:00:00 +0100", NOW),
        ("", None),
        ("tomorrow", None),
        ("Fri, 15 Jan 99999 08:00:00 GMT", None),
        ("Fri, 15 Jan 2027 08:00:00 +99999999999999", None),
    ],
)
def test_a_date_is_gmt_whatever_the_zone_of_this_machine(
    text: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for zone in ("America/New_York", "UTC"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert parse_date(text) == seconds
    monkeypatch.undo()
    time.tzset()


@settings(deadline=None)
@given(st.text(alphabet="MonTueFri, 0123456789:JanGMT+-\u0661²\x00 ", max_size=40))
@example("Fri, 15 Jan 2027 08:00:00 ²")
@example("0 0 0 0 0 0 0")
def test_no_date_is_an_error(text: str) -> None:
    found = parse_date(text)

    assert found is None or isinstance(found, float)


# --- Whatever comes -------------------------------------------------------------------------------------------------


texts = st.text(max_size=20) | st.sampled_from(["a.txt", "b.txt", "a\udc00.txt", "\ud83d", "\x1b[2J", "20001"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
entries = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers(1, 4) | st.sampled_from(["1", "2", "3", "4", ""]) | scalars,
        "filename": st.sampled_from(["a.txt", "b.txt", "c.txt", "x"]) | scalars,
        "size": st.sampled_from([10, 20, 30]) | scalars,
        "created": scalars,
        "author": values,
    },
)
errors = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("errorMessages", "errors", "errorMessage", "message", "status"), values)
)
bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", PAGE.encode(), b"XSRF check failed", json.dumps(RIGHT[1]).encode(), json.dumps(RIGHT[3]).encode()]
    ),
    (values | st.lists(entries, max_size=4) | entries | errors).map(lambda value: json.dumps(value).encode()),
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "content-type": st.sampled_from([JSON, HTML, TEXT, "TEXT/HTML"]) | texts,
        "retry-after": st.sampled_from(["0", "-1", "7", "1e999", DATE]) | texts,
        "date": st.sampled_from([DATE]) | texts,
        "ratelimit-reason": st.sampled_from(["jira-per-issue-on-write", "jira-burst-based"]) | texts,
        "x-seraph-loginreason": st.sampled_from(["OK", "AUTHENTICATED_FAILED"]) | texts,
        "x-authentication-denied-reason": st.sampled_from(["CAPTCHA_CHALLENGE", ""]) | texts,
        "location": texts,
        "server": texts,
    },
)
statuses = st.integers(100, 999) | st.sampled_from(
    [200, 200, 200, 201, 302, 400, 401, 403, 404, 408, 413, 429, 500, 503]
)
replies = st.builds(Reply, statuses, headers, bodies, st.booleans(), st.booleans())
breaks = st.builds(
    Broken,
    st.sampled_from(Stage),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.booleans(),
    st.none() | st.sampled_from([Changed("x"), OSError(5, "x")]),
)
batches = st.sampled_from([ONE, THREE[:2], THREE, (Sent("a.txt", 10), Sent("b.txt", 10))])


def may_hold(outcome: Exchange, count: int) -> bool:
    """Whether Jira may hold something of the request, as the table has it: everything that it does not exclude."""
    if isinstance(outcome, Broken):
        return outcome.stage is Stage.REPLY
    if 200 <= outcome.status < 300:
        return True
    if outcome.status == 429:
        return count > 1
    if outcome.status == 408 or not 400 <= outcome.status < 500:
        return outcome.exhausted
    if outcome.status == 401 or outcome.headers.get("x-authentication-denied-reason"):
        return False
    return declined_may_hold(outcome, count)


def declined_may_hold(outcome: Reply, count: int) -> bool:
    page = "html" in outcome.headers.get("content-type", "").lower() or outcome.body.lstrip().startswith(b"<")
    if not outcome.whole and not page:
        return outcome.exhausted
    return count > 1 and (outcome.status == 413 or speaks_as_jira(outcome))


def speaks_as_jira(outcome: Reply) -> bool:
    try:
        body = json.loads(outcome.body)
    except ValueError:
        return False
    return outcome.whole and isinstance(body, dict) and bool({"errorMessages", "errors", "errorMessage"} & set(body))


@settings(deadline=None)
@given(replies | breaks, batches)
@example(reply(400, {"errorMessages": ["\ud83d"]}), ONE)
@example(reply(200, [{"id": "1", "filename": "a.txt", "size": 10, "created": 10**400}]), ONE)
@example(reply(200, [{"id": "1", "filename": "a\ud83d.txt", "size": 10}]), ONE)
def test_every_file_has_a_fate_and_none_is_sent_again_that_may_be_stored(
    outcome: Exchange, files: tuple[Sent, ...]
) -> None:
    judged = judge(outcome, files, ISSUE)

    assert len(judged.fates) == len(files)
    harmless = [isinstance(fate, NotDelivered | Refused | Contested) for fate in judged.fates]
    assert harmless == [not may_hold(outcome, len(files))] * len(files)
    for text in words_of(judged):
        text.encode()  # the journal takes nothing that is no UTF-8


def words_of(judged: Judgement) -> list[str]:
    found: list[str] = [] if judged.fault is None else [judged.fault.reason, judged.fault.subject]
    for fate in judged.fates:
        match fate:
            case Stored():
                found += [fate.attachment, fate.name, fate.remark]
            case Misstored():
                found += [fate.attachment, fate.name, fate.reason]
            case _:
                found.append(fate.reason)
    return found


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), min_size=1, max_size=4, unique_by=lambda f: f[0]),
    st.data(),
)
def test_what_is_stored_is_credited_once_and_of_its_own_size(files: list[tuple[str, int]], data: st.DataObject) -> None:
    names, sizes = st.sampled_from("abcxyz"), st.integers(1, 3)
    answered = data.draw(st.lists(st.tuples(names, sizes), min_size=len(files), max_size=len(files)))
    body = attachments(*((str(number), name, size) for number, (name, size) in enumerate(answered)))

    judged = judge(reply(200, body), [Sent(*file) for file in files], ISSUE)

    credited = [fate.attachment for fate in judged.fates if isinstance(fate, Stored | Misstored)]
    assert sorted(credited) == [str(number) for number in range(len(files))]
    for fate, (name, size) in zip(judged.fates, files, strict=True):
        assert isinstance(fate, Stored | Misstored)
        there = answered[int(fate.attachment)]
        assert not isinstance(fate, Stored) or there[1] == size
        assert (name, size) not in answered or isinstance(fate, Stored)
        assert (name, size) not in answered or there == (name, size)


@settings(deadline=None)
@given(replies, batches)
def test_a_fault_takes_nothing_back(outcome: Reply, files: tuple[Sent, ...]) -> None:
    """The headers by which an account or a site is at fault change no fate of a 2xx."""
    bare: Mapping[str, str] = {k: v for k, v in outcome.headers.items() if k == "content-type"}
    outcome = replace(outcome, status=200)

    assert judge(outcome, files, ISSUE).fates == judge(replace(outcome, headers=bare), files, ISSUE).fates


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("body", ["XSRF check failed", "<html><body><h1>XSRF check failed</h1></body></html>"])
def test_a_failed_xsrf_check_is_told_as_what_it_is(status: int, body: str) -> None:
    judged = judge(reply(status, body), [Sent("a.txt", 1)], "TEST-1")

    assert isinstance(judged.fates[0], NotDelivered)
    assert judged.fault is not None
    assert f"{status} “XSRF check failed”" in judged.fault.reason
    assert "X-Atlassian-Token" in judged.fault.reason
    assert "a web page" not in judged.fault.reason
