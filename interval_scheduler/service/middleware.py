"""What every request passes before its route: API key, rate limit and body are checked here. Plain ASGI."""

from __future__ import annotations

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .api_keys import client_of
from .body import ClientGone, check_headers, parse_json, read_body
from .errors import ServiceError, TooManyRequests, Unauthorized
from .metrics import Metrics
from .rate_limit import RateLimit
from .settings import Settings

OPEN_PATHS = frozenset({"/ping", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs"})
"""Paths that show no timer: they need no key and have no limit."""
BODY, CLIENT = "timer_service.body", "timer_service.client"
"""Keys of the scope: the parsed body, and the name of the client."""


class RequestGate:
    """Middleware. Puts the parsed body and the client's name into the scope, and answers requests that it refuses."""

    def __init__(self, app: ASGIApp, settings: Settings, limit: RateLimit, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._limit = limit
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        extra: dict[str, str] = {}
        begun = False

        async def reply(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.lower().encode(), value.encode()) for name, value in extra.items()),
                ]
                self._metrics.requests.labels(_method(scope), str(message["status"])).inc()
            await send(message)

        try:
            await self._admit(scope, receive, extra)
            await self._app(scope, receive, reply)
        except ClientGone:
            return
        except ServiceError as error:
            await _answer(reply, error)
        except Exception:
            if not begun:
                text = "something went wrong in the service; repeating the request with its Idempotency-Key is safe"
                await _answer(reply, ServiceError(text))
            raise

    async def _admit(self, scope: Scope, receive: Receive, extra: dict[str, str]) -> None:
        if route_path(scope) in OPEN_PATHS:
            return
        headers = dict(scope["headers"])
        client = scope[CLIENT] = self._client(scope, headers, extra)
        allowance = self._limit.take(client)
        extra |= allowance.headers()
        if not allowance.allowed:
            self._metrics.limited.inc()
            raise TooManyRequests(
                f"rate limit exceeded: {client} may ask {self._settings.rate_limit:,g} times per second, "
                f"{self._settings.rate_burst:,} at once; try again in {allowance.retry_after} s"
            )
        if _wants_body(scope):
            check_headers(headers, self._settings.max_body_bytes)
            body = await read_body(receive, self._settings.max_body_bytes, self._settings.body_seconds)
            scope[BODY] = parse_json(body)

    def _client(self, scope: Scope, headers: dict[bytes, bytes], extra: dict[str, str]) -> str:
        if not self._settings.api_keys:
            return str((scope.get("client") or ("somebody",))[0])
        scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        name = client_of(key.strip(), self._settings.api_keys) if scheme.lower() == "bearer" else None
        if name is None:
            extra["WWW-Authenticate"] = 'Bearer realm="timers"'
            raise Unauthorized("the API key is missing or unknown: send it as Authorization: Bearer <key>")
        return name


def route_path(scope: Scope) -> str:
    """The path that routes know: without the prefix under which a proxy or the ASGI server serves the app."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _wants_body(scope: Scope) -> bool:
    method, path = scope["method"], route_path(scope)
    if method == "PUT":
        return path.startswith("/timers/") and path.count("/") == 2
    return method == "POST" and path in ("/timers", "/batch/create", "/batch/delete")


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "POST", "PUT", "DELETE") else "other"


async def _answer(send: Send, error: ServiceError) -> None:
    body = json.dumps(error.body(), ensure_ascii=False).encode("utf-8", "replace")
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
