"""``python -m interval_scheduler``."""

from .cli import main

if __name__ == "__main__":
    main()
