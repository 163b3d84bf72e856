"""The worker: claims what is due, runs handlers under leases, and settles in batches.

One `Worker` runs on one event loop. It has one `Slots` and one `Claims` for all instances; for each instance it has a
claimer, a settler and a lease keeper, so that an instance that fails takes only its own partitions down.

The way of a task:

1. `claimer` sleeps until the first of the `due_times` it knows, reserves `slots`, and claims from the partitions whose
   time has come, the longest overdue first. `hints` wake it earlier.
2. `claims` makes a `run` of each record, and hands it to the `runners`.
3. `runners` call the handler: a coroutine function on the loop, a plain function in a thread.
4. `leases` renews the lease of a live run, from a thread, so that a handler that blocks the loop does not lose it.
5. `settler` reports how runs ended, in batches, over reconnects, until each report is accepted or refused.
6. `claims` forgets the run, and `run_events` tells what became of it.

Beside them: `roster` knows the other workers, and who wakes first for which partition; `server_clock` estimates the
clock of an instance, and `clock_watch` tells where it jumps; `timer` and `backoff` say when to wake and when to try
again; `host` answers what handlers ask.
"""
