"""keys.py names every key and channel that the scripts use, and none that they do not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interval_scheduler.protocol import keys
from interval_scheduler.protocol.scripts import all_scripts

LUA = Path(__file__).parents[2] / "interval_scheduler" / "lua"
SOURCES = {path.stem: path.read_text() for path in LUA.rglob("*.lua")}
# What stands behind `prefix ..` where it is computed: the sets of an audit, which are named in the same file.
COMPUTED = {"set", "part", "name"}


def test_the_keys_and_the_channel_of_a_partition_are_those_of_the_scripts() -> None:
    named: set[str] = set()
    for source in SOURCES.values():
        named |= set(re.findall(r"\bprefix \.\. '([^']+)'", source))
        assert set(re.findall(r"\bprefix \.\. (?!')([\w.]+)", source)) <= COMPUTED
    named |= set(re.findall(r"string\.sub\(KEYS\[i\], 1, -5\) \.\. '([^']+)'", SOURCES["handshake"]))
    assert named | {keys.META} == {*keys.PARTITION_KEYS, keys.BUCKET, keys.HINT}


def test_the_computed_sets_of_an_audit_are_keys() -> None:
    named = set(re.findall(r"(?:part ==|set ==|return) '([\w:-]+)'", SOURCES["audit"]))
    assert named
    assert named <= {*keys.PARTITION_KEYS, keys.BUCKET, "keys"}


def test_scripts_cut_the_name_of_the_meta_key_off() -> None:
    cuts = [cut for source in SOURCES.values() for cut in re.findall(r"string\.sub\(KEYS\[\w\], 1, (-\d+)\)", source)]
    assert cuts
    assert {int(cut) for cut in cuts} == {-len(keys.META) - 1}


def test_channels_that_scripts_make_from_a_key_are_those_of_keys() -> None:
    """`string.gsub` of Lua, as `hint` and `nudge` use it."""
    hint = re.search(r"string\.gsub\(prefix, '\^{\(\.\*\):\(%d\+\)}:\$', '{%1}:(\w+)'\)", SOURCES["hint"])
    assert hint is not None
    assert f"{{ns}}:{hint[1]}" == keys.any_hint_channel("ns")
    nudge = re.search(r"string\.gsub\(KEYS\[1\], '(:workers)\$', '(:worker:)'\) \.\. ARGV\[1\]", SOURCES["nudge"])
    assert nudge is not None
    assert keys.workers("ns").removesuffix(nudge[1]) + nudge[2] + "me" == keys.worker_channel("ns", "me")
    publishers = {name for name, source in SOURCES.items() if "'PUBLISH'" in source}
    assert publishers == {"hint", "nudge", "workers"}, "say here which channel a new one uses"


def test_scripts_get_the_keys_of_a_namespace_as_arguments() -> None:
    for script in all_scripts():
        assert not re.search(r"'\{?[^']*:(topology|instance|lock)", script.source), script.name


@pytest.mark.parametrize("name", [*keys.PARTITION_KEYS, keys.HINT])
def test_names_of_a_partition_share_a_hash_tag(name: str) -> None:
    assert keys.of_partition(keys.meta("ns", 7), name) == f"{{ns:7}}:{name}"


def test_examples() -> None:
    assert keys.bucket(keys.meta("ns", 7), 60_000) == "{ns:7}:bucket:60000"
    assert keys.hint_channel("ns", 7) == "{ns:7}:hint"
    assert keys.partition_of_hint("{a:b:7}:hint") == 7
    assert keys.monitor_channel("ns") == "{ns}:monitor"
    assert keys.patterns("ns") == ("{ns}:*", "{ns:*}:*")
