"""Log lines: what schedulers and workers write to the logger of the application."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

from .text import short_repr


class Log:
    """One way to write log lines to a structlog logger, a standard library logger, or any object with their methods.

    By default structlog's logger named "interval_scheduler", which writes to stderr unless the application has set
    structlog up; the root logger is never touched.
    """

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger

    def write(self, level: str, message: str, **fields: object) -> None:
        """One line at `level` ("debug" … "error"). A logger that raises does not stop the scheduler.

        `exc_info` may be an exception, whose traceback structlog and the standard library then show.
        """
        try:
            logger = _default_logger() if self._logger is None else self._logger
            method = getattr(logger, level, None)
            if method is None:
                return
            if fields.get("exc_info") is None:
                fields.pop("exc_info", None)
            if hasattr(logger, "bind"):
                method(message, **fields)
            elif isinstance(logger, logging.Logger):
                method("%s", _text(message, fields), exc_info=fields.get("exc_info"))
            else:
                method(_text(message, fields))
        except BaseException as error:  # a user's logger, or an error's own text, may do anything
            if isinstance(error, KeyboardInterrupt):
                raise
            # There is nowhere else to complain; and who listens there may raise too.
            with contextlib.suppress(Exception):
                logging.getLogger("interval_scheduler").debug("the logger failed: %s", type(error).__name__)


def _default_logger() -> Any:
    """structlog as the application has set it up; where it has not, lines to stderr: stdout is the program's."""
    import structlog

    if structlog.is_configured():
        return structlog.stdlib.get_logger("interval_scheduler")
    if sys.stderr is None:
        return None  # a program without a console: pythonw, or a service
    render = structlog.dev.ConsoleRenderer(
        colors=bool(getattr(sys.stderr, "isatty", bool)()),
        # The other ways show the variables of each frame too: pages, and whatever secrets are in them.
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
