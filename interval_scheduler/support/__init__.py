"""What everything stands on: clocks, random numbers and threads of this machine, signals and forks, logs, short texts."""
