"""Every bug that made people leave a comparable system is named by a test here, as ``repository#number``.

A docstring may abbreviate: "sidekiq#6758, #6804" names both. To add one: write the test, name the bug in its docstring
(or in that of the fault, in ``tests/chaos/faults.py``), and list it below.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

NOTHING_LOST = """
    sidekiq#6758, #6804, river#791, asynq#308, taskiq#328: schedules in the memory of a leader
    river#1035: a flood after two weeks off
    sidekiq#843: pop, then die
    bull#2015: one error broke the chain
    BullMQ#2466, #2543, #4484: a read on a dead connection never returned
    prefect#22436, docket#440: on a read-only replica after a failover
    groupmq#16: NOSCRIPT for hours
    asynq#1144, #1051, #1158: records without an index entry
    dramatiq#527: silent for hours after a restart of the server
    redbeat#291: eviction
    docket#437: an old worker swallowed what it did not know
"""
NOTHING_TWICE = """
    BullMQ#2876, #2988, #3381, #3430: races between upserts
    celery#2481, kombu#337: due later than the visibility timeout
    dramatiq#431: copy, then acknowledge
    rq#2338: locks extended or deleted by someone else
    redbeat#230: lost the lock and crashed
    apscheduler#864, #1116: the event loop was busy
    arq#196, taskiq#244: a slower poller fired the same minute again
    light-task-scheduler#330: clock skew
    docket#331: a superseded run overwrote its successor
"""
TIME = """
    apscheduler#980, #1021, #1059, prefect#5957: daylight saving
    hydroserver#445: a manual run shifts the grid
    dkron#866, nomad#17024: jitter that is stable
"""
BULKHEADS = """
    rails#55775, resque#1671, superset#42486, airflow#25343: a handler changed the payload that is stored again
    pyinstaller#7782, #7339: no console to log to
    celery#6990, sentry#20100: errors without their constructor, or without a text
    pytest#2208, cpython#77301, litestar#2590: mocks, proxies and decorators as handlers
    dagobah#181: no thread can be started
    prefect#17921, django-celery-beat#568: one record that cannot be read hides all others
    crontabula#17: the end of the calendar
    django-structlog#76, hatchet#1711: context variables of another run
    cpython#120810: errors that cannot be pickled
    kombu#2210, redis-rb#839: a plain or unverified connection, in silence
    celery-once#135: passwords that are not quoted
    gnocchi#1374: IPv6 and spaces among the hosts of Sentinels
    celery#3682: the exception of a signal handler was swallowed
    sentry-python#6148: a child that was forked during a first call
    apscheduler#338: a callback that shuts down
    apscheduler#834: the tasks of a worker are cancelled by other code
    celery#102: workers outlive their parent
    celery#2291: nobody reads what a worker says
    loguru#1395: a logger that formats what it is given
    arq#395: a handler goes on after its timeout
    kombu#2023: damaged bindings, here a damaged topology
    good_job#1263: one damaged dead letter holds up all others
    streetmerchant#1059: quotes that became a part of an environment variable
    node-redis#1591: a line break at the end of a password
    anyio#475: a StopIteration of a thread
    aiocron#29: a plain function returns an awaitable
"""
VALUES = """
    pendulum#382: durations that plain ones cannot calculate with
    croniter#50: a step beyond its field
    node-cron#919: a yearly time that is skipped
    marshmallow#1452: an AttributeError inside a property
"""


def references(text: str) -> set[str]:
    """All references in a text, written out."""
    found = set()
    for repository, first, others in re.findall(r"\b([A-Za-z][\w-]*)#(\d+)((?:,\s+#\d+)*)", text):
        found |= {f"{repository}#{number}" for number in [first, *re.findall(r"\d+", others)]}
    return found


NAMED = references("".join(path.read_text() for path in TESTS.rglob("*.py") if path != Path(__file__)))


@pytest.mark.parametrize("reference", sorted(references(NOTHING_LOST + NOTHING_TWICE + TIME + BULKHEADS + VALUES)))
def test_is_named_by_a_test(reference: str) -> None:
    assert reference in NAMED


def test_abbreviated_references_are_read() -> None:
    assert references("a-b#1, #22, c#3: #4, d #5") == {"a-b#1", "a-b#22", "c#3"}
