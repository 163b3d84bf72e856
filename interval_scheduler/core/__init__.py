"""What a task is, what is stored of it, what follows a run. Pure: no input or output, no clock, no random numbers."""
