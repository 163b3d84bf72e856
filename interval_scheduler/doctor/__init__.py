"""Start-up checks: whether instances can keep the promises, found before the first task is.

`startup_findings` judges what ``INFO`` says: every connect does that (see `interval_scheduler.servers.inspection`).
`diagnose` asks for more: it measures clocks, tries every right that the scripts need with commands that change nothing,
compares the options with the namespace, and then runs every script for real, in a throw-away namespace that it deletes
again.
"""

from ..servers.requirements import Finding, startup_findings
from .diagnosis import diagnose

__all__ = ["Finding", "diagnose", "startup_findings"]
