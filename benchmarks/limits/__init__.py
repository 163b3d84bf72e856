"""Adapters of what bounds the scheduler: the same measurements of redis-py, a socket, or a timer alone."""
