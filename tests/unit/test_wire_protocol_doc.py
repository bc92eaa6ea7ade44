"""docs/protocol.md says what the code does: every message, transition, fault, and the hex of the worked exchange."""

from __future__ import annotations

import re
from pathlib import Path

from p2psync.wire.codec import FORMS
from p2psync.wire.conversation import TRANSITIONS, Conversation, Speaker, State
from p2psync.wire.faults import Fault

TEXT = (Path(__file__).parent.parent.parent / "docs" / "protocol.md").read_text()


def test_the_document_lists_every_message_with_its_fields() -> None:
    for number, (kind, readers) in FORMS.items():
        assert re.search(
            rf"^\| {number} \| {kind.__name__} \| [a-z ]+ \| {', '.join(readers) or '—'} \|", TEXT, re.M
        ), kind


def test_the_document_holds_the_whole_state_table() -> None:
    section = TEXT.split("## States")[1].split("## Requests")[0]
    rows = re.findall(r"^\| ([^|]+) \| (client|server) \| ([^|]+) \| ([^|]+) \|$", section, re.M)
    found = {
        (state, speaker, name): after for state, speaker, names, after in rows for name in names.split(", ")
    }  # fmt: skip
    assert found == {
        (state.value, speaker.value, kind.__name__): after.value
        for (state, speaker, kind), after in TRANSITIONS.items()
    }


def test_the_document_lists_every_fault() -> None:
    for fault in Fault:
        assert f"| {int(fault)} | {fault.name} |" in TEXT


def test_the_worked_exchange_is_understood() -> None:
    ends = {Speaker.CLIENT: Conversation(Speaker.SERVER), Speaker.SERVER: Conversation(Speaker.CLIENT)}
    for who, name, data in re.findall(r"^(client|server): `(\w+)`\n```\n([0-9a-f ]+)\n```", TEXT, re.M):
        listener = ends[Speaker(who)]
        listener.receive_data(bytes.fromhex(data))
        event = listener.next_event()
        assert event is not None and type(event[0]).__name__ == name
        ends[Speaker(who).other].state = listener.state
    assert ends[Speaker.CLIENT].state is State.READY
