"""Every derivation, hashing and signing label, each once.

A label separates domains: the same key or input under two labels gives unrelated results. Changing one changes a
format; add a new one with a new version instead. `docs/formats.md` lists where each is used.
"""

from __future__ import annotations

PREFIX = "p2psync 1 "

# Hashes over lp(label, fields...).
DEVICE_ID = PREFIX + "device id"
FOLDER_ID = PREFIX + "folder id"
EPOCH_ID = PREFIX + "epoch id"
EPOCH_COMMITMENT = PREFIX + "epoch commitment"
ENTRY_HASH = PREFIX + "entry hash"
RECORD_HASH = PREFIX + "record hash"
ENVELOPE_HASH = PREFIX + "envelope hash"
LAN_MAILBOX = PREFIX + "lan mailbox"
NAMESPACE_ID = PREFIX + "namespace id"
INVITE_HASH = PREFIX + "invite hash"

# Ed25519 signatures over lp(label, fields...).
SIGN_GENESIS = PREFIX + "sign genesis"
SIGN_BIND = PREFIX + "sign bind"
SIGN_ENTRY = PREFIX + "sign entry"
SIGN_ENVELOPE = PREFIX + "sign envelope"
SIGN_NEWCOMER = PREFIX + "sign newcomer"
SIGN_RELAY_HELLO = PREFIX + "sign relay hello"
SIGN_LOGIN = PREFIX + "sign login"
SIGN_NAMESPACE = PREFIX + "sign namespace"

# Keys: BLAKE3 derive-key contexts.
KEY_ACCESS = PREFIX + "key access"
KEY_ENTRY = PREFIX + "key entry"
KEY_PACK_FRAMES = PREFIX + "key pack frames"
KEY_PACK_TABLE = PREFIX + "key pack table"
KEY_PACK_FOOTER = PREFIX + "key pack footer"
KEY_ENVELOPE_PARENT = PREFIX + "key envelope parent"
KEY_CHUNK_ID = PREFIX + "key chunk id"
KEY_CHUNKER_SEED = PREFIX + "key chunker seed"
KEY_PAIRING_CONFIRM = PREFIX + "key pairing confirm"
KEY_PAIRING_MESSAGE = PREFIX + "key pairing message"

# AEAD associated data over lp(label, fields...).
AAD_ENTRY = PREFIX + "aad entry"
AAD_FRAME = PREFIX + "aad frame"
AAD_PAD = PREFIX + "aad pad"
AAD_PACK_TABLE = PREFIX + "aad pack table"
AAD_PACK_FOOTER = PREFIX + "aad pack footer"
AAD_ENVELOPE_PARENT = PREFIX + "aad envelope parent"
AAD_PAIRING = PREFIX + "aad pairing"

# Sealed boxes open to lp(label, fields...).
BOX_EPOCH = PREFIX + "box epoch"
BOX_ADMISSION = PREFIX + "box admission"

# SPAKE2 identities.
PAKE_ADMIN = PREFIX + "pake admin"
PAKE_JOINER = PREFIX + "pake joiner"

# Links between devices.
KEY_NET = PREFIX + "key net"
PROOF_CHANNEL = PREFIX + "proof channel"

# Finding each other.
KEY_SLOT = PREFIX + "key slot"
KEY_PRESENCE = PREFIX + "key presence"
AAD_PRESENCE = PREFIX + "aad presence"
SIGN_PRESENCE = PREFIX + "sign presence"
KEY_LAN_TAG = PREFIX + "key lan tag"
KEY_LAN = PREFIX + "key lan"
AAD_LAN = PREFIX + "aad lan"
KEY_SPLICE = PREFIX + "key splice"
