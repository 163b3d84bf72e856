"""What the service stores: round trips, damaged values, other versions, and tasks of other applications."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interval_scheduler import Cron, Task
from interval_scheduler.core.codec import pack, unpack
from interval_scheduler.service.stored import (
    ExtraRun,
    Failure,
    Finished,
    ForeignPayload,
    RetentionSweep,
    Stored,
    Timer,
    UnreadablePayload,
    decode,
    decode_failure,
    encode,
    encode_failure,
)
from tests.service.conftest import Receiver, Service
from tests.tasks import eventually

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
TIMES = st.integers(0, 253_402_300_799_999)
REPEATS = st.floats(0.001, 1e9) | st.builds(Cron, st.sampled_from(["* * * * *", "0 12 1 1 *"]), st.just("UTC"))
COUNTS = st.integers(0, 2**31)
TIMERS = st.builds(Timer, TEXTS, st.sampled_from(["null", '{"a": 1}']), TIMES, TIMES, TEXTS, st.none() | REPEATS, TEXTS)
RECORDS = st.builds(
    Finished, TEXTS, st.none() | TIMES, TIMES, st.none() | REPEATS, TEXTS, st.sampled_from(["completed", "cancelled"]),
    TIMES, TIMES, COUNTS, st.none() | TEXTS,
)  # fmt: skip
STORED = TIMERS | RECORDS | st.builds(ExtraRun, TEXTS) | st.builds(RetentionSweep, st.floats(1, 1e6))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
TIMER = Timer("http://a/", "1", 5, 5, "nonce", 60.0, "print")


@given(STORED)
def test_what_is_stored_comes_back_equal(value: Stored) -> None:
    assert decode(unpack(pack(encode(value)))) == value


@given(JSON)
def test_payloads_of_others_are_foreign(payload: Any) -> None:
    with pytest.raises(ForeignPayload, match="namespace"):
        decode(payload)


@pytest.mark.parametrize(
    "payload", [None, [], {}, "x", [1], [1, "other"], [True, "timer-service"], {"url": "http://a/"}]
)
def test_payloads_that_look_alike_are_foreign(payload: Any) -> None:
    with pytest.raises(ForeignPayload):
        decode(payload)


@given(STORED, st.data())
def test_a_damaged_field_raises_nothing_else(value: Stored, data: st.DataObject) -> None:
    """Anything may stand in a field: `decode` returns a value, or raises the one declared error."""
    payload = encode(value)
    place = data.draw(st.integers(2, len(payload) - 1))
    payload[place] = data.draw(JSON)
    with contextlib.suppress(UnreadablePayload):
        assert type(decode(payload)) in (Timer, Finished, ExtraRun, RetentionSweep)


@pytest.mark.parametrize(
    ("place", "wrong", "said"),
    [
        (2, "timers", "kind"),
        (2, ["timer"], "kind"),
        (3, 5, "url is of type int"),
        (4, "{", "message is not JSON"),
        (4, "[" * 100_000, "message is not JSON"),
        (5, True, "due is of type bool"),
        (5, -1, "due is not a time"),
        (6, 2**60, "created is not a time"),
        (8, 0.0, "repeat is not a number of seconds"),
        (8, float("nan"), "repeat is not a number of seconds"),
        (8, ["* * *", "UTC"], "expression of the cron schedule"),
        (8, ["* * * * *", "Mars/Phobos"], "tz of the cron schedule"),
        (8, ["* * * * *"], "repeat is neither"),
    ],
)
def test_a_damaged_timer_says_what_is_wrong(place: int, wrong: object, said: str) -> None:
    payload = encode(TIMER)
    payload[place] = wrong
    with pytest.raises(UnreadablePayload, match=said):
        decode(payload)


def test_another_version_and_another_length_are_told() -> None:
    with pytest.raises(UnreadablePayload, match=r"has version 2 .* reads only version 1"):
        decode([2, "timer-service", {"anything": "else"}])
    for payload in (encode(TIMER)[:-1], [*encode(TIMER), None]):
        with pytest.raises(UnreadablePayload, match="a timer has 7 fields"):
            decode(payload)
    with pytest.raises(ValueError, match="does not recur"):
        Timer("http://a/", "1", None, 5, "nonce", None, "print")


@given(st.text(), st.integers(1, 10**6))
def test_a_failure_keeps_its_attempt_as_a_number(reason: str, attempt: int) -> None:
    failure = Failure.of(reason, attempt)
    text = encode_failure(failure)
    assert len(text) < 2000, "more is cut off by the scheduler"
    assert decode_failure(text) == failure
    assert str(failure).endswith(f"(attempt {attempt})")


@given(
    st.text() | st.sampled_from(['{"timer-service": 2}', '{"timer-service": 1, "attempt": true, "reason": ""}', "{"])
)
def test_any_other_text_of_a_failure_is_shown_as_it_is(text: str) -> None:
    assert decode_failure(text) == Failure(text, None)
    assert str(decode_failure(text)) == text


# -- other tasks in the namespace --------------------------------------------------------------------------------------


@dataclass
class Other(Task):
    """A task of another application, or of another release of the service."""

    id: str
    payload: Any
    execute_on: float | None = None

    def serialize(self) -> Any:
        return self.payload


@pytest.mark.parametrize("payload", [{"order": 17}, "text", None])
async def test_a_task_of_another_application_is_not_a_timer(service: Service, receiver: Receiver, payload: Any) -> None:
    await service.create(id="mine", timeout=3600, url=receiver.url())
    theirs = await service.get("mine")
    later = 4_000_000_000.0
    await service.scheduler.assign_task(Other("theirs", payload, later))
    assert [timer["id"] for timer in (await service.call("GET", "/timers"))[1]["timers"]] == ["mine"]
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/run")):
        assert (await service.call(method, f"/timers/theirs{path}"))[0] == 404
    status, answer = await service.call("POST", "/timers", {"id": "theirs", "timeout": 60, "url": receiver.url()})
    assert status == 409
    assert "not a timer" in answer["error"]
    task = await service.scheduler.peek_task("theirs")
    assert task is not None
    assert task.payload == payload, "it is left alone"
    assert (await service.get("mine"))["due"] == theirs["due"]


async def test_a_timer_of_another_version_is_told_and_hurts_only_itself(service: Service, receiver: Receiver) -> None:
    await service.scheduler.assign_task(Other("newer", [2, "timer-service", "timer"]))
    await service.create(id="mine", timeout=0.01, url=receiver.url())
    await service.until("mine", "completed")
    status, answer = await service.call("GET", "/timers/newer")
    assert status == 500
    assert "timer 'newer' cannot be read" in answer["error"]
    assert "version 2" in answer["error"]

    async def failed() -> bool:
        task = await service.scheduler.peek_task("newer")
        return task is not None and "version 2" in (task.last_error or "")

    await eventually(failed)
    assert (await service.call("GET", "/timers"))[0] == 200
    assert (await service.call("GET", "/dead-letters"))[0] == 200
