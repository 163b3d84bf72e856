"""One-off timers with confirmation, in the manner of dtimer: post, peek, change the delay, cancel, confirm."""

from __future__ import annotations

import asyncio
from typing import Any

from users import urls

from interval_scheduler import AsyncScheduler, current_execution


async def main() -> None:
    confirmed = asyncio.Event()
    async with AsyncScheduler(urls(), lease_seconds=0.5) as scheduler:
        await scheduler.start_task_accept()

        async def on_event(payload: Any) -> None:
            attempt = current_execution().attempt
            print(f"event {payload['msg']!r}, attempt {attempt}")
            if attempt == 2:  # the first one stays unconfirmed, and comes again when its lease has ended
                print("confirmed:", await scheduler.confirm_task("my-id"))
                confirmed.set()

        await scheduler.start_task_execute(on_event, confirm="manual")
        print("posted", await scheduler.post({"msg": "hello"}, delay=60, id="my-id", max_retries=3))
        await scheduler.post({"msg": "never"}, delay=60, id="other")
        timer = await scheduler.peek_task("my-id")
        assert timer is not None
        print("due in a minute:", 50 < timer.time_left <= 60)
        print("upcoming:", [task.id async for task in scheduler.upcoming()])
        print("moved:", await scheduler.reschedule_task("my-id", delay=0.2))
        print("cancelled:", await scheduler.remove_task("other"), "again:", await scheduler.remove_task("other"))
        await asyncio.wait_for(confirmed.wait(), 20)
    print("done")


asyncio.run(main())
