"""Options from the environment, and the warnings about options."""

from __future__ import annotations

import re
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from interval_scheduler import AsyncScheduler, InvalidOptions, Options, Scheduler, StorageOptions
from interval_scheduler.doctor import diagnose
from interval_scheduler.model.options import ENVIRONMENT, OptionFields, load_options
from interval_scheduler.testing import SimulatedScheduler

PREFIX = "INTERVAL_SCHEDULER_"


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_a_bad_value_names_the_variable_it_came_from(variable: str) -> None:
    with pytest.raises(InvalidOptions, match=rf"\(from the environment variable {variable}\)"):
        load_options(None, environment={variable: "{-1}"})


@pytest.mark.parametrize("variable", ENVIRONMENT)
@pytest.mark.parametrize("text", ['"{}"', "'{}'", ' "{}" ', '"{}'])
def test_quotes_that_became_a_part_of_a_value_are_named(variable: str, text: str) -> None:
    """streetmerchant#1059: `docker run --env-file` keeps the quotes, a shell and systemd take them away."""
    value = "redis://:secret@h" if variable.endswith("INSTANCES") else "5"
    with pytest.raises(InvalidOptions) as caught:
        load_options(None, environment={variable: text.format(value)})
    [problem] = caught.value.problems
    assert problem.startswith(f"the environment variable {variable} is in quotes: leave them out")
    assert "secret" not in problem


def test_the_reference_lists_every_variable() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
    assert set(re.findall(r"INTERVAL_SCHEDULER_[A-Z_]+", text)) == set(ENVIRONMENT)


def test_a_bad_value_of_the_program_names_no_variable() -> None:
    with pytest.raises(InvalidOptions) as caught:
        load_options(None, {"partitions": 0}, {PREFIX + "CONCURRENCY": "0"})
    [concurrency, partitions] = sorted(caught.value.problems)
    assert concurrency.startswith(f"concurrency (from the environment variable {PREFIX}CONCURRENCY) is 0: ")
    assert partitions.startswith("partitions is 0: ")


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:secret@h:99999",
        "redis://:secret@h:99999",
        "redis://u:se/secret@h:1",
        "redis://u:se?secret@h:1",
        "redis://u:se#secret@h:1",
        "redis://h:99999?password=secret",
        "redis://u:secret@[h",
        "//u:secret@h",
    ],
)
def test_the_password_in_a_bad_url_is_not_shown(url: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        load_options([url], environment={})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("redis://a", ["a:6379/0"]),
        ("redis://a,redis://b", ["a:6379/0", "b:6379/0"]),
        (" redis://a, redis://b ,redis://c,\n", ["a:6379/0", "b:6379/0", "c:6379/0"]),
        ("one=redis://a two=redis://b,three=rediss://c", ["one", "two", "three"]),
        ("redis+sentinel://h,i:1/main/0,redis://b", ["main/0", "b:6379/0"]),
    ],
)
@pytest.mark.filterwarnings("ignore:instances without a name")
def test_instances_in_a_variable(text: str, names: list[str]) -> None:
    options = load_options(None, environment={PREFIX + "INSTANCES": text})
    assert [instance.name for instance in options.instances] == names


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """fault-D11."""
    monkeypatch.setenv(PREFIX + "NAME_SPACE", "x")
    monkeypatch.setenv(PREFIX + "ZZZ", "x")
    monkeypatch.setenv(PREFIX + "REDIS", "first")
    with pytest.raises(InvalidOptions) as caught:
        Scheduler("memory://misspelt")
    first, second = caught.value.problems
    assert first == f"the environment variable {PREFIX}NAME_SPACE is unknown: use {PREFIX}NAMESPACE"
    assert second.startswith(f"the environment variable {PREFIX}ZZZ is unknown: unset it, or use {PREFIX}INSTANCES, ")


# What Kubernetes and Docker set for services named interval-scheduler and interval-scheduler-redis.
OF_KUBERNETES = {
    "SERVICE_HOST": "10.0.0.11",
    "SERVICE_PORT": "8080",
    "SERVICE_PORT_HTTP_METRICS": "9090",
    "PORT": "tcp://10.0.0.11:8080",
    "PORT_8080_TCP": "tcp://10.0.0.11:8080",
    "PORT_8080_TCP_PROTO": "tcp",
    "PORT_8080_TCP_PORT": "8080",
    "PORT_8080_TCP_ADDR": "10.0.0.11",
    "REDIS_SERVICE_HOST": "10.0.0.12",
    "REDIS_SERVICE_PORT": "6379",
    "REDIS_PORT": "tcp://10.0.0.12:6379",
    "REDIS_PORT_6379_UDP_ADDR": "10.0.0.12",
    "NAMESPACE_PORT": "udp://10.0.0.13:53",
}


def test_what_kubernetes_makes_of_the_name_of_a_service_is_left_alone() -> None:
    environment = {PREFIX + name: value for name, value in OF_KUBERNETES.items()}
    assert load_options(None, environment=environment).namespace == "interval-scheduler"


@pytest.mark.parametrize(("name", "value"), [("PORT", "8080"), ("PORTS", "tcp://a:1"), ("SERVICE", "x"), ("HOST", "x")])
def test_what_only_looks_like_it_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidOptions, match=f"{PREFIX}{name} is unknown"):
        load_options(None, environment={PREFIX + name: value})


@pytest.mark.parametrize(
    ("given", "overrides", "namespace"),
    [
        (None, {}, "from-environment"),
        ("redis://h", {}, "from-environment"),
        (Options(), {}, "from-environment"),
        ({"concurrency": 5}, {}, "from-environment"),
        (None, {"namespace": "billing"}, "billing"),
        ({"namespace": "billing"}, {}, "billing"),
        (Options(namespace="billing"), {}, "billing"),
        (Options(namespace="billing"), {"namespace": "mail"}, "mail"),
        (None, {"namespace": "interval-scheduler"}, "interval-scheduler"),
    ],
)
def test_the_environment_does_not_override_a_namespace_that_a_program_names(
    given: Any, overrides: dict[str, Any], namespace: str
) -> None:
    """fault-D11: two schedulers of one program would share their tasks."""
    environment = {PREFIX + "NAMESPACE": "from-environment", PREFIX + "CONCURRENCY": "7"}
    options = load_options(given, overrides, environment)
    assert options.namespace == namespace
    assert options.concurrency == 7


def test_instances_without_a_name_are_warned_of_once_and_at_the_caller() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scheduler = Scheduler(["redis://a", "redis://b"])
        scheduler.concurrency = 7
    [warning] = caught
    assert "instances without a name" in str(warning.message)
    assert warning.filename == __file__


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (3, "options are an int: use"),
        (2.5, "options are a float: use"),
        ({"storage": 3}, "storage is an int: use"),
        ([3], "storage.instances[0]: is an int: use"),
        ({"zzz": "x"}, "zzz is unknown: use storage, check_tasks_every_seconds, concurrency, "),
        ({"zzz": "x"}, ", or of the storage evicting_servers, instances, master_index, "),
        ({"name_space": "x"}, "name_space is unknown: use namespace"),
        ({"storage.evicting_servers": "warn"}, "storage.evicting_servers is unknown: use evicting_servers"),
        ({"storage": {"instance": "x"}}, "storage.instance is unknown: use instances"),
        ({"redis://u:p@h": "x"}, "a field with a name of other characters than letters, digits and _ is unknown"),
        ({"master_index": 1}, "storage.master_index is 1: use 0"),
        ({"evicting_servers": "ignore"}, "storage.evicting_servers is 'ignore': use 'warn' or 'refuse'"),
        ({"storage": {"evicting_servers": ["warn"]}}, "storage.evicting_servers is ['warn']: use 'warn' or 'refuse'"),
    ],
)
def test_what_is_wrong_is_said_in_words(given: Any, text: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        load_options(given, environment={})
    assert text in str(caught.value)


def test_every_option_is_a_keyword_of_its_type() -> None:
    keywords = get_type_hints(OptionFields)
    options = get_type_hints(Options) | get_type_hints(StorageOptions)
    assert keywords.keys() == options.keys()
    for name in options.keys() - {"storage", "instances"}:
        # Seconds may be given as a timedelta too; after loading they are a number.
        assert keywords[name] == (float | timedelta if options[name] is float else options[name]), name


def test_every_keyword_is_taken_at_its_default() -> None:
    plain = Options()
    given = {
        name: getattr(plain.storage if hasattr(plain.storage, name) else plain, name)
        for name in get_type_hints(OptionFields)
    }
    loaded = load_options(None, given, {})
    assert loaded.namespace == plain.namespace
    assert repr(loaded) == repr(plain)


def test_the_keywords_of_a_scheduler_are_the_options() -> None:
    for function in (Scheduler.__init__, AsyncScheduler.__init__, SimulatedScheduler.__init__, diagnose):
        assert function.__annotations__["fields"] == "Unpack[OptionFields]"


def test_evicting_servers() -> None:
    assert load_options(None, environment={}).storage.evicting_servers == "warn"
    assert load_options(None, {"evicting_servers": "refuse"}, {}).storage.evicting_servers == "refuse"
    given = {PREFIX + "EVICTING_SERVERS": "refuse"}
    assert (
        load_options({"storage": {"evicting_servers": "warn"}}, environment=given).storage.evicting_servers == "refuse"
    )
