"""The handler of the scheduler: what happens when a task of the service comes due."""

from __future__ import annotations

import hashlib

from ..async_scheduler import AsyncScheduler
from ..worker.run import Execution, current_execution
from .settings import Settings
from .snapshot import FINISHED, snapshot_of, to_ms
from .stored import ExtraRun, Finished, RetentionSweep, Timer, TimerTask, decode, record_task
from .timers import now_ms, sweep
from .webhooks import Delivery, WebhookSender


class TimerHandler:
    """Delivers timers, keeps the records of finished ones, and deletes dead letters after their retention."""

    def __init__(self, scheduler: AsyncScheduler, settings: Settings, sender: WebhookSender) -> None:
        self._scheduler = scheduler
        self._settings = settings
        self._sender = sender

    async def handle(self, payload: object) -> None:
        """The scheduler calls this for every due task of the namespace.

        Raises:
            ForeignPayload, UnreadablePayload: only this task fails; a worker of another release may read it.
            RetryAfter, GiveUp, Postpone: as `WebhookSender.send` does.
        """
        execution = current_execution()
        stored = decode(payload)
        if isinstance(stored, Timer):
            await self._timer(stored, execution)
        elif isinstance(stored, Finished):
            # A cancelled timer: the process that cancelled it died before it moved the record to its last day.
            if to_ms(execution.due) < stored.forget:
                execution.continue_as(record_task(execution.id, stored))
        elif isinstance(stored, ExtraRun):
            await self._extra_run(stored, execution)
        elif isinstance(stored, RetentionSweep):
            await sweep(self._scheduler, self._settings)

    async def _timer(self, timer: Timer, execution: Execution) -> None:
        if timer.repeat is not None:
            webhook_id = _webhook_id(execution.id, timer.created, to_ms(execution.slot))
            # A timer that was moved is late by its new time.
            due = max(to_ms(execution.slot), timer.due or 0)
            await self._sender.send(_delivery(execution.id, timer, execution, webhook_id, due))
            return
        assert timer.due is not None, "only a cron timer has no due time"
        if timer.due > to_ms(execution.due):
            # The process that updated the timer died between its two writes: it is not due yet.
            task = TimerTask(execution.id, timer, timer.due / 1000, self._settings.retry)
            execution.continue_as(task)
            return
        webhook_id = _webhook_id(execution.id, timer.created, timer.nonce)
        await self._sender.send(_delivery(execution.id, timer, execution, webhook_id, timer.due))
        retention = self._settings.retention_seconds
        record = timer.end("completed", execution.attempt, None, now_ms(), retention)
        execution.continue_as(record_task(execution.id, record))

    async def _extra_run(self, extra: ExtraRun, execution: Execution) -> None:
        task = await self._scheduler.peek_task(extra.timer_id)
        found = None if task is None else snapshot_of(task)
        if found is None or found.status in FINISHED or not isinstance(found.stored, Timer):
            return  # deleted or cancelled since the run was asked for
        due = to_ms(execution.slot)
        webhook_id = _webhook_id(execution.id)
        await self._sender.send(_delivery(extra.timer_id, found.stored, execution, webhook_id, due))


def _delivery(timer_id: str, timer: Timer, execution: Execution, webhook_id: str, due: int) -> Delivery:
    return Delivery(timer_id, webhook_id, timer.url, timer.message, due, execution.attempt, execution.fencing_token)


def _webhook_id(*parts: object) -> str:
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()
    return f"msg_{digest}"
