"""Only ciphertext reaches whoever is blind or remote: the types make anything else impossible."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SNIPPET = """
from collections.abc import Sequence
from p2psync.ids import ChunkId, Ciphertext, FeedId, IdentityKey, Plaintext
from p2psync.sealed.keys import ObjectKey
from p2psync.session.peer_channel import FolderService, PeerChannel
from p2psync.store.interface import BlindStore, Watched
from p2psync.wire.peer_bodies import WantedChunk


class Careless:
    def permits(self, peer: IdentityKey) -> bool:
        return True

    async def watch(self, seen: int) -> Watched:
        return Watched(0, {})

    async def entries(self, feed: FeedId, after: int) -> Sequence[Ciphertext]:
        return []

    async def take_entries(self, entries: Sequence[Ciphertext]) -> None:
        return None

    async def chunks(self, generation: int, wanted: Sequence[WantedChunk]) -> Sequence[KIND]:
        raise NotImplementedError


async def leak(store: BlindStore, channel: PeerChannel, key: ObjectKey, data: KIND) -> FolderService:
    await store.put([(key, data)])
    await channel.put_entries([data])
    return Careless()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Ciphertext", "Plaintext"])
def test_a_store_and_a_peer_can_be_handed_ciphertext_alone(tmp_path: Path, kind: str) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET.replace("KIND", kind))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(snippet)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in checked.stdout.splitlines() if "snippet.py" in line and "error" in line]
    if kind == "Ciphertext":
        assert not errors, checked.stdout
    else:
        assert len(errors) >= 3, checked.stdout
