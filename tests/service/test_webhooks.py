"""Deliveries: signatures, retries, dead letters, recurring timers, and one slow receiver among others."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import socket
import struct
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from interval_scheduler import Postpone
from interval_scheduler.service import Signer
from interval_scheduler.service.api_keys import new_key
from interval_scheduler.service.hosts import HostSlots
from interval_scheduler.service.signing import new_secret, parse_secret
from interval_scheduler.service.stored import Timer, TimerTask, decode, record_task
from interval_scheduler.service.webhooks import retry_after
from tests.service.conftest import SECRET, MakeService, Received, Receiver, Service, answering, fine
from tests.tasks import after, eventually

# -- signatures --------------------------------------------------------------------------------------------------------


async def test_deliveries_are_accepted_by_the_standard_library_of_receivers(
    service: Service, receiver: Receiver
) -> None:
    await service.create(timeout=0.01, url=receiver.url(), message={"text": "grüß"})
    [seen] = await receiver.wait()
    assert Webhook(SECRET).verify(seen.raw, headers_of(seen)) == seen.body
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(seen.raw + b" ", headers_of(seen))


def headers_of(seen: Received) -> dict[str, str]:
    return {name.lower(): value for name, value in seen.headers.items()}


def test_signatures_of_the_standard_library_are_accepted_here() -> None:
    body, moment = '{"ü": 1}', datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", moment, body),
    }
    assert Signer([SECRET]).verify(headers, body.encode())
    assert Signer([new_secret(), SECRET]).verify(headers, body.encode())
    assert not Signer([new_secret()]).verify(headers, body.encode())
    assert not Signer([SECRET]).verify(headers, b"{}")
    assert not Signer([SECRET]).verify(headers | {"webhook-id": "msg_2"}, body.encode())
    assert not Signer([SECRET]).verify(headers, body.encode(), now=time.time() + 301)
    assert not Signer([SECRET]).verify(headers, body.encode(), now=time.time() - 301)
    assert not Signer([SECRET]).verify(headers | {"webhook-signature": "v1,ü v2,x"}, body.encode())
    assert not Signer([SECRET]).verify({}, body.encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-timestamp", "9" * 400),
        ("webhook-timestamp", "9" * 5000),
        ("webhook-timestamp", "nan"),
        ("webhook-signature", "v1,\udcff"),
        ("webhook-id", "\udcff"),
    ],
)
def test_headers_that_anybody_may_send_are_refused_without_an_exception(name: str, value: str) -> None:
    """Servers hand bytes that are no UTF-8 on as lone surrogates."""
    signer = Signer([SECRET])
    headers = signer.headers("msg_1", int(time.time()), b"{}")
    assert signer.verify(headers, b"{}")
    assert not signer.verify(headers | {name: value}, b"{}")


async def test_secrets_can_be_rotated(make_service: MakeService, receiver: Receiver) -> None:
    newer, older = new_secret(), new_secret()
    service = await make_service(webhook_secrets=(newer, older))
    await service.create(timeout=0.01, url=receiver.url())
    [seen] = await receiver.wait()
    for secret in (newer, older):
        Webhook(secret).verify(seen.raw, headers_of(seen))
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(seen.raw, headers_of(seen))


@pytest.mark.parametrize("text", ["", "secret", "whsec_~", "whsec_!!", "whsec_" + base64.b64encode(b"x" * 23).decode()])
def test_wrong_secrets_are_refused_without_being_told(text: str) -> None:
    with pytest.raises(ValueError, match="random bytes") as error:
        parse_secret(text)
    assert not text or text not in str(error.value)


# -- retries and dead letters ------------------------------------------------------------------------------------------


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    now = 1_700_000_000.0
    assert retry_after("120") == 120
    assert retry_after(email.utils.formatdate(now + 90, usegmt=True), now) == 90
    assert retry_after(email.utils.formatdate(now - 90, usegmt=True), now) == 0
    for wrong in (None, "", "soon", "-5", "1.5", "²"):
        assert retry_after(wrong, now) is None


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_honoured(service: Service, receiver: Receiver, form: str) -> None:
    asked = "600" if form == "seconds" else email.utils.formatdate(time.time() + 600, usegmt=True)
    receiver.answer = answering(429, "slow down", {"Retry-After": asked})
    made = await service.create(timeout=0.01, url=receiver.url())
    found = await service.until(made["id"], "retrying")
    wait = datetime.fromisoformat(found["next_attempt"]) - datetime.now(UTC)
    assert timedelta(seconds=580) < wait <= timedelta(seconds=602)
    assert found["last_error"] == "HTTP 429 Too Many Requests: slow down (attempt 1)"


async def test_retry_after_has_a_limit(make_service: MakeService, receiver: Receiver) -> None:
    service = await make_service(max_retry_after_seconds=100)
    receiver.answer = answering(429, "", {"Retry-After": "9" * 300})
    made = await service.create(timeout=0.01, url=receiver.url())
    found = await service.until(made["id"], "retrying")
    assert datetime.fromisoformat(found["next_attempt"]) - datetime.now(UTC) <= timedelta(seconds=101)


async def test_failures_are_retried_with_backoff_until_it_works(service: Service, receiver: Receiver) -> None:
    receiver.answer = answering(500, times=3)
    made = await service.create(timeout=0.01, url=receiver.url())
    found = await service.until(made["id"], "completed")
    assert found["attempts"] == 4
    assert [seen.headers["webhook-attempt"] for seen in receiver.seen] == ["1", "2", "3", "4"]


async def test_exhausted_timers_are_dead_letters_with_the_last_answer_and_can_be_run_again(
    make_service: MakeService, receiver: Receiver
) -> None:
    service = await make_service(max_retries=2)
    receiver.answer = answering(500, "database is down")
    made = await service.create(timeout=0.01, url=receiver.url(), message="keep me")
    found = await service.until(made["id"], "failed")
    assert found["attempts"] == 3
    assert found["last_error"] == "HTTP 500 Internal Server Error: database is down (attempt 3)"
    _, letters = await service.call("GET", "/dead-letters")
    [letter] = letters["dead_letters"]
    assert (letter["id"], letter["attempts"], letter["error"]) == (made["id"], 3, found["last_error"])
    assert (await service.call("POST", f"/timers/{made['id']}/cancel"))[0] == 409
    receiver.answer = fine
    assert (await service.call("POST", f"/timers/{made['id']}/run"))[0] == 202
    await service.until(made["id"], "completed")
    assert len({seen.id for seen in receiver.seen}) == 1, "the same delivery, as far as its receiver is concerned"
    assert receiver.seen[-1].body["message"] == "keep me"
    assert (await service.call("GET", "/dead-letters"))[1]["dead_letters"] == []


@pytest.mark.parametrize("reset", [False, True])
async def test_a_kept_connection_that_the_receiver_closed_is_no_failure(make_service: MakeService, reset: bool) -> None:
    """A receiver that answers once per connection, and closes or resets it when the next request is sent."""
    requests: list[bytes] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        requests.append(head)
        length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith(b"content-length:"))
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await reader.read(1)
        if reset:
            # Without lingering, what is closed is reset.
            lingering = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    service = await make_service(max_retries=0)
    for name in ("first", "second"):
        await service.create(timeout=0.01, url=f"http://127.0.0.1:{port}/", id=name)
        found = await service.until(name, "completed")
        assert found["attempts"] == 1
    assert len(requests) == 2
    server.close()


async def test_a_second_connection_gets_what_is_left_of_the_deadline(make_service: MakeService) -> None:
    """A receiver that takes a request, and hangs up without an answer after most of the time for it."""
    connections = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if connections == 1:
            await asyncio.sleep(1.7)  # most of the time for the delivery
        else:
            await reader.read()  # until the service hangs up
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    service = await make_service(max_retries=0, total_seconds=2.0)
    made = await service.create(timeout=0.01, url=f"http://127.0.0.1:{port}/")
    found = await service.until(made["id"], "failed")
    assert "no answer in time" in found["last_error"]
    assert connections == 2
    took = datetime.fromisoformat(found["finished"]) - datetime.fromisoformat(found["due"])
    assert took < timedelta(seconds=3.2), "each connection had all of the time"
    server.close()


async def test_what_a_receiver_says_is_kept_short_and_printable(make_service: MakeService) -> None:
    reasons = {"long": b"x" * 7000, "red": b"\x1b[31mred", "odd": b"\xff\xfe"}

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().strip("/")
        writer.write(b"HTTP/1.1 500 " + reasons[name] + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await reader.read()  # up to its end: a reset might overtake the answer
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    service = await make_service(max_retries=0)
    for name in reasons:
        await service.create(timeout=0.01, url=f"http://127.0.0.1:{port}/", id=name)
        found = await service.until(name, "failed")
        assert found["last_error"].startswith("HTTP 500")
        assert found["last_error"].endswith("(attempt 1)")
        assert len(found["last_error"]) < 500
        assert found["last_error"].isprintable()
    server.close()


async def test_looking_up_names_ends_with_the_service(make_service: MakeService) -> None:
    service = await make_service(max_retries=0)
    made = await service.create(timeout=0.01, url="http://localhost:1/")
    await service.until(made["id"], "failed")
    assert _lookups(), "a thread looked the name up"
    await service.scheduler.clear_all_tasks()
    await service.stop()
    await eventually(lambda: not _lookups())


def _lookups() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("timer-service-lookup")]


async def test_gone_stops_at_once(service: Service, receiver: Receiver) -> None:
    receiver.answer = answering(410, "unsubscribed", {"Retry-After": "1"})
    made = await service.create(timeout=0.01, url=receiver.url())
    await service.until(made["id"], "failed")
    assert len(receiver.seen) == 1


async def test_a_receiver_that_is_not_there_is_a_failure(make_service: MakeService) -> None:
    service = await make_service(max_retries=0)
    made = await service.create(timeout=0.01, url="http://127.0.0.1:1/")
    found = await service.until(made["id"], "failed")
    assert "Cannot connect" in found["last_error"]


async def test_a_url_that_is_not_allowed_any_more_fails_for_good(make_service: MakeService, receiver: Receiver) -> None:
    made = await (await make_service(deliver=False)).create(timeout=0.01, url=receiver.url())
    service = await make_service(allowed_networks=())
    found = await service.until(made["id"], "failed")
    assert "not a public address" in found["last_error"]
    assert not receiver.seen


# -- ids, updates, cancelling ------------------------------------------------------------------------------------------


async def test_an_idempotency_key_makes_one_timer(service: Service, receiver: Receiver) -> None:
    body = {"timeout": 60, "url": receiver.url(), "message": 1}
    key = {"Idempotency-Key": "order-17"}
    answers = await asyncio.gather(*(service.call("POST", "/timers", body, headers=key) for _ in range(10)))
    assert sorted(status for status, _ in answers) == [200] * 9 + [201]
    assert len({answer["id"] for _, answer in answers}) == 1
    status, answer = await service.call("POST", "/timers", body | {"message": 2}, headers=key)
    assert status == 409
    assert "another request" in answer["error"]


async def test_idempotency_keys_of_clients_are_apart(make_service: MakeService, receiver: Receiver) -> None:
    (one, configured_one), (two, configured_two) = new_key("one"), new_key("two")
    service = await make_service(api_keys=(configured_one, configured_two))
    ids = set()
    for key in (one, two, one):
        headers = {"Idempotency-Key": "1", "Authorization": f"Bearer {key}"}
        _, made = await service.call("POST", "/timers", {"timeout": 60, "url": receiver.url()}, headers=headers)
        ids.add(made["id"])
    assert len(ids) == 2


async def test_an_own_id_is_used_once(service: Service, receiver: Receiver) -> None:
    made = await service.create(timeout=0.01, url=receiver.url(), id="order-17")
    assert made["id"] == "order-17"
    await service.until("order-17", "completed")
    repeated = await service.create(200, timeout=0.01, url=receiver.url(), id="order-17")
    assert repeated["status"] == "completed", "a repeat fires nothing again"
    assert (await service.call("POST", "/timers", {"timeout": 5, "url": receiver.url(), "id": "order-17"}))[0] == 409
    assert len(receiver.seen) == 1


async def test_a_repeat_finds_a_timer_that_was_updated_meanwhile(service: Service, receiver: Receiver) -> None:
    body: dict[str, Any] = {"id": "order-17", "timeout": 60, "url": receiver.url()}
    await service.create(**body)
    update = {"timeout": 90, "url": receiver.url(), "message": "new"}
    _, updated = await service.call("PUT", "/timers/order-17", update)
    status, found = await service.call("POST", "/timers", body)
    assert (status, found["message"], found["due"]) == (200, "new", updated["due"])
    assert (await service.call("POST", "/timers", update | {"id": "order-17"}))[0] == 409


async def test_concurrent_creates_of_one_id_mix_nothing(service: Service, receiver: Receiver) -> None:
    bodies = [{"id": "one", "timeout": 60 + n, "url": receiver.url(), "message": n} for n in range(20)]
    answers = await asyncio.gather(*(service.call("POST", "/timers", body) for body in bodies))
    assert sorted(status for status, _ in answers) == [201] + [409] * 19
    [won] = [answer for status, answer in answers if status == 201]
    found = await service.get("one")
    assert (found["message"], found["due"]) == (won["message"], won["due"])


async def test_cancelling_a_delivery_under_way_stops_its_retries(service: Service, receiver: Receiver) -> None:
    arrived, hold = asyncio.Event(), asyncio.Event()

    async def failing(_request: web.Request) -> web.StreamResponse:
        arrived.set()
        await hold.wait()
        return web.Response(status=500)

    receiver.answer = failing
    made = await service.create(timeout=0.01, url=receiver.url())
    await arrived.wait()
    assert (await service.call("POST", f"/timers/{made['id']}/cancel"))[1]["status"] == "cancelled"
    hold.set()

    async def settled() -> bool:
        task = await service.scheduler.peek_task(made["id"])
        return task is not None and task.state == "scheduled"

    await eventually(settled)
    assert (await service.get(made["id"]))["status"] == "cancelled"
    assert (await service.call("POST", f"/timers/{made['id']}/cancel"))[0] == 200, "again is fine"
    assert len(receiver.seen) == 1


async def test_half_written_cancels_and_updates_are_completed_by_the_handler(
    service: Service, receiver: Receiver
) -> None:
    """A process that dies between the two writes of a cancel or an update leaves these behind."""
    made = await service.create(timeout=60, url=receiver.url(), id="cancelled")
    task = await service.scheduler.peek_task(made["id"])
    assert task is not None
    timer = decode(task.payload)
    assert isinstance(timer, Timer)
    record = timer.end("cancelled", 0, None, round(time.time() * 1000), retention_seconds=86_400)
    await service.scheduler.assign_task(record_task("cancelled", record))
    await service.scheduler.reschedule_task("cancelled", delay=0)
    await service.create(timeout=60, url=receiver.url(), id="moved")
    moved = replace(timer, due=round(after(120) * 1000))
    await service.scheduler.assign_task(TimerTask("moved", moved, after(120)))
    await service.scheduler.reschedule_task("moved", delay=0)

    async def healed() -> bool:
        tasks = [await service.scheduler.peek_task(name) for name in ("cancelled", "moved")]
        return all(task is not None and task.time_left > 100 for task in tasks)

    await eventually(healed)
    assert (await service.get("cancelled"))["status"] == "cancelled"
    assert (await service.get("moved"))["status"] == "pending"
    assert not receiver.seen


async def test_run_now_delivers_a_one_off_once(service: Service, receiver: Receiver) -> None:
    made = await service.create(timeout=3600, url=receiver.url())
    status, _ = await service.call("POST", f"/timers/{made['id']}/run")
    assert status == 202
    await service.until(made["id"], "completed")
    assert receiver.seen[0].body["status"] == "on-time"
    assert (await service.call("POST", f"/timers/{made['id']}/run"))[0] == 409
    assert (await service.call("POST", "/timers/unheard-of/run"))[0] == 404


# -- recurring timers --------------------------------------------------------------------------------------------------


async def test_an_interval_recurs_with_an_id_of_its_own_each_time(
    make_service: MakeService, receiver: Receiver
) -> None:
    service = await make_service(min_interval_seconds=0.05)
    made = await service.create(interval=0.1, timeout=0.01, url=receiver.url(), message="tick")
    await receiver.wait(3)
    assert len({seen.id for seen in receiver.seen[:3]}) == 3
    found = await service.get(made["id"])
    assert found["interval"] == 0.1
    assert found["status"] in ("pending", "processing")
    assert (await service.call("DELETE", f"/timers/{made['id']}"))[1]["status"] == "cancelled"


async def test_run_now_of_a_recurring_timer_leaves_its_grid_alone(service: Service, receiver: Receiver) -> None:
    made = await service.create(interval=3600, url=receiver.url())
    for _ in range(2):
        assert (await service.call("POST", f"/timers/{made['id']}/run"))[0] == 202
    await receiver.wait(2)
    assert len({seen.id for seen in receiver.seen}) == 2
    assert {seen.body["timerId"] for seen in receiver.seen} == {made["id"]}
    found = await service.get(made["id"])
    assert (found["due"], found["status"]) == (made["due"], "pending")


async def test_cron_timers_tell_their_next_match(service: Service, receiver: Receiver) -> None:
    made = await service.create(cron="30 9 * * *", tz="Asia/Kolkata", url=receiver.url())
    due = datetime.fromisoformat(made["due"])
    assert (due.hour, due.minute) == (4, 0)
    assert 0 < made["time_left"] <= 86_400
    assert (made["cron"], made["tz"]) == ("30 9 * * *", "Asia/Kolkata")
    _, updated = await service.call("PUT", f"/timers/{made['id']}", {"url": receiver.url(), "message": 5})
    assert updated["cron"] == "30 9 * * *"


async def test_an_update_moves_the_pending_occurrence_and_changes_the_interval(
    make_service: MakeService, receiver: Receiver
) -> None:
    service = await make_service(min_interval_seconds=0.05)
    made = await service.create(interval=3600, url=receiver.url())
    body: dict[str, Any] = {"timeout": 0.01, "interval": 1800, "url": receiver.url()}
    assert (await service.call("PUT", f"/timers/{made['id']}", body))[0] == 200
    await receiver.wait()
    found = await service.until(made["id"], "pending")
    slot, first = datetime.fromisoformat(found["due"]), datetime.fromisoformat(made["due"])
    assert slot - first == timedelta(seconds=1800), "counted on its grid, which the move left alone"


@pytest.mark.parametrize("then", [{"interval": 30}, {"cron": "* * * * *", "tz": "Asia/Kolkata"}])
async def test_a_schedule_alone_keeps_the_time_of_the_pending_occurrence(
    service: Service, receiver: Receiver, then: dict[str, Any]
) -> None:
    made = await service.create(interval=3600, url=receiver.url())
    _, updated = await service.call("PUT", f"/timers/{made['id']}", {"url": receiver.url(), **then})
    assert updated["due"] == made["due"]
    assert then.items() <= updated.items()
    assert ("interval" in updated) == ("interval" in then)


# -- destinations share the worker -------------------------------------------------------------------------------------


async def test_one_slow_host_delays_nobody_else(make_service: MakeService, receiver: Receiver) -> None:
    hold = asyncio.Event()
    most = active = 0

    async def slow(request: web.Request) -> web.StreamResponse:
        nonlocal most, active
        if request.path.startswith("/fast"):
            return web.Response()
        active += 1
        most = max(most, active)
        await hold.wait()
        active -= 1
        return web.Response()

    receiver.answer = slow

    async def lookup(_host: str, _port: int, _family: Any) -> list[str]:
        return ["127.0.0.1"]

    service = await make_service(lookup, scheduler={"concurrency": 20}, host_concurrency=4, total_seconds=30.0)
    slow_ones = [{"id": f"s{n}", "timeout": 0.01, "url": receiver.url("/slow")} for n in range(80)]
    await service.call("POST", "/batch/create", {"timers": slow_ones})
    await eventually(lambda: active == 4)
    for number in range(10):
        await service.create(timeout=0.01, url=f"http://fast.example:{receiver.port}/fast", id=f"f{number}")
    for number in range(10):
        await service.until(f"f{number}", "completed")
    assert active == 4
    waiting = await service.get("s79")
    assert waiting["status"] in ("pending", "processing")
    hold.set()
    for number in range(80):
        found = await service.until(f"s{number}", "completed")
        assert found["attempts"] == 1, "postponing is no attempt"
    assert most == 4


async def test_slots_are_handed_on_in_turn_and_never_lost() -> None:
    slots = HostSlots(limit=2, waiting=50)
    active = most = done = 0

    async def deliver() -> None:
        nonlocal active, most, done
        async with slots.slot("host"):
            active += 1
            most = max(most, active)
            try:
                await asyncio.sleep(0)  # the delivery
                done += 1
            finally:
                active -= 1

    await asyncio.gather(*(deliver() for _ in range(50)))
    assert (most, active, done) == (2, 0, 50)
    cancelled = [asyncio.create_task(deliver()) for _ in range(20)]
    await asyncio.sleep(0)  # now some have a slot, and the others wait for one
    for task in cancelled[::2]:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    await asyncio.gather(*(deliver() for _ in range(10)))
    assert active == 0


async def test_a_host_that_hangs_makes_the_others_come_back_later() -> None:
    slots = HostSlots(limit=1, waiting=5)
    hold = asyncio.Event()

    async def hang() -> None:
        async with slots.slot("host"):
            await hold.wait()

    task = asyncio.create_task(hang())
    await asyncio.sleep(0)  # now it has the slot
    waiters = [asyncio.create_task(hang()) for _ in range(8)]
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert all(isinstance(result, Postpone) for result in results)
    hold.set()
    await task
    async with slots.slot("host"):
        pass
