"""The judge notices what it is there to notice: each of these scripts breaks one promise, and is found out."""

from __future__ import annotations

import re

import pytest

from interval_scheduler.protocol.scripts import script
from interval_scheduler.testing.scenario import simulate
from interval_scheduler.testing.servers import Backend

MOST_SEEDS = 80


def altered(name: str, *changes: tuple[str, str]) -> dict[str, bytes]:
    """A script with some text replaced, which must be there."""
    source = script(name).source
    for old, new in changes:
        assert old in source, f"{name} does not contain {old!r} any more"
        source = source.replace(old, new)
    return {name: source.encode()}


MOVED = "answers[i] = 'o'; fresh[i] = string.gsub(fresh[i], '^s(%d+)', function(due) return 's' .. (due + 7) end)"

BROKEN = {
    "the token check of settle removed": (
        altered("settle", ("if state == 'r' and token == held then", "if state == 'r' then")),
        r"the run is stale|accepted twice|token",
    ),
    "settle without compare": (
        altered("settle", ("string.sub(record, 1, #expected[i] + 1) ~= expected[i] .. '\\n'", "false")),
        r"was accepted, though the run is stale|accepted twice|before the end of|cannot be read",
    ),
    "lease renewal removed": (
        altered("renew", ("redis.call('ZADD', prefix .. 'leases', 'XX', 'GT', unpack(leases))", "")),
        r"started .* before the end of .* whose lease had",
    ),
    "claims a second early": (
        # In all that it says, too: a worker would put back what is not due by the time of the claim.
        altered("claim", ("local due_by =", "now, now_us = now + 1000, now_us + 1000000\nlocal due_by =")),
        r"started [\d.]+ ms early",
    ),
    "tokens stand still": (
        altered("claim", ("sequence = sequence + 1", "sequence = now_us + 1")),
        r"was given token \d+, not larger than the one before",
    ),
    "retries are forgotten": (
        altered("settle", ("if #retries > 0 then", "if false then")),
        r"^lost: ",
    ),
    "an update deletes what runs next": (
        altered("assign", ("announce(earliest)", "redis.call('DEL', prefix .. 'bucket:' .. names[1])")),
        r"^lost: ",
    ),
    "the grid moves with every late run": (
        altered("settle", ("answers[i] = 'o'", MOVED)),
        r"off its grid|was next|goes on at",
    ),
    "a restart is not noticed": (
        altered(
            "handshake", ("starts = starts .. ARGV[1] .. ':' .. writes .. ' '", "starts = ARGV[1] .. ':99999999 '")
        ),
        r"unnoticed",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_script_is_noticed(what: str, backends: list[Backend]) -> None:
    scripts, message = BROKEN[what]
    for seed in range(MOST_SEEDS):
        violations = simulate(seed, backends, scripts).violations
        if violations:
            assert any(re.search(message, violation) for violation in violations), violations
            return
    pytest.fail(f"{MOST_SEEDS} seeds did not notice")
