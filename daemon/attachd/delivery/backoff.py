"""How long and how often: tenacity's policies, asked as pure functions; nothing here sleeps but the in-call tries.

Long waits stand in the journal and hold no worker. What tenacity makes itself are the few tries within one call, where
the answer was lost and asking again is harmless.
"""

from __future__ import annotations

from collections.abc import Callable

import tenacity

#: Where a pause that Jira gave no time for begins, and where it stops growing, in seconds.
_GROWTH = {
    "server-error": (5.0, 300.0),
    "rate-limit": (2.0, 300.0),
    "unreachable": (5.0, 300.0),
    "network": (5.0, 300.0),
    "certificate": (60.0, 900.0),
    "captcha": (600.0, 3600.0),
    "disk": (10.0, 300.0),
    "token-unreachable": (5.0, 300.0),
    "token-unkept": (10.0, 300.0),
}
_OTHERS = (15.0, 900.0)
#: A longer wait than this is broken up: Jira's quotas may be lifted early.
LONGEST_SECONDS = 7200.0


def growing(kind: str, times: int) -> float:
    """How long the *times*-th pause of one kind in a row takes: doubling, up to a limit, and never quite the same."""
    first, most = _GROWTH.get(kind, _OTHERS)
    # The jitter is added behind the limit: wait_exponential_jitter loses it there (tenacity 9.2).
    policy = tenacity.wait_exponential(multiplier=first / 2, max=most) + tenacity.wait_random(0, first / 4)
    return _ask(policy, times)


def file_wait(times: int) -> float:
    """How long one file waits after the *times*-th trouble that only it had: up to an hour."""
    return _ask(tenacity.wait_exponential(multiplier=15, max=3600) + tenacity.wait_random(0, 3), times)


#: A move that one file alone cannot make is tried at least this often: people who have mended something wait for it.
_MOVE_SECONDS = 900.0


def move_wait(before: float) -> float:
    """How long a file waits whose move failed again after *before* seconds: twice as long, up to a quarter of an hour."""
    return file_wait(1) if before < 15.0 else min(2 * before, _MOVE_SECONDS)


def _ask(policy: Callable[[tenacity.RetryCallState], float], times: int) -> float:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = min(max(1, times), 32)
    return float(policy(state))
