"""The HTTP API, as an ASGI app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import structlog
from fastapi import FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Route

from .._version import __version__
from ..model.errors import SchedulerError
from .destinations import Destinations, Lookup
from .edge import BODY, CLIENT, Edge, from_scheduler, route_path
from .errors import InvalidRequest, ServiceError
from .limits import RateLimit
from .metrics import CONTENT_TYPE, Metrics
from .process import ServiceProcess
from .requests import ID_PATTERN, KEY_PATTERN, Checker, is_id, schemas
from .settings import Settings, load_settings

_READY_SECONDS = 3.0
_AT_ONCE = 200
"""Items of a batch that are under way together: they share their round trips."""

log = structlog.get_logger("interval_scheduler")


class ErrorBody(BaseModel):
    """What went wrong; `fields` names every wrong field."""

    error: str
    fields: dict[str, str] = {}


class TimerBody(BaseModel):
    """A timer. Times are ISO 8601; `time_left` is whole seconds."""

    id: str
    status: str
    time_left: int
    due: str | None
    url: str
    created: str
    attempts: int
    last_error: str | None
    next_attempt: str | None
    finished: str | None
    message: Any = None
    interval: float | None = None
    cron: str | None = None
    tz: str | None = None


class PageBody(BaseModel):
    """Timers, and the cursor of the next page."""

    timers: list[TimerBody]
    next: str | None


class DeadLetterBody(BaseModel):
    """A delivery that failed for good."""

    id: str
    error: str
    attempts: int | None
    count: int
    first: str
    last: str


class DeadLettersBody(BaseModel):
    """Dead letters, newest first."""

    dead_letters: list[DeadLetterBody]


class ResultBody(BaseModel):
    """What became of one item of a batch: a timer or an error."""

    status_code: int
    timer: TimerBody | None = None
    error: str | None = None
    fields: dict[str, str] | None = None


class BatchBody(BaseModel):
    """One result per item, in order."""

    succeeded: int
    failed: int
    results: list[ResultBody]


class HealthBody(BaseModel):
    """Whether the service can be used, and what is wrong."""

    status: str
    problems: list[str] = []


def create_app(settings: Settings | None = None, scheduler: Any = None, *, lookup: Lookup | None = None) -> FastAPI:
    """The app. It connects when it starts, and stops delivering and disconnects when it is shut down.

    Args:
        settings: from ``TIMER_SERVICE_…`` environment variables where left out.
        scheduler: options of the scheduler, as `AsyncScheduler` takes them.
        lookup: resolves the names of webhooks' hosts, for tests.

    Raises:
        InvalidOptions: naming every wrong setting.
    """
    settings = load_settings() if settings is None else settings
    metrics = Metrics()
    process = ServiceProcess(settings, scheduler, metrics, lookup)
    checker = Checker(settings, Destinations(settings.allowed_networks))
    limit = RateLimit(settings.rate_limit, settings.rate_burst)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with process:
            yield

    app = FastAPI(
        title="Timer service",
        version=__version__,
        description="Timers over HTTP, delivered as signed webhooks.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.process = process
    app.add_middleware(Edge, settings=settings, limit=limit, metrics=metrics)
    _errors(app)
    _timers(app, process, checker, metrics, settings)
    _batches(app, process, checker, metrics, limit)
    _health(app, process)
    _document(app, settings)
    return app


TimerId = Annotated[str, Path(pattern=ID_PATTERN, description="The id of a timer.")]
IdempotencyKey = Annotated[
    str | None, Header(pattern=KEY_PATTERN, description="A repeat with the same key finds the timer of the first.")
]


def _body(name: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    said = {
        400: "Something in the request is wrong",
        401: "No API key, or an unknown one",
        404: "Unknown timer",
        408: "The body took too long",
        409: "The timer is in a state that does not allow it",
        413: "The body is too long",
        415: "The body is not JSON",
        429: "Too many requests",
        503: "Redis cannot be reached",
    }
    return {code: {"model": ErrorBody, "description": said[code]} for code in (400, 401, 429, 503, *codes)}


_WITH_BODY = (408, 413, 415)


def _timers(app: FastAPI, process: ServiceProcess, checker: Checker, metrics: Metrics, settings: Settings) -> None:
    @app.post(
        "/timers",
        status_code=201,
        response_model=TimerBody,
        responses=_answers(*_WITH_BODY, 409)
        | {200: {"model": TimerBody, "description": "It exists: an earlier request with this id or key made it"}},
        openapi_extra=_body("TimerCreate"),
        tags=["timers"],
    )
    async def create_timer(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        """Makes a timer. Exactly one way to say when; ``interval`` may go with a first time."""
        if idempotency_key is not None and settings.api_keys:
            idempotency_key = f"{request.scope[CLIENT]} {idempotency_key}"  # what one client uses is free for others
        view, new = await process.timers.create(checker.timer(request.scope[BODY]), idempotency_key)
        if new:
            metrics.created.inc()
        where = f"{request.scope.get('root_path', '')}/timers/{view['id']}"
        return JSONResponse(view, 201 if new else 200, {"Location": where})

    @app.get("/timers", response_model=PageBody, responses=_answers(), tags=["timers"])
    async def list_timers(
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,15}-[!-~]{1,200}$")] = None,
    ) -> Response:
        """Upcoming timers in the order of their times; go on with `next` as the cursor while there is one."""
        page = await process.timers.upcoming(limit, cursor)
        return JSONResponse({"timers": page.timers, "next": page.next})

    @app.get("/timers/{timer_id}", response_model=TimerBody, responses=_answers(404), tags=["timers"])
    async def get_timer(timer_id: TimerId) -> Response:
        """A timer: pending, processing, retrying, completed, failed or cancelled."""
        return JSONResponse(await process.timers.get(timer_id))

    @app.put(
        "/timers/{timer_id}",
        response_model=TimerBody,
        responses=_answers(*_WITH_BODY, 404, 409),
        openapi_extra=_body("TimerUpdate"),
        tags=["timers"],
    )
    async def update_timer(timer_id: TimerId, request: Request) -> Response:
        """Replaces url and message, and the time where one is given."""
        return JSONResponse(await process.timers.update(timer_id, checker.timer(request.scope[BODY], update=True)))

    @app.delete("/timers/{timer_id}", response_model=TimerBody, responses=_answers(404), tags=["timers"])
    async def delete_timer(timer_id: TimerId) -> Response:
        """Deletes a timer and whatever is known of it. Answers with what it was."""
        view = await process.timers.delete(timer_id)
        metrics.cancelled.inc()
        return JSONResponse(view)

    @app.post("/timers/{timer_id}/cancel", response_model=TimerBody, responses=_answers(404, 409), tags=["timers"])
    async def cancel_timer(timer_id: TimerId) -> Response:
        """Cancels a timer and keeps it as cancelled. A delivery under way may still arrive, but is not repeated."""
        view = await process.timers.cancel(timer_id)
        metrics.cancelled.inc()
        return JSONResponse(view)

    @app.post(
        "/timers/{timer_id}/run",
        status_code=202,
        response_model=TimerBody,
        responses=_answers(404, 409),
        tags=["timers"],
    )
    async def run_timer(timer_id: TimerId) -> Response:
        """Delivers now: a one-off instead of later, a recurring timer besides, a failed one once more."""
        return JSONResponse(await process.timers.run(timer_id), 202)

    @app.get("/dead-letters", response_model=DeadLettersBody, responses=_answers(), tags=["timers"])
    async def list_dead_letters(limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
        """The newest deliveries that failed for good, each with the last answer."""
        return JSONResponse({"dead_letters": await process.timers.failed(limit)})


_Done = tuple[int, dict[str, Any]]
"""The status of an item of a batch, and the timer."""


def _batches(app: FastAPI, process: ServiceProcess, checker: Checker, metrics: Metrics, limit: RateLimit) -> None:
    batch = partial(app.post, response_model=BatchBody, responses=_answers(*_WITH_BODY), tags=["batches"])

    @batch("/batch/create", openapi_extra=_body("BatchCreate"))
    async def create_batch(request: Request) -> Response:
        """Makes timers, each by itself: one that is refused keeps no other from being made."""

        async def create(raw: object) -> _Done:
            view, new = await process.timers.create(checker.timer(raw))
            if new:
                metrics.created.inc()
            return (201 if new else 200), view

        return await together(request, checker.timers(request.scope[BODY]), create)

    @batch("/batch/delete", openapi_extra=_body("BatchDelete"))
    async def delete_batch(request: Request) -> Response:
        """Deletes timers, each by itself."""

        async def delete(timer_id: object) -> _Done:
            if not is_id(timer_id):
                raise InvalidRequest.of({"id": "is not the id of a timer"})
            view = await process.timers.delete(str(timer_id))
            metrics.cancelled.inc()
            return 200, view

        return await together(request, checker.ids(request.scope[BODY]), delete)

    async def together(request: Request, items: list[Any], do: Callable[[Any], Awaitable[_Done]]) -> Response:
        limit.charge(request.scope[CLIENT], len(items) - 1)  # the request itself has paid for one
        results: list[dict[str, Any]] = []
        for start in range(0, len(items), _AT_ONCE):
            results += await asyncio.gather(*(_result(do(item)) for item in items[start : start + _AT_ONCE]))
        failed = sum("error" in result for result in results)
        return JSONResponse({"succeeded": len(results) - failed, "failed": failed, "results": results})


async def _result(doing: Awaitable[_Done]) -> dict[str, Any]:
    try:
        code, view = await doing
    except ServiceError as error:
        return {"status_code": error.status, **error.body()}
    except SchedulerError as error:
        answered = from_scheduler(error)
        return {"status_code": answered.status, **answered.body()}
    return {"status_code": code, "timer": view}


def _health(app: FastAPI, process: ServiceProcess) -> None:
    @app.get("/ping", response_model=HealthBody, tags=["health"])
    async def ping() -> Response:
        """Whether somebody is here."""
        return JSONResponse({"status": "pong", "problems": []})

    @app.get("/livez", response_model=HealthBody, tags=["health"])
    async def livez() -> Response:
        """Whether the process does anything at all: asks nobody, so that a failing Redis restarts nothing."""
        return JSONResponse({"status": "ok", "problems": []})

    @app.get(
        "/readyz",
        response_model=HealthBody,
        responses={503: {"model": HealthBody, "description": "It cannot be used right now"}},
        tags=["health"],
    )
    async def readyz() -> Response:
        """Whether every partition answers to a script, as it must for timers, and whether webhooks are delivered."""
        problems = await process.problems(_READY_SECONDS)
        code = 503 if problems else 200
        return JSONResponse({"status": "failing" if problems else "ok", "problems": problems}, code)

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        tags=["health"],
    )
    async def prometheus() -> Response:
        """Metrics of this process and of the namespace, for Prometheus."""
        return Response(await process.metrics_text(), media_type=CONTENT_TYPE)


def _errors(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    async def refused(_request: Request, error: ServiceError) -> Response:
        return JSONResponse(error.body(), error.status)

    @app.exception_handler(SchedulerError)
    async def unavailable(_request: Request, error: SchedulerError) -> Response:
        log.error("a request failed", error=str(error))
        answered = from_scheduler(error)
        return JSONResponse(answered.body(), answered.status, {"Retry-After": "1"})

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        fields = {str(problem["loc"][-1]): str(problem["msg"]).lower() for problem in error.errors()}
        return JSONResponse(InvalidRequest.of(fields).body(), 400)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        what = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not possible here"}
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # Each method has a route of its own, and the first one to refuse names only its own.
            headers["Allow"] = ", ".join(_methods(app, route_path(request.scope)))
        return JSONResponse({"error": what.get(error.status_code, str(error.detail))}, error.status_code, headers)


def _methods(app: FastAPI, path: str) -> list[str]:
    """What can be done at a path."""
    found: set[str] = set()
    for route in app.routes:
        if isinstance(route, Route) and route.path_regex.match(path):
            found |= route.methods or set()
    return sorted(found)


def _document(app: FastAPI, settings: Settings) -> None:
    """Completes the OpenAPI document: request bodies, API keys, and 400 where FastAPI says 422."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            parts = document.setdefault("components", {})
            for name in ("HTTPValidationError", "ValidationError"):
                parts["schemas"].pop(name, None)
            parts["schemas"] |= schemas(settings)
            if settings.api_keys:
                parts["securitySchemes"] = {"apiKey": {"type": "http", "scheme": "bearer"}}
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
                    if settings.api_keys and (path.startswith(("/timers", "/batch", "/dead-letters"))):
                        operation["security"] = [{"apiKey": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
