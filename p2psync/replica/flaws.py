"""Flaws: why an entry on the disk is flagged and left alone instead of being compared. Source: formats, "On disk"."""

from __future__ import annotations

from p2psync.catalog.rows import Fingerprint, Placed
from p2psync.index.paths import Path, refuse_reason
from p2psync.index.versions import Kind
from p2psync.limits import MTIME_MAX
from p2psync.replica.context import Context
from p2psync.replica.filesystem import Kind as DiskKind
from p2psync.replica.filesystem import Stat
from p2psync.replica.leftovers import holds_only_ignored

ROTTEN = (
    "its bytes changed although nobody wrote to it (bit rot), and what they were was not to be had: it is neither published"
    " nor sent; connect a device or store that has it and run p2psync scrub, or put the file back yourself"
)


def _flaw(path: Path, stat: Stat, base: Placed | None) -> str | None:
    """Why an entry is flagged and left alone."""
    if stat.kind is DiskKind.OTHER:
        return "a special file (FIFO, socket or device) is not synced"
    if reason := refuse_reason(path):
        return f"not synced: it {reason}"
    if (
        base is not None
        and base.kind is Kind.DIRECTORY
        and stat.kind is DiskKind.DIRECTORY
        and base.fingerprint.dev not in (0, stat.dev)
    ):
        return "another filesystem stands here than before (mounted or unmounted?); what is below it is left alone"
    if not -MTIME_MAX <= stat.mtime_ns <= MTIME_MAX:
        return "its modification time is beyond the year 2262; set another with touch"
    return None


def _left_over(context: Context, path: Path, stat: Stat, base: Placed | None) -> str | None:
    """Why a directory others deleted is not published again: what is left in it is nobody's but this device's."""
    if stat.kind is not DiskKind.DIRECTORY or base is not None:
        return None
    before, wanted = context.catalog.placed.get(path), context.catalog.versions.wanted(path)
    if before is None or before.live or wanted is None or wanted.kind is not Kind.DELETED:
        return None
    if not holds_only_ignored(context.shape, context.filesystem, path):
        return None
    return "another device deleted this directory; it stays because ignored files are in it"


def why_left_alone(context: Context, path: Path, stat: Stat, base: Placed | None, flagged: bool) -> str | None:
    """What is wrong with an entry that is not compared; `flagged` says whether something was when it was last looked at."""
    reason = _flaw(path, stat, base) or _left_over(context, path, stat, base)
    return _rotten_still(context, path, stat) if flagged and reason is None else reason


def _rotten_still(context: Context, path: Path, stat: Stat) -> str | None:
    """Why a file that a scrub found rotten is left alone: it looks as it did then, so nobody has edited it since."""
    seen = context.catalog.rotten.seen(path)
    if seen is None:
        return None
    if stat.kind is DiskKind.FILE and seen.same_file(Fingerprint(*stat.fingerprint)):
        return ROTTEN
    context.catalog.rotten.forget(path)
    return None
