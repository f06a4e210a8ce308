"""The stand-in's token endpoint and its gateway: access tokens that end, refresh tokens that are good once, scopes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attachd.standin import Standin

CLIENT = {"client_id": "standin-client", "client_secret": "standin-client-secret"}
BASIC = ("demo@example.com", "standin-token")


@pytest.fixture
def jira(tmp_path: Path) -> Iterator[Standin]:
    with Standin(tmp_path / "jira", issues=["TEST-1"]) as jira:
        yield jira


def ask(jira: Standin, path: str = "/oauth/token", **form: str) -> httpx.Response:
    return httpx.post(jira.url + path, data=CLIENT | form, timeout=10, verify=False)


def get(jira: Standin, path: str, token: str = "", **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(jira.url + path, headers=headers, timeout=10, verify=False, **options)


@pytest.mark.parametrize("path", ["/oauth/token", "/rest/oauth2/latest/token"])
def test_client_credentials_draw_an_access_token(jira: Standin, path: str) -> None:
    answer = ask(jira, path, grant_type="client_credentials")

    told = answer.json()
    assert answer.status_code == 200
    assert (told["token_type"], told["expires_in"]) == ("Bearer", 3600)
    assert "refresh_token" not in told
    assert get(jira, "/rest/api/3/myself", told["access_token"]).status_code == 200


def test_an_access_token_ends(jira: Standin) -> None:
    jira.store.token_seconds = 0.0
    fresh = ask(jira, grant_type="client_credentials").json()["access_token"]

    assert get(jira, "/rest/api/3/myself", fresh).status_code == 401


@pytest.mark.parametrize(("deployment", "status"), [("Cloud", 403), ("Server", 400)])
def test_a_refresh_token_is_good_once(tmp_path: Path, deployment: str, status: int) -> None:
    with Standin(tmp_path / "jira", deployment=deployment) as jira:
        jira.store.refresh_token = "first"

        second = ask(jira, grant_type="refresh_token", refresh_token="first").json()["refresh_token"]

        again = ask(jira, grant_type="refresh_token", refresh_token="first")
        assert (again.status_code, again.json()["error"]) == (status, "invalid_grant")
        assert jira.store.refresh_token == second
        assert ask(jira, grant_type="refresh_token", refresh_token=second).status_code == 200


def test_no_refresh_token_is_good_unless_one_was_given(jira: Standin) -> None:
    assert ask(jira, grant_type="refresh_token", refresh_token="").status_code == 403


def test_a_server_that_does_not_rotate_names_no_new_one(jira: Standin) -> None:
    jira.store.refresh_token, jira.store.rotate = "always", False

    for _ in range(2):
        assert "refresh_token" not in ask(jira, grant_type="refresh_token", refresh_token="always").json()


def test_a_wrong_client_is_turned_away(jira: Standin) -> None:
    wrong = ask(jira, grant_type="client_credentials", client_secret="nonsense")

    assert (wrong.status_code, wrong.json()["error"]) == (401, "access_denied")
    jira.store.deployment = "Server"
    assert ask(jira, grant_type="client_credentials", client_id="x").json()["error"] == "invalid_client"
    assert ask(jira, grant_type="password").json()["error"] == "unsupported_grant_type"


def test_a_scoped_token_is_good_at_the_gateway_alone(jira: Standin) -> None:
    jira.store.scoped = True
    gateway = "/ex/jira/" + get(jira, "/_edge/tenant_info").json()["cloudId"]

    assert get(jira, "/rest/api/3/myself", auth=BASIC).status_code == 401
    assert get(jira, "/rest/api/3/issue/TEST-1", auth=BASIC).status_code == 401
    assert get(jira, f"{gateway}/rest/api/3/myself", auth=BASIC).status_code == 200
    assert get(jira, f"{gateway}/rest/api/3/issue/TEST-1", auth=BASIC).status_code == 200
    assert get(jira, f"{gateway}/rest/api/3/myself", auth=("x", "y")).status_code == 401


def test_a_missing_scope_is_told_as_the_gateway_does(jira: Standin) -> None:
    jira.store.scoped, jira.store.scopes = True, {"read:jira-work"}
    gateway = f"/ex/jira/{jira.store.cloud_id}"

    refused = get(jira, f"{gateway}/rest/api/3/myself", auth=BASIC)

    assert refused.json() == {"code": 401, "message": "Unauthorized; scope does not match"}
    assert refused.status_code == 401
    assert get(jira, f"{gateway}/rest/api/3/issue/TEST-1", auth=BASIC).status_code == 200


def test_no_secret_is_in_its_log(jira: Standin) -> None:
    jira.store.refresh_token = "first-refresh"
    told = ask(jira, grant_type="refresh_token", refresh_token="first-refresh").json()

    log = (jira.store.folder / "log.jsonl").read_text()

    assert "/oauth/token" in log
    assert not any(word in log for word in ("first-refresh", told["refresh_token"], CLIENT["client_secret"]))
