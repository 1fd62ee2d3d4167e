from __future__ import annotations

import io
import json
import logging

from protocols.structured_log import JsonLines


def _logger() -> tuple[logging.Logger, io.StringIO]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines("gateway"))
    logger = logging.getLogger("test-structured-log")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    return logger, out


def test_a_line_is_a_json_object_with_time_level_program_and_event() -> None:
    logger, out = _logger()
    logger.warning("study %s, round %d", "autumn", 3)
    line = json.loads(out.getvalue())
    assert line["event"] == "study autumn, round 3"
    assert (line["level"], line["program"], line["where"]) == ("WARNING", "gateway", "test-structured-log")
    assert line["time"].endswith("+00:00")


def test_the_text_of_an_exception_stays_out() -> None:
    logger, out = _logger()
    try:
        raise ValueError("patient Doe")
    except ValueError:
        logger.exception("a reply could not be read")
    line = json.loads(out.getvalue())
    assert (line["error"], line["at"].split(":")[0]) == ("ValueError", __name__)
    assert "Doe" not in out.getvalue()


def test_a_line_break_in_an_event_does_not_make_a_second_line() -> None:
    logger, out = _logger()
    logger.info("first\nsecond")
    assert out.getvalue().count("\n") == 1
