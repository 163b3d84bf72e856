"""Tasks are checked whole before they are stored, and what is stored is read back equal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from interval_scheduler import Cron, InvalidTask, Retry, Task
from interval_scheduler.core.codec import pack
from interval_scheduler.core.definition import Definition, decode_body, encode_body
from interval_scheduler.core.placement import preference
from interval_scheduler.core.preparation import prepare, task_id_of
from interval_scheduler.model.errors import CorruptRecord
from interval_scheduler.model.schedule import Interval
from tests.tasks import Job

NOW = 1_800_000_000_000


def prepared(task: object) -> tuple[bytes, str, int | str, Definition]:
    task_id, when, delay, body = prepare(task, 1000, lambda: NOW)
    return task_id, when, delay, decode_body(body)


class Nameless(Task):
    def serialize(self) -> Any:
        return None


class Empty(Nameless):
    id = "a"


class WithoutPayload(Task):
    id = "a"


class TestPrepare:
    def test_a_plain_task(self) -> None:
        assert prepared(Empty()) == (b"a", "~", "", Definition(None, retry=Retry()))

    def test_a_time_a_schedule_and_every_option(self) -> None:
        retry = Retry(max_retries=1)
        task = Job("a", 5.5, 60, {"n": 1}, retry, 2, "all", 7, "at_most_once")
        expected = Definition({"n": 1}, Interval(60_000), retry, 2000, "all", 7, "at_most_once")
        assert prepared(task) == (b"a", "=5500", "", expected)

    def test_a_cron_without_a_time_begins_at_its_next_match(self) -> None:
        _, when, _, definition = prepared(Job("a", reschedule_interval=Cron("0 * * * *")))
        assert when == "~1800003600000"
        assert definition.schedule == Cron("0 * * * *")

    def test_jitter_is_stable_and_below_its_bound(self) -> None:
        delays = {prepared(Job(str(number), jitter=0.5))[2] for number in range(50)}
        assert len(delays) > 25
        assert all(delay == "" or 0 < int(delay) <= 500 for delay in delays)
        assert prepared(Job("7", jitter=0.5))[2] == prepared(Job("7", jitter=0.5))[2]

    @pytest.mark.parametrize(
        ("task", "field"),
        [
            ("a", "task"),
            (Job, ""),
            (Nameless(), "id"),
            (WithoutPayload(), "serialize()"),
            (Job(""), "id"),
            (Job("x" * 1025), "id"),
            (Job("\ud800"), "id"),
            (Job(7), "id"),  # type: ignore[arg-type]
            (Job("a", retry="often"), "retry"),  # type: ignore[arg-type]
            (Job("a", retry=["often"]), "retry"),  # type: ignore[arg-type]
            (Job("a", misfire="never"), "misfire"),
            (Job("a", delivery="once"), "delivery"),
            (Job("a", misfire_limit=0), "misfire_limit"),
            (Job("a", misfire_limit=True), "misfire_limit"),
            (Job("a", payload={1, 2}), "serialize()"),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_what_breaks_a_rule_is_named(self, task: object, field: str) -> None:
        with pytest.raises(InvalidTask) as caught:
            prepared(task)
        assert caught.value.field == field
        assert "Nothing was written" in str(caught.value)

    def test_a_refused_task_changes_nothing_for_those_after_it(self) -> None:
        with pytest.raises(InvalidTask):
            prepared(Job("a", misfire="never"))
        assert prepared(Job("a", misfire="skip"))[3].misfire == "skip"


def test_an_id_is_taken_from_a_task_or_as_it_is() -> None:
    assert task_id_of(Empty()) == task_id_of("a") == b"a"
    for wrong in (Nameless(), Empty, 7):
        with pytest.raises(InvalidTask):
            task_id_of(wrong)


class TestBody:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"schedule": Interval(1)},
            {"schedule": Cron("5 4 * * *", tz="Europe/Paris")},
            {"error": "boom"},
            {"retry": Retry(max_retries=9), "timeout": 5, "misfire": "skip", "jitter": 8},
        ],
        ids=str,
    )
    def test_comes_back_equal(self, changes: dict[str, Any]) -> None:
        definition = replace(Definition([1, {"a": b"\0"}]), **changes)
        assert decode_body(encode_body(pack(definition.payload), definition)) == definition

    def test_costs_one_byte_where_there_is_only_a_payload(self) -> None:
        assert len(encode_body(pack("x" * 20), Definition("x" * 20))) == len(pack("x" * 20)) + 1

    @pytest.mark.parametrize(
        "stored",
        [7, [], [1, 2, 3, 4, 5], [1, "x"], [1, ["no cron", "UTC"]], [1, None, {"new": 1}], [1, None, {"r": 3}]],
        ids=repr,
    )
    def test_what_this_version_cannot_read_is_refused(self, stored: object) -> None:
        with pytest.raises(CorruptRecord):
            decode_body(pack(stored))


class TestPreference:
    def test_the_ranks_of_all_workers_are_a_permutation(self) -> None:
        workers = ["c", "a", "b"]
        for partition in range(64):
            assert sorted(preference(partition, workers, worker) for worker in workers) == [0, 1, 2]

    def test_each_worker_is_first_for_about_an_equal_share(self) -> None:
        workers = ["c", "a", "b"]
        firsts = [[preference(partition, workers, worker) for worker in workers].index(0) for partition in range(63)]
        assert all(18 <= firsts.count(number) <= 24 for number in range(3))

    def test_one_who_is_not_listed_comes_last(self) -> None:
        assert preference(5, ["a", "b"], "c") == 2
