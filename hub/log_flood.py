"""Limits log lines: one for each class of errors and minute, followed by the number of those left out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

WINDOW_S: Final = 60.0
ERRORS_A_WINDOW: Final = 1
"""Lines of one class of warnings and errors, and of one slow place, in a window."""
OTHERS_A_WINDOW: Final = 60
"""The same for lines of lower severity. Debug lines are not limited."""
CLASSES_MAX: Final = 500
"""Maximum classes that are counted by themselves; the lines of further ones share a class for each severity."""
_TEMPLATE_CHARS_MAX: Final = 200

ErrorClass = tuple[str, int, str, str]


def class_of(record: logging.LogRecord) -> ErrorClass:
    """Returns a line's class: its logger, severity and text before the values are put in, with the type of its exception.

    A record may name a narrower class in the field `error_class`.
    """
    template = record.msg.get("event", "") if isinstance(record.msg, dict) else record.msg
    raised = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] is not None else ""
    narrower = getattr(record, "error_class", "")
    return record.name, record.levelno, str(template)[:_TEMPLATE_CHARS_MAX], f"{raised}{narrower}"


@dataclass(slots=True)
class _Window:
    ends_s: float
    count: int = 0
    left_out: int = 0

    def begin(self, now_s: float) -> int:
        """Starts the next window; returns the number of lines that the last one left out."""
        left_out, self.ends_s, self.count, self.left_out = self.left_out, now_s + WINDOW_S, 0, 0
        return left_out

    def admits(self, limit: int) -> bool:
        """Counts a line; returns False if it is one too many."""
        self.count += 1
        self.left_out += self.count > limit
        return self.count <= limit


class FloodGate(logging.Filter):
    """Lets the first lines of each class pass in each window, and tells how many it left out.

    The number is in the next line of the class (`left_out`), or, where none comes, in a line of its own at the end of the window.

    Args:
        write: writes a line past the gate.
        clock: monotonic seconds.
    """

    def __init__(self, write: Callable[[logging.LogRecord], None], clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._write, self._clock = write, clock
        self._windows: dict[ErrorClass, _Window] = {}
        self._lock = threading.Lock()
        self._is_waiting = False
        self._is_over = threading.Event()

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns False for a line that is left out."""
        if record.levelno < logging.INFO:
            return True
        is_limited = record.levelno >= logging.WARNING or hasattr(record, "slow")
        limit = ERRORS_A_WINDOW if is_limited else OTHERS_A_WINDOW
        with self._lock:
            now_s = self._clock()
            window = self._window_of(class_of(record), now_s)
            if now_s >= window.ends_s and (left_out := window.begin(now_s)):
                record.left_out = left_out
            if window.admits(limit):
                return True
            self._end_later(window.ends_s - now_s)
            return False

    def tell_left_out(self, *, is_last: bool = False) -> None:
        """Writes a line for each class whose window has ended with lines left out; for every class if it is the last time."""
        with self._lock:
            now_s = self._clock()
            self._is_waiting = False
            ended = [
                (class_, window.begin(now_s))
                for class_, window in self._windows.items()
                if window.left_out and (is_last or now_s >= window.ends_s)
            ]
            waiting = [window.ends_s for window in self._windows.values() if window.left_out]
            if waiting and not is_last:
                self._end_later(min(waiting) - now_s)
        for (name, level, template, _), left_out in ended:
            text = f"left out {left_out} more of: {template}"
            record = logging.LogRecord(name, level, "", 0, text, (), None)
            record.left_out = left_out
            self._write(record)

    def close(self) -> None:
        """Tells what was left out so far."""
        self._is_over.set()
        self.tell_left_out(is_last=True)

    def _window_of(self, class_: ErrorClass, now_s: float) -> _Window:
        window = self._windows.get(class_)
        if window is None:
            if len(self._windows) >= CLASSES_MAX:
                ended = [key for key, one in self._windows.items() if not one.left_out and now_s >= one.ends_s]
                for key in ended:
                    del self._windows[key]
            if len(self._windows) >= CLASSES_MAX:
                class_ = ("", class_[1], "(many classes of lines)", "")
            window = self._windows.setdefault(class_, _Window(now_s + WINDOW_S))
        return window

    def _end_later(self, after_s: float) -> None:
        """Has `tell_left_out` called at the end of a window; one thread waits for all classes."""
        if not self._is_waiting and not self._is_over.is_set():
            self._is_waiting = True
            threading.Thread(target=self._end_after, args=(after_s,), name="log-flood", daemon=True).start()

    def _end_after(self, seconds: float) -> None:
        if not self._is_over.wait(max(0.0, seconds)):
            self.tell_left_out()
