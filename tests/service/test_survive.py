"""What both sides of the HTTP edge must survive: the closing list of the conformance table, one test each."""

from __future__ import annotations

import asyncio
import gzip
import json
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web

from interval_scheduler.service.body import parse_json
from interval_scheduler.service.destinations import DestinationRefused, Destinations
from interval_scheduler.service.errors import InvalidRequest
from interval_scheduler.service.requests import Checker
from interval_scheduler.service.settings import Settings
from tests.servers import RedisServer
from tests.service.conftest import MakeService, Receiver, Service
from tests.tasks import eventually

# -- urls and addresses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "gopher://example.com/",
        "//example.com/",
        "example.com",
        "",
        "http://",
        "http:///path",
        "http://exa mple.com/",
        "http://example.com\\@evil.example/",
        "http://example.com/\r\nX: y",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://-example.com/",
        "http://ex%61mple.com/",
        "http://" + "a" * 64 + ".com/",
        "http://example.com/" + "a" * 2048,
    ],
)
def test_other_schemes_and_malformed_urls_are_refused(url: str) -> None:
    with pytest.raises(DestinationRefused):
        Destinations().url(url)


@pytest.mark.parametrize("url", ["http://user:pass@example.com/", "http://user@example.com/", "http://@example.com/"])
def test_credentials_in_urls_are_refused(url: str) -> None:
    with pytest.raises(DestinationRefused, match="credentials"):
        Destinations().url(url)


NOT_PUBLIC = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "169.254.169.254",
    "168.63.129.16",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(DestinationRefused):
        Destinations().address(address)
    with pytest.raises(DestinationRefused):
        Destinations().url(f"http://{host}/")


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.1.", "1.2.3.4.5", "127.0.0.256",
     "①②⑦.0.0.1", "１２７.0.0.1", "localhost", "LOCALHOST.", "a.localhost", "[fe80::1%25eth0]"],
)  # fmt: skip
def test_odd_forms_of_addresses_and_this_machine_are_refused(host: str) -> None:
    with pytest.raises(DestinationRefused):
        Destinations().url(f"http://{host}/")


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "[2606:4700::1111]", "example.com", "example.com.", "bücher.example", "a_b.example"]
)
def test_public_hosts_are_fine(host: str) -> None:
    assert Destinations().url(f"https://{host}/x?y=z").scheme == "https"


def test_networks_can_be_allowed() -> None:
    destinations = Destinations([ip_network("10.1.0.0/16")])
    destinations.address("10.1.2.3")
    with pytest.raises(DestinationRefused):
        destinations.address("10.2.0.1")


async def test_a_host_that_resolves_to_a_private_address_is_not_called(
    make_service: MakeService, receiver: Receiver
) -> None:
    async def lookup(host: str, port: int, family: Any) -> list[str]:
        return {"inside.example": ["127.0.0.1"], "both.example": ["8.8.8.8", "127.0.0.1"]}[host]

    service = await make_service(lookup=lookup, allowed_networks=(), max_retries=0)
    for host in ("inside.example", "both.example"):
        made = await service.create(timeout=0.01, url=f"http://{host}:{receiver.port}/")
        found = await service.until(made["id"], "failed")
        assert "not a public address" in found["last_error"]
    assert not receiver.seen


async def test_dns_rebinding_changes_nothing_for_a_connection_that_was_checked(
    make_service: MakeService, receiver: Receiver
) -> None:
    """The connection goes to the very address that was checked: there is no second look-up to be lied to."""
    answers = [["127.0.0.1"], ["127.66.66.66"]]
    asked: list[str] = []

    async def lookup(host: str, port: int, family: Any) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    # Only the first address is allowed: the second stands for one inside.
    allowed = (ip_network("127.0.0.1/32"),)
    service = await make_service(lookup=lookup, allowed_networks=allowed, max_retries=0)
    first = await service.create(timeout=0.01, url=f"http://rebind.example:{receiver.port}/")
    await service.until(first["id"], "completed")
    assert asked == ["rebind.example"], "looked up once for check and connection"
    assert receiver.seen[0].headers["Host"] == f"rebind.example:{receiver.port}"
    # Another port is another connection, and looks the name up again, which now points inside.
    second = await service.create(timeout=0.01, url="http://rebind.example:1/")
    found = await service.until(second["id"], "failed")
    assert "127.66.66.66" in found["last_error"]
    assert len(asked) == 2


async def test_refused_urls_are_refused_when_a_timer_is_made(make_service: MakeService) -> None:
    service = await make_service(allowed_networks=())
    for url in ("ftp://example.com", "http://u:p@example.com", "http://127.0.0.1/", "http://0x7f.1/", "http://[::1]/"):
        status, answer = await service.call("POST", "/timers", {"seconds": 1, "url": url})
        assert status == 400, url
        assert set(answer["fields"]) == {"url"}


# -- answers of receivers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(make_service: MakeService, receiver: Receiver, status: int) -> None:
    async def redirect(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": receiver.url("/elsewhere")})

    receiver.answer = redirect
    service = await make_service(max_retries=0)
    made = await service.create(timeout=0.01, url=receiver.url())
    found = await service.until(made["id"], "failed")
    assert f"HTTP {status}" in found["last_error"]
    assert len(receiver.seen) == 1


@pytest.mark.parametrize("code", [200, 500])
async def test_endless_answers_are_cut_off(make_service: MakeService, receiver: Receiver, code: int) -> None:
    written = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(status=code)
        await response.prepare(request)
        while written < 2**30:
            await response.write(b"x" * 65536)
            written += 65536
        return response

    receiver.answer = endless
    service = await make_service(max_retries=0)
    made = await service.create(timeout=0.01, url=receiver.url())
    await service.until(made["id"], "completed" if code == 200 else "failed")
    assert written < 2**26


async def test_slow_answers_end_at_the_deadline(make_service: MakeService, receiver: Receiver) -> None:
    gone = asyncio.Event()

    async def silent(_request: web.Request) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    receiver.answer = silent
    service = await make_service(max_retries=0, read_seconds=0.2)
    made = await service.create(timeout=0.01, url=receiver.url())
    found = await service.until(made["id"], "failed")
    assert "no answer in time" in found["last_error"]
    await asyncio.wait_for(gone.wait(), 10)


async def test_answers_that_trickle_end_at_the_overall_deadline(make_service: MakeService) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                writer.write(b"X-More: and more\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)  # the trickle
        except OSError:
            writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    service = await make_service(max_retries=0, total_seconds=0.4)
    made = await service.create(timeout=0.01, url=f"http://127.0.0.1:{port}/")
    found = await service.until(made["id"], "failed")
    assert found["last_error"]
    server.close()


async def test_a_body_that_trickles_after_a_good_status_is_a_success(make_service: MakeService) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            await writer.drain()
            await reader.read()
        except OSError:
            pass  # cut off, as it should be
        writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    service = await make_service(max_retries=0, total_seconds=0.5)
    made = await service.create(timeout=0.01, url=f"http://127.0.0.1:{port}/")
    await service.until(made["id"], "completed")
    server.close()


async def test_compressed_bombs_are_not_unpacked(make_service: MakeService, receiver: Receiver) -> None:
    bomb = gzip.compress(b"\0" * 10**7)

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=500, body=bomb, headers={"Content-Encoding": "gzip"})

    receiver.answer = answer
    service = await make_service(max_retries=0)
    made = await service.create(timeout=0.01, url=receiver.url())
    found = await service.until(made["id"], "failed")
    assert len(found["last_error"]) < 500
    assert receiver.seen[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 9999 X\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
     b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n"],
)  # fmt: skip
async def test_answers_that_are_no_http_are_failures(make_service: MakeService, answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    service = await make_service(max_retries=0)
    made = await service.create(timeout=0.01, url=f"http://127.0.0.1:{port}/")
    found = await service.until(made["id"], "failed")
    assert "(attempt 1)" in found["last_error"]
    server.close()


# -- bodies of requests ------------------------------------------------------------------------------------------------


async def send(service: Service, raw: bytes, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} if headers is None else headers
    async with service.session.post(
        f"{service.url}/timers", data=raw, headers=headers, skip_auto_headers=["Content-Type"]
    ) as response:
        assert response.headers["Content-Type"] == "application/json"
        return response.status, await response.json()


GOOD = b'{"seconds": 60, "url": "http://127.0.0.1/"}'


async def test_wrong_content_types_are_refused(service: Service) -> None:
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"):
        status, answer = await send(service, GOOD, {"Content-Type": kind} if kind else {})
        assert status == 415, kind
        assert "application/json" in answer["error"]
    assert (await send(service, GOOD, {"Content-Type": "application/json", "Content-Encoding": "gzip"}))[0] == 415
    assert (await send(service, GOOD, {"Content-Type": 'Application/JSON; charset="UTF-8"'}))[0] == 201


async def test_missing_bodies_are_refused(service: Service) -> None:
    status, answer = await send(service, b"")
    assert status == 400
    assert "missing" in answer["error"]


async def test_huge_bodies_are_refused(make_service: MakeService) -> None:
    service = await make_service(max_body_bytes=1000)
    status, answer = await send(service, GOOD + b" " * 1000)
    assert status == 413
    assert "1,000 bytes" in answer["error"]

    async def chunked() -> Any:
        for _ in range(100):
            yield b" " * 100

    headers = {"Content-Type": "application/json"}
    async with service.session.post(f"{service.url}/timers", data=chunked(), headers=headers) as response:
        assert response.status == 413


async def test_messages_above_the_payload_limit_are_refused(service: Service) -> None:
    body = {"seconds": 60, "url": "http://127.0.0.1/", "message": "x" * 40_000}
    status, answer = await service.call("POST", "/timers", body)
    assert status == 400
    assert set(answer["fields"]) == {"message"}


async def test_slow_bodies_are_refused(make_service: MakeService) -> None:
    service = await make_service(body_seconds=0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    writer.write(b"POST /timers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 408")
    writer.close()
    await writer.wait_closed()


async def test_clients_that_go_away_hurt_nobody(service: Service) -> None:
    for part in (
        b"POST /timers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
        b"GE",
    ):
        _, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
        writer.write(part)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await service.call("GET", "/ping"))[0] == 200


async def test_unicode_passes_unharmed(service: Service, receiver: Receiver) -> None:
    message = {"ключ": "值", "emoji": "👩‍👩‍👧", "nul": "\0", "rtl": "\u202eabc", "escaped": "\\u0000\u2028"}
    await service.create(timeout=0.01, url=receiver.url(), message=message)
    [seen] = await receiver.wait()
    assert seen.body["message"] == message
    for broken in (b'{"message": "\xff"}', b'{"message": "\\ud800"}', b'{"\\udfff": 1}', "{}".encode("utf-16")):
        status, answer = await send(service, broken)
        assert status == 400, broken
        assert answer["error"]


async def test_duplicate_keys_are_refused(service: Service) -> None:
    for raw in (
        b'{"seconds": 60, "seconds": 1, "url": "http://127.0.0.1/"}',
        b'{"seconds": 60, "url": "http://127.0.0.1/", "message": {"a": 1, "\\u0061": 2}}',
    ):
        status, answer = await send(service, raw)
        assert status == 400
        assert "comes twice" in answer["error"]


@pytest.mark.parametrize(
    "raw",
    [b"{", b"[]", b"null", b"1", b'"text"', b"NaN",
     b'{"timeout": NaN}', b'{"message": Infinity}', b'{"message": 1e999}',
     b'{"message": ' + b"9" * 5000 + b"}", b'{"message": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
     b'{"message": ' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}"],
)  # fmt: skip
def test_what_is_no_proper_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        Checker(Settings(), Destinations()).timer(parse_json(raw))


def test_many_keys_take_no_quadratic_time() -> None:
    """Comparing all of them with all takes minutes, which the limit of the time of a test ends."""
    keys = [f'"k{number}":1' for number in range(200_000)]
    with pytest.raises(InvalidRequest, match="'k199999' comes twice"):
        parse_json(f"{{{','.join([*keys, keys[-1]])}}}".encode())


def test_many_unknown_fields_get_no_long_answer() -> None:
    raw = {f"k{number}": 1 for number in range(100_000)}
    checker = Checker(Settings(), Destinations())
    for check in (checker.timer, checker.ids):
        with pytest.raises(InvalidRequest) as refused:
            check(raw)
        assert len(json.dumps(refused.value.body())) < 10_000


async def test_unknown_paths_and_methods_are_answered_as_json(service: Service) -> None:
    for method, path, code in (("GET", "/nowhere", 404), ("PATCH", "/timers", 405), ("POST", "/ping", 405)):
        status, answer = await service.call(method, path)
        assert status == code
        assert answer["error"]


async def test_cursors_that_are_none_are_refused(service: Service) -> None:
    for query in ("cursor=x", "cursor=", "limit=0", "limit=1001", "limit=x"):
        status, answer = await service.call("GET", f"/timers?{query}")
        assert status == 400, query
        assert answer["fields"]


async def test_pages_hold_every_timer_once_and_in_order(service: Service) -> None:
    ids = [f"p{number}" for number in range(25)]
    timers = [
        {"id": name, "seconds": 600 + 7 * (place % 5), "url": "http://127.0.0.1/"} for place, name in enumerate(ids)
    ]
    await service.call("POST", "/batch/create", {"timers": timers})
    await service.call("POST", "/timers/p3/cancel")
    found: list[Any] = []
    cursor = ""
    while True:
        _, page = await service.call("GET", f"/timers?limit=4{cursor}")
        assert len(page["timers"]) <= 4
        found += page["timers"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(timer["id"] for timer in found) == sorted(set(ids) - {"p3"})
    assert [timer["due"] for timer in found] == sorted(timer["due"] for timer in found)
    assert json.dumps(found)


async def test_deleted_timers_leave_nothing(service: Service, receiver: Receiver) -> None:
    made = await service.create(timeout=0.01, url=receiver.url(), id="mine")
    await service.until(made["id"], "completed")
    status, _ = await service.call("DELETE", "/timers/mine")
    assert status == 200
    assert (await service.call("GET", "/timers/mine"))[0] == 404
    await service.create(timeout=0.01, url=receiver.url(), id="mine")
    await eventually(lambda: len(receiver.seen) == 2)
    assert receiver.seen[0].id != receiver.seen[1].id


async def test_without_redis_requests_are_answered_and_work_again_with_it(
    own_servers: list[RedisServer], make_service: MakeService
) -> None:
    instances = [{"url": server.url, "name": f"own-{number}"} for number, server in enumerate(own_servers)]
    options = {"storage": {"instances": instances, "reconnect_interval_seconds": 0.05}}
    service = await make_service(scheduler=options, deliver=False)
    await service.create(seconds=60, url="http://127.0.0.1/", id="kept")
    for server in own_servers:
        server.kill()
    for method, path, body in (
        ("POST", "/timers", {"seconds": 60, "url": "http://127.0.0.1/"}),
        ("GET", "/timers/kept", None),
        ("GET", "/timers", None),
        ("DELETE", "/timers/kept", None),
    ):
        status, answer = await service.call(method, path, body)
        assert status == 503, path
        assert "cannot be reached" in answer["error"]
    status, answer = await service.call("POST", "/batch/delete", {"ids": ["kept"]})
    assert (status, answer["results"][0]["status_code"]) == (200, 503)
    assert (await service.call("GET", "/ping"))[0] == 200
    for server in own_servers:
        server.start()

    async def back() -> bool:
        return (await service.call("GET", "/timers/kept"))[0] == 200

    await eventually(back)
