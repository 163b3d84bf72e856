"""What a hostile handler does: anything at all, and what has to follow each of it by the documentation.

The simulation and the tests of real processes (`tests/chaos`) let some tasks do these deeds among healthy ones.
"""

from __future__ import annotations

import asyncio
import contextvars
import decimal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn
from unittest.mock import AsyncMock, MagicMock

from ..model.errors import GiveUp, HandlerVerdict, Postpone, RetryAfter
from ..worker.run import current_execution

FAILS = "fails"
"""The run failed: it is repeated as its `Retry` says, and then is a dead letter."""
GIVES_UP = "gives up"
"""The run failed and is a dead letter at once."""
ENDS = "ends well"

_HUGE = 300_000


@dataclass(frozen=True, slots=True)
class Deed:
    """What a handler does with its payload: raises, or returns something. `follows` is what it ends in."""

    do: Callable[[Any], Any]
    follows: str


# -- errors that cannot be asked for anything ------------------------------------------------------------------------


class Speechless(Exception):
    """Neither text nor repr nor any attribute can be had."""

    def __str__(self) -> str:
        raise SystemExit("in __str__")

    def __repr__(self) -> str:
        raise KeyboardInterrupt("in __repr__")

    def __getattr__(self, name: str) -> NoReturn:
        raise KeyboardInterrupt(name)


class Faceless(Exception):
    """Does not even tell its class."""

    @property  # type: ignore[misc]
    def __class__(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("in __class__")


class _Nameless(type):
    @property
    def __name__(cls) -> NoReturn:  # type: ignore[override]
        raise MemoryError("in __name__")


class Anonymous(Exception, metaclass=_Nameless):
    """Its class does not tell its name."""

    def __str__(self) -> str:
        raise GeneratorExit("in __str__")


class Secretive(BaseException):
    """Every attribute raises, those of every exception too."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise KeyboardInterrupt(name)


class Text(str):
    """A text that is none when it is used."""

    __slots__ = ()

    def encode(self, *_: Any) -> NoReturn:
        raise MemoryError("in encode")

    def __str__(self) -> str:
        return self

    def __len__(self) -> int:
        return -1


class SaysNoText(Exception):
    def __str__(self) -> Any:
        return 5


class SilentRetry(RetryAfter):
    """A verdict without the ``__init__`` of its class."""

    def __init__(self) -> None:
        self.why = "no super"


class SpeechlessGiveUp(GiveUp):
    def __str__(self) -> str:
        raise KeyboardInterrupt("in __str__")


class PropertyPostpone(Postpone):
    """Its pause cannot be had."""

    def __init__(self) -> None:
        BaseException.__init__(self)

    @property
    def seconds(self) -> NoReturn:  # type: ignore[override]
        raise SystemExit("in seconds")


class OddVerdict(HandlerVerdict):
    """A verdict that nobody has heard of."""


class _Awaitable:
    """Waits for something that no event loop knows."""

    def __await__(self) -> Iterator[Any]:
        yield "no future"


class _RaisesWhenAwaited:
    def __await__(self) -> NoReturn:
        raise StopIteration("in __await__")


class _Undead:
    """A proxy that answers to every name, and raises when it goes."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __bool__(self) -> NoReturn:
        raise RuntimeError("in __bool__")

    def __eq__(self, other: object) -> NoReturn:
        raise RuntimeError("in __eq__")

    __hash__ = None  # type: ignore[assignment]


# -- deeds -----------------------------------------------------------------------------------------------------------

_bound: contextvars.ContextVar[object] = contextvars.ContextVar("hostile")


def _raises(make: Callable[[], BaseException]) -> Deed:
    def do(_payload: Any) -> NoReturn:
        raise make()

    return Deed(do, GIVES_UP if make is SpeechlessGiveUp else FAILS)


def _returns(make: Callable[[], Any], follows: str = ENDS) -> Deed:
    return Deed(lambda _payload: make(), follows)


def _spoil(payload: Any) -> None:
    """Changes a payload into what cannot be packed."""
    if isinstance(payload, dict):
        payload.update(at=datetime.now(UTC), itself=payload, number=1 << 200, text="\ud800", proxy=_Undead())
        payload[payload.__class__] = object()


def _spoil_and_raise(payload: Any) -> NoReturn:
    _spoil(payload)
    raise ValueError(payload)


def _empty_and_raise(payload: Any) -> NoReturn:
    payload.clear()
    raise LookupError


def _pause(kind: type[RetryAfter] | type[Postpone], seconds: object) -> Callable[[], BaseException]:
    def make() -> BaseException:
        error = kind(1)
        error.seconds = seconds  # type: ignore[assignment]
        return error

    return make


def _circle() -> BaseException:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    first.__context__ = first
    return first


def _nested() -> BaseException:
    error: BaseException = ValueError("innermost")
    for _ in range(300):
        error = BaseExceptionGroup("group", [error, SystemExit(1)])
    return error


def _deep() -> BaseException:
    def deeper() -> NoReturn:
        deeper()

    try:
        deeper()
    except RecursionError as error:
        return error
    raise AssertionError


def _noted() -> BaseException:
    error = ValueError("x")
    error.__notes__ = _Undead()  # type: ignore[assignment]
    return error


def _change_context(_payload: Any) -> None:
    for variable in list(contextvars.copy_context()):
        variable.set(_Undead())
    _bound.set(_Undead())
    decimal.getcontext().prec = 1


def _cancel_itself(_payload: Any) -> None:
    """Asks for the cancellation of its own asyncio task, and returns before it arrives."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # in a thread, where there is none
        return
    if task is not None:
        task.cancel()


def _continue_as_nonsense(_payload: Any) -> None:
    current_execution().continue_as(_Undead())  # type: ignore[arg-type]


async def _coroutine_that_fails() -> NoReturn:
    raise BaseExceptionGroup("in a coroutine", [KeyboardInterrupt(), asyncio.CancelledError()])


async def _generator() -> Any:
    yield 1


DEEDS: dict[str, Deed] = {
    "spoils its payload": Deed(_spoil, ENDS),
    "spoils its payload and raises": Deed(_spoil_and_raise, FAILS),
    "empties its payload and raises": Deed(_empty_and_raise, FAILS),
    "changes all of its context": Deed(_change_context, ENDS),
    "cancels itself": Deed(_cancel_itself, ENDS),
    "goes on as nonsense": Deed(_continue_as_nonsense, FAILS),
    "raises what has no text": _raises(Speechless),
    "raises what has no class": _raises(Faceless),
    "raises what has no name": _raises(Anonymous),
    "raises what has no attributes": _raises(Secretive),
    "raises what says no text": _raises(SaysNoText),
    "raises a text that is none": _raises(lambda: ValueError(Text("x"))),
    "raises a lone surrogate": _raises(lambda: ValueError("\ud800\udfff")),
    "raises a huge text": _raises(lambda: ValueError("x\0\n" * (_HUGE // 3))),
    "raises a circle": _raises(_circle),
    "raises nested groups": _raises(_nested),
    "raises RecursionError": _raises(_deep),
    "raises odd notes": _raises(_noted),
    "raises MemoryError": _raises(MemoryError),
    "raises SystemExit": _raises(lambda: SystemExit(_Undead())),
    "raises KeyboardInterrupt": _raises(KeyboardInterrupt),
    "raises GeneratorExit": _raises(GeneratorExit),
    "raises StopIteration": _raises(lambda: StopIteration(5)),
    "raises StopAsyncIteration": _raises(StopAsyncIteration),
    "raises CancelledError": _raises(asyncio.CancelledError),
    "raises BaseException": _raises(lambda: BaseException(_Undead())),
    "verdict without init": _raises(SilentRetry),
    "verdict without text": _raises(SpeechlessGiveUp),
    "verdict without a pause": _raises(PropertyPostpone),
    "verdict of an odd sort": _raises(OddVerdict),
    "pause without end": _raises(_pause(RetryAfter, float("inf"))),
    "pause that is no number": _raises(_pause(Postpone, float("nan"))),
    "pause before now": _raises(_pause(RetryAfter, -5)),
    "pause of text": _raises(_pause(Postpone, "soon")),
    "pause of a proxy": _raises(_pause(RetryAfter, _Undead())),
    "pause that is refused": _raises(lambda: RetryAfter("soon")),  # type: ignore[arg-type]
    "returns a mock": _returns(MagicMock),
    "returns a proxy": _returns(_Undead),
    "returns a generator": _returns(lambda: (number for number in range(3))),
    "returns an async generator": _returns(_generator),
    "returns an exception": _returns(Speechless),
    "returns what has no class": _returns(Faceless),
    "returns a huge text": _returns(lambda: "x" * _HUGE),
    "returns a coroutine that fails": _returns(_coroutine_that_fails, FAILS),
    "returns an async mock": _returns(lambda: AsyncMock()()),
    "returns what cannot be awaited": _returns(_Awaitable, FAILS),
    "returns what raises when awaited": _returns(_RaisesWhenAwaited, FAILS),
}
"""Every deed by its name. A plain handler, or a plain function that returns a coroutine, does it by `do`."""


class HostileLogger:
    """A logger whose every line raises, each time something else."""

    _errors = (RuntimeError, SystemExit, OSError, asyncio.CancelledError, MemoryError, GeneratorExit, UnicodeError)

    def __init__(self) -> None:
        self.lines = 0

    def bind(self, **_: object) -> HostileLogger:
        """Like a logger of structlog, whose processors may be of the application."""
        return self

    def __getattr__(self, level: str) -> Callable[..., NoReturn]:
        if level.startswith("_"):
            raise AttributeError(level)

        def write(_message: str, **fields: object) -> NoReturn:
            self.lines += 1
            for value in fields.values():
                f"{value!r}"
            raise self._errors[self.lines % len(self._errors)](level)

        return write
