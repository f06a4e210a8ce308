"""What Jira asks us to wait, read from its headers."""

from __future__ import annotations

import math

from attachd.jira.exchange import Reply, parse_date


def retry_after(reply: Reply) -> float | None:
    """``Retry-After`` in seconds, from either form; None where there is none or it makes no sense.

    A date counts against the reply's own ``Date``, not against our clock. Headers that begin with ``Beta-`` are
    announcements and are never obeyed (Atlassian, "Rate limiting"); 0 is what Data Center says when tokens are left.
    """
    text = reply.header("retry-after").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        then = parse_date(text)
        seconds = then - reply.date if then is not None and reply.date is not None else math.nan
    return max(0.0, seconds) if math.isfinite(seconds) else None
