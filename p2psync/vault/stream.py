"""Live streams: chunks sealed on the fly for another device, by the same frames as packs.

A stream has its own fresh salt; frame number = place of the chunk in the list that was asked, so the nonce is unique
under the stream's key whatever is left out. Key, associated data and opener are those of a pack's frames; there is no
table and no padding. How the frames lie on the wire is `wire/peer_bodies.py`'s. Source: formats, "Chunk, pack, stream".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from p2psync.ids import ChunkId, Ciphertext, FolderId, Plaintext
from p2psync.vault.pack import FrameSealer
from p2psync.vault.secrets import EpochSecret, FolderSecrets, Generation
from p2psync.wire.peer_bodies import StreamParts, WantedChunk, encode_stream


def seal_stream(
    folder: FolderId,
    secret: EpochSecret,
    salt: bytes,
    wanted: Sequence[WantedChunk],
    read: Callable[[WantedChunk], Plaintext | None],
) -> list[Ciphertext]:
    """Seal what `read` gives of the wanted chunks, as buffers one after another; `salt` is 32 fresh random bytes: never use
    one twice."""
    sealer = FrameSealer(folder, secret, salt)
    frames = []
    for index, each in enumerate(wanted):
        plain = read(each)
        if plain is not None:
            frames.append((index, sealer.seal(index, each.chunk, plain)))
        del plain  # not kept while the next is read
    return encode_stream(secret.epoch, salt, frames)


def open_stream(
    folder: FolderId, secrets: FolderSecrets, generation: Generation, wanted: Sequence[WantedChunk], parts: StreamParts
) -> Iterator[tuple[ChunkId, Plaintext]]:
    """The chunks of a stream one after another; IntegrityError at the first that is not what was asked for."""
    sealer = FrameSealer(folder, secrets.epoch(parts.epoch), parts.salt)
    for frame in parts.frames:
        each = wanted[frame.index]
        yield each.chunk, sealer.open(frame.index, each.chunk, frame.sealed, each.length, generation)
