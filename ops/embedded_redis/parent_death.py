"""Children that end when their parent does, however it ended. Linux only; elsewhere a supervisor has to look."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with(parent_pid: int) -> Callable[[], None]:
    """The first call of a child: asks Linux for SIGTERM when the *thread* that started it ends (prctl(2)).

    Made before a fork, so that after it nothing is loaded or allocated. Elsewhere than on Linux it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:  # it died before we asked
            os._exit(1)

    return ask
