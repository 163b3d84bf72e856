"""The OpenAPI document: JSON Schemas of request bodies, and what FastAPI does not say by itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from .destinations import MAX_URL_LENGTH
from .replies import ErrorBody
from .requests import DURATION, ID_PATTERN
from .settings import Settings

Schema = dict[str, Any]
"""A part of the document: JSON, whose form the OpenAPI standard declares."""

_NEEDS_KEY = ("/timers", "/batch", "/dead-letters")
_UPDATE = (
    "Replaces url and message, and the time where a first time is given. An interval or cron alone keeps the time of "
    "the pending occurrence, and decides what follows it."
)
_DESCRIPTIONS = {
    400: "Something in the request is wrong",
    401: "The API key is missing or unknown",
    404: "There is no timer with this id",
    408: "The body took too long",
    409: "The state of the timer does not allow the request",
    413: "The body is too long",
    415: "The body is not JSON",
    429: "Too many requests",
    503: "Redis cannot be reached",
}


def request_body(name: str) -> Schema:
    """The part of an operation that names the schema of its body."""
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def error_responses(*codes: int) -> dict[int | str, Schema]:
    """The errors that an operation answers: those of every operation, and `codes`."""
    return {code: {"model": ErrorBody, "description": _DESCRIPTIONS[code]} for code in (400, 401, 429, 503, *codes)}


def complete_document(app: FastAPI, settings: Settings) -> None:
    """Adds request bodies and API keys to the document, and takes out 422, which the service answers as 400."""
    generate = app.openapi

    def openapi() -> Schema:
        if app.openapi_schema is None:
            document = generate()
            parts = document.setdefault("components", {})
            for name in ("HTTPValidationError", "ValidationError"):
                parts["schemas"].pop(name, None)
            parts["schemas"] |= schemas(settings)
            if settings.api_keys:
                parts["securitySchemes"] = {"apiKey": {"type": "http", "scheme": "bearer"}}
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
                    if settings.api_keys and path.startswith(_NEEDS_KEY):
                        operation["security"] = [{"apiKey": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def schemas(settings: Settings) -> Schema:
    """The schemas of request bodies, by name."""
    common: Schema = {
        "url": {
            "type": "string",
            "format": "uri",
            "maxLength": MAX_URL_LENGTH,
            "description": "The webhook is sent to this url with /<id> appended to its path.",
        },
        "message": {"description": "Any JSON; null if left out. It is delivered unchanged."},
    }
    own_id: Schema = {"id": {"type": "string", "pattern": ID_PATTERN, "description": "Random if left out."}}
    timings = _timings(settings)
    create = [_object(common | own_id | properties, rule) for properties, rule in timings]
    update = [_object(common | properties, rule) for properties, rule in [*timings, ({}, {})]]
    limit = settings.max_batch
    return {
        "TimerCreate": {"oneOf": create, "description": "A timer: what to send where, and one way to say when."},
        "TimerUpdate": {"oneOf": update, "description": _UPDATE},
        "BatchCreate": _list("timers", {"description": "A TimerCreate. Each has a result of its own."}, limit),
        "BatchDelete": _list("ids", {"description": "The id of a timer. Each has a result of its own."}, limit),
    }


def _timings(settings: Settings) -> list[tuple[Schema, Schema]]:
    """The ways to say when: the properties of each, and the rule about what must be given."""
    horizon = settings.horizon_seconds
    alone: Schema = {
        "type": "number",
        "minimum": settings.min_interval_seconds,
        "maximum": horizon,
        "description": "Seconds between occurrences. The first occurrence of a new timer is one interval from now.",
    }
    after_first = {"interval": alone | {"description": "Seconds between occurrences, from the first one on."}}
    durations = {
        name: {"type": "integer", "minimum": 0, "maximum": int(horizon // factor)} for name, factor in DURATION.items()
    }
    some = {"anyOf": [{"required": [name], "properties": {name: {"minimum": 1}}} for name in DURATION]}
    timeout = {"type": "number", "exclusiveMinimum": 0, "maximum": horizon, "description": "Seconds."}
    at = {"type": "string", "format": "date-time"}
    cron = {"type": "string", "format": "cron", "description": "Five fields, or six with seconds first."}
    zone = {"type": "string", "format": "timezone", "description": "IANA name; UTC if left out."}
    return [
        ({**durations, **after_first}, some),
        ({"timeout": timeout, **after_first}, {"required": ["timeout"]}),
        ({"at": at, **after_first}, {"required": ["at"]}),
        ({"interval": alone}, {"required": ["interval"]}),
        ({"cron": cron, "tz": zone}, {"required": ["cron"]}),
    ]


def _object(properties: Schema, rule: Schema) -> Schema:
    required = ["url", *rule.get("required", [])]
    closed = {"type": "object", "properties": properties, "additionalProperties": False}
    return closed | {name: value for name, value in rule.items() if name != "required"} | {"required": required}


def _list(name: str, items: Schema, limit: int) -> Schema:
    array = {"type": "array", "minItems": 1, "maxItems": limit, "items": items}
    return {"type": "object", "properties": {name: array}, "required": [name], "additionalProperties": False}
