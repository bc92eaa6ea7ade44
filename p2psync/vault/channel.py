"""Proving knowledge of a folder's secret to another device, without naming the folder.

proof = keyed BLAKE3(KDF(S, KEY_NET), lp(PROOF_CHANNEL, dialler's nonce, listener's nonce, dialler's pin, listener's
pin, role)). Both nonces make it good for one link, both pins for these two devices, and the role (who proves) makes a
reflected proof worthless. Source: formats, "Links and relays".
"""

from __future__ import annotations

from p2psync.crypto import domains
from p2psync.crypto.hashing import derive_key, equal, keyed_hash, lp
from p2psync.vault.secrets import EpochSecret, FolderSecrets

PROOFS_MAX = 16
"""Epochs tried from the newest on: a device that was away for more must catch up elsewhere first."""


class FolderProver:
    """Makes and checks one folder's proofs; `transcript` is what `transcript_of` of the session gave."""

    def __init__(self, secrets: FolderSecrets) -> None:
        self._secrets = secrets

    def prove(self, transcript: tuple[bytes, ...]) -> list[bytes]:
        """One proof for every epoch worth trying, newest first."""
        return [_proof(epoch, transcript) for epoch in self._epochs()]

    def answer(self, theirs: tuple[bytes, ...], proof: bytes, ours: tuple[bytes, ...]) -> bytes | None:
        """Our proof under the same epoch if `proof` is good for the transcript `theirs`; None when it is not."""
        found = None
        for epoch in self._epochs():
            if equal(_proof(epoch, theirs), proof):
                found = _proof(epoch, ours)
        return found

    def _epochs(self) -> list[EpochSecret]:
        newest = self._secrets.writing
        others = [epoch for epoch in self._secrets.epochs.values() if epoch != newest]
        return [newest, *reversed(others)][:PROOFS_MAX]

    def __repr__(self) -> str:
        return f"FolderProver({self._secrets!r})"


def _proof(epoch: EpochSecret, transcript: tuple[bytes, ...]) -> bytes:
    return keyed_hash(derive_key(epoch.secret, domains.KEY_NET), lp(domains.PROOF_CHANNEL, *transcript))
