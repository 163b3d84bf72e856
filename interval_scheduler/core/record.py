r"""The stored record of a task: an ASCII header, which belongs to the scripts, then a msgpack body, which does not.

Header: ``<state><due>,<revision>,<token>,<slot>,<attempt>,<strikes>,<flags>,<follow>\n``. Empty fields at the end are
left out, so that a waiting task on its grid costs only ``s<due>,<revision>``. ``lua/lib/record.lua`` is the same
format in Lua; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..model.errors import CorruptRecord

SCHEDULED, RETRYING, RUNNING = "s", "w", "r"

EXTRA = "x"
"""This is an extra run (``run_task_now``). After it the pending occurrence comes, at the time in `follow`; its slot is
the one in the header."""
RUN_NOW = "n"
"""An extra run was asked for while this run was live: it comes after the run."""
UNCONFIRMED = "c"
"""The handler returned under ``confirm="manual"``; the run is not confirmed yet."""
UNCONFIRMED_LAPSE = "u"
"""The lease of an unconfirmed run lapsed: this claim is the next attempt, if one is left."""
CONFIRMED = "k"
"""The run was confirmed: it is done, whatever its handler does from now on."""


# Not frozen: a worker makes one for every run, and that would take three times as long. Nobody changes one.
@dataclass(slots=True)
class Header:
    """One parsed header. Times are ms; `token` is 0 where the task is not running."""

    state: str
    due: int
    revision: str
    token: int = 0
    slot: int = -1
    attempt: int = 0
    strikes: int = 0
    flags: str = ""
    follow: str = ""
    """What was asked to follow the live run. Written while the task runs, read when the run is settled:

    - "=ms": the task was assigned again with this first time (``execute_on``);
    - "~ms": the task was assigned again without a first time; the time counts only for a task that does not recur;
    - ">ms": the pending occurrence was moved to this time (``reschedule_task``);
    - "ms" in an extra run: when the pending occurrence is due, which the extra run came before;
    - "": nothing was asked for."""

    @property
    def grid(self) -> int:
        """The slot on the grid: the due time, unless the occurrence was moved or has a jitter."""
        return self.due if self.slot < 0 else self.slot

    def encode(self) -> bytes:
        head = f"{self.state}{self.due},{self.revision}"
        slot = "" if self.slot < 0 or self.slot == self.due else self.slot
        if not (self.token or slot != "" or self.attempt or self.strikes or self.flags or self.follow):
            return head.encode()
        fields = (self.token or "", slot, self.attempt or "", self.strikes or "", self.flags, self.follow)
        return f"{head},{','.join(map(str, fields))}".rstrip(",").encode()

    def moved(self, **changes: object) -> Header:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


def parse_header(raw: bytes) -> Header:
    """A header, without its newline, as a value.

    Raises:
        CorruptRecord: where this version cannot read it.
    """
    try:
        fields = raw.decode().split(",")
        if len(fields) == 3:
            # A first run on its grid: nearly all records.
            return Header(fields[0][0], int(fields[0][1:]), fields[1], int(fields[2] or 0))
        fields += [""] * (8 - len(fields))
        head, revision, token, slot, attempt, strikes, flags, follow = fields
        return Header(
            head[0],
            int(head[1:]),
            revision,
            int(token or 0),
            int(slot or -1),
            int(attempt or 0),
            int(strikes or 0),
            flags,
            follow,
        )
    except (ValueError, IndexError) as problem:
        raise CorruptRecord(f"a stored header cannot be read ({problem}); nothing was changed") from problem


def split_record(record: bytes) -> tuple[bytes, bytes]:
    """Header bytes and body bytes of a record."""
    header, _, body = record.partition(b"\n")
    return header, body
