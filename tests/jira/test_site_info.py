"""Which API a site speaks: what is asked for that, and that every caller asks in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from attachd import config
from attachd.clock import Clock
from attachd.delivery import probe
from attachd.errors import Mistake
from attachd.filing import verify
from attachd.jira import site_info
from attachd.jira.client import Client
from attachd.jira.reply import Broken, Exchange, Reply, Stage
from attachd.journal import database
from attachd.model import Fault
from attachd.service import start
from attachd.setup import check, sign_in
from attachd.standin import Standin
from attachd.standin import faults as standin_faults
from socket_jira import wired

CLOUD = Reply(200, {}, b'{"deploymentType": "Cloud", "version": "1"}', whole=True, exhausted=True)
SERVER = Reply(200, {}, b'{"deploymentType": "Server", "version": "9"}', whole=True, exhausted=True)


def answer(status: int) -> Reply:
    return Reply(status, {}, b"<html>", whole=True, exhausted=True)


class Asker:
    """A site that gives these answers in turn, and remembers for which version it was asked."""

    def __init__(self, *answers: Exchange) -> None:
        self.answers, self.versions = list(answers), list[str]()

    def server_info(self, version: str) -> Exchange:
        self.versions.append(version)
        return self.answers.pop(0)


def discovered(asker: Asker, known: str = "") -> site_info.Discovery:
    return site_info.discover(cast(Client, asker), known, lambda call: call())


@pytest.mark.parametrize(
    ("answers", "known", "api", "versions"),
    [
        ((CLOUD,), "", "3", ["2"]),
        ((SERVER,), "", "2", ["2"]),
        # Something in front of Jira lets only one of both paths through.
        ((answer(404), CLOUD), "", "3", ["2", "3"]),
        ((answer(401), CLOUD), "", "3", ["2", "3"]),
        ((answer(302), answer(302)), "", None, ["2", "3"]),
        # A site that is down, overloaded or silent would say the same again.
        ((answer(503),), "", None, ["2"]),
        ((answer(429),), "", None, ["2"]),
        ((Broken(Stage.CONNECTING, "refused"),), "", None, ["2"]),
        # The configuration says which it is.
        ((answer(404),), "3", None, ["3"]),
        ((CLOUD,), "3", "3", ["3"]),
    ],
)
def test_what_is_asked_until_the_api_is_known(
    answers: tuple[Exchange, ...], known: str, api: str | None, versions: list[str]
) -> None:
    asker = Asker(*answers)

    found = discovered(asker, known)

    assert (None if isinstance(found.api, Fault) else found.api) == api
    assert asker.versions == versions
    assert found.answer is answers[-1]


# --- The callers ----------------------------------------------------------------------------------------------------


def by_service(home: Path, jira: Standin) -> str | Fault:
    (home / "service").mkdir()
    with wired(home / "service", jira={"url": jira.url}) as w:
        return probe.deployment(w.runtime, w.client, "")


def by_init(home: Path, jira: Standin) -> str | Fault:
    cloud = sign_in.kind_of_site(sign_in.Wanted(jira.url))
    return cloud if isinstance(cloud, Fault) else "3" if cloud else "2"


def by_check(home: Path, jira: Standin) -> str | Fault:
    settings = configured(home, jira)
    (found,) = [each for each in check.inspect(settings, home / "state", {}, offline=False) if each.what == "jira.url"]
    return "3" if found.detail.endswith("is Jira Cloud") else site_info.not_jira(answer(503))


def by_verify(home: Path, jira: Standin) -> str | Fault:
    settings = configured(home, jira)
    with closing(database.open_journal(home / "state")) as journal:
        who = start.make_credentials(settings, {}, home / "state", Clock())
        try:
            assert list(verify.verify(settings, who, journal, "", content=False, wait=lambda _: None)) == []
        except Mistake:
            return site_info.not_jira(answer(503))
    return "3"


def configured(home: Path, jira: Standin) -> config.Config:
    for name in ("inbox", "done", "failed"):
        (home / name).mkdir()
    (home / "token").write_text("standin-token\n")
    (home / "token").chmod(0o600)
    auth = {"kind": "basic", "user": "demo@example.com", "token": {"file": "token"}}
    return config.parse({"folders": {"inbox": "inbox"}, "jira": {"url": jira.url, "auth": auth}}, base=home)


@pytest.fixture
def jira(tmp_path: Path) -> Iterator[Standin]:
    with Standin(tmp_path / "jira", issues=["TEST-1"]) as site:
        yield site


@pytest.mark.parametrize("asks", [by_service, by_init, by_check, by_verify])
def test_every_caller_asks_at_the_other_version_where_one_is_hidden(
    tmp_path: Path, jira: Standin, asks: Callable[[Path, Standin], str | Fault]
) -> None:
    jira.faults.add(standin_faults.Fault("status", where="serverInfo", status=404))

    assert asks(tmp_path, jira) == "3"
    assert versions(jira)[:2] == ["2", "3"]


@pytest.mark.parametrize("asks", [by_service, by_init, by_check, by_verify])
def test_no_caller_asks_a_site_twice_that_is_down(
    tmp_path: Path, jira: Standin, asks: Callable[[Path, Standin], str | Fault]
) -> None:
    jira.faults.add(standin_faults.Fault("status", where="serverInfo", status=503, times=-1))

    assert isinstance(asks(tmp_path, jira), Fault)
    assert versions(jira) == ["2"]


def versions(jira: Standin) -> list[str]:
    """For which versions of the API the site was asked what it is."""
    return [each.path.split("/")[3] for each in jira.requests if each.path.endswith("/serverInfo")]
