"""What everything stands on: clocks, random numbers and threads of this machine, logs, cancellation, short texts."""
