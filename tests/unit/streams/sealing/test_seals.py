"""Keys in a process: one that was lost and comes back from a backup opens what it sealed, and no state is kept without it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from streams.channel import parse_channel
from streams.envelope import SYSTEM, Appended, Draft, Entry, actor_json
from streams.errors import LogUnavailable, StreamsError
from streams.loops import Loops
from streams.sealing.keys import KeyFolder
from streams.sealing.sealed import NONCE_BYTES, key_of, parse_seal_rule, place_of, seal
from streams.sealing.seals import Seals

PATH, ACTOR, DATA = b"acme:conversation:a", b'{"kind":"user","id":"maria"}', b'{"text":"hello"}'


async def test_a_key_that_is_found_again_opens_and_folds_begin_anew(tmp_path: Path) -> None:
    store, loops = KeyFolder(tmp_path / "keys"), Loops()
    seals = Seals(store, parse_seal_rule("acme:conversation"), lambda _: ())
    forgotten: list[int] = []
    seals.on_erasure(lambda: forgotten.append(seals.generation))
    await seals.start(loops)
    key = store.current("acme", "maria")
    data = seal(DATA, [key.id], key_of([key.key]), place_of(PATH, b"chat.message", ACTOR), bytes(NONCE_BYTES))
    stored = [Entry(b"1-0", 1, b"chat.message", b"1", ACTOR, data, b"{}")]
    file = next((tmp_path / "keys/keys").rglob(key.id))
    backup = file.rename(tmp_path / "backup")

    (lost,) = await seals.opened(PATH, stored)
    await seals.look()
    (still_lost,) = await seals.opened(PATH, stored)
    before = list(forgotten)
    backup.rename(file)
    await seals.look()
    (found,) = await seals.opened(PATH, stored)
    await seals.close()

    assert lost.is_damaged
    assert still_lost.is_damaged
    assert before == []
    assert (found.data, forgotten) == (DATA, [1])


async def test_nothing_is_sealed_for_good_while_the_key_of_its_source_is_lost(tmp_path: Path) -> None:
    """It is refused and may be sent again; with the key back it is stored, and opens."""
    store, loops, place = KeyFolder(tmp_path / "keys"), Loops(), parse_channel("acme", "conversation:a")
    seals = Seals(store, parse_seal_rule("acme:conversation"), lambda _: ())
    await seals.start(loops)
    key = store.current("acme", "maria")
    draft = Draft(place, "chat.message", DATA, SYSTEM, sealed_for=(key.id,))
    file = next((tmp_path / "keys/keys").rglob(key.id))
    backup = file.rename(tmp_path / "backup")
    stored: list[Draft] = []

    async def append() -> Appended | StreamsError | None:
        answered = asyncio.get_running_loop().create_future()

        def submit(draft: Draft, _: object) -> None:
            stored.append(draft)
            answered.set_result(None)

        seals.submit(draft, answered.set_result, submit)
        async with asyncio.timeout(10):
            found: Appended | StreamsError | None = await answered
            return found

    for _ in range(2):
        assert isinstance(refused := await append(), LogUnavailable)
        assert "does not have the key" in str(refused)
    backup.rename(file)
    await seals.look()
    assert (await append(), len(stored)) == (None, 1)
    entry = Entry(b"1-0", 1, b"chat.message", b"1", actor_json(SYSTEM), stored[0].data, b"{}")
    (opened,) = await seals.opened(PATH, [entry])
    await seals.close()
    assert opened.data == DATA


async def test_events_wait_for_their_keys_whatever_the_store_raises(tmp_path: Path) -> None:
    """A reader that is told nothing would stay without the channel's events for ever."""
    failures = [ValueError("not expected of a store"), OSError("away")]

    class Faulty(KeyFolder):
        def read(self, ids: Iterable[str]) -> dict[str, bytes | None]:
            if failures:
                raise failures.pop(0)
            return super().read(ids)

    store, have_keys = Faulty(tmp_path / "keys"), asyncio.Event()
    seals = Seals(store, parse_seal_rule("acme:conversation"), lambda _: ())
    store.identity()
    key = store.current("acme", "maria")
    data = seal(DATA, [key.id], key_of([key.key]), place_of(PATH, b"chat.message", ACTOR), bytes(NONCE_BYTES))
    stored = [Entry(b"1-0", 1, b"chat.message", b"1", ACTOR, data, b"{}")]

    seals.read_then(stored, have_keys.set)
    async with asyncio.timeout(10):
        await have_keys.wait()
    opened = seals.opened_now(PATH, stored)
    await seals.close()

    assert opened is not None
    assert opened[0].data == DATA
