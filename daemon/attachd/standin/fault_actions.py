"""What each fault of ``faults.KINDS`` does: at the head of a request, in its body, and in its answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from starlette.responses import Response

from attachd.standin import shapes
from attachd.standin.exchange import Exchange, Over
from attachd.standin.faults import Fault
from attachd.standin.settings import refusal_headers
from attachd.standin.wire import ARRIVAL_SECONDS, rendered

Act = Callable[[Exchange, Fault, Response], Awaitable[Response]]


async def at_head(x: Exchange) -> None:
    """Apply a fault that strikes before the body is read."""
    fault = x.fault
    if fault is None:
        return
    if fault.kind in ("reset", "close") and fault.point in ("accept", "headers"):
        cut(x, fault)
    if fault.kind == "status" and (fault.early or fault.stall):
        await _answer_early(x, fault)


async def in_body(x: Exchange) -> NoReturn:
    """Apply a fault that strikes in the middle of the body."""
    fault = x.fault
    assert fault is not None
    if fault.kind == "stall":
        x.wire.stop_reading()
        await _stall(x, fault)
    cut(x, fault)


async def on_reply(x: Exchange, reply: Response) -> Response:
    """Apply a fault to the *reply* that Jira would give, or send the reply as it is."""
    if x.fault is None or x.fault.kind not in _ACTS:
        return reply
    return await _ACTS[x.fault.kind](x, x.fault, reply)


def cut(x: Exchange, fault: Fault) -> NoReturn:
    """Cut the connection, with a FIN if the fault is "close"."""
    if fault.kind == "close":
        x.wire.close()
    else:
        x.wire.reset()
    raise Over


async def _answer_early(x: Exchange, fault: Fault) -> NoReturn:
    reply = stamped(x, await _status(x, fault, Response()))
    if fault.stall:
        x.wire.stop_reading()
    x.wire.write(b"".join(rendered(reply)))
    x.record.status = reply.status_code
    if fault.stall:
        await x.wire.pause(fault.delay)
        x.wire.reset()
    else:
        x.wire.close()
    raise Over


async def _stall(x: Exchange, fault: Fault) -> NoReturn:
    await x.wire.pause(fault.delay)
    x.wire.reset()
    raise Over


# --- the answer -----------------------------------------------------------------------------------------------------


async def _cut_reply(x: Exchange, fault: Fault, reply: Response) -> Response:
    if fault.point in ("reply-head", "reply-body"):
        head, body = rendered(stamped(x, reply))
        part = fault.bytes if fault.bytes is not None else len(body) // 2
        x.wire.write(head[: len(head) // 2] if fault.point == "reply-head" else head + body[:part])
        await asyncio.sleep(ARRIVAL_SECONDS)
    cut(x, fault)


async def _stall_reply(x: Exchange, fault: Fault, _reply: Response) -> Response:
    await _stall(x, fault)


async def _status(x: Exchange, fault: Fault, _reply: Response) -> Response:
    if fault.status is None:
        cut(x, fault)
    return Response(fault.body, fault.status or 500, dict(fault.headers), fault.content_type)


async def _late(x: Exchange, fault: Fault, _reply: Response) -> Response:
    if not fault.status:
        cut(x, fault)
    return shapes.proxy_page(fault.status or 504, "Bad Gateway" if fault.status == 502 else "Gateway Time-out")


async def _half(x: Exchange, fault: Fault, _reply: Response) -> Response:
    if fault.status is None:
        cut(x, fault)
    return shapes.refusal(fault.status or 400, fault.body or "One of the files was refused.")


async def _slow(x: Exchange, fault: Fault, reply: Response) -> Response:
    await x.wire.pause(fault.delay or 0.0)
    if x.wire.gone:
        raise Over
    for name, value in fault.headers.items():
        reply.headers[name] = value
    return reply


async def _trickle(x: Exchange, fault: Fault, reply: Response) -> Response:
    *most, last = b"".join(rendered(stamped(x, reply)))
    for byte in most:
        x.wire.write(bytes([byte]))
        await x.wire.pause(fault.delay or 0.0)
        if x.wire.gone:
            raise Over
    x.record.status = reply.status_code
    x.wire.write(bytes([last]))
    x.wire.close()
    raise Over


def _edited(change: Callable[[list[Any]], Any]) -> Act:
    """Change the list of attachments in a good reply to an upload or for an issue."""

    async def act(_x: Exchange, _fault: Fault, reply: Response) -> Response:
        if reply.status_code != 200:
            return reply
        values = json.loads(bytes(reply.body))
        if isinstance(values, list):
            values = change(values)
        elif "attachment" in values.get("fields", {}):
            values["fields"]["attachment"] = change(values["fields"]["attachment"])
        return _replaced(reply, json.dumps(values).encode())

    return act


def _replaced(reply: Response, body: bytes) -> Response:
    headers = {name: value for name, value in reply.headers.items() if name != "content-length"}
    return Response(body, reply.status_code, headers)


def _instead(make: Callable[[Fault], Response]) -> Act:
    """Replace the whole answer."""

    async def act(_x: Exchange, fault: Fault, _reply: Response) -> Response:
        return make(fault)

    return act


async def _empty(_x: Exchange, _fault: Fault, reply: Response) -> Response:
    # Jira calls it JSON nevertheless.
    return Response(b"", 200, _seraph(reply), "application/json")


async def _cut_json(_x: Exchange, _fault: Fault, reply: Response) -> Response:
    return Response(b'[{"id": "20', 200, _seraph(reply), "application/json")


def _seraph(reply: Response) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith("x-")}


async def _empty_list(_x: Exchange, _fault: Fault, reply: Response) -> Response:
    values = json.loads(bytes(reply.body)) if reply.status_code == 200 else []
    if isinstance(values, dict) and "attachment" in values.get("fields", {}):
        values["fields"]["attachment"] = []
    return Response(json.dumps(values if isinstance(values, dict) else []), 200, _seraph(reply), "application/json")


async def _failed_login(_x: Exchange, _fault: Fault, reply: Response) -> Response:
    reply.headers["X-Seraph-LoginReason"] = "AUTHENTICATED_FAILED"
    return reply


async def _rate_limit(x: Exchange, fault: Fault, _reply: Response) -> Response:
    wait = float(fault.retry_after) if fault.retry_after.replace(".", "", 1).isdigit() else 1.0
    headers = refusal_headers(fault.reason, wait, x.store.now_ms() / 1000) | {"Retry-After": fault.retry_after}
    if not x.store.cloud:
        del headers["RateLimit-Reason"], headers["X-RateLimit-Reset"]
    return shapes.refusal(429, "Rate limit exceeded.", headers=headers)


def _captcha(_fault: Fault) -> Response:
    return shapes.login_page(
        403,
        {
            "X-Authentication-Denied-Reason": "CAPTCHA_CHALLENGE; login-url=http://jira.invalid/login.jsp",
            "X-Seraph-LoginReason": "AUTHENTICATION_DENIED",
        },
    )


def _unauthorized(_fault: Fault) -> Response:
    return shapes.refusal(401, shapes.NOT_LOGGED_IN, headers={"X-Seraph-LoginReason": "AUTHENTICATED_FAILED"})


def _without_ids(attachments: list[Any]) -> list[Any]:
    return [{name: value for name, value in one.items() if name != "id"} for one in attachments]


def _wrong_sizes(attachments: list[Any]) -> list[Any]:
    return [one | {"size": one["size"] + 1} for one in attachments]


_ACTS: dict[str, Act] = {
    "status": _status,
    "reset": _cut_reply,
    "close": _cut_reply,
    "stall": _stall_reply,
    "late": _late,
    "slow": _slow,
    "trickle": _trickle,
    "html200": _instead(lambda _fault: shapes.login_page()),
    "empty200": _empty,
    "emptylist200": _empty_list,
    "nojson200": _cut_json,
    "noids200": _edited(_without_ids),
    "wrongsize200": _edited(_wrong_sizes),
    "login200": _failed_login,
    "object200": _edited(lambda attachments: attachments[0] if attachments else {}),
    "shuffle200": _edited(lambda attachments: attachments[::-1]),
    "captcha": _instead(_captcha),
    "unauthorized": _instead(_unauthorized),
    "scope": _instead(lambda _fault: shapes.lacking_scope()),
    "xsrf": _instead(lambda _fault: shapes.xsrf_refusal()),
    "redirect": _instead(lambda fault: Response(b"", 302, {"Location": fault.location})),
    "proxy413": _instead(lambda _fault: shapes.proxy_page(413, "Request Entity Too Large")),
    "ratelimit": _rate_limit,
    "half": _half,
}


def stamped(x: Exchange, reply: Response) -> Response:
    """Add the server's time to a reply, as every server does."""
    reply.headers.setdefault("Date", x.store.http_date())
    return reply
