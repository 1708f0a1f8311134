"""Abusive users beside polite ones: a flood, a storm of connections, and a reader of the longest channel, with the usual limits."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from typing import Final

from hub.auth.signing import sign
from ops.bench.attackers import KINDS, Attack
from ops.bench.processes import pin
from ops.bench.scenarios.long_channel import ATTACKER_GRANTS, LARGE, fill_channel
from ops.bench.scenarios.scenario import Figure, Measured, Scenario, faults_of
from ops.bench.setup import Setup
from ops.bench.sizes import Sizes

_POLITE: Final = 500
_PER_S: Final = 500
"""Each of them writes once a second, and waits for the event."""
_WINDOWS: Final = 5
"""Windows of each kind, calm and attacked, in turns: other load on the machine affects both alike."""
_SETTLE_S: Final = 0.5
_AT_ONCE: Final = 10_000


async def _flood(setup: Setup, sizes: Sizes) -> Measured:
    await fill_channel(setup, LARGE, sizes.replay)
    await setup.open("polite", _POLITE, "own/1")
    await setup.ask("pace", group="polite", rate=_PER_S)
    p99_ms: dict[bool, list[float]] = {False: [], True: []}
    async with _attacking(setup) as attacks, setup.measured() as spent:
        for number in range(2 * _WINDOWS):
            is_attacked = number % 2 == 1
            for attack in attacks.values():
                await attack.command("go" if is_attacked else "stop")
            await setup.ask("run", seconds=_SETTLE_S)  # until what was under way is over
            await setup.ask("reset")
            seen = (await setup.ask("run", seconds=sizes.seconds)).groups["polite"]
            p99_ms[is_attacked].append(seen.delivery_ms.p99)
    await setup.ask("pace", group="polite", rate=0)
    settled = (await setup.ask("quiet")).groups["polite"]
    calm, attacked = statistics.median(p99_ms[False]), statistics.median(p99_ms[True])
    counts = {kind: attack.counts for kind, attack in attacks.items()}
    figures = {
        "p99_ratio": attacked / calm,
        "attacked_p99_ms": attacked,
        "calm_p99_ms": calm,
        "flood_sent": counts["flood"]["sent"],
        "flood_stored": counts["flood"]["stored"],
        "storms": counts["storm"]["storms"],
        "long_replays": counts["reader"]["subscribed"],
    }
    faults = faults_of(settled, all_are_served=False)
    faults += [f"the {kind} did nothing" for kind, one in counts.items() if not one]
    return Measured(figures, spent, {"polite": settled.delivery_ms}, faults)


@contextlib.asynccontextmanager
async def _attacking(setup: Setup) -> AsyncIterator[dict[str, Attack]]:
    """Start one attacker of each kind, paused, as users of the same tenant; ends them."""
    url, now = f"ws://127.0.0.1:{setup.nodes[0].port}/ws", time.time()
    places = {"flood": "conversation:flood", "storm": "conversation:storm", "reader": f"conversation:{LARGE}"}
    attacks: dict[str, Attack] = {}
    try:
        for kind in KINDS:
            token = sign(setup.servers.secret, f"bad-{kind}", setup.tenant, ATTACKER_GRANTS, 86_400, now)
            attacks[kind] = await Attack.start(kind, url, token, places[kind])
            pin(attacks[kind].process.pid, setup.servers.cores.others)
        yield attacks
    finally:
        for attack in attacks.values():
            await attack.end()


FLOOD: Final = Scenario(
    "flood",
    f"{_POLITE} polite users write once a second each. In turns with calm windows, one user sends at 50 times the limit, one "
    "connects and subscribes to a hundred channels without pause, and one replays the longest channel again and again. The "
    "rate limits are those that a hub has by default.",
    (
        Figure("p99_ratio", "p99 of the polite, attacked / calm"),
        Figure("attacked_p99_ms", "p99 attacked, ms"),
        Figure("calm_p99_ms", "p99 calm, ms"),
        Figure("flood_sent", "flood: messages sent"),
        Figure("flood_stored", "flood: messages stored"),
        Figure("storms", "storm: connections"),
        Figure("long_replays", "reader: replays begun"),
    ),
    _flood,
    lambda _: _POLITE,
    is_ours=True,
    has_limits=True,
)
