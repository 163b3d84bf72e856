"""Log lines: what schedulers and workers write to the logger of the application."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from typing import Any

from .forks import held_back
from .signals import is_interrupt
from .text import short_repr, type_name


class Log:
    """Writes log lines to a structlog logger, a standard library logger, or any object with their methods.

    By default structlog's logger named "interval_scheduler", which writes to stderr unless the application has set
    structlog up; the root logger is never touched.
    """

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger

    def write(self, level: str, message: str, **fields: object) -> None:
        """Writes one line at `level` ("debug" … "error"). A logger that raises does not stop the scheduler.

        `exc_info` may be an exception, whose traceback is then shown.
        """
        try:
            logger = _default_logger() if self._logger is None else self._logger
            method = getattr(logger, level, None)
            if method is None:
                return
            if fields.get("exc_info") is None:
                fields.pop("exc_info", None)
            if hasattr(logger, "unbind"):  # of structlog; others have a `bind` too, and take fields for a template
                method(message, **fields)
            elif isinstance(logger, logging.Logger | logging.LoggerAdapter):
                method("%s", _text(message, fields), exc_info=fields.get("exc_info"))
            else:
                method(_text(message, fields) + _trace(fields.get("exc_info")))
        except BaseException as error:  # the logger, or the repr of a field, may raise anything
            # An exception of the application that is shown may raise it too, and then nobody pressed a key.
            if "exc_info" not in fields and is_interrupt(error):
                raise
            # There is no other place to report it, and a handler of that logger may raise too.
            with contextlib.suppress(BaseException):
                logging.getLogger("interval_scheduler").debug("the logger failed: %s", type_name(error))


def _default_logger() -> Any:
    """structlog as the application has set it up; else lines go to stderr, because stdout belongs to the program."""
    with held_back:
        import structlog
    if structlog.is_configured():
        return structlog.stdlib.get_logger("interval_scheduler")
    if sys.stderr is None:
        return None  # a program without a console: pythonw, or a service
    render = structlog.dev.ConsoleRenderer(
        colors=bool(getattr(sys.stderr, "isatty", bool)()),
        # Other formatters also print the variables of each frame: pages of text, which may contain secrets.
        exception_formatter=structlog.dev.plain_traceback,
    )
    stamp = structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False)
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), processors=[structlog.processors.add_log_level, stamp, render]
    )


def _text(message: str, fields: dict[str, object]) -> str:
    return " ".join(
        [message, *(f"{name}={short_repr(value, 2000)}" for name, value in fields.items() if name != "exc_info")]
    )


def _trace(error: object) -> str:
    """The traceback of an error as further lines of a text."""
    return "\n" + "".join(traceback.format_exception(error)).rstrip() if isinstance(error, BaseException) else ""
