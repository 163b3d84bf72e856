"""The rows DY and TS of the conformance table, one test or more each, over real HTTP."""

from __future__ import annotations

import asyncio
import importlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.servers import RedisServer
from tests.service.conftest import MakeService, Receiver, Service, answering
from tests.tasks import eventually

DAY = 86_400


# -- DY: distributed-timers --------------------------------------------------------------------------------------------


async def test_dy_1_create_update_delete(service: Service, receiver: Receiver) -> None:
    made = await service.create(timeout=3600, url=receiver.url(), message={"key": "value"})
    timer_id = made["id"]
    status, updated = await service.call(
        "PUT", f"/timers/{timer_id}", {"timeout": 7200, "url": receiver.url("/other"), "message": {"key": "new"}}
    )
    assert status == 200
    assert updated["id"] == timer_id
    assert 7190 <= updated["time_left"] <= 7200
    assert updated["url"] == receiver.url("/other")
    assert updated["message"] == {"key": "new"}
    assert (await service.call("DELETE", f"/timers/{timer_id}"))[1]["status"] == "cancelled"
    assert (await service.call("DELETE", f"/timers/{timer_id}"))[0] == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_dy_1_an_unknown_id_is_an_error_saying_so(service: Service, method: str) -> None:
    body = {"timeout": 1, "url": "http://127.0.0.1/"} if method == "PUT" else None
    status, answer = await service.call(method, "/timers/unheard-of", body)
    assert status == 404
    assert "unheard-of" in answer["error"]
    assert "unknown" in answer["error"]


async def test_dy_1_an_update_takes_effect(service: Service, receiver: Receiver) -> None:
    made = await service.create(timeout=3600, url=receiver.url("/old"), message=1)
    await service.call("PUT", f"/timers/{made['id']}", {"timeout": 0.05, "url": receiver.url("/new"), "message": 2})
    [seen] = await receiver.wait()
    assert seen.path == f"/new/{made['id']}"
    assert seen.body["message"] == 2


async def test_dy_1_an_update_without_a_time_keeps_it(service: Service, receiver: Receiver) -> None:
    made = await service.create(timeout=3600, interval=60, url=receiver.url(), message=1)
    _, updated = await service.call("PUT", f"/timers/{made['id']}", {"url": receiver.url(), "message": 2})
    assert updated["due"] == made["due"]
    assert updated["interval"] == 60
    assert updated["message"] == 2


async def test_dy_1_what_is_finished_cannot_be_updated(service: Service, receiver: Receiver) -> None:
    made = await service.create(timeout=0.01, url=receiver.url())
    await service.until(made["id"], "completed")
    for method, path, body in (("PUT", "", {"timeout": 5, "url": receiver.url()}), ("POST", "/cancel", None)):
        status, answer = await service.call(method, f"/timers/{made['id']}{path}", body)
        assert status == 409
        assert "completed" in answer["error"]


async def test_dy_2_the_webhook_carries_message_id_and_status(service: Service, receiver: Receiver) -> None:
    message = {"text": "ünïcödé ✓", "big": 2**80, "list": [1, None, 1.5]}
    made = await service.create(timeout=0.05, url=receiver.url(), message=message)
    [seen] = await receiver.wait()
    assert seen.body == {"message": message, "timerId": made["id"], "status": "on-time"}
    assert seen.headers["Content-Type"] == "application/json"


async def test_dy_3_it_fires_on_the_exact_time(service: Service, receiver: Receiver) -> None:
    at = datetime.now(UTC) + timedelta(seconds=0.3)
    arrived: list[float] = []

    async def note(_request: web.Request) -> web.StreamResponse:
        arrived.append(time.time())
        return web.Response()

    receiver.answer = note
    await service.create(at=at.isoformat(), url=receiver.url())
    await receiver.wait()
    assert arrived[0] >= at.timestamp() - 0.001, "never early"
    assert arrived[0] < at.timestamp() + 5


async def test_dy_4_any_number_of_instances_and_no_double_firing(make_service: MakeService, receiver: Receiver) -> None:
    services = [await make_service() for _ in range(3)]
    for number in range(60):
        await services[number % 3].create(timeout=0.2, url=receiver.url(), id=f"t{number}")
    for number in range(60):
        await services[(number + 1) % 3].until(f"t{number}", "completed")
    assert sorted(seen.body["timerId"] for seen in receiver.seen) == sorted(f"t{number}" for number in range(60))


async def test_dy_5_batches_report_per_item(service: Service, receiver: Receiver) -> None:
    timers: list[Any] = [{"id": f"b{number}", "timeout": 3600, "url": receiver.url()} for number in range(500)]
    timers[7] = {"id": "b7", "timeout": -1, "url": "ftp://x"}
    timers[8] = "not a timer"
    status, answer = await service.call("POST", "/batch/create", {"timers": timers})
    assert status == 200
    assert (answer["succeeded"], answer["failed"]) == (498, 2)
    assert set(answer["results"][7]["fields"]) == {"timeout", "url"}
    assert answer["results"][8]["status_code"] == 400
    assert answer["results"][9]["timer"]["id"] == "b9"
    ids = [f"b{number}" for number in range(500)]
    status, answer = await service.call("POST", "/batch/delete", {"ids": [*ids, "bad id!", 5]})
    assert (status, answer["succeeded"], answer["failed"]) == (200, 498, 4)
    assert answer["results"][7]["status_code"] == 404
    assert answer["results"][0]["timer"]["status"] == "cancelled"


async def test_dy_5_a_batch_above_the_stated_limit_is_refused(make_service: MakeService) -> None:
    service = await make_service(max_batch=3)
    status, answer = await service.call("POST", "/batch/delete", {"ids": ["a"] * 4})
    assert status == 400
    assert "1 to 3" in answer["fields"]["ids"]


async def test_dy_6_timers_outlive_a_crash_of_every_redis(
    own_servers: list[RedisServer], make_service: MakeService, receiver: Receiver
) -> None:
    instances = [{"url": server.url, "name": f"own-{number}"} for number, server in enumerate(own_servers)]
    options = {"storage": {"instances": instances, "reconnect_interval_seconds": 0.05}}
    service = await make_service(scheduler=options)
    ids = [(await service.create(timeout=1.5, url=receiver.url()))["id"] for _ in range(20)]
    for server in own_servers:
        server.restart()
    await receiver.wait(20)
    assert {seen.body["timerId"] for seen in receiver.seen} == set(ids)


# -- TS: Timer Service -------------------------------------------------------------------------------------------------


async def test_ts_1_create_with_hours_minutes_and_seconds(service: Service, receiver: Receiver) -> None:
    made = await service.create(hours=1, minutes=30, seconds=0, url=receiver.url())
    assert made["time_left"] == 5400
    assert made["id"]
    assert made["status"] == "pending"
    due = datetime.fromisoformat(made["due"])
    assert abs((due - datetime.now(UTC)).total_seconds() - 5400) < 5


WRONG: list[tuple[dict[str, Any], set[str]]] = [
    ({"hours": 1.5}, {"hours"}),
    ({"hours": "1"}, {"hours"}),
    ({"minutes": True}, {"minutes"}),
    ({"minutes": None}, {"minutes"}),
    ({"seconds": -1}, {"seconds"}),
    ({"hours": 0, "minutes": 0, "seconds": 0}, {"seconds"}),
    ({"hours": 721}, {"hours"}),
    ({"hours": 720, "seconds": 1}, {"hours"}),
    ({"hours": -1, "minutes": 0.5, "seconds": "x", "url": "ftp://x"}, {"hours", "minutes", "seconds", "url"}),
    ({}, {"seconds"}),
    ({"timeout": 0}, {"timeout"}),
    ({"timeout": 1e300}, {"timeout"}),
    ({"timeout": 10**400}, {"timeout"}),
    ({"timeout": 31 * DAY}, {"timeout"}),
    ({"timeout": 5, "seconds": 5}, {"seconds"}),
    ({"at": "2020-01-01T00:00:00Z"}, {"at"}),
    ({"at": "2999-01-01T00:00:00Z"}, {"at"}),
    ({"at": "0001-01-01T00:00:00+14:00"}, {"at"}),
    ({"at": "9999-12-31T23:59:59-14:00"}, {"at"}),
    ({"at": "2030-01-01T00:00:00"}, {"at"}),
    ({"at": "soon"}, {"at"}),
    ({"at": 5}, {"at"}),
    ({"interval": 0.5}, {"interval"}),
    ({"interval": 31 * DAY}, {"interval"}),
    ({"cron": "* * * *"}, {"cron"}),
    ({"cron": "0 0 31 2 *"}, {"cron"}),
    ({"cron": 5}, {"cron"}),
    ({"cron": "* * * * *", "tz": "Mars/Phobos"}, {"tz"}),
    ({"cron": "* * * * *", "interval": 60}, {"interval"}),
    ({"seconds": 5, "tz": "UTC"}, {"tz"}),
    ({"seconds": 5, "id": "no blanks"}, {"id"}),
    ({"seconds": 5, "id": ".."}, {"id"}),
    ({"seconds": 5, "id": ""}, {"id"}),
    ({"seconds": 5, "colour": "red"}, {"colour"}),
    ({"seconds": 5, "url": None}, {"url"}),
    ({"seconds": 5, "url": "not a url"}, {"url"}),
]


async def test_ts_1_wrong_input_names_every_wrong_field(service: Service) -> None:
    for body, fields in WRONG:
        status, answer = await service.call("POST", "/timers", {"url": "http://127.0.0.1/", **body})
        assert status == 400, body
        assert set(answer["fields"]) == fields, body
        assert all(name in answer["error"] for name in fields)


async def test_ts_1_a_missing_url_is_named(service: Service) -> None:
    status, answer = await service.call("POST", "/timers", {"seconds": 1})
    assert status == 400
    assert answer["fields"] == {"url": "is missing"}


async def test_ts_2_get_tells_the_time_left_and_zero_when_expired(service: Service, receiver: Receiver) -> None:
    made = await service.create(seconds=3600, url=receiver.url())
    found = await service.get(made["id"])
    assert 3590 <= found["time_left"] <= 3600
    assert found["attempts"] == 0
    expired = await service.create(timeout=0.01, url=receiver.url())
    found = await service.until(expired["id"], "completed")
    assert found["time_left"] == 0
    assert found["attempts"] == 1
    assert found["finished"]


async def test_ts_2_a_bad_id_is_refused(service: Service) -> None:
    for bad in ("a%20b", "%C3%BC", ".hidden", "x" * 129, "a:b"):
        status, answer = await service.call("GET", f"/timers/{bad}")
        assert status == 400, bad
        assert "timer_id" in answer["fields"]


async def test_ts_2_an_unknown_id_is_not_found(service: Service) -> None:
    assert (await service.call("GET", "/timers/12345"))[0] == 404


async def test_ts_3_ping_liveness_and_readiness(service: Service) -> None:
    for path, said in (("/ping", "pong"), ("/livez", "ok"), ("/readyz", "ok")):
        status, answer = await service.call("GET", path)
        assert (status, answer["status"]) == (200, said)


async def test_ts_3_readiness_runs_the_scripts_and_names_what_fails(
    own_servers: list[RedisServer], make_service: MakeService
) -> None:
    instances = [{"url": server.url, "name": f"own-{number}"} for number, server in enumerate(own_servers)]
    options = {"storage": {"instances": instances, "reconnect_interval_seconds": 0.05}}
    service = await make_service(scheduler=options)
    own_servers[1].kill()
    status, answer = await service.call("GET", "/readyz")
    assert status == 503
    assert "own-1" in " ".join(answer["problems"])
    assert (await service.call("GET", "/livez"))[0] == 200
    own_servers[1].start()

    async def ready() -> bool:
        return (await service.call("GET", "/readyz"))[0] == 200

    await eventually(ready)


JOINED = [
    ("", "/ID"),
    ("/", "/ID"),
    ("/hook", "/hook/ID"),
    ("/hook/", "/hook/ID"),
    ("/hook?a=b&c=%20d", "/hook/ID?a=b&c=%20d"),
    ("/hook/?a=b", "/hook/ID?a=b"),
    ("?a=b", "/ID?a=b"),
    ("/a%2Fb#part", "/a%2Fb/ID"),
    ("/gr%C3%BCn", "/gr%C3%BCn/ID"),
    ("/grün", "/gr%C3%BCn/ID"),
]


async def test_ts_4_posts_to_url_and_id(service: Service, receiver: Receiver) -> None:
    ids = [(await service.create(timeout=0.01, url=receiver.url(path)))["id"] for path, _ in JOINED]
    await receiver.wait(len(JOINED))
    expected = {joined.replace("ID", timer_id) for (_, joined), timer_id in zip(JOINED, ids, strict=True)}
    assert {seen.path for seen in receiver.seen} == expected


async def test_ts_5_every_status(service: Service, receiver: Receiver) -> None:
    hold, arrived = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        arrived.set()
        await hold.wait()
        return web.Response()

    pending = await service.create(seconds=60, url=receiver.url())
    assert (await service.get(pending["id"]))["status"] == "pending"
    receiver.answer = slow
    processing = await service.create(timeout=0.01, url=receiver.url())
    await arrived.wait()
    found = await service.get(processing["id"])
    assert (found["status"], found["time_left"], found["attempts"]) == ("processing", 0, 1)
    hold.set()
    assert (await service.until(processing["id"], "completed"))["last_error"] is None
    receiver.answer = answering(503, "later", {"Retry-After": "3600"})
    retrying = await service.create(timeout=0.01, url=receiver.url())
    found = await service.until(retrying["id"], "retrying")
    assert found["attempts"] == 1
    assert "HTTP 503" in found["last_error"]
    assert datetime.fromisoformat(found["next_attempt"]) > datetime.now(UTC) + timedelta(minutes=59)
    receiver.answer = answering(410)
    failed = await service.create(timeout=0.01, url=receiver.url())
    found = await service.until(failed["id"], "failed")
    assert "HTTP 410" in found["last_error"]
    assert found["attempts"] == 1
    cancelled = await service.call("POST", f"/timers/{pending['id']}/cancel")
    assert cancelled[1]["status"] == "cancelled"
    assert (await service.get(pending["id"]))["status"] == "cancelled"


async def test_ts_6_timers_that_expired_while_everything_was_down_fire_as_delayed(
    make_service: MakeService, receiver: Receiver
) -> None:
    down = await make_service(deliver=False)
    ids = {(await down.create(timeout=0.05, url=receiver.url()))["id"] for _ in range(10)}
    await asyncio.sleep(0.3)  # the time for which nobody delivers
    await make_service(delayed_after_seconds=0.2)
    await receiver.wait(10)
    assert {seen.body["timerId"] for seen in receiver.seen} == ids
    assert {seen.body["status"] for seen in receiver.seen} == {"delayed"}


async def test_ts_7_each_delivery_has_an_idempotency_id(service: Service, receiver: Receiver) -> None:
    receiver.answer = answering(500, times=2)
    await service.create(timeout=0.01, url=receiver.url())
    await receiver.wait(3)
    assert len({seen.id for seen in receiver.seen}) == 1, "stable over attempts"
    tokens = [int(seen.headers["webhook-fencing-token"]) for seen in receiver.seen]
    assert tokens == sorted(set(tokens)), "larger with every attempt"
    await service.create(timeout=0.01, url=receiver.url())
    await receiver.wait(4)
    assert receiver.seen[3].id != receiver.seen[0].id


async def test_ts_8_finished_timers_are_kept_and_then_forgotten(make_service: MakeService, receiver: Receiver) -> None:
    service = await make_service(retention_seconds=1.0)
    done = await service.create(timeout=0.01, url=receiver.url())
    gone = await service.create(timeout=60, url=receiver.url())
    await service.call("POST", f"/timers/{gone['id']}/cancel")
    await service.until(done["id"], "completed")
    for timer in (done, gone):

        async def forgotten(timer_id: str = timer["id"]) -> bool:
            return (await service.call("GET", f"/timers/{timer_id}"))[0] == 404

        await eventually(forgotten)

    async def empty() -> bool:
        return await service.scheduler.task_size() == 1  # but for the sweep of dead letters

    await eventually(empty)


async def test_ts_8_dead_letters_are_kept_as_long(make_service: MakeService, receiver: Receiver) -> None:
    service = await make_service(retention_seconds=1.0)
    receiver.answer = answering(410)
    failed = await service.create(timeout=0.01, url=receiver.url())
    await service.until(failed["id"], "failed")

    async def swept() -> bool:
        await service.scheduler.run_task_now(":retention")
        return (await service.call("GET", f"/timers/{failed['id']}"))[0] == 404

    await eventually(swept)


async def test_ts_8_the_horizon_is_configurable(make_service: MakeService) -> None:
    service = await make_service(horizon_seconds=60 * DAY)
    await service.create(hours=24 * 59, url="http://127.0.0.1/")
    status, answer = await service.call("POST", "/timers", {"hours": 24 * 61, "url": "http://127.0.0.1/"})
    assert status == 400
    assert "60 days" in answer["error"]


async def test_ts_9_a_hundred_creations_per_second_and_a_clear_limit(make_service: MakeService) -> None:
    service = await make_service(rate_burst=150, rate_limit=0.01)  # none comes back, however long the 150 take
    begin = time.monotonic()
    made = await asyncio.gather(*(service.create(hours=1, url="http://127.0.0.1/") for _ in range(150)))
    assert len({timer["id"] for timer in made}) == 150
    assert time.monotonic() - begin < 20  # the benchmark measures; this only notices a disaster
    body = {"hours": 1, "url": "http://127.0.0.1/"}
    async with service.session.post(f"{service.url}/timers", json=body) as response:
        assert response.status == 429
        assert "rate limit" in (await response.json())["error"]
        assert response.headers["RateLimit-Limit"] == "150"
        assert response.headers["RateLimit-Remaining"] == "0"
        assert int(response.headers["Retry-After"]) >= 1
        assert int(response.headers["RateLimit-Reset"]) >= 1
    assert (await service.call("GET", "/ping"))[0] == 200


async def test_ts_10_metrics_tell_of_lateness_counts_and_dead_letters(service: Service, receiver: Receiver) -> None:
    made = await service.create(timeout=0.01, url=receiver.url())
    await service.until(made["id"], "completed")
    receiver.answer = answering(410)
    made = await service.create(timeout=0.01, url=receiver.url())
    await service.until(made["id"], "failed")
    async with service.session.get(f"{service.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values["timer_lateness_seconds_count"] == "2.0"
    assert values['timer_deliveries_total{outcome="delivered"}'] == "1.0"
    assert values['timer_deliveries_total{outcome="gave_up"}'] == "1.0"
    assert values['timer_tasks{state="dead"}'] == "1.0"
    assert values["timer_created_total"] == "2.0"
    assert values['timer_requests_total{method="POST",status="201"}'] == "2.0"


def test_ts_10_container_files_and_alerts_are_there() -> None:
    yaml: Any = importlib.import_module("yaml")
    root = Path(__file__).parents[2]
    compose = yaml.safe_load((root / "deploy" / "compose.yaml").read_text())
    assert {"redis-1", "redis-2", "api", "deliver"} <= set(compose["services"])
    assert "USER" in (root / "deploy" / "Dockerfile").read_text()
    rules = yaml.safe_load((root / "deploy" / "alerts.yaml").read_text())
    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert "TimersLate" in names
    from interval_scheduler.service.metrics import Metrics

    known = {metric.name for metric in Metrics().registry.collect()}
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert any(name in rule["expr"] for name in known), f"{rule['alert']} asks for no metric of ours"
