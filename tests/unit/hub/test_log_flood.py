"""The limits of the log: one line for each class of errors and minute, and the number of those left out."""

from __future__ import annotations

import logging

from hub.log_flood import CLASSES_MAX, OTHERS_A_WINDOW, WINDOW_S, FloodGate


class Rig:
    """A gate with a clock of its own, and the lines that passed.

    Attributes:
        lines: text and number of lines left out before it.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.lines: list[tuple[str, int]] = []
        self.gate = FloodGate(self.write, lambda: self.now_s)

    def write(self, record: logging.LogRecord) -> None:
        self.lines.append((record.getMessage(), getattr(record, "left_out", 0)))

    def log(self, text: str, *values: object, level: int = logging.ERROR, **fields: object) -> None:
        record = logging.LogRecord("hub", level, "", 0, text, values, None)
        vars(record).update(fields)
        if self.gate.filter(record):
            self.write(record)


def test_a_class_has_one_line_a_minute_with_the_number_left_out() -> None:
    """Whatever values are put in; another text is another class."""
    rig = Rig()
    for number in range(1_000):
        rig.log("run %s was lost", number)
    rig.log("something else")
    rig.now_s = WINDOW_S
    rig.log("run %s was lost", "last")

    assert rig.lines == [("run 0 was lost", 0), ("something else", 0), ("run last was lost", 999)]


def test_the_number_is_told_without_a_further_line() -> None:
    """At the end of the window, and at the end of the process whatever the time."""
    rig = Rig()
    for _ in range(5):
        rig.log("%s is lost", "r1")
    rig.gate.tell_left_out()
    rig.now_s = WINDOW_S
    rig.gate.tell_left_out()
    rig.gate.tell_left_out()
    for _ in range(3):
        rig.log("%s is lost", "r1")
    rig.gate.close()

    assert rig.lines == [
        ("r1 is lost", 0), ("left out 4 more of: %s is lost", 4), ("r1 is lost", 0), ("left out 2 more of: %s is lost", 2),
    ]  # fmt: skip # a table


def test_exceptions_narrower_classes_and_severities_are_told_apart() -> None:
    """Two faults behind one text have a line each; lines for information have more, and debug lines no limit."""
    rig = Rig()
    rig.log("internal error", error_class="a")
    rig.log("internal error", error_class="b")
    rig.log("internal error", error_class="a")
    for _ in range(OTHERS_A_WINDOW + 9):
        rig.log("told", level=logging.INFO)
        rig.log("traced", level=logging.DEBUG)
    rig.log("slow %s", "x", level=logging.INFO, slow="command")
    rig.log("slow %s", "x", level=logging.INFO, slow="command")
    texts = [text for text, _ in rig.lines]

    counts = {text: texts.count(text) for text in texts}
    assert counts == {"internal error": 2, "told": OTHERS_A_WINDOW, "traced": OTHERS_A_WINDOW + 9, "slow x": 1}


def test_the_number_of_classes_is_bounded() -> None:
    """Texts made from input share one class once there are too many, and are counted by themselves again later."""
    rig = Rig()
    for number in range(CLASSES_MAX + 100):
        rig.log(f"made from {number}")
    at_first = len(rig.lines)
    rig.now_s = WINDOW_S
    rig.log("made from something new")

    assert at_first == CLASSES_MAX + 1
    assert len(rig.gate._windows) < CLASSES_MAX
    assert rig.lines[-1] == ("made from something new", 0)
