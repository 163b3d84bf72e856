"""What is said to the servers. Pure: nothing here waits, or knows redis or an event loop.

- `keys` names every key and channel, `scripts` loads the Lua files.
- `calls` has two functions for each script: one builds the call, one reads the reply into named fields.
- `operation` says what an operation is, a generator that yields commands and is sent the replies. The operations are
  in `topology` (joining a namespace), `tasks`, `bulk` (assigning many), `queries`, `settling` and `audit`.

**Calls and replies.** A script that works on a partition gets the partition's *epoch* and the time *now* first. It
refuses the call where the epoch is another one (status ``moved``) or the partition is not there (``absent``), before
it has written anything. *now* is "" for the server's own time; tests and simulations give one in ms. Every reply begins
with a *status*: ``ok``, a refusal, or, where the script has written, how many times the partition has been written to.
A server that comes back and tells a smaller number has lost writes (`interval_scheduler.servers.data_loss`). Then
comes the server's time in µs. Every script does a bounded amount of work, by the length of its arguments or by a limit
among them, so that it blocks nobody for long: what is unbounded is repeated by an operation. Calls that do no harm when
they are carried out twice are marked as *repeatable*: a transport sends those again when it does not know whether the
server has got them. The random *call id* becomes the version of what a call writes, and lets the script recognise a
repeat.

**To add a script**, write ``lua/<name>.lua`` with the header that the others have, and in the module of its concept in
`calls` the functions `<name>` and `read_<name>`, which ``calls/__init__.py`` exports. Add a sample to
``tests/unit/test_script_calls.py``, which compares the builder with the header, and a step to
``doctor/trial.py``, which runs every script. For a new Redis command add a form to ``doctor/rights.py`` and make
``docs/acl.md`` anew; for a new key or channel add its name to `keys`.
"""
