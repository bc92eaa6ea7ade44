"""One check for any blind object: does `data` belong under `key`?

This is what a store asks before it keeps anything, and what a device asks of a store it does not trust.
"""

from __future__ import annotations

from p2psync.errors import IntegrityError
from p2psync.sealed import entry, envelope, pack
from p2psync.sealed.keys import EntryKey, EnvelopeKey, PackKey, parse_key


def check_object(key: str, data: bytes | bytearray | memoryview) -> entry.Entry | envelope.Envelope | pack.PackHeader:
    """Return the parsed object; PeerError on a wrong form, IntegrityError when key and bytes do not agree."""
    match parse_key(key):
        case PackKey(name):
            return pack.check(name, data)
        case EntryKey() as wanted:
            found = entry.parse(bytes(data))
            if (found.feed, found.seq, found.hash) != (wanted.feed, wanted.seq, wanted.hash):
                raise IntegrityError("entry does not match its key")
            return found
        case EnvelopeKey() as named:
            opened = envelope.parse(bytes(data))
            if (opened.epoch, opened.hash) != (named.epoch, named.hash):
                raise IntegrityError("envelope does not match its key")
            return opened
