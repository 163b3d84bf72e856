"""What is said to the servers: keys, scripts, and operations as generators of commands. Pure: nothing here waits."""
