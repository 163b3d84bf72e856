r"""The stored record of a task: an ASCII header, which belongs to the scripts, then a msgpack body, which does not.

Header: ``<state><due>,<revision>,<token>,<slot>,<attempt>,<strikes>,<flags>,<follow>\n``. Empty fields at the end are
left out, so that a waiting task on its grid costs only ``s<due>,<revision>``. ``lua/lib/record.lua`` is the same
format in Lua; a test holds the two together.
"""

from __future__ import annotations

import re
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
    rest: str = ""
    """The fields of a newer version, which are carried on."""

    @property
    def grid(self) -> int:
        """The slot on the grid: the due time, unless the occurrence was moved or has a jitter."""
        return self.due if self.slot < 0 else self.slot

    def encode(self) -> bytes:
        head = f"{self.state}{self.due},{self.revision}"
        slot = "" if self.slot < 0 or self.slot == self.due else self.slot
        if not (self.token or slot != "" or self.attempt or self.strikes or self.flags or self.follow or self.rest):
            return head.encode()
        fields = (self.token or "", slot, self.attempt or "", self.strikes or "", self.flags, self.follow, self.rest)
        return f"{head},{','.join(map(str, fields))}".rstrip(",").encode()

    def moved(self, **changes: object) -> Header:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


def parse_header(raw: bytes) -> Header:
    """A header, without its newline, as a value.

    Raises:
        CorruptRecord: where this version cannot read it.
    """
    found = _HEADER.fullmatch(raw)
    if found is None:
        raise CorruptRecord(f"a stored header cannot be read ({raw[:80]!r}); it was not changed")
    state, due, revision, token, slot, attempt, strikes, flags, follow, rest = found.groups()
    if slot is None:  # the first run of a task on its grid, as nearly all are
        return Header(state.decode(), int(due), revision.decode(), int(token or 0))
    header = Header(
        state.decode(),
        int(due),
        revision.decode(),
        int(token or 0),
        int(slot or -1),
        int(attempt or 0),
        int(strikes or 0),
        (flags or b"").decode(),
        (follow or b"").decode(),
        (rest or b"").decode(),
    )
    if (EXTRA in header.flags) != header.follow.isdecimal():
        raise CorruptRecord(f"a stored header contradicts itself ({raw[:80]!r}); it was not changed")
    return header


# Every field is bounded, and none can hold the comma that ends it: so it is read in one pass, without going back.
# `lua/lib/record.lua` reads the same. What follows the known fields belongs to a newer version, and is carried on.
_HEADER = re.compile(
    rb"([swr])(\d{1,15}),([!-+\--~]{1,64})"  # state and due, revision
    rb"(?:,(\d{0,16})(?:,(\d{0,15})(?:,(\d{0,9})(?:,(\d{0,9})"  # token, slot, attempt, strikes
    rb"(?:,([a-z]{0,16})(?:,([=~>]?\d{1,15}|)(?:,([ -~]{0,300}))?)?)?)?)?)?)?"  # flags, follow, the rest
)


def split_record(record: bytes) -> tuple[bytes, bytes]:
    """Header bytes and body bytes of a record."""
    header, _, body = record.partition(b"\n")
    return header, body
