"""The calls of Jira's REST API. Each returns its exchange; other modules judge it.

Cloud has them under ``/rest/api/3``, Data Center under ``/rest/api/2`` only; a base path of the site (``/jira``,
``/ex/jira/{cloudId}``) is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from attachd.jira import contents, multipart, transport, verdict
from attachd.jira.attachments import Attachment
from attachd.jira.contents import Content, Digest, NotYet
from attachd.jira.oauth import Identity
from attachd.jira.reply import Broken, Exchange, Reply, Stage, legible
from attachd.model import Fault

#: Exceptions that prove that nothing was sent (docs/design/delivery.md).
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
#: How OpenSSL names a certificate that one side refused (or, in an alert, missed).
_CERTIFICATE = re.compile("CERTIFICATE|UNKNOWN_CA")


class Client:
    """One worker's connection to one site. Not for sharing between threads."""

    def __init__(
        self, url: str, credentials: Identity, wire: httpx.BaseTransport, *, timeouts: transport.Timeouts,
        deadline: transport.Deadline, user_agent: str,
    ) -> None:  # fmt: skip
        """*wire* is what ``transport.transport`` made with the same *deadline*; *url* has no slash at its end."""
        self._url = url
        self._credentials = credentials
        self._timeouts = timeouts
        self._deadline = deadline
        self._requests = transport.Requests(wire, user_agent)

    def close(self) -> None:
        self._requests.close()

    def upload(self, version: str, issue: str, body: multipart.Body, reply_seconds: float) -> Exchange:
        """``POST issue/{key}/attachments``; *reply_seconds* is the time for the reply after the last byte."""
        headers = {"Content-Type": body.content_type, "Content-Length": str(body.length)}
        url = f"{self._url}/rest/api/{version}/issue/{quote(issue, safe='')}/attachments"
        return self._exchange("POST", url, reply_seconds, headers=headers, body=body)

    def listing(self, version: str, issue: str) -> Exchange:
        """``GET issue/{key}?fields=attachment``: whether the issue exists, its present key, and its attachments."""
        return self._field(version, issue, "attachment")

    def issue(self, version: str, issue: str) -> Exchange:
        """``GET issue/{key}?fields=summary``: its summary and its present key."""
        return self._field(version, issue, "summary")

    def permissions(self, version: str, *, project: str = "", issue: str = "") -> Exchange:
        """``GET mypermissions``: what the account may do with an issue, in a project, or in any project.

        Cloud wants to know which permissions are asked for; Data Center lists all of them.
        """
        query = {"permissions": "BROWSE_PROJECTS,CREATE_ATTACHMENTS", "projectKey": project, "issueKey": issue}
        asked = urlencode({name: value for name, value in query.items() if value}, safe=",")
        return self._exchange("GET", f"{self._url}/rest/api/{version}/mypermissions?{asked}", self._timeouts.reply)

    def certificate(self) -> Mapping[str, Any] | None:
        """Return the site's certificate as ``ssl.SSLSocket.getpeercert`` does; None without TLS or an answer."""
        try:
            self._deadline.start(self._timeouts.reply)
            url = f"{self._url}/rest/api/2/serverInfo"
            with self._stream("GET", url, self._timeouts.reply, {}, None) as response:
                tls = response.extensions["network_stream"].get_extra_info("ssl_object")
                return tls.getpeercert() if tls else None
        except httpx.HTTPError:
            return None
        finally:
            self._deadline.clear()

    def myself(self, version: str) -> Exchange:
        """``GET myself``: the only call that is never anonymous, so that 401 means wrong credentials."""
        return self._exchange("GET", f"{self._url}/rest/api/{version}/myself", self._timeouts.reply)

    def server_info(self, version: str = "2") -> Exchange:
        """``GET serverInfo``: Cloud or not, and its clock. It needs no credentials. Both kinds have version 2."""
        return self._exchange("GET", f"{self._url}/rest/api/{version}/serverInfo", self._timeouts.reply)

    def attachment_meta(self, version: str) -> Exchange:
        """``GET attachment/meta``: whether attachments are enabled, and the largest size in bytes."""
        return self._exchange("GET", f"{self._url}/rest/api/{version}/attachment/meta", self._timeouts.reply)

    def attachment(self, version: str, attachment: str) -> Exchange:
        """``GET attachment/{id}``: what Jira says of one attachment."""
        url = f"{self._url}/rest/api/{version}/attachment/{quote(attachment, safe='')}"
        return self._exchange("GET", url, self._timeouts.reply)

    def comment(self, issue: str, text: str) -> Exchange:
        """``POST issue/{key}/comment``: version 2 of the API takes plain text on Cloud and Data Center alike.

        The property makes it an internal note in Jira Service Management, where it would be a reply to the customer.
        """
        internal = {"key": "sd.public.comment", "value": {"internal": True}}
        content = json.dumps({"body": text, "properties": [internal]}).encode()
        url = f"{self._url}/rest/api/2/issue/{quote(issue, safe='')}/comment"
        headers = {"Content-Type": "application/json"}
        return self._exchange("POST", url, self._timeouts.reply, headers=headers, content=content)

    def comments(self, issue: str) -> Exchange:
        """``GET issue/{key}/comment``: the latest comments, newest first."""
        url = f"{self._url}/rest/api/2/issue/{quote(issue, safe='')}/comment?orderBy=-created&maxResults=100"
        return self._exchange("GET", url, self._timeouts.reply)

    def tenant_info(self) -> Exchange:
        """``GET _edge/tenant_info`` of a site on Jira Cloud: its cloud id. It needs no credentials."""
        return self._exchange("GET", f"{self._url}/_edge/tenant_info", self._timeouts.reply)

    def grant(self, form: Mapping[str, str]) -> Exchange:
        """Post *form* to this client's own address, which is a token endpoint (RFC 6749, 3.2)."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        content = urlencode(form).encode()
        return self._exchange("POST", self._url, self._timeouts.reply, headers=headers, content=content)

    def content(
        self, version: str, attachment: Attachment, reply_seconds: float, stopping: threading.Event | None = None
    ) -> Content:
        """Read the content of an attachment in pieces, and return its SHA-256, or why it cannot be read.

        Ends early once the service is *stopping*.

        Cloud: ``attachment/content/{id}``; ``redirect=false`` makes Jira send the bytes itself, so that no other host ever
        sees our credentials. Data Center: ``/secure/attachment/{id}/{name}``, the address that people's browsers use.
        """
        if attachment.size == 0:
            return Digest(hashlib.sha256().digest())
        authorization = self._credentials.header()
        if isinstance(authorization, Fault):
            return NotYet(authorization.reason)
        digest, read = hashlib.sha256(), 0
        try:
            self._deadline.start(reply_seconds)
            url = self._content_url(version, attachment)
            with self._stream("GET", url, reply_seconds, _signed({}, authorization), None) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                reply = Reply(response.status_code, headers, b"", whole=False, exhausted=True)
                if response.status_code not in (200, 206) or verdict.failed_login(reply):
                    return contents.withheld(reply, cloud=version == "3")
                for chunk in response.iter_bytes():
                    digest.update(chunk)
                    read += len(chunk)
                    if read > attachment.size:
                        break
                    if stopping is not None and stopping.is_set():
                        return NotYet("the service is stopping")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return NotYet(legible(f"{type(error).__name__}: {error}"))
        finally:
            self._deadline.clear()
        if read == attachment.size:
            return Digest(digest.digest())
        return contents.of_another_size(reply, cloud=version == "3")

    def _content_url(self, version: str, attachment: Attachment) -> str:
        number = quote(attachment.id, safe="")
        if version == "3":
            return f"{self._url}/rest/api/3/attachment/content/{number}?redirect=false"
        return f"{self._url}/secure/attachment/{number}/{quote(attachment.name, safe='')}"

    def _field(self, version: str, issue: str, field: str) -> Exchange:
        url = f"{self._url}/rest/api/{version}/issue/{quote(issue, safe='')}?fields={field}"
        return self._exchange("GET", url, self._timeouts.reply)

    def _exchange(
        self, method: str, url: str, reply_seconds: float, *, headers: Mapping[str, str] | None = None,
        body: multipart.Body | None = None, content: bytes | None = None,
    ) -> Exchange:  # fmt: skip
        """Make one request, and repeat it once if another access token may help.

        Returns what the network and Jira answer. Raises ``errors.Mistake`` for an unreadable token.
        """
        authorization = self._credentials.header()
        if isinstance(authorization, Fault):
            return _unsigned(authorization)
        signed = _signed(headers or {}, authorization)
        outcome = self._attempt(method, url, reply_seconds, signed, body, content)
        if authorization is None or not _unaccepted(outcome, body):
            return outcome
        renewed = self._credentials.renew(authorization)
        if renewed is None:
            return outcome
        if isinstance(renewed, Fault):
            return _unsigned(renewed)
        return self._attempt(method, url, reply_seconds, _signed(headers or {}, renewed), body, content)

    def _attempt(
        self, method: str, url: str, reply_seconds: float, headers: Mapping[str, str], body: multipart.Body | None,
        content: bytes | None,
    ) -> Exchange:  # fmt: skip
        # Everything read before the body begins is a proxy's answer to CONNECT.
        self._deadline.start(reply_seconds if body is None else self._timeouts.connect)
        sent = _marked(body, self._deadline, reply_seconds) if body else content
        try:
            with self._stream(method, url, reply_seconds, headers, sent) as response:
                return _read(response, body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return _broken(error, body)
        except (multipart.Changed, multipart.Cut, OSError) as error:
            if body is None or body.exhausted:
                return Broken(Stage.REPLY, legible(error))
            return Broken(Stage.SENDING, legible(error), ours=error)
        finally:
            self._deadline.clear()

    def _stream(
        self, method: str, url: str, reply_seconds: float, headers: Mapping[str, str],
        content: Iterator[bytes] | bytes | None,
    ) -> contextlib.AbstractContextManager[httpx.Response]:  # fmt: skip
        limits = httpx.Timeout(
            connect=self._timeouts.connect, write=self._timeouts.stall, read=reply_seconds, pool=self._timeouts.connect
        )
        return self._requests.stream(method, url, limits, headers, content)


def _signed(headers: Mapping[str, str], authorization: str | None) -> Mapping[str, str]:
    return {**headers, "Authorization": authorization} if authorization else headers


def _unsigned(fault: Fault) -> Broken:
    """Return the outcome without an access token: nothing was sent, or only a request that was not accepted."""
    return Broken(Stage.CONNECTING, fault.reason, fault=fault)


def _unaccepted(outcome: Exchange, body: multipart.Body | None) -> bool:
    """Return True if Jira did not accept the credentials and stored nothing, so that the request may be repeated.

    Jira tells an anonymous caller that an issue does not exist, so what it declines then is repeated too. Of an upload only a
    complete 4xx to a single file proves that nothing was stored.
    """
    if not isinstance(outcome, Reply) or verdict.denied_login(outcome):
        return False
    declined = body is None or (400 <= outcome.status < 500 and len(body.parts) == 1 and not outcome.is_cut)
    return outcome.status == 401 or (declined and verdict.failed_login(outcome))


def _marked(body: multipart.Body, deadline: transport.Deadline, reply_seconds: float) -> Iterator[bytes]:
    """Pass the body on. The time for the reply begins at its first read, even if the body was not read to its end."""
    deadline.arm(reply_seconds)
    yield from body


def _read(response: httpx.Response, body: multipart.Body | None) -> Reply:
    """Read the answer's body as far as it arrives. The status line alone decides most cases."""
    chunks: list[bytes] = []
    size, whole = 0, True
    try:
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            if size > transport.REPLY_BYTES:
                whole = False
                break
    except httpx.HTTPError:
        whole = False
    headers = {name.lower(): value for name, value in response.headers.items()}
    exhausted, abandoned = (True, False) if body is None else (body.exhausted, not body.handed_over)
    return Reply(response.status_code, headers, b"".join(chunks), whole, exhausted, abandoned)


def _broken(error: Exception, body: multipart.Body | None) -> Broken:
    """Return how far a request came. The exception alone does not tell: a ReadError may come before or after a commit."""
    text = legible(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    return Broken(_stage(error, body), text, certificate=_is_certificate(error),
                  timed_out=isinstance(error, httpx.TimeoutException))  # fmt: skip


def _stage(error: Exception, body: multipart.Body | None) -> Stage:
    if isinstance(error, _NEVER_SENT) or (body is not None and not body.begun):
        return Stage.CONNECTING
    return Stage.REPLY if body is None or body.exhausted else Stage.SENDING


def _is_certificate(error: BaseException | None) -> bool:
    """Return True if one side refused the other's certificate. Other TLS errors are like those of any connection."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and _CERTIFICATE.search(error.reason or ""):
            return True
        error = error.__cause__ or error.__context__
    return False
