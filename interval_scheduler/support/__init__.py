"""What everything stands on: the clock, chance and threads of this machine, and how tasks are cancelled."""
