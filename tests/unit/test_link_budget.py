"""What a MiB costs the event loop of two linked devices, both ends in one loop: counted, so no busy machine disturbs it.

A budget as in `tests/replica/test_work_budget.py`: a bound above what was counted, which whoever needs more raises here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trio

from p2psync.ids import ChunkId, Ciphertext
from p2psync.session.peer_channel import PeerChannel
from p2psync.wire.peer_bodies import WantedChunk
from tests.unit.test_peer_channel import Answers, opened

MIB = 1 << 20
IN_FLIGHT, ROUNDS, CHUNKS = 3, 4, 4
STEPS, TURNS = 40, 13
"""For a MiB; 27 and 8 were counted, 65 and 16 when every read and every frame took a turn. How much a receiver finds at once
is the kernel's to say."""
WANTED = [WantedChunk(ChunkId(bytes([number]) * 32), MIB) for number in range(CHUNKS)]


class Large(Answers):
    """Answers 4 MiB, as the frames that a replica seals."""

    async def chunks(self, generation: int, wanted: Sequence[WantedChunk]) -> Sequence[Ciphertext]:
        await trio.lowlevel.checkpoint()
        return [Ciphertext(bytes(MIB)) for _ in wanted]


class Counting(trio.abc.Instrument):
    def __init__(self) -> None:
        self.turns = self.steps = 0

    def before_io_wait(self, timeout: float) -> None:
        self.turns += 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1


async def ask(channel: PeerChannel) -> None:
    for _ in range(ROUNDS):
        parts: list[bytes | bytearray] = []
        await channel.chunks(0, WANTED, parts)
        assert sum(len(part) for part in parts) == CHUNKS * MIB


async def test_a_mib_costs_the_loop_no_more_than_its_budget(tmp_path: Path) -> None:
    async with opened(tmp_path, Large()) as (_, channel):
        counting = Counting()
        trio.lowlevel.add_instrument(counting)
        async with trio.open_nursery() as nursery:
            for _ in range(IN_FLIGHT):
                nursery.start_soon(ask, channel)
        trio.lowlevel.remove_instrument(counting)
    mib = IN_FLIGHT * ROUNDS * CHUNKS
    assert counting.steps / mib < STEPS and counting.turns / mib < TURNS
