"""Send captured predictions again, and compare the replies with those of then.

captured ──▶ sending ──▶ differences ──▶ report
"""

from __future__ import annotations

from mms_handler.replay.captured import Captured, fetched, read
from mms_handler.replay.report import Report
from mms_handler.replay.sending import Target, replay

__all__ = ["Captured", "Report", "Target", "fetched", "read", "replay"]
