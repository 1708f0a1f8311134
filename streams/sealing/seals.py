"""Seals payloads on their way into the log and opens them on their way out: the one place where a process uses people's keys.

Keys are read from their store in threads and kept in memory. A look at the store every five seconds tells whether a key was
destroyed since; then all keys are forgotten, and everybody who keeps opened payloads is told to forget them, too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from time import monotonic
from typing import Final, TypeAlias, TypeVar

from streams.channel import Channel
from streams.envelope import DAMAGED, Appended, Draft, Entry, Lane, actor_json
from streams.errors import LogUnavailable, StreamsError
from streams.loops import Loop, Loops
from streams.sealing.keys import LOST, KeyStore
from streams.sealing.sealed import (
    KEY_BYTES,
    NONCE_BYTES,
    SealBroken,
    SealRule,
    SubjectKey,
    is_sealed,
    key_ids,
    key_of,
    place_of,
    seal,
    unseal,
)
from streams.sealing.threads import StoreThreads

LOOK_EVERY_S: Final = 5.0
"""Interval between two looks at the store: an erasure reaches every process within this time."""
BLIND_MAX_S: Final = 60.0
"""Time after which a process that cannot reach the store forgets all keys."""
KEYS_MAX: Final = 20_000
"""Maximum number of keys in memory, about 300 bytes each."""
CALL_TIMEOUT_S: Final = 5.0
AGAIN_AFTER_S: Final = 0.5
"""Pause before a reader of new events asks again for keys that could not be read."""
WAITING_BYTES_MAX: Final = 16_777_216
"""Maximum bytes of payloads that wait for a key. Beyond it publishers are told to back off."""
_log = logging.getLogger(__name__)

T = TypeVar("T")
Done: TypeAlias = "Callable[[Appended | StreamsError], None]"
Submit: TypeAlias = "Callable[[Draft, Done], None]"
Personal: TypeAlias = "Callable[[str], tuple[str, ...] | None]"


class _RecentKeys(OrderedDict[str, T]):
    """The entries that were read last, up to `KEYS_MAX`."""

    def keep(self, name: str, value: T) -> None:
        self[name] = value
        while len(self) > KEYS_MAX:
            self.popitem(last=False)


class Seals:
    """Seals and opens the payloads of one process.

    Args:
        store: the store of keys.
        rule: the channels whose new events are sealed; those of other channels are opened if they were sealed before.
        personal: for an event type, the fields of its payload that name people whom it is about, besides its actor; None for a
            type without words of people, which is never sealed.

    Attributes:
        rule: the same.
        generation: grows whenever keys are forgotten.
    """

    def __init__(self, store: KeyStore, rule: SealRule, personal: Personal) -> None:
        self.rule = rule
        self.generation = 0
        self._store, self._personal = store, personal
        self._threads = StoreThreads()
        self._keys = _RecentKeys[bytes | None]()
        self._current = _RecentKeys[SubjectKey]()
        self._lost: set[str] = set()
        self._mark: int | None = None
        self._seen_at_s = monotonic()
        self._forgetful: list[Callable[[], None]] = []
        self._waiting: dict[Channel, deque[tuple[Draft, Done]]] = {}
        self._waiting_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._owner: Loops | None = None
        self._loops: list[Loop] = []

    async def start(self, loops: Loops) -> str:
        """Begin to look at the store; returns its identity.

        Raises:
            LogUnavailable: the store cannot be read.
            ConfigurationRefused: it is something else.
        """
        self._owner = loops
        identity = await self._call(self._store.identity)
        await self.look()
        self._loops.append(loops.every("subject_keys", self.look, LOOK_EVERY_S, retry_max_s=LOOK_EVERY_S))
        return identity

    async def close(self) -> None:
        """Stop; drafts that wait for a key fail."""
        if self._owner is not None:
            await self._owner.stop(*self._loops)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.close()

    def on_erasure(self, forget: Callable[[], None]) -> None:
        """Call `forget` whenever opened payloads must be forgotten."""
        self._forgetful.append(forget)

    async def look(self) -> None:
        """Look whether a key was destroyed, and forget all keys if so, or if that has not been known for a minute.

        Raises:
            LogUnavailable: the store does not answer.
        """
        try:
            mark = await self._call(self._store.mark)
        except LogUnavailable:
            if monotonic() - self._seen_at_s > BLIND_MAX_S and (self._keys or self._current):
                self.forget()
            raise
        self._seen_at_s = monotonic()
        for key_id in self._lost:  # it may have been restored from a backup
            self._keys.pop(key_id, None)
        if self._mark is not None and mark != self._mark:
            self.forget()
        self._mark = mark

    async def look_if_due(self) -> None:
        """Do so if the last look was too long ago: for a command, which has no loop for it.

        Raises:
            LogUnavailable: the store does not answer.
        """
        if self._mark is None or monotonic() - self._seen_at_s >= LOOK_EVERY_S:
            await self.look()

    def forget(self) -> None:
        """Forget all keys, and let others forget what was opened by them."""
        self.generation += 1
        self._keys.clear()
        self._current.clear()
        for forget in self._forgetful:
            forget()

    # Into the log

    def concerns(self, draft: Draft) -> bool:
        """False for a draft that can pass as it is, as all of a tenant without sealed channels."""
        return bool(self._waiting or draft.sealed_for) or self.rule.is_for(draft.channel.tenant)

    def submit(self, draft: Draft, done: Done, submit: Submit) -> None:
        """Pass a draft on to `submit`, sealed if it must be; later drafts of its channel wait until it has its key."""
        waiting = self._waiting.get(draft.channel)
        if waiting is None and (sealed := self._sealed_now(draft)) is not None:
            submit(sealed, done)
            return
        if self._waiting_bytes + len(draft.data) > WAITING_BYTES_MAX:
            done(LogUnavailable("the store of subject keys is too slow; nothing was stored"))
            return
        self._waiting_bytes += len(draft.data)
        if waiting is not None:
            waiting.append((draft, done))
            return
        self._waiting[draft.channel] = deque([(draft, done)])
        self._spawn(self._submit_waiting(draft.channel, submit))

    async def _submit_waiting(self, channel: Channel, submit: Submit) -> None:
        waiting = self._waiting[channel]
        try:
            while waiting:
                try:
                    sealed = await self._seal(waiting[0][0])
                except LogUnavailable as error:
                    self._give_up(waiting, submit, LogUnavailable(f"{error}; nothing was stored"))
                    continue
                draft, done = waiting.popleft()
                self._waiting_bytes -= len(draft.data)
                submit(sealed, done)
        finally:
            del self._waiting[channel]
            for draft, done in waiting:
                self._waiting_bytes -= len(draft.data)
                _tell(done, LogUnavailable("the hub stops; nothing was stored"))

    def _give_up(self, waiting: deque[tuple[Draft, Done]], submit: Submit, error: LogUnavailable) -> None:
        """Fail the drafts that still need a key, and pass the others on: each would wait for the store as long as the first."""
        for _ in range(len(waiting)):
            draft, done = waiting.popleft()
            self._waiting_bytes -= len(draft.data)
            if (sealed := self._sealed_now(draft)) is None:
                _tell(done, error)
            else:
                submit(sealed, done)

    async def _seal(self, draft: Draft) -> Draft:
        while (sealed := self._sealed_now(draft)) is None:
            await self._read_current(draft.channel.tenant, self._people(draft) or ())
            await self._read(draft.sealed_for)
            if any(
                self._keys.get(key_id) == LOST for key_id in draft.sealed_for
            ):  # sealed by another it would not open again
                raise LogUnavailable(
                    "the store of subject keys does not have the key of the event that this one follows from"
                )
        return sealed

    def _sealed_now(self, draft: Draft) -> Draft | None:
        """The draft as it is to be stored; None if a key that it needs is not in memory."""
        people = self._people(draft)
        if people is None:
            return draft
        keys = self._keys_at_hand(draft, people)
        return None if keys is None else _sealed(draft, keys)

    def _people(self, draft: Draft) -> tuple[str, ...] | None:
        """The people by whose keys a draft is sealed, besides those of its source; None if it is not sealed."""
        is_here = self.rule.seals(draft.channel)
        if draft.lane is not Lane.EVENTS or not (is_here or draft.sealed_for):
            return None
        fields = self._personal(draft.type)
        if fields is None:
            return None
        people = [draft.actor.id] if draft.actor.kind == "user" and is_here else []
        if fields and is_here:
            payload = json.loads(draft.data)
            people += [payload[name] for name in fields if isinstance(payload.get(name), str)]
        return tuple(dict.fromkeys(people)) if people or draft.sealed_for else None

    def _keys_at_hand(self, draft: Draft, people: Iterable[str]) -> list[SubjectKey] | None:
        """The keys of these people and of the draft's source, by ID; None if one of them is not in memory, or was lost."""
        found: dict[str, bytes] = {}
        for user in people:
            key = self._current.get(f"{draft.channel.tenant}\n{user}")
            if key is None:
                return None
            found[key.id] = key.key
        for key_id in draft.sealed_for:
            if self._keys.get(key_id, LOST) == LOST:
                return None
            # The source was erased meanwhile: what follows from it is erased from the beginning.
            found[key_id] = self._keys[key_id] or os.urandom(KEY_BYTES)
        return [SubjectKey(key_id, found[key_id]) for key_id in sorted(found)]

    async def _read_current(self, tenant: str, people: Iterable[str]) -> None:
        missing = [user for user in people if f"{tenant}\n{user}" not in self._current]
        generation = self.generation
        found = await self._call(lambda: {user: self._store.current(tenant, user) for user in missing})
        if generation == self.generation:
            for user, key in found.items():
                self._current.keep(f"{tenant}\n{user}", key)

    # Out of the log

    def opened_now(self, path: bytes, entries: list[Entry]) -> list[Entry] | None:
        """The entries with their payloads opened; None if a key is not in memory.

        An entry whose key was destroyed has an empty payload and says so; one that does not open is a damaged one.
        """
        if not any(is_sealed(entry.data) for entry in entries):
            return entries
        if any(key_id not in self._keys for entry in entries for key_id in _ids(entry)):
            return None
        return [_opened(path, entry, self._keys) if is_sealed(entry.data) else entry for entry in entries]

    async def opened(self, path: bytes, entries: list[Entry]) -> list[Entry]:
        """The same, with keys that are read first.

        Raises:
            LogUnavailable: the store of keys does not answer.
        """
        while (found := self.opened_now(path, entries)) is None:
            await self._read(key_id for entry in entries for key_id in _ids(entry))
        return found

    def read_then(self, entries: list[Entry], go_on: Callable[[], None]) -> None:
        """Read the keys of these entries, again and again if the store does not answer, and then call `go_on`."""
        self._spawn(self._read_until(entries, go_on))

    async def _read_until(self, entries: list[Entry], go_on: Callable[[], None]) -> None:
        while True:
            try:
                await self._read(key_id for entry in entries for key_id in _ids(entry))
                break
            except LogUnavailable as error:
                _log.warning("new events wait for their keys: %s", error)
            except Exception:  # if this ended, nobody would get the channel's events any more
                _log.exception("new events wait for their keys")
            await asyncio.sleep(AGAIN_AFTER_S)
        go_on()

    async def _read(self, ids: Iterable[str]) -> None:
        missing = [key_id for key_id in dict.fromkeys(ids) if key_id not in self._keys]
        if not missing:
            return
        generation = self.generation
        found = await self._call(partial(self._store.read, missing))
        if generation != self.generation:
            return  # they may have been destroyed meanwhile; the caller asks again
        back = [key_id for key_id, key in found.items() if key != LOST and key_id in self._lost]
        for key_id, key in found.items():
            self._keys.keep(key_id, key)
            if key == LOST and key_id not in self._lost and len(self._lost) < KEYS_MAX:
                self._lost.add(key_id)
                _log.error("the store of subject keys does not have the key %s; its events cannot be read", key_id)
        if back:  # what was folded without them shows their events as damaged
            self._lost.difference_update(back)
            self.forget()

    async def _call(self, read: Callable[[], T]) -> T:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._threads.submit(read)), CALL_TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            raise LogUnavailable(f"the store of subject keys does not answer ({error or 'too slow'})") from error

    def _spawn(self, work: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("work with subject keys failed", exc_info=error)


def _sealed(draft: Draft, keys: Sequence[SubjectKey]) -> Draft:
    """The draft with its payload sealed. Its digest for the duplicate check is keyed, so that nobody can try guesses against it."""
    type_, path = draft.type.encode(), draft.channel.path.encode()
    key = key_of([one.key for one in keys])
    digest = blake2b(b"\n".join((path, type_, draft.data)), digest_size=8, key=key).hexdigest()
    place = place_of(path, type_, actor_json(draft.actor))
    data = seal(draft.data, [one.id for one in keys], key, place, os.urandom(NONCE_BYTES))
    return replace(draft, data=data, digest=digest)


def _ids(entry: Entry) -> tuple[str, ...]:
    if not is_sealed(entry.data):
        return ()
    try:
        return key_ids(entry.data)
    except SealBroken:
        return ()


def _opened(path: bytes, entry: Entry, keys: dict[str, bytes | None]) -> Entry:
    ids = _ids(entry)
    held = [keys[key_id] for key_id in ids]
    if ids and None in held:
        return entry._replace(data=b"{}", sealed_for=ids, is_erased=True)
    try:
        key = key_of([one for one in held if one])
        data = unseal(entry.data, key, place_of(path, entry.type, entry.actor))
    except (SealBroken, IndexError):
        return Entry(entry.id, entry.seq, DAMAGED, b"0", b"{}", b"{}", b"{}")
    return entry._replace(data=data, sealed_for=ids)


def _tell(done: Done, error: StreamsError) -> None:
    try:
        done(error)
    except Exception:  # an error in one caller's callback must not cost the others their answer
        _log.exception("an append's callback failed")
