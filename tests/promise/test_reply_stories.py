"""Rules of docs/design/delivery.md that take more than one request to show; each reply is given over a socket."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from attachd.model import State
from attachd.standin import Fault
from socket_jira import LARGE, SHORT, Like, Wired, wired

JSON = {"content_type": "application/json"}
BLOCKED = {"status": 403, "content_type": "text/html", "body": "<html>blocked</html>"}
SITES = pytest.mark.parametrize("site", ["Cloud", "Server"])
TWINS = ["TEST-1/a-b.txt", "TEST-1/a/b.txt"]


@pytest.fixture
def w(tmp_path: Path) -> Iterator[Wired]:
    """Cloud, met already."""
    with wired(tmp_path) as made:
        made.meet()
        yield made


@pytest.fixture
def dc(tmp_path: Path) -> Iterator[Wired]:
    """Data Center, met already."""
    with wired(tmp_path, deployment="Server") as made:
        made.meet()
        yield made


def pass_time(w: Wired, seconds: float) -> None:
    """Let time pass, and the program do what is due then."""
    w.clock.advance(seconds)
    w.deliver()


def pass_hours(w: Wired, hours: float) -> None:
    """Let hours pass, in steps of five minutes."""
    for _ in range(round(hours * 12)):
        pass_time(w, 300.0)


def accepted(w: Wired, path: str) -> None:
    """A file that nothing speaks against is delivered."""
    w.clock.advance(1.0)
    w.drop(path, path.encode())
    w.deliver()
    assert w.row(path).state is State.DONE


# --- Nothing connected ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One that no authority signed."""
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(cert), "-keyout", str(key)]
    subprocess.run(["openssl", "req", "-x509", *kind, *files], check=True, capture_output=True)
    return cert, key


@SITES
def test_an_unknown_certificate_holds_the_site_until_it_is_known(
    tmp_path: Path, certificate: tuple[Path, Path], site: str
) -> None:
    with wired(tmp_path, deployment=site, tls=certificate) as w:
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()

        assert (w.stand(), w.paused(), w.requests()) == ("waits", "site::certificate", "")
        assert "certificate" in w.told()

        w.tables["jira"]["ca_file"] = str(certificate[0])
        w.restart()
        w.settle(hours=2)
        assert w.contents("TEST-1") == [b"a"]
        assert len(w.uploads()) == 1


def test_a_proxy_where_nobody_listens_holds_the_site(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    with wired(tmp_path, jira={"proxy": f"http://127.0.0.1:{closed}"}) as w:
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()

        assert (w.stand(), w.paused(), w.requests()) == ("waits", "site::unreachable", "")


@SITES
@pytest.mark.parametrize("point", ["accept", "headers"])
def test_a_reset_at_once_delivers_the_file_once_all_the_same(tmp_path: Path, site: str, point: str) -> None:
    """Whether the reset is seen before anything was sent (a second try is made at once), while or after the bytes were
    handed over is a race that ends well each way.
    """
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.reconnect()
        w.drop("TEST-1/a.txt", b"a")
        where = "any" if point == "accept" else "upload"
        w.jira.faults.add(Fault("reset", where=where, point=point))

        w.settle()

        assert (w.stand(), w.contents("TEST-1")) == ("attached", [b"a"])
        assert not w.jira.faults.pending()


# --- 200 ------------------------------------------------------------------------------------------------------------

NOTHING_NAMED = ["html200", "empty200", "emptylist200", "nojson200"]


@SITES
@pytest.mark.parametrize("kind", NOTHING_NAMED)
def test_a_200_that_proves_nothing_is_believed_twice_at_most(tmp_path: Path, site: str, kind: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.faults.add(Fault(kind, times=-1))
        w.drop("TEST-1/a.txt", b"a")

        w.settle()

        assert (w.stand(), len(w.uploads()), w.on("TEST-1")) == ("a-person", 2, [])


@SITES
def test_wrong_sizes_in_a_second_issue_hold_the_site(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.faults.add(Fault("wrongsize200", times=2))
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()
        assert w.paused() == ""
        w.drop("TEST-2/b.txt", b"b")
        w.drop("TEST-3/c.txt", b"c")

        w.deliver()

        assert w.paused() == "site::wrong-size"
        assert sorted(w.stand(issue) for issue in ("TEST-1", "TEST-2", "TEST-3")) == ["failed", "failed", "waits"]
        w.settle()
        assert sorted(w.stand(issue) for issue in ("TEST-1", "TEST-2", "TEST-3")) == ["attached", "failed", "failed"]


@SITES
def test_equal_sizes_under_changed_names_are_credited_and_said_to_be_unsure(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.faults.add(Fault("rename"))
        for name in "abc":
            w.drop(f"TEST-1/{name}.txt", name.encode())

        w.deliver()

        assert (w.stand(), w.requests()) == ("attached attached attached", "POST 3")
        assert all("pairing unknown" in (row.reason or "") for row in w.of("TEST-1"))
        assert {row.attachment for row in w.of("TEST-1")} == {it.id for it in w.on("TEST-1")}
        w.proven()


# --- 429 and Retry-After (also docs/design/delivery.md, "Pauses and waits") -----------------------------------------


def throttle(w: Wired, seconds: str | None, more: dict[str, str] | None = None) -> None:
    """One upload meets a 429 that holds everything."""
    headers = {"RateLimit-Reason": "jira-quota-tenant-based"} | ({} if seconds is None else {"Retry-After": seconds})
    w.jira.faults.add(Fault("status", status=429, headers=headers | (more or {}), body='{"errorMessages": []}', **JSON))
    w.drop("TEST-1/a.txt", b"a")
    w.deliver()
    assert (w.stand(), w.paused(), len(w.uploads())) == ("waits", "site::rate-limit", 1)


def date_in(w: Wired, seconds: float) -> str:
    from email.utils import formatdate

    return formatdate(w.clock.now() + seconds, usegmt=True)


@SITES
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_a_minimum_in_either_form(tmp_path: Path, site: str, form: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.store.clock_skew = 7200.0  # the date counts against the reply's own
        throttle(w, "600" if form == "seconds" else date_in(w, 7200.0 + 600.0))

        pass_time(w, 598.0)
        assert len(w.uploads()) == 1
        pass_time(w, 302.0)

        assert (w.stand(), len(w.uploads())) == ("attached", 2)


def test_a_site_that_is_down_for_maintenance_is_asked_no_sooner_than_it_says(tmp_path: Path) -> None:
    """A 503 to a question, not to an upload: asked again every few seconds, it would be one of many that do so."""
    with wired(tmp_path) as w:
        w.jira.faults.add(Fault("status", status=503, headers={"Retry-After": "120"}, where="serverInfo", times=50))
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()
        assert (w.stand(), w.paused()) == ("waits", "site::server-error")
        before = len(w.seen())

        pass_time(w, 118.0)
        assert len(w.seen()) == before
        w.jira.faults.clear()
        pass_time(w, 120.0)

        assert w.stand() == "attached"


def test_a_429_with_retry_after_0_waits_a_second_at_least(w: Wired) -> None:
    throttle(w, "0")

    pass_time(w, 0.9)
    assert len(w.uploads()) == 1
    pass_time(w, 10.0)

    assert w.stand() == "attached"


def test_a_beta_header_is_not_obeyed(w: Wired) -> None:
    throttle(w, None, {"Beta-Retry-After": "36000", "X-Beta-RateLimit-Reset": "2038-01-01T00:00:00Z"})

    pass_time(w, 60.0)

    assert w.stand() == "attached"


def test_a_wait_of_many_hours_is_tried_every_two(w: Wired) -> None:
    throttle(w, str(20 * 3600))

    pass_time(w, 2 * 3600 - 10.0)
    assert len(w.seen()) == 1
    pass_time(w, 3600.0)

    assert w.stand() == "attached"


def test_a_throttled_issue_holds_up_no_other(w: Wired) -> None:
    w.jira.faults.add(Fault("ratelimit", reason="jira-per-issue-on-write", retry_after="600", issue="TEST-1"))
    for issue in ("TEST-1", "TEST-2"):
        w.drop(f"{issue}/a.txt", b"a")

    w.deliver()

    assert (w.stand("TEST-1"), w.stand("TEST-2")) == ("waits", "attached")


def test_a_throttled_endpoint_is_still_looked_at(w: Wired) -> None:
    w.jira.faults.add(Fault("reset", issue="TEST-1"), Fault("ratelimit", retry_after="600", issue="TEST-2"))
    for issue in ("TEST-1", "TEST-2", "TEST-3"):
        w.drop(f"{issue}/a.txt", b"a")
    w.deliver()

    pass_time(w, 10.0)

    assert w.paused() == "endpoint::rate-limit"
    assert w.stand("TEST-1") == "attached"
    assert len(w.uploads()) in (2, 3)


def test_a_per_issue_429_of_several_files_makes_the_sites_requests_smaller(w: Wired) -> None:
    """Nobody knows whether Jira counts files or requests."""
    w.jira.faults.add(Fault("ratelimit", reason="jira-per-issue-on-write", retry_after="5"))
    for number in range(12):
        w.drop(f"TEST-1/{number}.txt", b"%d" % number)
    w.settle()
    for number in range(12):
        w.drop(f"OPS-1/{number}.txt", b"%d" % number)
    w.settle()

    first, *others = [upload.files for upload in w.uploads()]
    assert first == 12
    assert max(others) < 12
    assert len(w.on("TEST-1")) == len(w.on("OPS-1")) == 12


def test_data_centers_bucket_says_retry_after_0_all_the_time(dc: Wired) -> None:
    dc.jira.store.limits = True
    for number in range(4):
        accepted(dc, f"TEST-1/{number}.txt")

    assert dc.paused() == ""


def test_data_center_starts_with_20_files_in_a_request(dc: Wired) -> None:
    for number in range(60):
        dc.drop(f"TEST-1/{number:02}.txt", b"%d" % number)

    dc.settle()

    assert dc.uploads()[0].files == 20
    assert len(dc.on("TEST-1")) == 60


# --- The account ----------------------------------------------------------------------------------------------------


@SITES
def test_a_token_that_is_refused_costs_one_upload_and_moves_nothing(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.store.token = "another"
        for number in range(1, 4):
            w.drop(f"TEST-{number}/a.txt", b"a")
        w.settle(hours=1)

        assert len(w.uploads()) == 1
        assert [w.stand(f"TEST-{number}") for number in range(1, 4)] == ["waits"] * 3
        assert w.paused().startswith("account::")
        w.write_token("another")
        w.settle(hours=1)
        assert [w.stand(f"TEST-{number}") for number in range(1, 4)] == ["attached"] * 3


# --- 403 and 404 ----------------------------------------------------------------------------------------------------


@SITES
def test_any_success_makes_a_held_404_believed(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.store.invisible = {"TEST-1"}
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()
        assert w.stand() == "held"

        accepted(w, "OPS-1/b.txt")

        w.deliver()
        assert (w.stand(), w.paused()) == ("failed", "")


@SITES
def test_a_404_without_a_witness_is_believed_after_the_hold(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.store.invisible = {"TEST-1"}
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()

        pass_time(w, 115.0)
        assert w.stand() == "held"
        pass_time(w, 10.0)
        assert (w.stand(), len(w.uploads())) == ("failed", 1)


@SITES
def test_three_issues_held_blow_the_fuse_and_nothing_is_filed(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.store.invisible = {"TEST"}
        for number in range(1, 4):
            w.drop(f"TEST-{number}/a.txt", b"a")

        pass_hours(w, 6)

        assert [w.stand(f"TEST-{number}") for number in range(1, 4)] == ["held"] * 3
        assert len(w.uploads()) == 3
        accepted(w, "OPS-1/b.txt")
        w.deliver()
        assert [w.stand(f"TEST-{number}") for number in range(1, 4)] == ["failed"] * 3


@SITES
def test_no_witness_of_two_is_visible_any_more_so_the_account_is_to_blame(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        accepted(w, "OPS-1/a.txt")
        accepted(w, "OPS-2/a.txt")
        w.jira.store.invisible = {"TEST", "OPS"}
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()

        assert (w.stand(), w.paused()) == ("waits", "account::no-witness")
        w.jira.store.invisible = set()
        w.settle(hours=2)
        assert w.stand() == "attached"


def test_the_pause_without_a_witness_lasts_while_none_is_visible(w: Wired) -> None:
    """It ends when one is visible, a file is accepted, or by hand; not when the account merely answers."""
    accepted(w, "OPS-1/a.txt")
    accepted(w, "OPS-2/a.txt")
    w.jira.store.invisible = {"TEST", "OPS"}
    w.drop("TEST-1/a.txt", b"a")
    w.count_anew()

    w.settle(hours=3)

    assert (w.stand(), w.paused()) == ("waits", "account::no-witness")
    assert len(w.uploads()) == 1


def test_one_witness_alone_that_is_invisible_is_struck_off(w: Wired) -> None:
    """And the refusal is held, as without a witness."""
    accepted(w, "OPS-1/a.txt")
    w.jira.store.invisible = {"TEST-1", "OPS-1"}
    w.drop("TEST-1/a.txt", b"a")
    w.deliver()
    assert (w.stand(), w.paused()) == ("held", "")
    w.drop("TEST-1/b.txt", b"b")
    pass_time(w, 130.0)
    w.count_anew()

    pass_time(w, 130.0)

    assert w.stand() == "failed failed"
    assert [r.path.rpartition("/")[2] for r in w.seen() if r.path.endswith("OPS-1")] == []


@SITES
def test_a_403_is_believed_once_another_issue_of_the_project_accepts_a_file(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.store.read_only = {"TEST-1"}
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()
        assert (w.stand(), w.paused()) == ("held", "project:TEST:forbidden")
        w.drop("TEST-2/b.txt", b"b")
        w.drop("OPS-1/c.txt", b"c")
        w.deliver()
        assert (w.stand("TEST-2"), w.stand("OPS-1")) == ("waits", "attached")

        w.settle(hours=3)

        assert (w.stand(), w.stand("TEST-2"), w.paused()) == ("failed", "attached", "")


@SITES
@pytest.mark.parametrize("files", [1, 4])
def test_a_403_that_stays_is_tried_hourly_and_refused_after_a_day(tmp_path: Path, site: str, files: int) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.store.read_only = {"TEST"}
        for number in range(files):
            w.drop(f"TEST-1/{number}.txt", b"x" * (number + 1))
        pass_hours(w, 23)

        assert set(w.stand().split()) <= {"held", "waits"}
        assert 20 <= len(w.uploads()) <= 26
        pass_hours(w, 4)
        assert w.stand() == " ".join(["failed"] * files)


@SITES
@pytest.mark.parametrize("setting", ["invisible", "read_only"])
def test_an_issue_that_accepted_files_and_refuses_now_is_paused_alone(tmp_path: Path, site: str, setting: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        for path in ("TEST-1/first.txt", "TEST-2/first.txt", "OPS-1/first.txt"):
            accepted(w, path)
        w.jira.store.configure({setting: ["TEST-1"]})
        w.drop("TEST-1/second.txt", b"second")
        w.drop("TEST-2/second.txt", b"second")
        w.deliver()
        pass_hours(w, 1.5)
        assert (w.stand(), w.stand("TEST-2")) == ("attached held", "attached attached")

        accepted(w, "TEST-2/third.txt")

        assert w.stand() == "attached held"
        w.jira.store.configure({setting: []})
        w.settle(hours=2)
        assert w.stand() == "attached attached"


def test_data_center_says_404_of_a_file_that_is_larger_than_its_limit_is_now(dc: Wired) -> None:
    dc.clock.advance(300.0)
    dc.jira.store.upload_limit = 10
    dc.drop("TEST-1/a.txt", b"eleven byte")

    dc.deliver()

    assert (dc.stand(), dc.paused()) == ("failed", "")
    assert "larger than the 10 bytes" in (dc.row("TEST-1/a.txt").reason or "")


# --- Limits ---------------------------------------------------------------------------------------------------------


@SITES
def test_a_limit_that_was_raised_meanwhile_is_asked_for_before_a_refusal(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.jira.store.upload_limit = 5
        w.meet()
        w.jira.store.upload_limit = 50
        w.clock.advance(61.0)
        w.drop("TEST-1/a.txt", b"ten bytes.")

        w.deliver()

        assert (w.stand(), w.requests()) == ("attached", "POST 1, 2 meta")


def test_what_a_proxy_lets_through_is_learned(w: Wired) -> None:
    """After its 413 no request to any issue is larger than what it declined."""
    w.jira.store.proxy_limit = 700_000
    for issue in ("TEST-1", "OPS-1"):
        for number in range(4):
            w.drop(f"{issue}/{number}.txt", bytes([number]) * 300_000)
        w.settle()

    assert [r.status for r in w.uploads()].count(413) == 1
    assert (w.stand("TEST-1"), w.stand("OPS-1")) == (" ".join(["attached"] * 4),) * 2


# --- A body that did not reach its end ------------------------------------------------------------------------------


@SITES
def test_our_own_abort_delivers_nothing_and_pauses_nothing(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.drop("TEST-1/a.txt", LARGE)
        w.scan()
        w.runtime.cutting.set()
        w.step()

        assert (w.stand(), w.paused(), w.on("TEST-1")) == ("waits", "", [])
        w.runtime.cutting.clear()
        w.settle()
        assert (w.stand(), w.contents("TEST-1")) == ("attached", [LARGE])


# --- In doubt (docs/design/delivery.md, "In doubt") -----------------------------------------------------------------


@SITES
def test_a_503_asks_for_its_wait_even_after_the_whole_body(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.faults.add(Fault("status", status=503, headers={"Retry-After": "900"}, commit=True))
        w.drop("TEST-1/a.txt", b"a")
        w.drop("TEST-2/b.txt", b"b")
        w.deliver()
        pass_time(w, 890.0)

        assert (w.paused(), len(w.uploads())) == ("endpoint::server-error", 1)
        w.settle()
        assert (w.stand("TEST-1"), w.stand("TEST-2"), len(w.uploads())) == ("attached", "attached", 2)


@SITES
@pytest.mark.parametrize("delay", [20.0, 100.0, 170.0], ids=["first-look", "last-look", "look-before-sending"])
def test_a_late_commit_is_found_and_not_sent_again(tmp_path: Path, site: str, delay: float) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.faults.add(Fault("late", status=504, delay=delay))
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()
        assert (w.stand(), w.on("TEST-1")) == ("in-doubt", [])

        w.settle()

        assert (w.stand(), len(w.uploads()), w.contents("TEST-1")) == ("attached", 1, [b"a"])


@pytest.mark.parametrize("status", [500, None])
def test_of_twins_by_their_stored_name_only_one_is_in_doubt_at_a_time(w: Wired, status: int | None) -> None:
    w.jira.faults.add(Fault("late", status=status, delay=1.0), Fault("reset", point="last-byte"))
    w.drop(TWINS[0], b"first")
    w.drop(TWINS[1], b"other")
    w.deliver()
    assert w.stand() == "in-doubt waits"

    w.settle()

    assert (w.stand(), sorted(w.contents("TEST-1"))) == ("attached attached", [b"first", b"other"])
    assert {upload.files for upload in w.uploads()} == {1}
    w.proven()


def test_what_is_in_doubt_holds_up_nothing_of_another_name_or_size(w: Wired) -> None:
    w.jira.faults.add(Fault("reset", point="last-byte"))
    w.drop(TWINS[0], b"first")
    w.deliver()
    w.drop(TWINS[1], b"of another size")
    w.drop("TEST-1/other.txt", b"first")

    w.deliver()

    assert w.stand() == "attached attached in-doubt"


@pytest.mark.parametrize(("site", "opened"), [("Cloud", True), ("Server", True), ("Server", False)])
def test_what_was_stored_under_another_name_is_never_sent_again(tmp_path: Path, site: str, opened: bool) -> None:
    """The content tells; where Data Center does not open it to us, a person must look."""
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        if not opened:
            w.jira.store.secure_schemes = set()
        w.jira.faults.add(Fault("reset", name="changed.txt"))
        w.drop("TEST-1/a.txt", b"a")

        w.settle()

        assert w.stand() == ("attached" if opened else "a-person")
        assert (len(w.uploads()), w.contents("TEST-1")) == (1, [b"a"])


@SITES
@pytest.mark.parametrize("kind", ["field", "404", "html"])
def test_a_listing_that_shows_nothing_is_not_an_empty_one(tmp_path: Path, site: str, kind: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.faults.add(Fault("reset"))
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()
        w.jira.store.hide_attachment_field = kind == "field"
        w.jira.store.invisible = {"TEST-1"} if kind == "404" else set()
        if kind == "html":
            w.jira.faults.add(Fault("status", where="listing", times=-1, status=200, body="{}", **JSON))

        pass_hours(w, 23)
        assert (w.stand(), len(w.uploads())) == ("in-doubt", 1)
        pass_hours(w, 2)

        assert (w.stand(), len(w.uploads())) == ("a-person", 1)


@SITES
def test_a_listing_that_can_be_read_again_finds_the_file(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.faults.add(Fault("reset"))
        w.jira.store.hide_attachment_field = True
        w.drop("TEST-1/a.txt", b"a")
        pass_hours(w, 20)
        w.jira.store.hide_attachment_field = False

        w.settle(hours=2)

        assert (w.stand(), len(w.uploads())) == ("attached", 1)


# --- One file must not stop all -------------------------------------------------------------------------------------


@SITES
def test_after_a_site_fault_a_file_of_another_issue_is_tried_next(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.faults.add(Fault("status", issue="TEST-1", times=-1, **BLOCKED))
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()
        assert w.paused() == "site::proxy"
        w.drop("TEST-1/b.txt", b"b")
        w.drop("TEST-2/c.txt", b"c")

        w.settle(hours=0.05)

        assert [r.issue for r in w.uploads()][:2] == ["TEST-1", "TEST-2"]
        assert w.stand("TEST-2") == "attached"


def declined_and_others_not(w: Wired, hours: int = 3) -> int:
    """Drop another file each time when that of TEST-1 was tried; tell how many there were."""
    others = 0
    for _ in range(hours * 120):
        pass_time(w, 30.0)
        if len(w.uploads("TEST-1")) > others:
            w.drop(f"TEST-2/{others}.txt", b"%d" % others)
            others += 1
    return others


@SITES
@pytest.mark.parametrize("kind", ["403", "reset"])
def test_a_file_that_only_a_proxy_declines_is_refused_after_three_times(tmp_path: Path, site: str, kind: str) -> None:
    """With another file accepted after each of them."""
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        fault = {"status": 403, "content_type": "text/html", "body": "<html>virus</html>"}
        faults = {
            "403": Fault("status", issue="TEST-1", times=-1, **fault),
            "reset": Fault("reset", point="body", bytes=100, issue="TEST-1", times=-1),
        }
        w.jira.faults.add(faults[kind])
        w.drop("TEST-1/bad.txt", LARGE if kind == "reset" else b"bad")
        others = declined_and_others_not(w)

        assert (w.stand(), len(w.uploads("TEST-1"))) == ("failed", 3)
        assert (w.row("TEST-1/bad.txt").reason or "") == Like(".*a proxy in front of it refused this one 3 times.*")
        assert len(w.on("TEST-2")) == others
        assert w.paused() == ""


@SITES
def test_a_file_that_no_other_speaks_against_is_never_refused_for_a_proxy(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site) as w:
        w.meet()
        w.jira.faults.add(Fault("status", times=-1, **BLOCKED))
        w.drop("TEST-1/a.txt", b"a")
        pass_hours(w, 10)

        assert w.stand() == "waits"
        w.jira.faults.clear()
        w.settle(hours=2)
        assert w.stand() == "attached"


@SITES
@pytest.mark.parametrize("kind", ["500", "time-out", "reset"])
def test_three_doubtful_rounds_of_one_file_while_others_are_accepted_need_a_person(
    tmp_path: Path, site: str, kind: str
) -> None:
    waits = {"stall_seconds": SHORT, "reply_seconds": SHORT} if kind == "time-out" else {}
    with wired(tmp_path, deployment=site, upload=waits) as w:
        w.meet()
        faults = {
            "500": Fault("status", status=500, issue="TEST-1", times=-1),
            "time-out": Fault("stall", point="reply-before", issue="TEST-1", times=-1),
            "reset": Fault("reset", point="last-byte", issue="TEST-1", times=-1),
        }
        w.jira.faults.add(faults[kind])
        w.drop("TEST-1/bad.txt", b"bad")
        others = declined_and_others_not(w, hours=1)

        assert (w.stand(), len(w.uploads("TEST-1"))) == ("a-person", 3)
        assert len(w.on("TEST-2")) == others
