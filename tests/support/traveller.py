"""A device that looks for another one through a relay, as a program: `python -m tests.support.traveller URL SIDE SECONDS`.

It finds its outside address, leaves it in a presence slot, waits for the other's, punches for SECONDS, and meets the other
at the relay when that fails. Prints one JSON line: which way it was, and what came through it.
"""

from __future__ import annotations

import json
import sys

import trio

from p2psync.crypto.signing import SigningKey
from p2psync.errors import LinkLost
from p2psync.ids import Ciphertext
from p2psync.net.network import TcpNetwork
from p2psync.net.punch import LocalPort, punch
from p2psync.net.urls import RelayUrl, parse_relay_url
from p2psync.seams import SystemClock, SystemRandomness
from p2psync.session.greeting import observed_address
from p2psync.session.presence import Presence
from p2psync.session.relay_link import open_relay_link
from p2psync.session.splicing import open_splice
from p2psync.wire.login import Right, namespace_id
from p2psync.wire.messages import SpliceSide

KEY = SigningKey(b"t" * 32)
SLOTS = {SpliceSide.DIALS: b"d" * 16, SpliceSide.ANSWERS: b"a" * 16}
BYTES = 300_000


async def other_address(presence: Presence, other: SpliceSide) -> tuple[str, int]:
    seen = -1
    while True:
        present = await presence.watch_slots(seen)
        for slot in present.slots:
            if slot.id == SLOTS[other]:
                host, port = json.loads(slot.content)
                return host, port
        seen = present.revision


async def meet(url: RelayUrl, side: SpliceSide, seconds: float) -> tuple[str, trio.abc.HalfCloseableStream]:
    network, randomness = TcpNetwork(), SystemRandomness()
    other = SpliceSide.ANSWERS if side is SpliceSide.DIALS else SpliceSide.DIALS
    async with open_relay_link(url, network=network, clock=SystemClock(), randomness=randomness) as link:
        store = await link.login(await link.create_namespace(KEY), KEY, Right.OWN)
        presence = link.presence(store)
        with LocalPort() as local:
            outside = await observed_address(url, connector=local, randomness=randomness)
            await presence.put_slot(SLOTS[side], Ciphertext(json.dumps(outside).encode()), 60)
            try:
                return "direct", await punch(local, await other_address(presence, other), seconds)
            except LinkLost:
                return "splice", await open_splice(
                    url, namespace=namespace_id(KEY.public, link.relay_key), key=KEY, rendezvous=bytes(16), side=side,
                    network=network, randomness=randomness,
                )  # fmt: skip


async def main(url: str, side: str, seconds: str) -> None:
    way, stream = await meet(parse_relay_url(url), SpliceSide(side), float(seconds))
    received = bytearray()

    async def send() -> None:
        await stream.send_all(side[:1].encode() * BYTES)
        await stream.send_eof()

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while part := await stream.receive_some():
            received += part
    print(json.dumps({"way": way, "letters": sorted(map(chr, set(received))), "bytes": len(received)}))


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
