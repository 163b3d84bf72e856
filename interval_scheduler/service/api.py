"""The HTTP API as an ASGI app: its parts put together, and errors turned into answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

from .._version import __version__
from ..model.errors import SchedulerError
from .destinations import Destinations, Lookup
from .errors import InvalidRequest, ServiceError, from_scheduler
from .metrics import Metrics
from .middleware import RequestGate, route_path
from .openapi import complete_document
from .process import ServiceProcess
from .rate_limit import RateLimit
from .requests import Checker
from .routes import Parts, router
from .settings import Settings, load_settings

log = structlog.get_logger("interval_scheduler")


def create_app(settings: Settings | None = None, scheduler: object = None, *, lookup: Lookup | None = None) -> FastAPI:
    """The app. It connects when it starts. When it is shut down it stops delivering and disconnects.

    Args:
        settings: from ``TIMER_SERVICE_…`` environment variables if left out.
        scheduler: options of the scheduler, as `AsyncScheduler` takes them.
        lookup: resolves the host names of webhooks, for tests.

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
    app.state.parts = Parts(settings, process, checker, metrics, limit)
    app.add_middleware(RequestGate, settings=settings, limit=limit, metrics=metrics)
    # Not include_router(), which searches a router within the router for every request.
    app.router.routes.extend(router.routes)
    _answer_errors(app)
    complete_document(app, settings)
    return app


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    async def refused(_request: Request, error: ServiceError) -> Response:
        return JSONResponse(error.body(), error.status)

    @app.exception_handler(SchedulerError)
    async def unavailable(_request: Request, error: SchedulerError) -> Response:
        log.error("a request failed", error=str(error))
        answer = from_scheduler(error)
        return JSONResponse(answer.body(), answer.status, {"Retry-After": "1"})

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        fields = {str(problem["loc"][-1]): str(problem["msg"]).lower() for problem in error.errors()}
        return JSONResponse(InvalidRequest.of(fields).body(), 400)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        texts = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not possible here"}
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # Each method has a route of its own, and FastAPI names only the method of the first one.
            headers["Allow"] = ", ".join(_methods(app, route_path(request.scope)))
        return JSONResponse({"error": texts.get(error.status_code, str(error.detail))}, error.status_code, headers)


def _methods(app: FastAPI, path: str) -> list[str]:
    """The methods that a path has."""
    found: set[str] = set()
    for route in app.routes:
        if isinstance(route, Route) and route.path_regex.match(path):
            found |= route.methods or set()
    return sorted(found)
