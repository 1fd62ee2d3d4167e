"""Logs for machines: a JSON object a line, made of our own words.

The text of an exception never stands in it, as it may quote what was being worked on: its type and place do.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """Formats records as JSON lines.

    Args:
        program: which program writes.
    """

    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "program": self._program,
            "where": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            *_, (frame, number) = traceback.walk_tb(record.exc_info[2])
            line["at"] = f"{frame.f_globals.get('__name__', '?')}:{number}"
        return json.dumps(line, ensure_ascii=False)


def configure(program: str) -> None:
    """Send everything from INFO on to standard error, which the supervisor puts into the program's log.

    Args:
        program: which program this is.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(program))
    root = logging.getLogger()
    root.handlers, root.level = [handler], logging.INFO
