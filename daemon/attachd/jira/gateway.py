"""Atlassian's gateway: the one address of a site on Jira Cloud at which tokens with scopes are good.

At the site's own address they draw the same 401 as a token that has ended (Atlassian, "Manage API tokens").
"""

from __future__ import annotations

import re
import urllib.parse

from attachd.jira.exchange import Exchange, Reply

ADDRESS = "https://api.atlassian.com/ex/jira/"
_CLOUD_ID = re.compile(r"[0-9A-Fa-f-]{8,64}")


def may_be_needed(url: str, kind: str) -> bool:
    """Whether a 401 from the site at *url* may only mean that the token belongs to the gateway."""
    host = urllib.parse.urlsplit(url).hostname or ""
    return kind in ("basic", "oauth2") and host.endswith(".atlassian.net")


def address(answer: Exchange) -> str | None:
    """The site's address at the gateway, from its ``_edge/tenant_info``; None where that does not tell."""
    told = answer.json if isinstance(answer, Reply) and answer.status == 200 else None
    cloud_id = told.get("cloudId") if isinstance(told, dict) else None
    return ADDRESS + cloud_id if isinstance(cloud_id, str) and _CLOUD_ID.fullmatch(cloud_id) else None


def hint(kind: str, where: str) -> str:
    """Say at which address the token may be good."""
    if kind == "oauth2":
        return f'access tokens of OAuth are good only at jira.url = "{where}"'
    return f'if it is an API token with scopes, it is good only at jira.url = "{where}"'
