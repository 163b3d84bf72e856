"""Which names are misspelt members of a task. Plausible words that look like one are left alone.

A name is misspelt where only case and underscores differ (``time_out``, ``executeOn``), and where a slip of the pen
leads from a member to it: one for members of 8 letters or more, two for those of 12 or more. Short members are next to
too many words (``jitter`` to ``litter``): only a letter left out or two letters swapped count there. Endings make
another word of a member (``timeouts``, ``serializer``).
"""

from __future__ import annotations

from functools import lru_cache

MEMBERS = (
    "id",
    "serialize",
    "execute_on",
    "reschedule_interval",
    "retry",
    "timeout",
    "misfire",
    "misfire_limit",
    "delivery",
    "jitter",
)
_WORDS = frozenset(
    {"deliver", "delivers", "executed_on", "executes_on", "execute_one", "execution", "schedule_interval"}
)
"""One slip away from a member, but words of their own."""
_ENDINGS = ("s", "es", "d", "ed", "r", "er", "rs", "ers", "ing", "able")


@lru_cache(maxsize=4096)
def meant(name: str) -> str | None:
    """The member that a name is meant to be; None for members themselves, and for other words."""
    # Capitals are constants and classes, as in timeout = TIMEOUT.
    if name in MEMBERS or name in _WORDS or not name[:1].islower():
        return None
    plain = name.replace("_", "").lower()
    for member in MEMBERS:
        if plain == member.replace("_", "") and member != "id":
            return member
    return next((member for member in MEMBERS if _is_near(name.lower(), member)), None)


def _is_near(name: str, member: str) -> bool:
    if name.startswith(member) and name[len(member) :] in _ENDINGS:
        return False
    if len(member) >= 8:
        return _slips(name, member, 2 if len(member) >= 12 else 1)
    if len(member) < 6 or not 0 <= len(member) - len(name) <= 1:
        return False
    without_one = (member[:place] + member[place + 1 :] for place in range(1, len(member) - 1))
    swapped = (
        member[:place] + member[place + 1] + member[place] + member[place + 2 :] for place in range(len(member) - 1)
    )
    return name in without_one or name in swapped


def _slips(name: str, member: str, most: int) -> bool:
    """Whether at most so many letters were left out, added, exchanged, or swapped with their neighbour."""
    if abs(len(name) - len(member)) > most:
        return False
    before: list[int] = []
    row = list(range(len(member) + 1))
    for i, letter in enumerate(name, 1):
        following = [i]
        for j, other in enumerate(member, 1):
            cost = min(row[j] + 1, following[-1] + 1, row[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == member[j - 2] and name[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            following.append(cost)
        before, row = row, following
    return row[-1] <= most
