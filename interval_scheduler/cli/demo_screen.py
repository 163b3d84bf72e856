"""The live picture of the demo, drawn with rich."""

from __future__ import annotations

from types import TracebackType

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .demo_ledger import ON_TIME_MS, RECURRING, RUN_SECONDS, Ledger

_COLUMNS = 60


class LiveScreen:
    """Draws tasks as lines of dots over time, the workers, and the figures so far."""

    def __init__(self) -> None:
        self._live = Live(refresh_per_second=10)

    def __enter__(self) -> LiveScreen:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, ledger: Ledger, start: float, now: float) -> None:
        self._live.update(
            Panel(
                Group(_timeline(ledger, start, now), Text(), _figures(ledger, now)),
                title="[bold]interval_scheduler[/bold]",
                subtitle=_clock(start, now),
                width=92,
                border_style="cyan",
            )
        )


def _clock(start: float, now: float) -> str:
    if now < start:
        return f"starts in {start - now:.0f} s"
    return f"{min(now - start, RUN_SECONDS):.0f} of {RUN_SECONDS:.0f} s"


def _timeline(ledger: Ledger, start: float, now: float) -> Table:
    table = Table.grid(padding=(0, 2))
    repeated = set(ledger.interrupted())
    for name in (*RECURRING, "one-offs"):
        cells: list[tuple[str, str]] = [(" ", "")] * _COLUMNS
        keys = sorted((key for key in ledger.expected if _belongs(key[0], name)), key=lambda key: key[1])
        for key in keys:
            column = min(_COLUMNS - 1, max(0, int((key[1] / 1000 - start) / RUN_SECONDS * _COLUMNS)))
            cells[column] = _worse(cells[column], _dot(ledger, key, repeated, now))
        if ledger.killed:
            column = min(_COLUMNS - 1, int((ledger.killed_at - start) / RUN_SECONDS * _COLUMNS))
            if cells[column][0] == " ":
                cells[column] = ("│", "red")
        line = Text()
        for symbol, style in cells:
            line.append(symbol, style)
        every = f"every {RECURRING[name]:g} s" if name in RECURRING else "once each"
        table.add_row(Text(name, "bold"), Text(every, "dim"), line)
    return table


def _belongs(task_id: str, row: str) -> bool:
    return task_id == row or (row == "one-offs" and task_id.startswith("one-off "))


def _dot(ledger: Ledger, key: tuple[str, int], repeated: set[tuple[str, int]], now: float) -> tuple[str, str]:
    if key in repeated:
        return "◆", "yellow"
    if ledger.done(key):
        return "●", "green"
    if key[1] / 1000 > now:
        return "·", "bright_black"
    return "○", "red" if now - key[1] / 1000 > ON_TIME_MS / 1000 else "white"


def _worse(old: tuple[str, str], new: tuple[str, str]) -> tuple[str, str]:
    order = " ●·○◆"
    return new if order.index(new[0]) >= order.index(old[0]) else old


def _figures(ledger: Ledger, now: float) -> RenderableType:
    late = ledger.lateness()
    table = Table.grid(padding=(0, 3))
    for worker in ("worker 1", "worker 2"):
        alive = Text("killed with SIGKILL", "bold red") if ledger.killed == worker else Text("running", "green")
        table.add_row(Text(worker, "bold"), alive, Text(f"{ledger.by_worker(worker)} runs"))
    ran = sum(ledger.done(key) for key in ledger.expected)
    table.add_row(Text("due / ran", "bold"), Text(f"{ledger.due_by(now)} / {ran}"), _late_text(late))
    legend = Text("● ran on time   ", "green")
    legend.append("◆ interrupted, repeated after its lease   ", "yellow")
    legend.append("○ due   · to come", "bright_black")
    return Group(table, Text(), legend)


def _late_text(late: list[float]) -> Text:
    if not late:
        return Text("")
    return Text(f"lateness p50 {late[len(late) // 2]:.1f} ms, worst {late[-1]:.1f} ms")
