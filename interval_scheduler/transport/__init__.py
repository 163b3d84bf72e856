"""Executes commands: a blocking and an asyncio transport over the same endpoints.

`endpoint` says where an instance is reached. `connecting` opens a connection, in steps that both transports carry out.
`blocking` has a pool of connections for each instance, one for each thread in a call (`blocking_connection`); `aio` has
pipelines, in which the calls of many tasks travel together (`aio_connection`). `resp` packs and parses what goes over a
connection, `replies` and `failures` tell apart what can go wrong: `remedies` what lasts until somebody corrects it,
`probe` by a closer look at a server. `batching` brings many `assign_task` calls of one turn of the loop into few calls.
`embedded` is the private server of ``embedded://`` URLs.
"""
