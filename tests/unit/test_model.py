"""The values that users meet: addresses of instances, locks, events and errors."""

from __future__ import annotations

import copy
import pickle
import threading
from datetime import timedelta
from typing import Any

import pytest

from interval_scheduler import InvalidOptions, InvalidTask, Postpone, RetryAfter, SchedulerError
from interval_scheduler.model import errors
from interval_scheduler.model.errors import (
    AlreadyExecuting,
    AssignFailed,
    CorruptRecord,
    EmbeddedServerError,
    GiveUp,
    HandlerVerdict,
    LeaseLost,
    LockNotAcquired,
    NotAcceptingTasks,
    PartitionUnavailable,
    PayloadTooLarge,
    SchedulerClosed,
    TaskChanged,
    TopologyMismatch,
    UnsuitableServer,
    UnusableInstance,
)
from interval_scheduler.model.events import EVENTS, Event, Events
from interval_scheduler.model.instances import parse_instance
from interval_scheduler.model.locks import AsyncLock, Lock, check_name, new_holder
from interval_scheduler.model.options import StorageOptions, check_logger, load_options
from interval_scheduler.support.log import Log
from interval_scheduler.testing.hostility import Anonymous, Faceless, Secretive, Speechless


class TestInstances:
    @pytest.mark.parametrize(
        ("given", "name", "settings"),
        [
            ("redis://me:p%40ss@host:7000/3", "host:7000/3", {"host": "host", "port": 7000, "db": 3}),
            ("rediss://host", "host:6379/0", {"ssl": True}),
            ("valkeys://host", "host:6379/0", {"ssl": True}),
            ("unix:///run/redis.sock?db=2", "/run/redis.sock/2", {"path": "/run/redis.sock", "db": 2}),
            ({"host": "h", "port": "7001", "db": "4"}, "h:7001/4", {"host": "h", "port": 7001, "db": 4}),
            ({"url": "redis://h", "name": "first", "username": "u"}, "first", {"username": "u", "host": "h"}),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_an_address_in_each_form(self, given: Any, name: str, settings: dict[str, object]) -> None:
        instance = parse_instance(given)
        assert instance.name == name
        assert settings.items() <= instance.settings.items()

    def test_one_that_is_an_instance_stays_as_it_is(self) -> None:
        instance = parse_instance("redis://host")
        assert parse_instance(instance) is instance

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            (7, "use a URL or a mapping"),
            ({"name": ""}, "name"),
            ({"weight": 0}, "weight"),
            ({"weight": True}, "weight"),
            ({"url": 7}, "url"),
            ({"url": "redis://h", "port": 1}, "port"),
            ({"host": ""}, "host"),
            ({"port": 70000}, "port"),
            ({"db": -1}, "db"),
            ({"tls": True}, "tls"),
            ("localhost:6379", "URL"),
            ("http://host", "http"),
            ("embedded://", "folder"),
            ("unix://", "socket"),
            ("redis://host?timeout=3", "timeout"),
            ("redis+sentinel://host", "service"),
            ("redis+cluster://host", "redis+cluster"),
        ],
        ids=str,
    )
    def test_what_is_no_address_is_refused_by_name(self, given: Any, field: str) -> None:
        with pytest.raises(ValueError, match=field.replace("+", r"\+")):
            parse_instance(given)

    def test_a_refusal_does_not_show_the_password(self) -> None:
        with pytest.raises(ValueError) as caught:
            parse_instance("redis://me:hunter2@host:99999")
        assert "hunter2" not in str(caught.value)
        assert "hunter2" not in repr(parse_instance("redis://me:hunter2@host"))


class TestOptions:
    def test_a_storage_may_be_given_as_its_dataclass(self) -> None:
        instances = (parse_instance("memory://a"),)
        options = load_options({"storage": StorageOptions(instances, reconnect_interval_seconds=2)})
        assert options.storage.instances == instances
        assert options.storage.reconnect_interval_seconds == 2

    def test_a_duration_may_be_a_timedelta(self) -> None:
        assert load_options({"lease_seconds": timedelta(minutes=1)}).lease_seconds == 60

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            (7, "options"),
            ({"storage": 7}, "storage"),
            ({"storage": {"instances": []}}, "instances"),
            ({"storage": {"instances": ["memory://a"], "master_index": 1}}, "master_index"),
            ({"storage": {"instances": ["memory://a", "memory://b"], "master_index": 2}}, "master_index"),
            ({"lease_seconds": float("nan")}, "lease_seconds"),
            ({"concurrency": 1.5}, "concurrency"),
        ],
        ids=str,
    )
    def test_each_wrong_field_is_named(self, given: Any, field: str) -> None:
        with pytest.raises(InvalidOptions) as caught:
            load_options(given)
        assert len(caught.value.problems) == 1
        assert field in caught.value.problems[0]

    def test_a_logger_must_be_able_to_log(self) -> None:
        check_logger(None)
        with pytest.raises(InvalidOptions):
            check_logger("stdout")


class TestLocks:
    @pytest.mark.parametrize("name", ["", "x" * 1025, "\ud800", 7])
    def test_a_name_must_be_text(self, name: object) -> None:
        with pytest.raises(InvalidTask):
            check_name(name)

    def test_a_name_of_the_largest_size(self) -> None:
        assert check_name("x" * 1024) == "x" * 1024

    def test_holders_are_never_the_same(self) -> None:
        assert len({new_holder() for _ in range(100)}) == 100

    async def test_it_is_prolonged_by_whoever_made_it(self) -> None:
        asked: list[tuple[str, object]] = []

        def extend(lock: Any, seconds: object) -> int:
            asked.append((lock.name, seconds))
            return 1

        async def extend_later(lock: Any, seconds: object) -> int:
            return extend(lock, seconds) - 1

        assert Lock("a", 1, "me", extend).extend(5) is True
        assert await AsyncLock("b", 1, "me", extend_later).extend(6) is False
        assert asked == [("a", 5), ("b", 6)]

    def test_the_holder_is_not_shown(self) -> None:
        assert "secret" not in repr(Lock("a", 1, "secret", lambda lock, seconds: True))


class Lines:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, message: str) -> None:
        self.lines.append(message)


class TestEvents:
    def test_a_callback_that_fails_hurts_no_other(self) -> None:
        logger, heard = Lines(), []

        def broken(*_: object) -> None:
            raise SystemExit("no")

        events = Events(Log(logger))
        events.on("online", broken)
        events.on("online", lambda: heard.append("online"))
        events.emit("online")
        assert heard == ["online"]
        assert len(logger.lines) == 1
        assert "SystemExit" in logger.lines[0]

    def test_an_interrupt_by_the_user_is_not_swallowed(self) -> None:
        def interrupted() -> None:
            raise KeyboardInterrupt

        events = Events(Log())
        events.on("online", interrupted)
        with pytest.raises(KeyboardInterrupt):
            events.emit("online")

    def test_what_an_exception_of_a_handler_does_to_a_callback_is_no_interrupt(self) -> None:
        """A callback that puts such an exception into words would have ended the event loop of the worker."""
        logger = Lines()
        events = Events(Log(logger))
        events.on("task-dead", lambda event: str(event.details["exception"]) and repr(event.details["exception"]))
        for error in (Speechless(), Secretive(), Anonymous(), Faceless()):
            events.emit("task-dead", Event("task-dead", {"id": "a", "error": "", "exception": error}))
        assert logger.lines

    def test_an_interrupt_in_another_thread_is_none(self) -> None:
        def interrupted() -> None:
            raise KeyboardInterrupt

        logger = Lines()
        events = Events(Log(logger))
        events.on("online", interrupted)
        thread = threading.Thread(target=events.emit, args=("online",))
        thread.start()
        thread.join()
        assert "KeyboardInterrupt" in logger.lines[0]

    def test_who_listens_to_nothing_is_told(self) -> None:
        events = Events(Log())
        with pytest.raises(InvalidOptions):
            events.on("onlin", print)
        with pytest.raises(InvalidOptions):
            events.on("online", None)  # type: ignore[arg-type]
        assert not any(events.wanted(name) for name in EVENTS)


def _subclasses(kind: type[Any]) -> list[type[Any]]:
    own = [sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__]
    return [found for sub in own for found in (sub, *_subclasses(sub))]


class TestErrors:
    def test_it_says_whether_the_command_may_have_been_carried_out(self) -> None:
        unknown = PartitionUnavailable("first", "timed out", unknown_outcome=True)
        assert "may have been carried out" in str(unknown)
        assert "was not carried out" in str(PartitionUnavailable("first", "refused"))

    def test_a_stopped_bulk_assign_has_counts_and_ids(self) -> None:
        error = AssignFailed(3, 2, ("a", "b"), ("c",))
        assert (error.created, error.updated, error.not_written, error.unknown) == (3, 2, ["a", "b"], ["c"])

    def test_a_refused_task_of_a_bulk_assign_tells_what_was_written_before(self) -> None:
        error = InvalidTask("Job", "id", "is empty", "give one")
        error.created, error.not_written = 5, ["a"]
        assert "5 tasks created" in str(error)

    @pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
    def test_every_error_can_be_pickled_and_copied(self, again: Any) -> None:
        """fault-D2: cpython#120810."""
        refused = PayloadTooLarge("Job", "serialize()", "is 9 bytes", "store it elsewhere")
        refused.created = 3
        made = [
            refused,
            InvalidTask("Job", "id", "is empty", "give one"),
            InvalidOptions(["a is wrong", "b is wrong"]),
            NotAcceptingTasks(),
            AlreadyExecuting(),
            SchedulerClosed(),
            PartitionUnavailable("first", "timed out", unknown_outcome=True),
            UnsuitableServer("first", "too old"),
            UnusableInstance("first", "invalid password", "correct it"),
            AssignFailed(3, 2, ["a"], ["b"]),
            TopologyMismatch("differs"),
            CorruptRecord("damaged"),
            LeaseLost("lost"),
            LockNotAcquired("stock"),
            EmbeddedServerError("ended"),
            TaskChanged("a", "v1"),
            RetryAfter(5, "busy"),
            GiveUp("no"),
            Postpone(7),
        ]
        assert {type(error) for error in made} >= set(_subclasses(SchedulerError)) - {HandlerVerdict}
        for error in made:
            copied = again(error)
            assert type(copied) is type(error)
            assert (str(copied), copied.args, copied.__dict__) == (str(error), error.args, error.__dict__)

    def test_a_changed_task_is_named(self) -> None:
        assert "'a'" in str(TaskChanged("a", "v1"))
        assert "v1" in str(TaskChanged("a", "v1"))
        assert "'a'" in str(TaskChanged("a", ""))

    @pytest.mark.parametrize("verdict", [RetryAfter, Postpone])
    def test_a_verdict_takes_seconds_or_a_timedelta(self, verdict: Any) -> None:
        assert verdict(timedelta(minutes=1)).seconds == verdict(60).seconds == 60.0
        assert isinstance(verdict(0), SchedulerError)
        for wrong in (-1, float("nan"), True, "1", 367 * 86_400):
            with pytest.raises(InvalidTask):
                verdict(wrong)
