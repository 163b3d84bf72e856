"""A short form of `python -m tests.chaos.damage`: every kind of damage, some times."""

from __future__ import annotations

from tests.chaos.damage import DAMAGES, campaign
from tests.servers import RedisServer


async def test_damage_hurts_only_itself(own_servers: list[RedisServer]) -> None:
    tried, failures = await campaign(own_servers[0], 500, 4 * len(DAMAGES))
    assert failures == []
    assert set(tried.values()) == {4}
