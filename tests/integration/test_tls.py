"""Over TLS everything works as without: calls, streams, workers, and what a broken connection does to them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from interval_scheduler import PartitionUnavailable, UnusableInstance
from interval_scheduler.doctor import diagnose
from tests.integration.conftest import Make, scheduler_of
from tests.servers import Binary, RedisServer, _die_with_parent, free_port
from tests.tasks import Job, Recorder, Uniform, after, eventually
from tests.waiting import comes_true


@pytest.fixture
def secure(server_binary: Binary, tmp_path: Path) -> Iterator[tuple[RedisServer, str]]:
    """A server that speaks TLS, and its URL."""
    # It stops at the first setting that it does not know, and names it.
    settings = "tls-port 0\nno-such-setting 0\n"
    refusal = subprocess.run(
        [server_binary.path, "-"],
        input=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=10,
    ).stdout
    assert "no-such-setting 0" in refusal or "tls-port 0" in refusal, refusal
    if "no-such-setting 0" not in refusal:
        pytest.skip(f"{server_binary} was built without TLS")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    port = free_port()
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    authority.issue_cert(
        "127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC)
    ).private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "expired.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    options = {
        "tls-port": str(port),
        "tls-cert-file": str(tmp_path / "server.pem"),
        "tls-key-file": str(tmp_path / "server.pem"),
        "tls-ca-cert-file": str(tmp_path / "ca.pem"),
        "tls-auth-clients": "no",
        "appendonly": "yes",
    }
    server = RedisServer(server_binary, options)
    yield server, f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}"
    server.stop()


@pytest.fixture
async def scheduler(secure: tuple[RedisServer, str], make: Make) -> Uniform:
    made = make(storage={"instances": [{"url": secure[1], "name": "secure"}]}, partitions=4)
    await made.start_task_accept()
    return made


async def test_tasks_are_assigned_read_and_run(scheduler: Uniform) -> None:
    payload = "x" * 30_000  # more than one record of TLS
    assert await scheduler.assign_task(Job("one", after(3600), payload=payload)) is True
    result = await scheduler.assign_tasks(Job(f"{number}", after(3600), payload=payload) for number in range(200))
    assert result.created == 200
    found = await scheduler.peek_task("199")
    assert found.payload == payload
    recorder = Recorder(coroutine=True)
    await scheduler.start_task_execute(recorder.handler)
    await scheduler.assign_tasks(Job(f"due {number}", after(0.2)) for number in range(300))
    await eventually(lambda: len(recorder.calls) == 300)
    await scheduler.stop_task_execute()
    assert await scheduler.task_size() == 201


async def test_a_server_that_was_restarted_is_spoken_to_again(
    scheduler: Uniform, secure: tuple[RedisServer, str]
) -> None:
    await scheduler.assign_task(Job("before", after(3600)))
    secure[0].restart()
    assert await scheduler.assign_task(Job("after", after(3600))) is True
    assert await scheduler.is_scheduled("before")


@pytest.fixture
def tls_port(secure: tuple[RedisServer, str]) -> int:
    return int(secure[0].options["tls-port"])


async def use(flavour: str, instance: Any) -> None:
    """Connects once. The server takes TLS only, so that it worked means that TLS is used."""
    scheduler = scheduler_of(flavour, instance)
    try:
        await scheduler.start_task_accept()
        await scheduler.clear_all_tasks()
    finally:
        await scheduler.close()


@pytest.mark.parametrize("ssl", [True, 1, "1", "true", "TRUE", "yes", "on"], ids=repr)
async def test_fault_d3_every_spelling_of_ssl_uses_tls(
    flavour: str, tls_port: int, tmp_path: Path, ssl: object
) -> None:
    """redis-rb#839."""
    ca = tmp_path / "ca.pem"
    await use(flavour, {"host": "127.0.0.1", "port": tls_port, "ssl": ssl, "ssl_ca_certs": ca})
    await use(flavour, f"rediss://127.0.0.1:{tls_port}?ssl={ssl}&ssl_ca_certs={ca}")


@pytest.mark.parametrize(
    ("query", "works"),
    [
        ("ssl_ca_certs={ca}", False),  # the certificate is for 127.0.0.1
        *((f"ssl_ca_certs={{ca}}&ssl_check_hostname={no}", True) for no in ("false", "False", "no", "off", "0")),
        *((f"ssl_ca_certs={{ca}}&ssl_check_hostname={yes}", False) for yes in ("true", "yes", "on", "1")),
        ("ssl_ca_certs={other}&ssl_check_hostname=false", False),
        ("ssl_cert_reqs=required&ssl_check_hostname=false", False),
        ("ssl_cert_reqs=optional&ssl_check_hostname=false", False),
        ("ssl_cert_reqs=none", True),
        ("ssl_cert_reqs=CERT_NONE&ssl_check_hostname=off", True),
        ("ssl_ca_certs={ca}&ssl_check_hostname=false&ssl_min_version=TLSv1.3", True),
    ],
)
async def test_fault_d3_what_is_verified_is_what_was_said(
    flavour: str, tls_port: int, tmp_path: Path, query: str, works: bool
) -> None:
    """kombu#2210: ``ssl_check_hostname=false`` in a URL had no effect."""
    query = query.format(ca=tmp_path / "ca.pem", other=tmp_path / "other.pem")
    url = f"rediss://localhost:{tls_port}?{query}"
    values = dict(part.split("=") for part in query.split("&"))
    for instance in (url, {"host": "localhost", "port": tls_port, "ssl": True, **values}):
        if works:
            await use(flavour, instance)
        else:
            with pytest.raises(UnusableInstance, match="certificate verify failed"):
                await use(flavour, instance)


@pytest.mark.parametrize(
    ("address", "query", "fix"),
    [
        ("rediss://localhost", "ssl_ca_certs={folder}/ca.pem", "a host name that the certificate is for"),
        ("rediss://127.0.0.1", "ssl_ca_certs={folder}/other.pem", "name the authority .* by ssl_ca_certs"),
        ("rediss://127.0.0.1", "", "name the authority .* by ssl_ca_certs"),
        ("redis://127.0.0.1", "", "use rediss://"),
        ("redis://u:SECRET@127.0.0.1", "db=1", "use rediss://"),
    ],
)
async def test_fault_d6_what_is_wrong_about_tls_is_told(
    flavour: str, tls_port: int, tmp_path: Path, address: str, query: str, fix: str
) -> None:
    url = f"{address}:{tls_port}?{query.format(folder=tmp_path)}"
    await is_told(flavour, url, fix)


async def test_fault_d6_tls_to_a_port_without(flavour: str, redis_servers: list[RedisServer]) -> None:
    await is_told(
        flavour, redis_servers[0].url.replace("redis://", "rediss://u:SECRET@"), "use the port for TLS, or redis://"
    )


@pytest.mark.parametrize("change", ["tls-auth-clients yes", "tls-cert-file expired.pem"])
async def test_fault_d6_what_the_server_wants_is_told(
    flavour: str, secure: tuple[RedisServer, str], tmp_path: Path, change: str
) -> None:
    server, url = secure
    name, value = change.split()
    server.options[name] = str(tmp_path / value) if value.endswith(".pem") else value
    if name == "tls-cert-file":
        server.options["tls-key-file"] = server.options[name]
    server.restart()
    if name == "tls-cert-file":
        await is_told(flavour, url, "renew the certificate")
        return
    await is_told(flavour, url, "give ssl_certfile")
    await use(flavour, f"{url}&ssl_certfile={tmp_path / 'client.pem'}")


async def is_told(flavour: str, url: str, fix: str) -> None:
    scheduler = scheduler_of(flavour, {"url": url, "name": "one"})
    with pytest.raises(UnusableInstance, match=f"'one' is unavailable: .*{fix}.*waiting does not help") as caught:
        await scheduler.start_task_accept()
    assert caught.value.instance == "one"
    assert not caught.value.unknown_outcome
    assert "SECRET" not in repr(caught.value)
    await scheduler.close()
    [finding] = diagnose([{"url": url, "name": "one"}])[:1]
    assert (finding.level, finding.check, finding.instance) == ("error", "reachable", "one")
    assert finding.fix == caught.value.remedy


async def test_a_server_with_tls_that_is_away_is_an_outage(flavour: str, secure: tuple[RedisServer, str]) -> None:
    server, url = secure
    server.kill()
    scheduler = scheduler_of(flavour, url)
    with pytest.raises(PartitionUnavailable, match="when the instance is back") as caught:
        await scheduler.start_task_accept()
    assert not isinstance(caught.value, UnusableInstance)
    await scheduler.close()


async def test_sentinels_over_tls(flavour: str, secure: tuple[RedisServer, str], tmp_path: Path) -> None:
    """Sentinels were always spoken to plainly, also with their password."""
    server, _ = secure
    port, ca = free_port(), tmp_path / "ca.pem"
    configuration = tmp_path / "sentinel.conf"
    files = "".join(
        f"{name} {server.options[name]}\n" for name in ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")
    )
    configuration.write_text(
        f"port 0\ntls-port {port}\ntls-replication yes\ntls-auth-clients no\n{files}dir {tmp_path}\n"
        f"sentinel monitor primary 127.0.0.1 {server.options['tls-port']} 1\n"
    )
    process = subprocess.Popen(
        [server.binary.path, str(configuration), "--sentinel"], stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent
    )
    try:
        assert comes_true(lambda: _answers(port, ca), 10)
        query = f"ssl_ca_certs={ca}"
        await use(flavour, f"rediss+sentinel://127.0.0.1:{port}/primary?{query}")
        await use(flavour, f"redis+sentinel://127.0.0.1:{port}/primary?ssl=on&{query}")
        with pytest.raises(UnusableInstance, match="use rediss://"):
            await use(flavour, f"rediss+sentinel://127.0.0.1:{port}/primary?sentinel_ssl=off&{query}")
        with pytest.raises(UnusableInstance, match="use rediss://"):
            await use(flavour, f"redis+sentinel://127.0.0.1:{port}/primary")
    finally:
        process.kill()
        process.wait()


def _answers(port: int, ca: Path) -> bool:
    with redis.Redis(port=port, ssl=True, host="127.0.0.1", ssl_ca_certs=str(ca)) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
