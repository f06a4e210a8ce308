"""Who we are to Jira: the header of each request, from a token that may change while we run."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable

import pytest

from attachd.errors import Mistake, Problem
from attachd.jira.auth import Credentials


class Source:
    """A place from which a token is read, and the count of how often."""

    def __init__(self, *tokens: str | Mistake) -> None:
        self.tokens, self.reads = list(tokens), 0

    def __call__(self) -> str:
        self.reads += 1
        token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        if isinstance(token, Mistake):
            raise token
        return token


def unreadable() -> Mistake:
    return Mistake(Problem("jira.auth.token", "cannot be read."))


def basic(header: str | None) -> bytes:
    assert header is not None
    scheme, _, encoded = header.partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded, validate=True)


@pytest.mark.parametrize(
    ("user", "token"),
    [("robot@example.com", "secret"), ("robot", "with:colon"), ("Jürgen", "secret"), ("r" * 300, "t" * 300)],
)
def test_basic(user: str, token: str) -> None:
    header = Credentials("basic", user, lambda: token).header()

    assert basic(header) == f"{user}:{token}".encode()
    assert header is not None
    assert header.isascii()
    assert "\n" not in header


def test_bearer() -> None:
    assert Credentials("bearer", "", lambda: "secret").header() == "Bearer secret"


def test_anonymous() -> None:
    nobody = Credentials("anonymous", "", None)

    assert nobody.anonymous
    assert nobody.header() is None
    assert nobody.reload() is False
    assert not Credentials("bearer", "", lambda: "secret").anonymous


def test_the_token_is_read_when_it_is_first_needed_and_then_kept() -> None:
    source = Source("secret")
    credentials = Credentials("bearer", "", source)
    assert source.reads == 0

    assert credentials.header() == credentials.header() == "Bearer secret"

    assert source.reads == 1


def test_another_token_is_used_from_the_reload_on() -> None:
    credentials = Credentials("bearer", "", Source("old", "new", "new"))
    assert credentials.header() == "Bearer old"

    assert credentials.reload() is True

    assert credentials.header() == "Bearer new"
    assert credentials.reload() is False
    assert credentials.header() == "Bearer new"


def test_a_token_that_cannot_be_read_is_the_users_mistake_and_is_asked_for_again() -> None:
    credentials = Credentials("bearer", "", Source(unreadable(), "secret"))

    with pytest.raises(Mistake):
        credentials.header()

    assert credentials.header() == "Bearer secret"


def test_a_reload_that_fails_keeps_the_old_token() -> None:
    credentials = Credentials("bearer", "", Source("old", unreadable(), "old"))
    credentials.header()

    with pytest.raises(Mistake):
        credentials.reload()

    assert credentials.header() == "Bearer old"
    assert credentials.reload() is False


def test_workers_that_need_it_at_the_same_time_read_it_once() -> None:
    source, together = Source("secret"), threading.Barrier(8, timeout=10)
    credentials = Credentials("bearer", "", source)
    found: list[str | None] = []

    def work() -> None:
        together.wait()
        found.append(credentials.header())

    run_all([work] * 8)

    assert found == ["Bearer secret"] * 8
    assert source.reads == 1


def run_all(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_no_token_is_shown() -> None:
    credentials = Credentials("bearer", "robot", lambda: "not-a-secret")
    credentials.header()

    assert "not-a-secret" not in repr(credentials) + str(credentials)
