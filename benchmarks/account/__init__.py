"""Where each microsecond of a task goes, measured by parts.

No profiler is involved, which would make small functions look slow: each part is run alone over many tasks, the server
tells what its scripts took, and what is left of the whole is named as such.
"""
