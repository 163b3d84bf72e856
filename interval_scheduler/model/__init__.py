"""The values and errors that users meet.

`task` is what they subclass. `task_check` looks at a subclass when it is defined (`spelling` says which names are
slips), and `members` checks the value of each member. `schedule` has intervals and crons: `cron_check` says what is
wrong with an expression, `cron_plan` when it matches. `times` reads times and durations. `options` are checked whole;
where an instance is, is in `instances`, `urls` and `tls`. `retry`, `locks`, `results`, `events` and `errors` are what
they say.
"""
