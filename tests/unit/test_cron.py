"""fault-D9: an error of `Cron` names the field, the rule and the fix; nothing is taken that nobody can mean."""

from __future__ import annotations

import copy
import pickle
import re
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from interval_scheduler import CorruptRecord, Cron, InvalidTask
from interval_scheduler.core.codec import join_body, pack
from interval_scheduler.core.definition import decode_body
from interval_scheduler.core.preparation import prepare
from interval_scheduler.core.schedule import next_slot
from interval_scheduler.model.cron_check import NICKNAMES, check_expression
from tests.tasks import Job

MINUTE, HOUR, DAY, MONTH, WEEKDAY = "minute", "hour", "day of the month", "month", "day of the week"
# The expression, its wrong field, and what the message says.
WRONG_FIELDS = [
    ("*/90 * * * *", MINUTE, "the step 90 leads out of the field, which has 60 values; use a step from 1 to 60, or an"),
    ("*/90 * * * *", MINUTE, "an interval of 5400 seconds instead of a Cron"),
    ("*/61 * * * *", MINUTE, "the step 61"),
    ("0 */36 * * *", HOUR, "which has 24 values; use a step from 1 to 24, or an interval of 129600 seconds"),
    ("0 0 */40 * *", DAY, "which has 31 values"),
    ("0 0 1 */13 *", MONTH, "which has 12 values; use a step from 1 to 12."),
    ("0 0 * * */8", WEEKDAY, "which has 7 values"),
    ("*/61 * * * * *", "second", "of six fields, the first one are the seconds"),
    ("*/" + "9" * 900 + " * * * *", MINUTE, "leads out of the field"),
    ("5/61 * * * *", MINUTE, "the step 61"),
    ("0-30/61 * * * *", MINUTE, "the step 61"),
    ("*/0 * * * *", MINUTE, "/0 is no step; use a number from 1 to 60"),
    ("*/ * * * *", MINUTE, "/ is no step"),
    ("*/-5 * * * *", MINUTE, "/-5 is no step"),
    ("1/2/3 * * * *", MINUTE, "/2/3 is no step"),
    ("60 * * * *", MINUTE, "60 is not allowed; use 0 to 59"),
    ("0,60 * * * *", MINUTE, "60 is not allowed"),
    ("1_0 * * * *", MINUTE, "1_0 is not allowed"),
    ("+5 * * * *", MINUTE, r"+5 is not allowed"),
    ("-5 * * * *", MINUTE, "a number is missing"),
    ("1- * * * *", MINUTE, "a number is missing"),
    ("1,,2 * * * *", MINUTE, "there is an empty entry; leave it out"),
    (", * * * *", MINUTE, "there is an empty entry"),
    ("MON * * * *", MINUTE, "MON is not allowed; use 0 to 59"),
    ("0 24 * * *", HOUR, "24 is not allowed; use 0 for midnight"),
    ("0 H * * *", HOUR, "H is not allowed; use 0 to 23"),
    ("0 22-2 * * *", HOUR, 'the range 22-2 goes backwards; use "22-23,0-2"'),
    ("0 12 ? * MON", DAY, '? is not allowed; use "*"'),
    ("0 0 0 * *", DAY, "0 is not allowed; use 1 to 31"),
    ("0 0 15W * *", DAY, "only the last one of the month has a name, LW"),
    ("0 0 L-3 * *", DAY, "L is not allowed"),
    ("0 0 L/2 * *", DAY, "L has a step; leave the step out"),
    ("0 0 1 13 *", MONTH, "13 is not allowed; use 1 to 12, or JAN to DEC"),
    ("0 0 1 JUNE *", MONTH, "JUNE is not allowed; use JUN"),
    ("0 0 1 NOV-FEB *", MONTH, 'use "11-12,1-2"'),
    ("0 0 * * 8", WEEKDAY, "8 is not allowed; use 0 to 7, or SUN to SAT"),
    ("0 0 * * MONDAY", WEEKDAY, "use MON"),
    ("0 0 * * MONL", WEEKDAY, "use the number of a day and L, such as 5L"),
    ("0 0 * * 5#6", WEEKDAY, "such as 5#2 for the second Friday"),
    ("0 0 * * 5L/2", WEEKDAY, "5L has a step"),
    ("0 0 * * FRI-SUN", WEEKDAY, 'the range FRI-SUN goes backwards; use "5-7"'),
    ("0 0 * * SAT-TUE", WEEKDAY, 'use "6,0-2"'),
    ("0 0 1 1 * 2027", WEEKDAY, "2027 is not allowed; use 0 to 7, or SUN to SAT; of six fields, the first one are the"),
]
# What is wrong as a whole.
WRONG: list[tuple[Any, str]] = [
    ("0 0 30 2 *", "never matches, because there is no day 30 in Feb; use a date that exists"),
    ("* * 31 4 *", "never matches, because there is no day 31 in Apr;"),
    ("0 0 31 2,4,JUN */2", "there is no day 31 in Feb or Apr or Jun"),
    ("0 0 30 2 *", "or L for the last day of the month"),
    ("* * * *", "has 4 fields; use five fields, such as"),
    ("0 0 0 1 1 * 2027", "has 7 fields; .*; there is none for years"),
    ("", "has 0 fields"),
    (" \t\n ", "has 0 fields"),
    ("٠ * * * *", "has characters beyond ASCII"),
    ("0\u00a00 * * *", "has characters beyond ASCII"),
    ("0 0 * * ſUN", "has characters beyond ASCII"),
    (
        "@reboot",
        "is of no use here: a task belongs to no machine that could start; schedule a task for as soon as possible",
    ),
    ("@every 5m", "use an interval"),
    ("@dayly", "is not a known nickname; use one of @yearly, "),
    (None, "is a NoneType; use a str"),
    (b"* * * * *", "is a bytes; use a str"),
    ("x" * 1001, "is 1,001 characters long; use a str of at most 1,000 characters"),
]


@pytest.mark.parametrize(("expression", "field", "text"), WRONG_FIELDS)
def test_a_wrong_field_is_named_with_the_rule_and_the_fix(expression: str, field: str, text: str) -> None:
    """croniter#50: a step beyond its field ran at other times than it said."""
    with pytest.raises(InvalidTask, match=rf"is not valid in its field for the {field}: ") as caught:
        Cron(expression)
    assert caught.value.field == "expression"
    assert text in str(caught.value).replace(". Nothing was written", ".")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("expression", "text"), WRONG)
def test_what_is_wrong_as_a_whole_is_said_plainly(expression: Any, text: str) -> None:
    with pytest.raises(InvalidTask, match=rf"^Cron\.expression .*{text}") as caught:
        Cron(expression)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "*/60 * * * *",
        "0 */24 * * *",
        "0 0 */31 * *",
        "0 0 1 */12 *",
        "0 0 * * */7",
        "5/10 * * * *",
        "0/60 * * * *",
        "10-20/11 * * * *",
        "1-5/10 * * * *",
        "*,5 * * * *",
        "0 0 L * *",
        "0 0 1,L,LW * *",
        "0 0 30,L 2 *",
        "0 0 30 2 1",  # one of the two suffices: on Mondays
        "0 0 29 2 *",
        "0 0 * * 7",
        "0 0 * * sun,5-7,2#5,3L",
        "0 0 * jan-mar mon#1",
        "0 0 * 2 MON#5",
        "  0   0 * * *\n",
        "000 007 01 * *",
    ],
)
def test_what_means_something_is_taken(expression: str) -> None:
    assert Cron(expression).expression == expression


@pytest.mark.parametrize("name", NICKNAMES)
def test_a_nickname_is_short_for_fields_that_every_worker_can_read(name: str) -> None:
    for written in (name, name.upper(), f" {name}\n"):
        assert Cron(written, "Europe/Paris") == Cron(NICKNAMES[name], "Europe/Paris")
    _, _, _, body = prepare(Job("a", reschedule_interval=Cron(name)), 1000, lambda: 0)
    assert decode_body(body).schedule == Cron(NICKNAMES[name])


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ("@yearly", "2027-01-01T00:00"),
        ("@monthly", "2026-12-01T00:00"),
        ("@weekly", "2026-11-29T00:00"),
        ("@midnight", "2026-11-28T00:00"),
        ("@hourly", "2026-11-27T11:00"),
    ],
)
def test_a_nickname_means_what_it_says(name: str, following: str) -> None:
    now = datetime(2026, 11, 27, 10, 30, tzinfo=UTC)
    slot = next_slot(Cron(name), round(now.timestamp() * 1000))
    assert datetime.fromtimestamp(slot / 1000, UTC).isoformat(timespec="minutes") == f"{following}+00:00"


FIELD = st.text("0123456789*/-,LW#?JANMO", min_size=1, max_size=6)


@given(st.lists(st.sampled_from(["*", "0", "*/2", "L", "5L", "1-5/2", "MON"]) | FIELD, min_size=5, max_size=6))
def test_what_is_taken_is_what_cronsim_reads(parts: list[str]) -> None:
    expression = " ".join(parts)
    try:
        assert check_expression(expression) == expression
    except InvalidTask as error:
        assert re.search(r"in its field for the |never matches, because", str(error))  # noqa: PT017
        return
    CronSim(expression, datetime(2022, 1, 1))


@pytest.mark.parametrize("expression", ["*/90 * * * *", "0 0 L/2 * *", "0 0 * * ſun"])
def test_what_was_stored_before_goes_on(expression: str) -> None:
    """A task that an earlier version took keeps its schedule, and can be read, copied and assigned again."""
    read = decode_body(join_body(pack("payload"), [expression, "Europe/Paris"])).schedule
    assert isinstance(read, Cron)
    assert (read.expression, read.tz) == (expression, "Europe/Paris")
    assert next_slot(read, 0) > 0
    for again in (copy.deepcopy(read), pickle.loads(pickle.dumps(read))):
        assert again == read
    _, _, _, body = prepare(Job("a", reschedule_interval=read), 1000, lambda: 0)
    assert decode_body(body).schedule == read


@pytest.mark.parametrize(
    "schedule", [[5, "UTC"], ["* * * * *", 5], [["*"], "UTC"], ["* * *", "UTC"], ["x" * 2000, "U"]]
)
def test_what_cannot_be_read_is_a_corrupt_record(schedule: list[Any]) -> None:
    with pytest.raises(CorruptRecord):
        decode_body(join_body(pack("payload"), schedule))


def test_members_of_an_enum_are_stored_as_text() -> None:
    class Often(StrEnum):
        HOURLY = "0 * * * *"

    class Place(str, Enum):  # noqa: UP042  # it has another __str__
        PARIS = "Europe/Paris"

    cron = Cron(Often.HOURLY, Place.PARIS)
    assert type(cron.expression) is type(cron.tz) is str
    _, _, _, body = prepare(Job("a", reschedule_interval=cron), 1000, lambda: 0)
    assert decode_body(body).schedule == cron


@pytest.mark.parametrize("tz", ["Europe/Paris", ZoneInfo("Europe/Paris"), pendulum.timezone("Europe/Paris")])
def test_a_zone_may_be_a_name_or_a_zone(tz: Any) -> None:
    assert Cron("0 * * * *", tz).tz == "Europe/Paris"


@pytest.mark.parametrize(
    ("tz", "text"),
    [
        (UTC, 'is datetime.timezone.utc; use an IANA name such as "UTC"'),
        (None, "is None; use an IANA name"),
        (5, "is 5; use an IANA name"),
        (["UTC"], r"is \['UTC'\]; use an IANA name"),
        ("", "'' is not a known time zone; use an IANA name"),
        ("Europe/Pariss", "'Europe/Pariss' is not a known time zone; use an IANA name"),
        ("+02:00", "is not a known time zone"),
        ("../Europe/Paris", "is not a known time zone"),
        ("Europe", "is not a known time zone"),
        ("\x00", "is not a known time zone"),
        ("\ud800", "is not a known time zone"),
    ],
)
def test_a_wrong_zone_is_refused_with_the_fix(tz: Any, text: str) -> None:
    with pytest.raises(InvalidTask, match=rf"^Cron\.tz .*{text}"):
        Cron("0 * * * *", tz)
