"""What everything stands on: clocks, chance and threads of this machine, its signals and forks, logs, short texts."""
