"""Every bound on what we accept or make, each once, with its reason.

Sizes are bytes unless the name says otherwise. A bound on input is checked before anything of that size is
allocated.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# Entries: padded to ENTRY_STEP * 2^k (formats, "Entry"); batches are cut by bytes.
ENTRY_STEP = 4 * KIB
ENTRY_MAX = 1 * MIB
ENTRY_BODY_MAX = ENTRY_MAX - 2 * KIB
"""Room for records in one entry: ENTRY_MAX less the outer fields, AEAD tag, salt and signature."""
ENTRY_BODY_PLAIN_MAX = 8 * MIB
"""An entry's body after decompression; a reader refuses more before allocating it."""

INLINE_MAX = 64 * KIB
"""New content of one entry that still travels inside it: the latency path, one object and no round trip."""

# Packs (formats, "Pack").
PACK_MAX = 16 * MIB
PACK_TARGET_MIN = 4 * MIB
PACK_SIZE_MIN = 4 * KIB
PACK_FRAMES_MAX = 8192
"""Bounds the location table (40 bytes a frame), so that a pack record always fits one entry."""
PACK_TABLE_STEP = 1 * KIB

CHUNK_MAX = 4 * MIB
"""Largest plaintext chunk; four times the largest average."""
CHUNK_LIST_INLINE = 1024
"""File records carry up to this many chunks themselves (36 KiB); a longer list is itself cut into chunks."""
FILE_CHUNKS_MAX = 1 << 25
"""32 Mi chunks: 8 TiB at the smallest average."""

ENVELOPE_MAX = 1 * MIB
CERTIFICATE_MAX = 1 * KIB

# Bases (formats, "History"): what is kept in the catalog for three-way merges.
BASE_MAX = 1 * MIB
BASES_TOTAL_MAX = 64 * MIB

# Text merges (formats, "Text merges"): larger files are seldom text that people write, and comparing lines takes time.
TEXT_MERGE_MAX = 1 * MIB

# Paths: Linux bounds a component at 255 bytes; depth bounds recursion and path length at about 4 KiB typical.
NAME_MAX = 255
PATH_DEPTH_MAX = 256
PATH_BYTES_MAX = 16 * KIB
SYMLINK_TARGET_MAX = 4095
XATTRS_MAX = 16 * KIB
"""Extended attributes of one version, as its record carries them. ext4 keeps at most about 4 KiB of them, XFS and Btrfs
more than anybody writes."""
VECTOR_MAX = 4096
"""Feeds in one version vector; a folder of 100 devices with 40 incarnations each."""
SEQ_MAX = (1 << 53) - 1
MTIME_MAX = (1 << 63) - 1
"""Nanoseconds, 11 April 2262: what 64 bits hold in msgpack and in SQL. Later times are refused, and times before 1970
allowed down to minus this."""

# Wire (protocol, "Frames").
FRAME_BODY_MAX = 256 * KIB
FRAME_HEADER_MAX = 16 * KIB
FRAME_MAX = 2 + FRAME_HEADER_MAX + FRAME_BODY_MAX
LINK_CREDIT = 4 * MIB
"""Body bytes a sender may have outstanding before the receiver grants more."""
REQUESTS_IN_FLIGHT = 64
LIST_PAGE = 1000
FLAGS_MAX = 1000
"""Flags a store reports at once, in key order: a member who floods a feed with gaps costs no more memory."""
KEYS_PER_REQUEST = 256

# Login (protocol, "Namespaces and login").
CHALLENGE_SECONDS = 60

# Pairing (protocol, "Pairing").
MAILBOX_BYTES = 16 * KIB
MAILBOX_SECONDS = 600
UNAUTHENTICATED_SECONDS = 10

# Presence and splices (protocol, "Presence", "Splices").
SLOT_BYTES = 4 * KIB
SLOTS_PER_NAMESPACE = 256
SLOT_SECONDS_MAX = 24 * 3600
SPLICE_WAIT_SECONDS = 30
"""How long the first device waits at the relay for the second."""
