"""What README and docs say is so: their programs run, their tables name what there is, their links lead somewhere."""

from __future__ import annotations

import inspect
import os
import re
import select
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import interval_scheduler
from interval_scheduler import (
    AsyncScheduler,
    Execution,
    Options,
    Retry,
    Scheduler,
    SchedulerError,
    StorageOptions,
    Task,
)
from interval_scheduler.model.events import EVENTS
from tests.servers import RedisServer
from tests.waiting import wait_for_signal_handler

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
README, REFERENCE = PAGES["README.md"], PAGES["docs/reference.md"]
PROGRAMS = [
    (page, code) for page, text in PAGES.items() for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
]
WHERE = ["README.md", "docs/reference.md", "docs/testing.md"]
"""The pages with a program, each of which is run below: the ten lines, asyncio, and virtual time."""
TEN_LINES, ASYNCIO, TESTING = (dict(PROGRAMS)[page] for page in WHERE)


def test_every_program_is_run() -> None:
    assert [page for page, _ in PROGRAMS] == WHERE


def section(title: str) -> str:
    """The text of the reference below a heading, up to the next one."""
    return REFERENCE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a table without its head."""
    lines = [line.replace(r"\|", "|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def first_line_then_sigterm(program: str, folder: Path, environment: dict[str, str]) -> tuple[str, int, str]:
    """The first line that a program prints, its exit code after SIGTERM, and its errors."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert select.select([process.stdout], [], [], 30)[0], "it printed nothing"
        line = process.stdout.readline()
        wait_for_signal_handler(process.pid)  # it may print before its main thread gets to `wait`
        process.send_signal(signal.SIGTERM)
        return line, process.wait(30), process.communicate()[1]
    finally:
        process.kill()
        process.communicate()


def test_the_ten_lines_run_on_a_private_server(tmp_path: Path, redis_servers: list[RedisServer]) -> None:
    for _ in range(2):  # "Running it twice updates the task, and its pending occurrence keeps its time"
        program = TEN_LINES.replace("reschedule_interval = 60", "reschedule_interval = 2")
        line, code, errors = first_line_then_sigterm(program, tmp_path, {"PATH": path_with(redis_servers, tmp_path)})
        assert (line, code, errors) == ("refreshing 1\n", 0, "")
    assert (tmp_path / "scheduler-data").is_dir()


def test_the_program_in_virtual_time_runs() -> None:
    program = TEN_LINES.split("with Scheduler")[0] + TESTING + "print(len(runs))"
    lines = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()
    assert lines[0].count("Occurrence(") == 6
    assert lines[-1] == str(6 * 60 + 1)


def path_with(servers: list[RedisServer], folder: Path) -> str:
    """A PATH on which the server of these tests is the first one."""
    link = folder / "bin" / "redis-server"
    if not link.exists():
        link.parent.mkdir()
        link.symlink_to(servers[0].binary.path)
    return os.pathsep.join([str(link.parent), os.environ["PATH"]])


def anchors(page: str) -> set[str]:
    """The anchors of a page, as GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.*)$", PAGES[page], re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path.resolve().relative_to(ROOT).as_posix()), link


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(README.splitlines()) <= 120
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    assert linked == {page for page in PAGES if re.fullmatch(r"docs/[\w-]+\.md", page)} - {"docs/releasing.md"}


def test_the_ten_lines_are_about_ten() -> None:
    code = [line for line in TEN_LINES.splitlines() if line.strip()]
    assert len(code) <= 15


def test_the_asyncio_program_runs(tmp_path: Path, redis_servers: list[RedisServer], namespace: str) -> None:
    task = TEN_LINES.split("\nwith ")[0]
    environment = {"INTERVAL_SCHEDULER_NAMESPACE": namespace, "INTERVAL_SCHEDULER_INSTANCES": redis_servers[0].url}
    line, code, errors = first_line_then_sigterm(task + ASYNCIO, tmp_path, environment)
    assert (line, code) == ("refreshing 1\n", 0)
    # The servers of the tests keep nothing, of which a scheduler warns.
    assert all("persistence" in error for error in errors.splitlines())
    with Scheduler(redis_servers[0].url, namespace=namespace) as scheduler:
        assert scheduler.clear_all_tasks() == 1


def test_the_options_table_is_complete_and_has_the_defaults() -> None:
    said = {names.strip("`"): default.replace(",", "").strip("`") for names, default, _ in rows(section("Options"))}
    assert said.pop("storage.instances") == "redis://localhost:6379/0"
    actual = {f"storage.{option.name}": option.default for option in fields(StorageOptions)}
    actual |= {option.name: option.default for option in fields(Options)}
    del actual["storage.instances"], actual["storage"]
    assert said == {
        name: f"{default:g}" if isinstance(default, float) else str(default) for name, default in actual.items()
    }


def test_the_task_table_is_complete_and_has_the_defaults() -> None:
    table = {names.strip("`"): (meaning, default.strip("`")) for names, meaning, default in rows(section("Tasks"))}
    members = {name for name in vars(Task) if not name.startswith("_") and name != "serialize"}
    assert set(table) == members | {"id", "serialize()"}
    for name in members - {"retry"}:
        value = getattr(Task, name)
        assert table[name][1] == (f'"{value}"' if isinstance(value, str) else str(value))
    meaning = table["retry"][0]
    assert eval(re.findall(r"`(Retry\(.*?\))`", meaning)[0], {"Retry": Retry}) == Retry()


@pytest.mark.parametrize("kind", [Scheduler, AsyncScheduler])
def test_the_methods_table_is_complete_and_has_the_signatures(kind: type) -> None:
    public = {name for name in dir(kind) if not name.startswith("_")}
    said = set()
    for cell, *_ in rows(section("Methods")):
        for text in re.findall(r"`([^`]+)`", cell):
            name, bracket, arguments = text.partition("(")
            said.add(name)
            if bracket:
                parameters = list(inspect.signature(getattr(kind, name)).parameters.values())[1:]
                actual = [
                    p.name if p.default is p.empty else f"{p.name}={p.default!r}".replace("'", '"') for p in parameters
                ]
                assert arguments.rstrip(")") == ", ".join(actual), name
    assert said - {"with"} == public


def test_the_events_table_is_complete_and_has_the_details() -> None:
    said = {
        event: re.findall(r"`(\w+)`", details)
        for names, _, details in rows(section("Events"))
        for event in re.findall(r"`([\w-]+)`", names)
    }
    assert said.keys() == EVENTS.keys()
    for event, details in said.items():
        arguments = EVENTS[event].partition(" called with ")[2]
        for name in set(details) - {"Event"}:
            assert re.search(rf"[(, ]{name}\b", arguments), (event, name)


def test_every_error_is_named() -> None:
    errors = {
        name
        for name in interval_scheduler.__all__
        if isinstance(thing := getattr(interval_scheduler, name), type) and issubclass(thing, SchedulerError)
    }
    named = set(re.findall(r"`(\w+)[`(]", section("Errors") + section("Handlers")))
    assert errors - {"SchedulerError"} <= named


def test_what_the_npm_table_names_exists() -> None:
    names: set[str] = set()
    for _, here in rows(PAGES["docs/migrating.md"]):
        names |= set(re.findall(r"`(?:storage\.)?(\w+)", here))
    for name in names - {"current_execution"}:
        assert any(hasattr(kind, name) for kind in (Scheduler, Options, StorageOptions, Task)), name
    assert "current_execution" in names


def test_what_a_handler_can_ask_is_named() -> None:
    text = section("Handlers")
    for name in dir(Execution):
        if not name.startswith("_"):
            assert f"`{name}" in text, name
