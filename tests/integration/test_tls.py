"""Over TLS everything works as without: calls, streams, workers, and what a broken connection does to them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.integration.conftest import Make
from tests.servers import Binary, RedisServer, free_port
from tests.tasks import Job, Recorder, Uniform, after, eventually


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
