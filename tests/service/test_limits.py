"""API keys, rate limits, settings."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from interval_scheduler import InvalidOptions
from interval_scheduler.service import Settings, Signer, create_app, load_settings
from interval_scheduler.service.api_keys import ApiKey, client_of, new_key
from interval_scheduler.service.rate_limit import RateLimit
from tests.service.conftest import MakeService


async def test_keys_are_asked_for_and_told_apart(make_service: MakeService) -> None:
    one, configured_one = new_key("one")
    two, configured_two = new_key("two")
    service = await make_service(api_keys=(configured_one, configured_two), rate_limit=0.01, rate_burst=2)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {one}"}, {"Authorization": "ü"}):
        status, answer = await service.call("GET", "/timers", headers=headers)
        assert status == 401, headers
        assert "Authorization: Bearer" in answer["error"]
    for _ in range(2):
        assert (await service.call("GET", "/timers", headers={"Authorization": f"Bearer {one}"}))[0] == 200
    status, answer = await service.call("GET", "/timers", headers={"Authorization": f"Bearer {one}"})
    assert status == 429
    assert "one may ask" in answer["error"]
    assert (await service.call("GET", "/timers", headers={"Authorization": f"Bearer {two}"}))[0] == 200
    assert (await service.call("GET", "/readyz"))[0] == 200


async def test_below_a_prefix_everything_is_as_without(make_service: MakeService) -> None:
    """The prefix that a proxy took off, and the server was told of, is none of the routes' business."""
    key, configured = new_key("one")
    service = await make_service(api_keys=(configured,), root_path="/time")
    assert (await service.call("GET", "/ping"))[0] == 200
    assert (await service.call("GET", "/timers"))[0] == 401
    body, headers = {"seconds": 60, "url": "http://127.0.0.1/"}, {"Authorization": f"Bearer {key}"}
    async with service.session.post(f"{service.url}/timers", json=body, headers=headers) as response:
        assert response.status == 201
        assert response.headers["Location"] == f"/time/timers/{(await response.json())['id']}"
    async with service.session.patch(f"{service.url}/timers", headers=headers) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, POST")


def test_only_hashes_of_keys_are_kept() -> None:
    key, configured = new_key("shop")
    assert key not in repr(configured)
    assert client_of(key, [configured]) == "shop"
    assert client_of("other", [configured]) is None
    for wrong in ("shop", "shop:abc", f"no blanks:{'0' * 64}", f"shop:{'G' * 64}"):
        with pytest.raises(ValueError, match="NAME:DIGEST"):
            ApiKey.parse(wrong)


def test_the_bucket_fills_again_and_batches_pay_their_debt() -> None:
    now = 100.0
    limit = RateLimit(10, 5, clock=lambda: now)
    assert [limit.take("a").allowed for _ in range(6)] == [True] * 5 + [False]
    refused = limit.take("a")
    assert (refused.limit, refused.remaining, refused.reset, refused.retry_after) == (5, 0, 1, 1)
    assert limit.take("b").allowed, "each client has its own"
    now += 0.15
    assert limit.take("a").allowed
    now += 10
    assert limit.take("a").remaining == 4
    limit.charge("a", 104)
    assert limit.take("a").retry_after == 11
    now += 9.9
    assert not limit.take("a").allowed
    now += 0.3
    assert limit.take("a").allowed


async def test_items_of_a_batch_count(make_service: MakeService) -> None:
    service = await make_service(rate_limit=0.01, rate_burst=10)
    timers = [{"seconds": 60, "url": "http://127.0.0.1/"}] * 20
    status, answer = await service.call("POST", "/batch/create", {"timers": timers})
    assert (status, answer["succeeded"]) == (200, 20)
    assert (await service.call("GET", "/timers"))[0] == 429


def test_settings_come_from_the_environment() -> None:
    settings = load_settings(
        {
            "TIMER_SERVICE_DELIVER": "no",
            "TIMER_SERVICE_RATE_LIMIT": "2.5",
            "TIMER_SERVICE_MAX_BATCH": "7",
            "TIMER_SERVICE_ALLOWED_NETWORKS": "10.0.0.0/8, fd00::/8",
            "TIMER_SERVICE_API_KEYS": f"a:{'0' * 64} b:{'1' * 64}",
            "OTHER": "x",
            "TIMER_SERVICE_HOST": "10.96.0.17",
            "TIMER_SERVICE_PORT_8000_TCP_ADDR": "10.96.0.17",
        },
        rate_burst=3,
    )
    assert (settings.deliver, settings.rate_limit, settings.max_batch, settings.rate_burst) == (False, 2.5, 7, 3)
    assert settings.allowed_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert [key.name for key in settings.api_keys] == ["a", "b"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("rate_limit", 0), ("max_batch", 1.5), ("max_batch", True), ("read_seconds", float("nan")), ("max_retries", -1)],
)
def test_wrong_settings_are_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidOptions, match=field):
        Settings(**{field: value})


def test_secrets_are_not_shown() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    settings = Settings(webhook_secrets=(secret,), max_batch=5)
    assert repr(settings) == "Settings(max_batch=5, 1 webhook secrets)"
    assert secret not in repr(Signer([secret]))
    process = create_app(settings, {"namespace": "shop"}).state.process
    assert repr(process) == "ServiceProcess('shop', not started)"


def test_the_documentation_names_every_setting() -> None:
    text = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
    for option in fields(Settings):
        assert f"`{option.name.upper()}`" in text, option.name
