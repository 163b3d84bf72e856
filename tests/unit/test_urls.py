"""Instances as URLs, mappings and values: nothing is guessed, nothing is silently dropped, and no secret is shown."""

from __future__ import annotations

import logging
import pickle
import ssl
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from interval_scheduler import InvalidOptions, Options, Scheduler, StorageOptions
from interval_scheduler.model.instances import Instance, parse_instance
from interval_scheduler.model.options import load_options

SWITCHES: list[tuple[object, bool]] = [
    *((text, True) for text in (True, 1, "true", "True", "TRUE", "yes", "Yes", "on", "ON", "1", " true ")),
    *((text, False) for text in (False, 0, "false", "False", "no", "off", "OFF", "0")),
]
NOT_UNDERSTOOD: list[object] = [None, "", " ", "ja", "truee", "2", 2, -1, 1.0, 0.0, [], [True], {}, b"true", "none"]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, client.pem (certificate and key), key.pem, other.pem (another key) and text.pem."""
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    client = authority.issue_cert("client")
    client.private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    client.private_key_pem.write_to_path(str(folder / "key.pem"))
    authority.issue_cert("other").private_key_pem.write_to_path(str(folder / "other.pem"))
    (folder / "text.pem").write_text("no certificate")
    return folder


def ways(scheme: str, **values: object) -> Iterator[Callable[[], Options]]:
    """Every way in which options of an instance can be given: mapping, mapping with URL, value, and as text by URL."""
    address = {"host": "h", "port": 1, "db": 0}
    tls = {"ssl": True} if scheme == "rediss" else {}
    yield lambda: load_options([{"host": "h", "port": 1, **tls, **values}], environment={})
    yield lambda: load_options([{"url": f"{scheme}://h:1", **values}], environment={})
    yield lambda: load_options([Instance("i", "redis", {**address, **tls, **values})], environment={})
    yield lambda: load_options(Options(StorageOptions([{"host": "h", **tls, **values}])), environment={})
    if all(isinstance(value, str) and value.strip() == value for value in values.values()):
        query = "&".join(f"{name}={value}" for name, value in values.items())
        yield lambda: load_options([f"{scheme}://h:1?{query}"], environment={})
        variable = f"one={scheme}://h:1?{query}"
        yield lambda: load_options(None, environment={"INTERVAL_SCHEDULER_INSTANCES": variable})


def refusal(load: Callable[[], object]) -> str:
    with pytest.raises(InvalidOptions) as caught:
        load()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


def refused(instance: object) -> str:
    return refusal(lambda: load_options([instance], environment={}))


class TestTls:
    """fault-D3. kombu#2210, redis-rb#839: options that were not understood gave a plain or unverified connection."""

    @pytest.mark.parametrize(("value", "meaning"), SWITCHES, ids=repr)
    def test_ssl_is_understood_in_every_spelling(self, value: object, meaning: bool) -> None:
        for load in ways("rediss" if meaning else "redis", ssl=value):
            assert load().instances[0].settings.get("ssl", False) is meaning

    @pytest.mark.parametrize("name", ["ssl", "ssl_check_hostname"])
    @pytest.mark.parametrize("value", NOT_UNDERSTOOD, ids=repr)
    def test_what_is_not_understood_is_refused(self, name: str, value: object) -> None:
        for load in ways("rediss", **{name: value}):
            told = refusal(load)
            assert name in told
            assert "use " in told or "leave it out" in told

    @pytest.mark.parametrize(("value", "meaning"), SWITCHES, ids=repr)
    def test_the_host_name_is_checked_or_not_as_it_says(self, value: object, meaning: bool) -> None:
        for load in ways("rediss", ssl_check_hostname=value):
            assert load().instances[0].settings["ssl_check_hostname"] is meaning

    @pytest.mark.parametrize(
        ("value", "meaning"),
        [
            ("none", "none"), ("NONE", "none"), ("CERT_NONE", "none"), (ssl.CERT_NONE, "none"),
            ("required", "required"), ("CERT_REQUIRED", "required"), (ssl.CERT_REQUIRED, "required"),
            ("optional", "optional"),
        ],
    )  # fmt: skip
    def test_verification_is_one_of_three(self, value: object, meaning: str) -> None:
        for load in ways("rediss", ssl_cert_reqs=value):
            assert load().instances[0].settings["ssl_cert_reqs"] == meaning

    @pytest.mark.parametrize("value", [None, 0, 1, False, True, "", "no", "false", "never", []], ids=repr)
    def test_other_verifications_are_refused(self, value: object) -> None:
        for load in ways("rediss", ssl_cert_reqs=value):
            assert "ssl_cert_reqs" in refusal(load)

    @pytest.mark.parametrize("scheme", ["redis", "valkey"])
    def test_a_scheme_without_tls_and_ssl_is_a_contradiction(self, scheme: str) -> None:
        for value in ("true", "yes", "on", "1"):
            assert "rediss://" in refused(f"{scheme}://h?ssl={value}")
            given = {"url": f"{scheme}://h", "ssl": value}
            assert "rediss://" in refused(given)

    @pytest.mark.parametrize("scheme", ["rediss", "valkeys", "rediss+sentinel"])
    def test_a_scheme_with_tls_and_no_ssl_is_a_contradiction(self, scheme: str) -> None:
        for value in ("false", "no", "off", "0"):
            url = f"{scheme}://h/main"[: None if "+" in scheme else -5]
            assert "ssl is off" in refused(f"{url}?ssl={value}")
            given = {"url": url, "ssl": value}
            assert "ssl is off" in refused(given)

    @pytest.mark.parametrize("name", ["ssl_check_hostname", "ssl_cert_reqs", "ssl_ca_certs", "ssl_min_version"])
    def test_options_of_tls_without_tls(self, name: str) -> None:
        for load in ways("redis", **{name: "true"}):
            told = refusal(load)
            assert name in told
            assert "TLS is not used" in told
        assert "TLS is not used" in refused(f"unix:///s?{name}=true")
        assert "no TLS" in refused({"url": "unix:///s", "ssl": True})

    def test_a_name_that_is_checked_for_a_certificate_that_is_not(self) -> None:
        for load in ways("rediss", ssl_cert_reqs="none", ssl_check_hostname="true"):
            assert "verifies nothing" in refusal(load)

    def test_misspelt_options_are_refused_and_the_right_one_is_named(self) -> None:
        for load in ways("rediss", ssl_chek_hostname="false"):
            assert "is ssl_check_hostname meant?" in refusal(load)
        for load in ways("rediss", ssl_validate_ocsp="true"):
            assert "unknown" in refusal(load)

    def test_certificates_that_can_be_loaded(self, pem: Path) -> None:
        good: list[dict[str, object]] = [
            {"ssl_ca_certs": str(pem / "ca.pem")},
            {"ssl_ca_certs": pem / "ca.pem"},
            {"ssl_ca_path": str(pem)},
            {"ssl_ca_data": (pem / "ca.pem").read_text()},
            {"ssl_certfile": str(pem / "client.pem")},
            {"ssl_certfile": str(pem / "client.pem"), "ssl_keyfile": str(pem / "key.pem")},
            {"ssl_ciphers": "ECDHE+AESGCM", "ssl_min_version": "TLSv1.3"},
            {"ssl_exclude_verify_flags": "VERIFY_X509_STRICT"},
            {"ssl_ca_certs": None, "ssl_password": None},
        ]
        for values in good:
            for load in ways("rediss", **values):
                [instance] = load().instances
                assert parse_instance(instance) is instance, "what was checked once is not changed again"
                assert pickle.loads(pickle.dumps(instance)) == instance

    def test_certificates_that_cannot(self, pem: Path) -> None:
        text, absent = str(pem / "text.pem"), str(pem / "absent.pem")
        paths: list[object] = [absent, text, 7, ""]
        bad: list[tuple[dict[str, object], str]] = [
            *(({name: path}, name) for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile") for path in paths),
            ({"ssl_ca_data": "nonsense"}, "ssl_ca_data"),
            ({"ssl_certfile": str(pem / "client.pem"), "ssl_keyfile": str(pem / "other.pem")}, "ssl_certfile"),
            ({"ssl_keyfile": str(pem / "key.pem")}, "ssl_certfile"),
            ({"ssl_password": "x"}, "ssl_certfile"),
            ({"ssl_ciphers": "none"}, "ssl_ciphers"),
            ({"ssl_min_version": "1.0"}, "ssl_min_version"),
            ({"ssl_exclude_verify_flags": "STRICT"}, "ssl_exclude_verify_flags"),
        ]
        for values, name in bad:
            for load in ways("rediss", **values):
                told = refusal(load)
                assert name in told, values
                assert ": use " in told or ": give " in told, told

    def test_sentinels_are_spoken_to_as_the_servers_are(self) -> None:
        for url, servers, sentinels in [
            ("redis+sentinel://h/main", None, None),
            ("redis+sentinel://h/main?ssl=yes", True, True),
            ("rediss+sentinel://h/main", True, True),
            ("rediss+sentinel://h/main?sentinel_ssl=no", True, False),
            ("redis+sentinel://h/main?sentinel_ssl=on", False, True),
        ]:
            instance = parse_instance(url)
            assert instance.settings.get("ssl") is servers, url
            assert instance.settings.get("sentinel_ssl") is sentinels, url
            assert parse_instance(instance) is instance
        for value in ("ja", "", "2"):
            url = f"redis+sentinel://h/main?sentinel_ssl={value}"
            assert "sentinel_ssl" in refused(url)


class TestAddresses:
    """fault-D5. gnocchi#1374: IPv6 and spaces among the hosts of Sentinels."""

    @pytest.mark.parametrize(
        ("url", "hosts"),
        [
            ("redis+sentinel://[::1]:26379/main", [("::1", 26379)]),
            ("redis+sentinel://[::1]/main/0", [("::1", 26379)]),
            ("redis+sentinel://[::1]:1,[fe80::2%25eth0]:2,h/main", [("::1", 1), ("fe80::2%eth0", 2), ("h", 26379)]),
            ("redis+sentinel://h1:1, h2:2 ,h3/main", [("h1", 1), ("h2", 2), ("h3", 26379)]),
            ("  redis+sentinel://u:p@h1:1,h2:2/main\n", [("h1", 1), ("h2", 2)]),
            ("redis+sentinel://sentinel_1:1,10.0.0.1:2/main/", [("sentinel_1", 1), ("10.0.0.1", 2)]),
        ],
    )
    def test_sentinels(self, url: str, hosts: list[tuple[str, int]]) -> None:
        assert parse_instance(url).settings["sentinels"] == hosts
        [instance] = load_options(None, environment={"INTERVAL_SCHEDULER_INSTANCES": f"a={url.strip()}\n"}).instances
        assert instance.settings["sentinels"] == hosts

    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("redis+sentinel://h1,h2,/main", "host of Sentinel 3 is missing"),
            ("redis+sentinel://h1,,h2/main", "host of Sentinel 2 is missing"),
            ("redis+sentinel://,/main", "host of Sentinel 1 is missing"),
            ("redis+sentinel:///main", "needs hosts"),
            ("redis+sentinel://h1", "name of a service"),
            ("redis+sentinel://h1,h2/", "name of a service"),
            ("redis+sentinel://h1:1,H1:1/main", "Sentinel 2 is there twice"),
            ("redis+sentinel://h1,h1:26379/main", "Sentinel 2 is there twice"),
            ("redis+sentinel://h1:0,h2/main", "port of Sentinel 1"),
            ("redis+sentinel://h1,h2:65536/main", "port of Sentinel 2"),
            ("redis+sentinel://h1,h2:x/main", "port of Sentinel 2"),
            ("redis+sentinel://h1,h2:/main", "port of Sentinel 2"),
            ("redis+sentinel://h1:²/main", "port"),
            ("redis+sentinel://::1:26379/main", "in brackets"),
            ("redis+sentinel://[::1/main", "in brackets"),
            ("redis+sentinel://[::g]:1/main", "no IPv6 address"),
            ("redis+sentinel://[h]:1/main", "no IPv6 address"),
            ("redis+sentinel://[::1]x:1/main", "in brackets"),
            ("redis+sentinel://h 1/main", "characters that no host has"),
            ("redis+sentinel://h1/main/0/1", "db"),
            ("redis+sentinel://h1/main/x", "db"),
            ("redis+sentinel://h1/main/0?db=1", "twice"),
            ("redis://[::g]", "no IPv6 address"),
            ("redis://::1:6379", "in brackets"),
            ("redis://fe80::1", "in brackets"),
            ("redis://h:", "port"),
            ("redis://h:+1", "port"),
            ("redis://h:1_0", "port"),
            ("redis://:6379", "host is missing"),
            ("redis://u:p@", "host is missing"),
            ("redis://u:p@:6379", "host is missing"),
            ("redis://h,i:1", "several hosts"),
            ("redis://h/0?db=1", "twice"),
            ("redis://h/0/1", "db"),
            ("redis://h/-1", "db"),
            ("redis://h?db=1&db=2", "twice"),
            ("redis://u:p@h?username=u", "twice"),
            ("unix://run/redis.sock", "three slashes"),
            ("unix://h:1/run/redis.sock", "three slashes"),
            ("unix://u:p@/q@/run/redis.sock", "an @ behind the first /"),
            ("memory://u:p@h", "no login"),
            ("memory://x?password=p", "no login"),
            ("embedded://./data?db=1", "no options"),
        ],
    )
    def test_what_is_no_address_is_refused(self, url: str, told: str) -> None:
        assert told in refused(url)

    @pytest.mark.parametrize(
        ("given", "host", "name"),
        [
            ("redis://[::1]:7000/1", "::1", "[::1]:7000/1"),
            ({"host": "::1", "port": 7000, "db": 1}, "::1", "[::1]:7000/1"),
            ({"host": "[::1]", "port": "7000", "db": "1"}, "::1", "[::1]:7000/1"),
            ("redis://u:p@ h :7000/1", "h", "h:7000/1"),
            ({"host": " h ", "port": 7000, "db": 1}, "h", "h:7000/1"),
            ("REDIS://H:7000/1/", "h", "h:7000/1"),
            ("redis://xn--bcher-kva.example:7000/1", "xn--bcher-kva.example", "xn--bcher-kva.example:7000/1"),
            ("redis:///1", "localhost", "localhost:6379/1"),
        ],
    )
    def test_plain_instances(self, given: Any, host: str, name: str) -> None:
        instance = parse_instance(given)
        assert (instance.settings["host"], instance.name) == (host, name)
        assert parse_instance(instance) is instance

    @pytest.mark.parametrize("host", ["h:1", "redis://h", "u:p@h", "h/0", "", " ", "[h]", "::1:x", None, 7])
    def test_hosts_that_are_none(self, host: object) -> None:
        assert "host" in refused({"host": host})

    @pytest.mark.parametrize(
        "instances",
        [
            [{"url": "redis://h", "name": "a"}, {"url": "redis://H:6379/0", "name": "b"}],
            [{"url": "rediss://u:p@h:1", "name": "a"}, {"host": "h", "port": 1, "name": "b"}],
            [{"url": "redis+sentinel://h,i/main", "name": "a"}, {"url": "redis+sentinel://i,h/main", "name": "b"}],
            [{"url": "unix:///s", "name": "a"}, {"url": "unix:///s?db=0", "name": "b"}],
        ],
    )
    def test_one_address_under_two_names(self, instances: Any) -> None:
        assert "same address" in refusal(lambda: load_options(instances, environment={}))


class TestPasswords:
    """fault-D4. celery-once#135: passwords that were not quoted led to another host, or were shown."""

    @pytest.mark.parametrize(
        ("url", "password"),
        [
            ("redis://u:p%40ss@h:1", "p@ss"),
            ("redis://u:p@ss@h:1", "p@ss"),
            ("redis://u:a:b@h:1", "a:b"),
            ("redis://u:a+b@h:1", "a+b"),
            ("redis://:a,b@h:1", "a,b"),
            ("redis://u:%23%2F%3F%40%25%20@h:1", "#/?@% "),
            ("redis://h:1?password=a+b%26c=d", "a+b&c=d"),
            ("redis://u:gr%C3%BC%C3%9Fe@h:1", "grüße"),
            ("redis://u:grüße@h:1", "grüße"),
            ("redis://h:1?password=", None),
            ("redis://:@h:1", None),
        ],
    )
    def test_a_password_is_taken_exactly(self, url: str, password: str | None) -> None:
        instance = parse_instance(url)
        assert instance.settings.get("password") == password
        assert (instance.settings["host"], instance.settings["port"]) == ("h", 1)
        assert instance.name == "h:1/0"

    @pytest.mark.parametrize(
        "given",
        [
            {"password": b"SECRETpw"}, {"password": 12345678}, {"password": ["SECRETpw"]}, {"SECRETpw@h": 1},
            {"host": "redis://u:SECRETpw@h"}, {"port": "SECRETpw"}, {"db": "SECRETpw"}, {"name": "redis://u:SECRETpw@h"},
            {"url": "redis://h", "name": ["SECRETpw"]}, {"url": ["SECRETpw"]}, {"weight": "SECRETpw"}, {7: "SECRETpw"},
            {"host": "h", "ssl": "SECRETpw"}, {"host": "h", "ssl": True, "ssl_ca_certs": "SECRETpw"},
            {"host": "h", "ssl": True, "ssl_certfile": "SECRETpw", "ssl_password": "SECRETpw"},
        ],
        ids=str,
    )  # fmt: skip
    def test_nothing_of_a_wrong_mapping_is_shown(self, given: Any) -> None:
        told = refused(given)
        assert "SECRET" not in told
        assert "12345678" not in told

    def test_nothing_of_a_url_in_the_wrong_place_is_shown(self) -> None:
        url = "redis://u:SECRETpw@h"
        places: list[dict[str, Any]] = [
            {"overrides": {"namespace": url}}, {"given": {url: 1}}, {"given": {"storage": {url: 1}}},
            {"overrides": {"evicting_servers": url}}, {"overrides": {"partitions": url}}, {"given": {"storage": url}},
            {"environment": {"INTERVAL_SCHEDULER_NAMESPACE": url}},
        ]  # fmt: skip
        for place in places:
            assert "SECRET" not in refusal(partial(load_options, **{"environment": {}, **place}))


SCHEMES = [
    "redis", "rediss", "valkey", "valkeys", "redis+sentinel", "rediss+sentinel", "unix", "embedded", "memory",
    "redis+cluster", "http", "",
]  # fmt: skip
# No message of ours has these letters, so that four of them in a row can only come from the secret.
SECRETS = st.text("QXZJ7", min_size=4, max_size=6)
JUNK = st.text("#/?@%&=+:[], ;\\\x00\n²é", max_size=4)
WRAPS = [
    "{s}://u:{p}@h:1", "{s}://:{p}@h", "{s}://{p}@h:1/0", "{s}://{p}", "{s}:{p}@h:1", "u:{p}@h:1", "{p}", "//u:{p}@h",
    "{s}://h?password={p}", "{s}://h:1/0?password={p}&db=x", "{s}://h/{p}", "{s}://h:{p}", "{s}://u:{p}@[::g]",
    "{s}://u:{p}@h:99999", "{s}://u:{p}@", "{s}://h?{p}", "{s}://h?{p}=1", "{s}://h?sentinel_password={p}", "{p}://h",
    "{s}://h,i:{p}/main/0", "{s}:///run/{p}", "{s}:/u:{p}@h", "u:{p}={s}://h", "{s}://u:{p}@/x", "{s}://u:{p}@h1,h2/x/y",
    "{s}://h?ssl={p}", "{s}://h?ssl_ca_certs={p}", "{s}://h?ssl_password={p}", "{s}://{p}:1",
]  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(SCHEMES), st.sampled_from(WRAPS), SECRETS, JUNK, SECRETS, JUNK, st.integers(0, 3))
def test_fault_d4_no_part_of_a_malformed_url_is_shown(
    scheme: str, wrap: str, one: str, junk: str, two: str, more: str, way: int
) -> None:
    secret = f"{one}{junk}{two}{more}"
    url = wrap.format(s=scheme, p=secret)
    caught = None
    try:
        if way == 0:
            options = load_options([url], environment={})
        elif way == 1:
            options = load_options([{"url": url, "name": "one"}], environment={})
        elif way == 2:
            options = load_options(None, environment={"INTERVAL_SCHEDULER_INSTANCES": url})
        else:
            options = load_options({"storage": {"instances": [url, "memory://other"]}}, environment={})
    except InvalidOptions as error:
        caught = error
    if caught is not None:
        shown = "".join(traceback.format_exception(caught, limit=0)) + repr(caught) + repr(caught.problems)
        assert caught.__cause__ is None
        assert caught.__context__ is None
        assert_hidden(shown, one, two)
        return
    instance = options.instances[0]
    if "@" in secret and wrap in ("{s}://h:{p}", "{s}://{p}", "{p}", "{s}://{p}:1"):
        return  # a login and a host, as far as anybody can see
    if instance.settings.get("password") or instance.settings.get("sentinel_password"):
        # It was understood: then the secret is the whole password, and in nothing else.
        assert_hidden(f"{instance!r} {options!r} {instance.name}", one, two)
        assert instance.settings.get("host", "h") in ("h", "h1")


def assert_hidden(shown: str, *secrets: str) -> None:
    shown = shown.upper()
    for secret in secrets:
        for start in range(len(secret) - 3):
            assert secret[start : start + 4] not in shown


def test_nothing_of_a_wrong_url_is_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(InvalidOptions):
        Scheduler("redis://u:QXZ#QXZ@h:1")
    assert "QXZ" not in caplog.text + "".join(capfd.readouterr())
