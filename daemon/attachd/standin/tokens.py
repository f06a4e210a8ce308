"""OAuth of the stand-in: a token endpoint, access tokens that expire, and refresh tokens that work once."""

from __future__ import annotations

import hmac
import secrets
import time
import urllib.parse
from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

from attachd.standin.exchange import Exchange
from attachd.standin.settings import Settings


async def token(x: Exchange) -> Response:
    """``POST /oauth/token`` (as auth.atlassian.com) and ``/rest/oauth2/latest/token`` (as Data Center)."""
    raw = b"".join([chunk async for chunk in x.body()])
    form = dict(urllib.parse.parse_qsl(raw.decode("utf-8", "replace")))
    right = (x.store.client_id, x.store.client_secret)
    if not all(
        _same(form.get(name, ""), value) for name, value in zip(("client_id", "client_secret"), right, strict=True)
    ):
        return _refused(401, "access_denied" if x.store.cloud else "invalid_client", "Unauthorized")
    match form.get("grant_type"):
        case "client_credentials":
            return _granted(x.store, {})
        case "refresh_token":
            return _refreshed(x.store, form)
        case _:
            return _refused(400, "unsupported_grant_type", "")


def _refreshed(settings: Settings, form: Mapping[str, str]) -> Response:
    """Exchange the valid refresh token. Refuse any other, even an earlier one, as Atlassian does."""
    if not settings.refresh_token or not _same(form.get("refresh_token", ""), settings.refresh_token):
        words = "Unknown or invalid refresh token."
        if settings.echo_tokens:
            words += f" ({form.get('refresh_token')}, {form.get('client_secret')})"
        return _refused(403 if settings.cloud else 400, "invalid_grant", words)
    if not settings.rotate:
        return _granted(settings, {})
    settings.refresh_token = f"standin-refresh-{secrets.token_hex(12)}"
    return _granted(settings, {"refresh_token": settings.refresh_token})


def _granted(settings: Settings, more: Mapping[str, str]) -> Response:
    fresh = f"standin-access-{secrets.token_hex(12)}"
    settings.access_tokens[fresh] = time.monotonic() + settings.token_seconds
    shown = {"access_token": fresh, "token_type": "Bearer", "expires_in": settings.token_seconds}
    return JSONResponse({**shown, "scope": " ".join(sorted(settings.scopes)), **more})


def _refused(status: int, error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status)


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())
