"""What a token endpoint is asked, and what its answers mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attachd.jira import oauth
from attachd.jira.oauth import Application, Granted, Kept
from attachd.jira.reply import Broken, Exchange, Reply, Stage
from attachd.model import Cure, Fault, Scope

APPLICATION = Application("https://id.example.com/token", "an-application")


def reply(status: int, body: Any, **headers: str) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, named, raw, whole=True, exhausted=True)


def read(outcome: Exchange, *secrets: str) -> Granted | Fault:
    return oauth.read(outcome, APPLICATION, secrets)


def test_what_is_asked() -> None:
    service = oauth.form(APPLICATION, "not-a-secret", None)
    person = oauth.form(Application("https://x", "id", "WRITE"), "not-a-secret", "not-a-token")

    assert service == {
        "grant_type": "client_credentials",
        "client_id": "an-application",
        "client_secret": "not-a-secret",
    }
    assert person == {
        "grant_type": "refresh_token",
        "refresh_token": "not-a-token",
        "client_id": "id",
        "client_secret": "not-a-secret",
        "scope": "WRITE",
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"access_token": "a", "expires_in": 60, "refresh_token": "r"}, Granted("a", 60.0, "r")),
        ({"access_token": "a", "expires_in": "60", "token_type": "bearer"}, Granted("a", 60.0)),
        ({"access_token": "a", "token_type": "Bearer"}, Granted("a", 3600.0)),
        *(({"access_token": "a", "expires_in": odd}, Granted("a", 3600.0)) for odd in (0, -1, None, "x", [], 1e400)),
        ({"access_token": "a", "expires_in": 60, "refresh_token": ""}, Granted("a", 60.0)),
        ({"access_token": "a", "expires_in": 60, "refresh_token": 7}, Granted("a", 60.0)),
    ],
)
def test_tokens(body: Any, expected: Granted) -> None:
    assert read(reply(200, body)) == expected


@pytest.mark.parametrize(
    ("outcome", "kind", "words"),
    [
        (reply(200, {}), "token-endpoint", "without an access token; check jira.auth.token_url"),
        (reply(200, {"access_token": "a b"}), "token-endpoint", "without an access token"),
        (reply(200, {"access_token": "a", "token_type": "mac"}), "token-endpoint", "without an access token"),
        (reply(200, b"<html>"), "token-endpoint", "without an access token"),
        (reply(302, b"", location="/login"), "token-endpoint", "redirects to /login; check jira.auth.token_url"),
        (reply(404, b"<html>"), "token-endpoint", "answers 404 with a web page"),
        (reply(404, {"message": "no"}), "token-endpoint", "answers 404 with no error of OAuth"),
        (reply(429, {}), "token-unreachable", "answers 429; attachd tries again"),
        (reply(503, b"<html>"), "token-unreachable", "answers 503; attachd tries again"),
        (Broken(Stage.CONNECTING, "ConnectError: refused"), "token-unreachable", "cannot be reached (ConnectError"),
        (Broken(Stage.CONNECTING, "x", certificate=True), "token-unreachable", "check jira.ca_file"),
        (
            reply(400, {"error": "invalid_grant"}),
            "token-refused",
            "put the new refresh token where jira.auth.token says",
        ),
        (
            reply(403, {"error": "invalid_grant"}),
            "token-refused",
            "put the new refresh token where jira.auth.token says",
        ),
        (
            reply(401, {"error": "invalid_client"}),
            "token-refused",
            "put the right secret where jira.auth.client_secret",
        ),
        (reply(401, {"error": "access_denied"}), "token-refused", "put the right secret where jira.auth.client_secret"),
        (reply(403, {"error": "unauthorized_client"}), "token-refused", "refresh token belongs to another application"),
        (reply(400, {"error": "invalid_scope"}), "token-refused", "check jira.auth.scope"),
        (
            reply(400, {"error": "odd", "error_description": "Why?"}),
            "token-refused",
            "(400 odd: Why?); check client_id",
        ),
    ],
)
def test_what_is_wrong_is_the_accounts_trouble_and_says_what_to_do(outcome: Exchange, kind: str, words: str) -> None:
    fault = read(outcome)

    assert isinstance(fault, Fault)
    assert (fault.scope, fault.kind, fault.cure) == (Scope.ACCOUNT, kind, Cure.PROBE)
    assert words in fault.reason


def test_what_the_endpoint_asks_to_wait_is_waited() -> None:
    fault = read(reply(429, {}, retry_after="7"))

    assert isinstance(fault, Fault)
    assert fault.wait == 7.0


def test_no_secret_that_a_server_repeats_is_told() -> None:
    words = "no such token: not-a-token, for not-a-secret"
    fault = read(reply(400, {"error": "invalid_grant", "error_description": words}), "not-a-token", "not-a-secret")

    assert isinstance(fault, Fault)
    assert "no such token: ********, for ********" in fault.reason
    assert "not-a" not in fault.reason


def test_what_the_configured_token_has_become_is_used_unless_it_is_another_one() -> None:
    kept = Kept("third", oauth.digest("first"))

    assert oauth.current("first", None) == "first"
    assert oauth.current("first", kept) == "third"
    assert oauth.current("new", kept) == "new"
    assert "first" not in kept.seed


@pytest.mark.parametrize(("seconds", "used"), [(3600.0, 3480.0), (240.0, 120.0), (10.0, 5.0)])
def test_an_access_token_is_replaced_ahead_of_its_end(seconds: float, used: float) -> None:
    assert oauth.good_seconds(Granted("a", seconds)) == used


def test_no_value_shows_its_secret() -> None:
    values = [oauth.Keys("not-a", "not-a"), Kept("not-a", "x"), Granted("not-a", 1.0, "not-a")]

    assert not any("not-a" in repr(value) for value in values)
