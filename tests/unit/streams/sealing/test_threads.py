"""Threads for a store of keys that may be away for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final

from streams.sealing.threads import THREADS, WAITING_MAX, StoreThreads

STUCK: Final = """
import asyncio, os, sys, threading
from pathlib import Path
from streams.sealing.keys import KeyFolder
from streams.sealing.sealed import NOTHING_SEALED
from streams.sealing.seals import Seals

begun = threading.Semaphore(0)
silent, _ = os.pipe()

class Away(KeyFolder):
    def mark(self):
        begun.release()
        os.read(silent, 1)

async def main():
    seals = Seals(Away(Path(sys.argv[1])), NOTHING_SEALED, lambda _: None)
    looks = [asyncio.create_task(seals.look()) for _ in range(2)]
    for _ in looks:
        await asyncio.to_thread(begun.acquire)
    for look in looks:
        look.cancel()
    await seals.close()
    print("closed", flush=True)

asyncio.run(main())
"""


def test_a_process_ends_while_its_store_does_not_answer(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", STUCK, str(tmp_path)], capture_output=True, text=True, timeout=20, check=True
    )
    assert told.stdout == "closed\n"


def test_only_so_many_calls_wait_and_those_are_cancelled_at_the_end() -> None:
    silent, store = os.pipe()
    threads = StoreThreads()

    calls = [threads.submit(partial(os.read, silent, 1)) for _ in range(WAITING_MAX)]
    refused = 0
    for _ in range(THREADS + 1):
        try:
            calls.append(threads.submit(partial(os.read, silent, 1)))
        except OSError:
            refused += 1
    threads.close()
    os.write(store, bytes(len(calls)))
    results = [call.result(20) for call in calls if not call.cancelled()]
    os.close(store)
    os.close(silent)

    assert refused >= 1
    assert len(results) <= THREADS
