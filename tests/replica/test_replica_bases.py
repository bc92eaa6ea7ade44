"""Bases for merges: what was last synced can be had again after it was edited in place, within bounds."""

from __future__ import annotations

from pathlib import Path

from p2psync.catalog.bases import Bases
from p2psync.index.versions import Content, Version
from p2psync.limits import BASE_MAX, BASES_TOTAL_MAX
from p2psync.replica.bases import content_of, keep
from p2psync.replica.context import Context
from p2psync.replica.replica import Replica
from p2psync.store.sqlite import Database
from tests.replica.test_replica_two_devices import two_devices
from tests.support.devices import converge


def context_of(replica: Replica) -> Context:
    return replica._context


def version_at(replica: Replica, *path: bytes) -> Version:
    versions = context_of(replica).catalog.versions
    wanted = versions.wanted(path)
    assert wanted is not None
    return versions.wanted_version(wanted)


async def test_the_base_of_an_edit_in_place_is_known_on_both_devices(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, _, first, second):
        text = b"".join(b"line %d\n" % number for number in range(30_000))
        a.write("note.md", text)
        a.write("picture", bytes(100_000))
        await converge(first, second)
        old, picture = version_at(first, b"note.md"), version_at(first, b"picture")
        a.write("note.md", b"edited")
        await converge(first, second)
        for replica in (first, second):
            assert version_at(replica, b"note.md").dot != old.dot
            assert content_of(context_of(replica), old) == text
            assert context_of(replica).catalog.bases.get(picture.content) is None
        assert len(text) > 2 * 64 * 1024


def test_bases_stay_within_their_bounds_and_the_last_used_remain() -> None:
    database = Database.in_memory("p2psync.catalog.sql")
    bases = Bases(database)
    count = BASES_TOTAL_MAX // BASE_MAX
    contents = [Content(chunks=bytes([number]) * 36) for number in range(count + 20)]
    for content in contents[:count]:
        assert bases.put(content, bytes(BASE_MAX), edited=False)
    assert not bases.put(contents[-1], bytes(BASE_MAX), edited=False)
    assert not bases.put(contents[-1], bytes(BASE_MAX + 1), edited=True)
    assert bases.get(contents[0]) is not None
    for content in contents[count:]:
        assert bases.put(content, bytes(BASE_MAX), edited=True)
    held = [content for content in contents if bases.has(content)]
    assert len(held) <= count and contents[0] in held and contents[1] not in held and contents[-1] in held
    database.close()


async def test_only_text_like_versions_are_bases(tmp_path: Path) -> None:
    async with two_devices(tmp_path) as (a, _, first, second):
        a.write("x", b"text")
        await converge(first, second)
        context, version = context_of(first), version_at(first, b"x")
        for replica in (first, second):
            assert context_of(replica).catalog.bases.get(version.content) == b"text", "published here, placed there"
        other = Version(
            path=version.path,
            dot=version.dot,
            kind=version.kind,
            vector=version.vector,
            content=Content(chunks=b"1" * 36),
        )
        keep(context, other, b"\0binary")
        assert not context.catalog.bases.has(other.content)
        keep(context, other, b"text")
        assert context.catalog.bases.has(other.content)
