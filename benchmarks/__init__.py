"""Measures the scheduler beside its peers and beside what machine and Redis allow: see README.md."""
