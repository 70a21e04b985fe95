"""The log: everything goes to standard error, one line each."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from hexcache.settings import LogSettings


def configure(settings: LogSettings) -> None:
    """Everything goes to standard error, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if settings.format == "json" else _TextFormatter())
    # mitmproxy logs the text of what an assertion raises when it ends a listener that never was.
    handler.addFilter(lambda record: bool(record.getMessage()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("hexcache").setLevel(settings.level.upper())
    # Its info lines are about each connection; errors of clients' handshakes are warnings.
    logging.getLogger("mitmproxy").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.ERROR)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"{at} {level}{_message(record)}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
        }
        fields = getattr(record, "fields", None)
        if fields is None or "event" in fields:
            line["message"] = _message(record)
        if fields is not None:
            line |= {"event": "request", **fields}
        return json.dumps(line, ensure_ascii=False)


def _message(record: logging.LogRecord) -> str:
    """One line: no traceback reaches a user unless the level is debug."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        text = f"{text} {type(error).__name__}: {error}"
        if logging.getLogger("hexcache").isEnabledFor(logging.DEBUG):
            text += "\n" + logging.Formatter().formatException(record.exc_info)
            return text
    return " ".join(text.split("\n"))
