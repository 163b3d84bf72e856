"""fault-D8: a subclass of `Task` is told of its slips when it is defined. What is no slip is left alone."""

from __future__ import annotations

import abc
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from functools import cached_property, partial
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import pendulum
import pytest

from interval_scheduler import Cron, InvalidTask, Retry, Task, TaskDefinitionWarning
from interval_scheduler.core.preparation import prepare
from interval_scheduler.model.spelling import MEMBERS, meant

T = TypeVar("T")

MISSPELT = {
    "rescedule_interval": "reschedule_interval",
    "reschedule_intervall": "reschedule_interval",
    "reschedul_interval": "reschedule_interval",
    "reschedule_intervel": "reschedule_interval",
    "reschedule_inteval": "reschedule_interval",
    "reshedule_interval": "reschedule_interval",
    "reshcedule_interval": "reschedule_interval",
    "re_schedule_interval": "reschedule_interval",
    "rescheduleInterval": "reschedule_interval",
    "rescheduleinterval": "reschedule_interval",
    "reschedule_interval_": "reschedule_interval",
    "reschedule_interval_s": "reschedule_interval",
    "rescheduled_interval": "reschedule_interval",
    "rescheduling_interval": None,  # three slips are another word
    "executeon": "execute_on",
    "executeOn": "execute_on",
    "execute__on": "execute_on",
    "exectue_on": "execute_on",
    "excute_on": "execute_on",
    "execute_in": "execute_on",
    "execute_no": "execute_on",
    "serialise": "serialize",
    "serialze": "serialize",
    "seralize": "serialize",
    "serilaize": "serialize",
    "time_out": "timeout",
    "timeOut": "timeout",
    "tiemout": "timeout",
    "timout": "timeout",
    "mis_fire": "misfire",
    "misifre": "misfire",
    "misfire_limt": "misfire_limit",
    "misfireLimit": "misfire_limit",
    "missfire_limit": "misfire_limit",
    "mifire_limits": "misfire_limit",
    "delivry": "delivery",
    "dilivery": "delivery",
    "deliverey": "delivery",
    "jiter": "jitter",
    "jittre": "jitter",
    "re_try": "retry",
}

# Attributes as applications have them, beside all combinations of the parts below.
REALISTIC = (
    "timeouts timeout_s timeout_ms timeout_seconds timeout_handler timed_out timer timers timestamp time_zone "
    "timezone retried retrying retry_count retry_policy retrieve retriever entry entries registry retry_on "
    "retry_queue ids id_ idx uid uuid identity identifier ident user_id kid bid jitters jitter_ms jittered "
    "jitter_seed litter bitter glitter twitter fitter sitter emitter splitter deliver delivers delivered "
    "deliverer delivering deliveries delivery_id delivery_note delivery_date delivery_address delivery_attempts "
    "livery discovery recovery redelivery misfires misfired misfire_count misfire_policy miswire execution "
    "executions execute executed executor executes executed_on executed_at execution_on execute_once execute_now "
    "execute_one executes_on exclude_on executable executive serialized serializer serializes serializable "
    "serialize_as serialization serializer_class deserialize deserializer unserialize serial serials sterilize "
    "reserialize specialize realize reschedule rescheduled reschedules reschedule_after reschedule_delay "
    "rescheduler reschedule_count schedule_id rescheduling interval_seconds interval_id intervals "
    "reschedule_internally limit limits limiter rate_limits miss_limit mail_limit fire_limit kind key group "
    "queue_name queue_url priority_class expires_after until max_occurrences overdue keep_runs pause_after "
    "payload data body args kwargs params options config settings context meta metadata tags labels name title "
    "description url path host port user users account tenant customer order invoice product amount currency "
    "total status state created created_at updated_at deleted_at started_at finished_at due due_at due_date "
    "deadline when date day hour client session logger log db engine pool cache redis model models manager "
    "objects repository service handler run perform process call apply send notify publish emit handle prepare "
    "validate check build create update delete save load dump to_dict from_dict as_dict to_json copy clone merge "
    "version revision parent children items values keys "
)
PARTS = (
    "send sync fetch load refresh check clean update import export run retry execute deliver serialize schedule "
    "user order mail report index cache file batch on at in by id time timeout delay limit interval count "
)


def define(*bases: type, **body: Any) -> type[Task]:
    return type("Job", bases or (Task,), {"serialize": lambda self: None, "id": "a", **body})


@pytest.fixture(autouse=True)
def no_warning_is_lost() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class TestNames:
    @pytest.mark.parametrize(("name", "member"), MISSPELT.items())
    def test_a_misspelt_member_is_refused_with_the_right_name(self, name: str, member: str | None) -> None:
        if member is None:
            assert define(**{name: 5})
            return
        for value in (5, property(lambda self: 5), lambda self: 5):
            if member == "serialize":
                with pytest.raises(InvalidTask, match=rf"^Job\.{name} is no member of a Task; write serialize\. "):
                    type("Job", (Task,), {name: value})
                continue
            with pytest.raises(InvalidTask, match=rf"^Job\.{name} is no member of a Task; write {member}\. ") as caught:
                define(**{name: value})
            assert caught.value.field == name

    @pytest.mark.parametrize("name", REALISTIC.split())
    def test_a_word_of_the_application_is_left_alone(self, name: str) -> None:
        assert meant(name) is None
        for value in (5, property(lambda self: 5), lambda self, x: 5):
            assert define(**{name: value})

    def test_combinations_of_words_are_left_alone(self) -> None:
        names = {f"{first}_{second}" for first, second in itertools.permutations(PARTS.split(), 2)} - set(MEMBERS)
        names |= {first + second for first, second in itertools.permutations(PARTS.split(), 2)} - {"timeout"}
        wrong = {name: meant(name) for name in names if meant(name)}
        assert len(names) > 2000
        assert wrong == {  # which nobody would tell from a slip
            "execute_in": "execute_on",
            "executeon": "execute_on",
            "deliverby": "delivery",
        }

    def test_members_capitals_and_private_names_are_none(self) -> None:
        for name in (*MEMBERS, "TIMEOUT", "Retry", "_timeout", "_rescedule_interval", "__serialise", "ID"):
            assert meant(name) is None

    def test_another_name_of_a_member(self) -> None:
        with pytest.raises(InvalidTask, match=r"^Job\.execute_at is no member of a Task; write execute_on\."):
            define(execute_at=datetime.now(UTC))
        with pytest.raises(InvalidTask, match=r"^Job\.max_retry is no member of a Task; write retry = Retry\("):
            define(max_retry=3)
        assert define(execute_at=lambda self, when: None)  # a method of the application

    def test_where_the_member_is_there_its_other_names_are_the_applications_own(self) -> None:
        class Reminder(Task):
            def __init__(self, execute_at: datetime, interval: float) -> None:
                self.execute_at = execute_at
                self.interval = interval

            @property
            def execute_on(self) -> datetime:
                return self.execute_at

            reschedule_interval = property(lambda self: self.interval)

        assert Reminder(datetime.now(UTC), 5).execute_on
        assert define(interval=5, reschedule_interval=5)
        assert define(serialise=lambda self: 5)  # it has serialize too
        assert define(Reminder, execute_at=5, interval=6)

    def test_names_in_annotations_are_checked(self) -> None:
        with pytest.raises(InvalidTask, match=r"write reschedule_interval"):

            @dataclass
            class Job(Task):
                id: str
                rescedule_interval: float = 60

    @pytest.mark.parametrize("method", ["__init__", "__post_init__"])
    def test_names_that_init_sets_are_checked(self, method: str) -> None:
        def init(this: Any, value: Any = None) -> None:
            this.rescedule_interval = value

        with pytest.raises(InvalidTask, match=r"^Job\.rescedule_interval .* write reschedule_interval"):
            define(**{method: init})

        def swap(self: Any, first: Any = None, second: Any = None) -> None:
            self.first, self.execute_at = first, second

        with pytest.raises(InvalidTask, match=r"^Job\.execute_at "):
            define(**{method: swap})

    def test_what_init_sets_of_other_objects_or_reads_is_left_alone(self) -> None:
        def init(self: Any, client: Any) -> None:
            client.time_out = 5
            self.client = client
            self.client.time_out = 5
            self.timeout = client.time_out + client.executeOn()

        assert define(__init__=init)

        def both(self: Any, execute_at: Any) -> None:
            self.execute_at = execute_at
            self.execute_on = execute_at

        assert define(__init__=both)

    def test_a_mixin_is_checked_with_the_class_that_uses_it(self) -> None:
        class Often:
            rescedule_interval = 60

        class Wrong:
            retry = 3

        with pytest.raises(InvalidTask, match=r"^Job\.rescedule_interval "):
            define(Often, Task)
        with pytest.raises(InvalidTask, match=r"^Job\.retry must be a Retry, not int; use Retry\(max_retries=3\)"):
            define(Wrong, Task)
        assert define(Task, Wrong)  # that of Task comes first
        assert define(Wrong, Task, retry=Retry())
        assert define(Wrong, define(retry=Retry()), retry=Retry())

        class Timed:
            execute_on = 5

        assert define(Timed, Task, execute_at=5)


class TestWords:
    @pytest.mark.parametrize(
        ("name", "instead"),
        [
            ("cron", "use reschedule_interval"),
            ("schedule", "use reschedule_interval"),
            ("interval", "use reschedule_interval"),
            ("reschedule_intervals", "use reschedule_interval"),
            ("eta", "use execute_on"),
            ("run_at", "use execute_on"),
            ("max_retries", "use retry"),
            ("retries", "use retry"),
            ("soft_time_limit", "use timeout"),
            ("priority", "nothing here does its work"),
            ("queue", "nothing here does its work"),
            ("expires", "nothing here does its work"),
        ],
    )
    def test_an_option_of_other_systems_is_told(self, name: str, instead: str) -> None:
        for value in (5, "x", property(lambda self: 5)):
            with pytest.warns(TaskDefinitionWarning, match=rf"^Job\.{name} has no effect: .*; {instead}\. If it is"):
                define(**{name: value})
        assert define(**{name: lambda self: 5})  # a method
        assert define(**{name: None})
        assert define(__annotations__={name: int}, **{name: 5})  # a field of the payload

    def test_the_warning_is_where_the_class_is(self) -> None:
        with pytest.warns(TaskDefinitionWarning) as caught:

            @dataclass(slots=True)
            class Slots(Task):
                id: str
                priority: int = 5
                cron = "* * * * *"

        with pytest.warns(TaskDefinitionWarning) as also:

            class Meta(abc.ABC, Task):
                queue = "x"

        told = [*caught, *also]
        assert [warning.filename for warning in told] == [__file__, __file__]  # once for the class with slots
        assert [str(warning.message).split()[0] for warning in told] == ["Slots.cron", "Meta.queue"]

    def test_a_subclass_inherits_no_warning(self) -> None:
        with pytest.warns(TaskDefinitionWarning):
            parent = define(queue="x")
        assert define(parent)
        with pytest.warns(TaskDefinitionWarning):
            assert define(define(id="b"), queue="x")


class Plain(Enum):
    SKIP = "skip"


class Missed(StrEnum):
    SKIP = "skip"


async def coroutine(self: object) -> int:
    return 1


def generator(self: object) -> Iterator[int]:
    yield 1


WRONG: list[tuple[str, Any, str]] = [
    ("reschedule_interval", "60", "is the str '60'; use Cron("),
    ("reschedule_interval", 0, "is 0; use 0.001 to"),
    ("reschedule_interval", True, "is a bool; use seconds"),
    ("reschedule_interval", Retry(), "is a Retry; use seconds"),
    ("reschedule_interval", Decimal(5), "is a Decimal; use seconds"),
    ("execute_on", "2030-01-01", "is a str; use an aware datetime"),
    ("execute_on", datetime(2030, 1, 1), "is a naive datetime; give it a zone"),
    ("execute_on", Cron("@daily"), "is a Cron; use an aware datetime"),
    ("execute_on", 1_790_000_000_000, "(in seconds, not milliseconds?)"),
    ("retry", 3, "must be a Retry, not int; use Retry(max_retries=3)"),
    ("retry", {"max_retries": 3}, "must be a Retry, not dict"),
    ("retry", Retry, "must be a Retry, not type"),
    ("timeout", "5", "is a str; use seconds"),
    ("timeout", -1, "is -1; use 0.001 to"),
    ("misfire", "skp", "is 'skp'; use one of 'coalesce', 'skip', 'all'"),
    ("misfire", 5, "is 5; use one of"),
    ("misfire", Plain.SKIP, "use one of"),
    ("misfire_limit", "5", "is '5'; use an int from 1 to 1,000"),
    ("misfire_limit", 1001, "use an int from 1 to 1,000"),
    ("delivery", "exactly_once", "is 'exactly_once'; use one of"),
    ("jitter", (0, 5), "is a tuple; use seconds"),
    ("id", 5, "must be a str, not int"),
    ("id", lambda self: "a", "is a method; make it a property"),
    ("reschedule_interval", lambda self: 60, "is a method; make it a property"),
    ("execute_on", staticmethod(lambda: 5), "is a method; make it a property"),
    ("execute_on", property(coroutine), "is a coroutine function; make it a plain property"),
    ("retry", property(generator), "is a generator; make it a plain property"),
    ("serialize", {"a": 1}, "is a dict: {'a': 1}; write def serialize(self)"),
    ("serialize", property(lambda self: 1), "is a property; leave @property out"),
    ("serialize", coroutine, "is a coroutine function; write def serialize(self)"),
    ("serialize", generator, "is a generator; write def serialize(self)"),
    ("serialize", lambda self, fmt: 1, "needs the arguments fmt; write def"),
    ("serialize", eval("lambda self, a, b=1, *, c, d=2: 1"), "needs the arguments a, c; write def"),
    ("serialize", eval("lambda: 1"), "does not take self; write def"),
]


class TestValues:
    @pytest.mark.parametrize(("member", "value", "text"), WRONG)
    def test_a_value_that_the_member_cannot_have_is_refused(self, member: str, value: Any, text: str) -> None:
        with pytest.raises(InvalidTask) as caught:
            define(**{member: value})
        assert str(caught.value).startswith(f"Job.{member} ")
        assert text in str(caught.value)
        assert caught.value.field == member

    @pytest.mark.parametrize(
        ("member", "value"),
        [
            ("reschedule_interval", Cron("@daily")),
            ("reschedule_interval", pendulum.duration(minutes=1)),
            ("execute_on", pendulum.now()),
            ("execute_on", 0),
            ("misfire", Missed.SKIP),
            ("timeout", timedelta(seconds=1)),
            ("jitter", 0),
            ("id", "é"),
            ("serialize", lambda *args: 1),
            ("serialize", lambda self, x=1, **more: 1),
            ("serialize", staticmethod(lambda: 1)),
            ("serialize", classmethod(lambda cls: 1)),
            ("serialize", partial(dict, a=1)),
            *((member, value) for member in MEMBERS for value in (None, ...)),  # something else follows
            *((member, property(lambda self: 1)) for member in MEMBERS if member != "serialize"),
            *((member, cached_property(lambda self: 1)) for member in MEMBERS),
            *((member, field(default=1)) for member in MEMBERS),
            *((member, object()) for member in MEMBERS),  # such as a field of another library
            ("id", ""),
        ],
    )
    def test_what_may_be_right_is_left_alone(self, member: str, value: Any) -> None:
        assert define(**{member: value})

    def test_a_hostile_value_is_left_to_be_checked_when_it_is_assigned(self) -> None:
        class Hostile:
            def __eq__(self, other: object) -> bool:
                raise RuntimeError("boom")

            __hash__ = None  # type: ignore[assignment]

        class Proxy(Hostile):
            """As those of web frameworks, outside of a request."""

            def __getattribute__(self, name: str) -> Any:
                raise RuntimeError("boom")

        for member in MEMBERS:
            assert define(**{member: Hostile()})
            assert define(**{member: Proxy()})
        assert define(anything=Proxy())
        with pytest.warns(TaskDefinitionWarning):
            assert define(priority=Proxy())
        with pytest.raises(InvalidTask, match=r"^Job\.misfire is <tests"):
            prepare(define(misfire=Hostile())(), 1000, lambda: 0)


class Named(Protocol):
    id: str


class TestShapes:
    """Classes as they are written; nothing is told."""

    def test_dataclasses(self) -> None:
        @dataclass
        class Data(Task):
            id: str
            priority: int
            cron: str = "x"
            tags: list[str] = field(default_factory=list)
            timeout: float | None = field(default=5)
            reschedule_interval: float | None = 60
            shared: ClassVar[int] = 5
            given: InitVar[int] = 5
            misfire = "skip"

            def serialize(self) -> Any:
                return self.tags

        @dataclass(frozen=True, slots=True, kw_only=True)
        class Slots(Task):
            id: str
            interval: float
            retry: Retry = Retry(max_retries=1)  # noqa: RUF009

            def serialize(self) -> Any:
                return None

        for task in (Data("a", 1), Slots(id="a", interval=5)):
            assert prepare(task, 1000, lambda: 0)[0] == b"a"

    def test_slots_generics_protocols_mixins_and_metaclasses(self) -> None:
        class Meta(type(Protocol)):  # type: ignore[misc]
            def __call__(cls, *args: Any, **fields: Any) -> Any:
                return super().__call__(*args, **fields)

        class Mixin:
            queue = "mail"  # of another hierarchy
            client: Any = None

        class Base(Task, Generic[T], metaclass=Meta):
            __slots__ = ("interval", "payload", "timeouts")
            id: str = ""

            @property
            @abc.abstractmethod
            def reschedule_interval(self) -> Any: ...

            def __init__(self, payload: T) -> None:
                self.payload = payload

        class Job(Mixin, Base[int], Named):
            id = "a"
            reschedule_interval = property(lambda self: 5)

            def serialize(self) -> int:
                return self.payload

        assert prepare(Job(5), 1000, lambda: 0)[0] == b"a"

    def test_arguments_of_a_class_reach_other_bases(self) -> None:
        seen: list[int] = []

        class Registry:
            def __init_subclass__(cls, number: int = 0, **more: Any) -> None:
                super().__init_subclass__(**more)
                seen.append(number)

        class Job(Task, Registry, number=5):
            id = "a"

        assert seen == [5]
        with pytest.raises(TypeError):
            type("Other", (Task,), {}, number=5)

    def test_annotations_that_cannot_be_evaluated(self) -> None:
        class Job(Task):
            id: Unknown  # type: ignore[name-defined]  # noqa: F821
            when: "Missing"  # type: ignore[name-defined]  # noqa: F821, UP037

        assert set(Job.__annotations__) == {"id", "when"}

    def test_a_nested_class_and_a_named_tuple(self) -> None:
        class Row(NamedTuple):
            execute_at: int

        class Job(Task):
            id = "a"

            class Retry:
                max_retry = 5

            def serialize(self) -> None:
                return None

            TIMEOUT = 5
            timeout = TIMEOUT
            row = Row(5)

        assert prepare(Job(), 1000, lambda: 0)[0] == b"a"


def test_assigning_looks_at_no_class_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is all done when a class is defined: assigning costs what it did."""
    kind = define()
    monkeypatch.setattr("interval_scheduler.model.task.check_class", None)
    monkeypatch.setattr("interval_scheduler.model.task_check.meant", None)
    assert prepare(kind(), 1000, lambda: 0)[0] == b"a"
