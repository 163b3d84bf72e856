"""The routes of the API: each takes a checked request, calls one method of `Timers`, and answers JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from ..model.errors import SchedulerError
from .errors import InvalidRequest, ServiceError, from_scheduler
from .metrics import CONTENT_TYPE, Metrics
from .middleware import BODY, CLIENT
from .openapi import error_responses, request_body
from .process import ServiceProcess
from .rate_limit import RateLimit
from .replies import BatchBody, DeadLettersBody, HealthBody, PageBody, ResultBody, TimerBody
from .requests import ID_PATTERN, KEY_PATTERN, Checker, is_id
from .settings import Settings

_READY_SECONDS = 3.0
_CONCURRENT_ITEMS = 200
"""Items of a batch that are carried out at once: they share their round trips."""
_BODY_ERRORS = (408, 413, 415)

TimerId = Annotated[str, Path(pattern=ID_PATTERN, description="The id of a timer.")]
IdempotencyKey = Annotated[
    str | None,
    Header(pattern=KEY_PATTERN, description="A repeated request with the same key finds the timer of the first one."),
]
router = APIRouter()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with; `create_app` puts it into the state of the app."""

    settings: Settings
    process: ServiceProcess
    checker: Checker
    metrics: Metrics
    limit: RateLimit


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


# -- timers ------------------------------------------------------------------------------------------------------------


@router.post(
    "/timers",
    status_code=201,
    response_model=TimerBody,
    responses=error_responses(*_BODY_ERRORS, 409)
    | {200: {"model": TimerBody, "description": "It exists: an earlier request with this id or key created it"}},
    openapi_extra=request_body("TimerCreate"),
    tags=["timers"],
)
async def create_timer(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Creates a timer. Give exactly one way to say when; ``interval`` may go with a first time."""
    parts = _parts(request)
    if idempotency_key is not None and parts.settings.api_keys:
        # Each client has its own keys: two clients may use the same one.
        idempotency_key = f"{request.scope[CLIENT]} {idempotency_key}"
    body, new = await parts.process.timers.create(parts.checker.timer(request.scope[BODY]), idempotency_key)
    if new:
        parts.metrics.created.inc()
    location = f"{request.scope.get('root_path', '')}/timers/{body['id']}"
    return JSONResponse(body, 201 if new else 200, {"Location": location})


@router.get("/timers", response_model=PageBody, responses=error_responses(), tags=["timers"])
async def list_timers(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,15}-[!-~]{1,200}$")] = None,
) -> Response:
    """Upcoming timers in the order of their times. While there is a `next`, pass it on as the cursor."""
    return JSONResponse(await _parts(request).process.timers.upcoming(limit, cursor))


@router.get("/timers/{timer_id}", response_model=TimerBody, responses=error_responses(404), tags=["timers"])
async def get_timer(timer_id: TimerId, request: Request) -> Response:
    """A timer: pending, processing, retrying, completed, failed or cancelled."""
    return JSONResponse(await _parts(request).process.timers.get(timer_id))


@router.put(
    "/timers/{timer_id}",
    response_model=TimerBody,
    responses=error_responses(*_BODY_ERRORS, 404, 409),
    openapi_extra=request_body("TimerUpdate"),
    tags=["timers"],
)
async def update_timer(timer_id: TimerId, request: Request) -> Response:
    """Replaces url and message, and the time where a first time is given."""
    parts = _parts(request)
    checked = parts.checker.timer(request.scope[BODY], update=True)
    return JSONResponse(await parts.process.timers.update(timer_id, checked))


@router.delete("/timers/{timer_id}", response_model=TimerBody, responses=error_responses(404), tags=["timers"])
async def delete_timer(timer_id: TimerId, request: Request) -> Response:
    """Deletes a timer and its record. The answer shows what it was."""
    parts = _parts(request)
    body = await parts.process.timers.delete(timer_id)
    parts.metrics.cancelled.inc()
    return JSONResponse(body)


@router.post(
    "/timers/{timer_id}/cancel", response_model=TimerBody, responses=error_responses(404, 409), tags=["timers"]
)
async def cancel_timer(timer_id: TimerId, request: Request) -> Response:
    """Cancels a timer and keeps its record. A delivery under way may still arrive; it is not repeated."""
    parts = _parts(request)
    body = await parts.process.timers.cancel(timer_id)
    parts.metrics.cancelled.inc()
    return JSONResponse(body)


@router.post(
    "/timers/{timer_id}/run",
    status_code=202,
    response_model=TimerBody,
    responses=error_responses(404, 409),
    tags=["timers"],
)
async def run_timer(timer_id: TimerId, request: Request) -> Response:
    """Delivers now: a one-off instead of later, a recurring timer besides its schedule, a failed one again."""
    return JSONResponse(await _parts(request).process.timers.run(timer_id), 202)


@router.get("/dead-letters", response_model=DeadLettersBody, responses=error_responses(), tags=["timers"])
async def list_dead_letters(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
    """The newest deliveries that failed for good, each with the last answer."""
    dead_letters: DeadLettersBody = {"dead_letters": await _parts(request).process.timers.failed(limit)}
    return JSONResponse(dead_letters)


# -- batches -----------------------------------------------------------------------------------------------------------


@router.post(
    "/batch/create",
    response_model=BatchBody,
    responses=error_responses(*_BODY_ERRORS),
    openapi_extra=request_body("BatchCreate"),
    tags=["batches"],
)
async def create_batch(request: Request) -> Response:
    """Creates timers. Each is checked by itself: a wrong one does not keep the others from being created."""
    parts = _parts(request)

    async def create(item: object) -> ResultBody:
        body, new = await parts.process.timers.create(parts.checker.timer(item))
        if new:
            parts.metrics.created.inc()
        return {"status_code": 201 if new else 200, "timer": body}

    return await _batch(request, parts.checker.timers(request.scope[BODY]), create)


@router.post(
    "/batch/delete",
    response_model=BatchBody,
    responses=error_responses(*_BODY_ERRORS),
    openapi_extra=request_body("BatchDelete"),
    tags=["batches"],
)
async def delete_batch(request: Request) -> Response:
    """Deletes timers, each by itself."""
    parts = _parts(request)

    async def delete(item: object) -> ResultBody:
        if not is_id(item):
            raise InvalidRequest.of({"id": "is not the id of a timer"})
        body = await parts.process.timers.delete(item)
        parts.metrics.cancelled.inc()
        return {"status_code": 200, "timer": body}

    return await _batch(request, parts.checker.ids(request.scope[BODY]), delete)


async def _batch(request: Request, items: list[object], do: Callable[[object], Awaitable[ResultBody]]) -> Response:
    _parts(request).limit.charge(request.scope[CLIENT], len(items) - 1)  # one token is paid already
    results: list[ResultBody] = []
    for start in range(0, len(items), _CONCURRENT_ITEMS):
        some = items[start : start + _CONCURRENT_ITEMS]
        results += await asyncio.gather(*(_result(do(item)) for item in some))
    failed = sum("error" in result for result in results)
    body: BatchBody = {"succeeded": len(results) - failed, "failed": failed, "results": results}
    return JSONResponse(body)


async def _result(doing: Awaitable[ResultBody]) -> ResultBody:
    try:
        return await doing
    except ServiceError as error:
        return _failed(error)
    except SchedulerError as error:
        return _failed(from_scheduler(error))


def _failed(error: ServiceError) -> ResultBody:
    result: ResultBody = {"status_code": error.status, "error": error.message}
    if error.fields:
        result["fields"] = error.fields
    return result


# -- health ------------------------------------------------------------------------------------------------------------


@router.get("/ping", response_model=HealthBody, tags=["health"])
async def ping() -> Response:
    """Whether the service answers."""
    return _health("pong", [])


@router.get("/livez", response_model=HealthBody, tags=["health"])
async def livez() -> Response:
    """Whether the process is alive. It does not ask Redis, so a failing Redis does not restart this process."""
    return _health("ok", [])


@router.get(
    "/readyz",
    response_model=HealthBody,
    responses={503: {"model": HealthBody, "description": "The service cannot be used right now"}},
    tags=["health"],
)
async def readyz(request: Request) -> Response:
    """Whether every partition answers a script, as timers need it, and whether webhooks are delivered."""
    problems = await _parts(request).process.problems(_READY_SECONDS)
    return _health("failing", problems, 503) if problems else _health("ok", [])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    tags=["health"],
)
async def prometheus(request: Request) -> Response:
    """Metrics of this process and of the namespace, for Prometheus."""
    return Response(await _parts(request).process.metrics_text(), media_type=CONTENT_TYPE)


def _health(status: str, problems: list[str], code: int = 200) -> Response:
    body: HealthBody = {"status": status, "problems": problems}
    return JSONResponse(body, code)
