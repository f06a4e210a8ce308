"""Connections to Jira as the configuration describes them, and questions that are repeated while no answer comes."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from typing import TypeGuard

import tenacity

from attachd import __version__, heartbeat
from attachd.config import Config
from attachd.errors import Mistake, Problem
from attachd.jira import auth, client, oauth, transport
from attachd.jira.reply import Broken, Exchange, Reply, Stage

USER_AGENT = f"attachd/{__version__}"
#: The most time for the reply to a question, in seconds, even if the configuration gives uploads more.
QUESTION_SECONDS = 30.0
#: Sends no credentials at all.
NOBODY = auth.Credentials("anonymous", "", None)


def asking_client(config: Config, url: str, credentials: oauth.Identity) -> client.Client:
    """Make a connection for questions, to the site or to a token endpoint."""
    reply = min(config.upload.reply_seconds, QUESTION_SECONDS)
    return _client(config, url, credentials, tls_context(config), reply)


def make_client(config: Config, credentials: oauth.Identity, context: ssl.SSLContext) -> client.Client:
    """Make a connection to the site for uploads, for one worker alone."""
    return _client(config, config.jira.url, credentials, context, config.upload.reply_seconds)


def _client(
    config: Config, url: str, credentials: oauth.Identity, context: ssl.SSLContext, reply: float
) -> client.Client:
    upload, deadline = config.upload, transport.Deadline()
    wire = transport.transport(context, config.jira.proxy, deadline)
    timeouts = transport.Timeouts(upload.connect_seconds, upload.stall_seconds, reply)
    return client.Client(url, credentials, wire, timeouts=timeouts, deadline=deadline, user_agent=USER_AGENT)


def tls_context(config: Config) -> ssl.SSLContext:
    """Return the TLS context that all clients share. Raises ``errors.Mistake`` if the configured files are unusable."""
    jira = config.jira
    files = (jira.ca_file, jira.client_cert_file, jira.client_key_file)
    try:
        return transport.Tls(*(str(file) if file else None for file in files)).context()
    except (OSError, ssl.SSLError) as error:
        where = "jira.client_cert_file" if jira.client_cert_file else "jira.ca_file"
        raise Mistake(
            Problem(where, f"cannot be used: {error}.", "It must contain certificates in PEM format.")
        ) from error


class Stopped(Exception):
    """The service is stopping: the call gives up between two attempts."""


def ask(call: Callable[[], Exchange], stopping: threading.Event | None = None) -> Exchange:
    """Ask Jira something harmless, up to three times while no answer comes. Raises ``Stopped`` once *stopping* is set."""
    return _tries(call, lambda outcome: _broke(outcome) or _overloaded(outcome), 3, stopping or threading.Event())


def send(call: Callable[[], Exchange], stopping: threading.Event) -> Exchange:
    """Send a file, and a second time only if no connection was made, because nothing was sent then."""
    try:
        return _tries(call, lambda outcome: _broke(outcome) and outcome.stage is Stage.CONNECTING, 2, stopping)
    except Stopped:
        return Broken(Stage.CONNECTING, "the service is stopping")


def _broke(outcome: Exchange) -> TypeGuard[Broken]:
    """Return True if the network failed. Without an access token, asking again at once does not help."""
    return isinstance(outcome, Broken) and outcome.fault is None


def _overloaded(outcome: Exchange) -> bool:
    return isinstance(outcome, Reply) and outcome.status in (502, 504)


def _tries(
    call: Callable[[], Exchange], again: Callable[[Exchange], bool], times: int, stopping: threading.Event
) -> Exchange:
    def sleep(seconds: float) -> None:
        # tenacity's own sleep_using_event makes one more attempt when the event is set.
        with heartbeat.on_jira():
            stopped = stopping.wait(seconds)
        if stopped:
            raise Stopped

    policy = tenacity.Retrying(
        retry=tenacity.retry_if_result(again),
        wait=tenacity.wait_exponential(multiplier=0.2, max=2) + tenacity.wait_random(0, 0.1),
        stop=tenacity.stop_after_attempt(times),
        sleep=sleep,
        retry_error_callback=_last,
    )
    return policy(call)


def _last(state: tenacity.RetryCallState) -> Exchange:
    assert state.outcome is not None
    outcome: Exchange = state.outcome.result()
    return outcome
