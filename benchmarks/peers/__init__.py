"""Other schedulers and queues on Redis, each with its adapter, and where they are installed."""
