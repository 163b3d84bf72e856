"""The worker: claims what is due, runs handlers under leases, settles in batches.

One `Worker` runs on one event loop. For every instance it has a claimer and a settler, so that one that fails takes
only its own partitions down:

- `claimer` caches the next time of every partition (each claim and each hint tells it), sleeps until the first of them
  and claims, oldest partition first, no more than there are free slots;
- `handlers` runs coroutine functions on the loop and plain functions in threads;
- `settler` reports the ends of runs in batches, over reconnects, until they are accepted or refused;
- `leases` renews leases from a thread of its own, so that a handler that blocks the loop does not lose its lease;
- `roster` knows the other workers, and with them who wakes first for which partition: that one sleeps until the due
  time itself, the next one a little longer, the others only look every `check_tasks_every_seconds`.
"""
