"""The access list: which key may do what in which namespace, and who may make new ones.

Owns relay.db. Every method is one hop to a worker and one transaction. It checks no signatures: `login` does, before
anything here is asked.
"""

from __future__ import annotations

import base64

from p2psync.crypto import domains
from p2psync.crypto.hashing import labelled_hash
from p2psync.errors import AccessRefused
from p2psync.ids import AccessKey, NamespaceId, RelayKey
from p2psync.seams import Clock, Randomness, Workers
from p2psync.store.sqlite import Database
from p2psync.wire.login import Right, namespace_id

MIGRATIONS = "relay.sql"
TOKEN_BYTES = 15
"""120 bits: 24 characters of base32 without padding."""
FIRST_INVITE_FOLDERS = 100


class AccessList:
    def __init__(self, database: Database, workers: Workers, clock: Clock, relay_key: RelayKey) -> None:
        self._database, self._workers, self._clock, self._relay_key = database, workers, clock, relay_key

    async def right_of(self, namespace: NamespaceId, key: AccessKey) -> Right | None:
        """What `key` may do there; None when nothing, or when there is no such namespace."""
        row = await self._workers.run(
            self._database.query_one,
            "SELECT access_right FROM access WHERE namespace = ? AND access_key = ?",
            (namespace, key),
        )
        return None if row is None else Right(row[0])

    async def create(self, owner: AccessKey, token: str | None, open_to_all: bool) -> NamespaceId:
        """Make the namespace of `owner`, charging the invite; one that is there already costs nothing."""
        return await self._workers.run(self._create, owner, token, open_to_all)

    async def grant(self, namespace: NamespaceId, key: AccessKey, right: Right | None) -> None:
        await self._workers.run(self._grant, namespace, key, right)

    def _create(self, owner: AccessKey, token: str | None, open_to_all: bool) -> NamespaceId:
        namespace = namespace_id(owner, self._relay_key)
        with self._database.transaction():
            if self._database.query_one("SELECT 1 FROM namespace WHERE id = ?", (namespace,)):
                return namespace
            if not open_to_all:
                self._charge(token)
            self._database.execute("INSERT INTO namespace VALUES (?, ?, ?)", (namespace, owner, self._clock.now()))
            self._grant(namespace, owner, Right.OWN)
        return namespace

    def _charge(self, token: str | None) -> None:
        if token is None:
            raise AccessRefused(
                "this relay takes new folders by invite only: set P2PSYNC_RELAY_INVITE to a token from its operator "
                "(p2psync-relay invite)"
            )
        changed = self._database.execute(
            "UPDATE invite SET used = used + 1 WHERE hash = ? AND used < folders", (_token_hash(token),)
        )
        if changed:
            return
        if self._database.query_one("SELECT 1 FROM invite WHERE hash = ?", (_token_hash(token),)):
            raise AccessRefused("this invite is used up; ask the relay's operator for another (p2psync-relay invite)")
        raise AccessRefused("this relay does not know this invite; check P2PSYNC_RELAY_INVITE for typing errors")

    def _grant(self, namespace: NamespaceId, key: AccessKey, right: Right | None) -> None:
        if right is None:
            self._database.execute("DELETE FROM access WHERE namespace = ? AND access_key = ?", (namespace, key))
            return
        self._database.execute(
            "INSERT INTO access VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET access_right = excluded.access_right",
            (namespace, key, right.value),
        )


def make_invite(database: Database, folders: int, randomness: Randomness, now: float) -> str:
    """A new token that admits `folders` namespaces; only its hash is kept. Blocks on the disk."""
    token = base64.b32encode(randomness.bytes(TOKEN_BYTES)).decode().lower()
    database.execute(
        "INSERT INTO invite (hash, folders, created_at) VALUES (?, ?, ?)", (_token_hash(token), folders, now)
    )
    return token


def _token_hash(token: str) -> bytes:
    return labelled_hash(domains.INVITE_HASH, token.strip().lower().encode())
