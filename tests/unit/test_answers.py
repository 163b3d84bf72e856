"""How the transports read what a server answers."""

from __future__ import annotations

import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from interval_scheduler.transport.replies import come_from_replica

FROM_A_SCRIPT = "Error running script (call to f_51): @user_script:46: @user_script: 46: -READONLY You can't write"


@pytest.mark.parametrize(
    ("error", "wants"),
    [
        (ReadOnlyError("You can't write against a read only replica."), True),
        (ResponseError(FROM_A_SCRIPT), True),
        (ResponseError(FROM_A_SCRIPT.replace("READONLY", "OOM")), False),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), False),
    ],
    ids=["7.0", "6.2", "6.2, another error", "another error"],
)
def test_a_read_only_replica_is_left(error: Exception, wants: bool) -> None:
    """docket#440: stayed on a read-only replica. Redis 6.2 hides the error of a command in that of its script."""
    assert come_from_replica([[b"ok"], error]) is wants
    assert not come_from_replica([[b"ok"]])
