"""The record that tells of a fork: any member may write it, since it proves itself. Source: formats, "Forks"."""

from __future__ import annotations

from p2psync.encoding import Fields, decode, encode
from p2psync.index.records import RecordType
from p2psync.limits import ENTRY_MAX
from p2psync.sealed.fork import ForkProof, read_fork


def encode_fork(proof: ForkProof) -> bytes:
    return encode([RecordType.FORK, *proof.encode_list()])


def decode_fork(data: bytes) -> ForkProof:
    """PeerError on a wrong form, IntegrityError when it proves nothing."""
    fields = Fields(decode(data, ENTRY_MAX), "fork")
    fields.integer("type")
    proof = read_fork(fields)
    fields.end()
    return proof
