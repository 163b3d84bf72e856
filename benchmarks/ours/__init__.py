"""Adapters of the scheduler itself."""
