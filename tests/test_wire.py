"""Contract: wire. Frames survive every cut; what is not a frame is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme import wire
from abyme.wire import PacketReader, WireError, decode, encode, packets

FRAME = {"t": "a", "text": "\ud800 \U0001f600 \r\n \udcff", "list": [None, 1.5, {"x": True}]}


@given(st.recursive(st.none() | st.text() | st.integers(), lambda v: st.lists(v, max_size=3)))
def test_frames_come_out_as_they_went_in(value):
    reader = PacketReader()
    frames = [fed(reader, packet) for packet in packets(encode({"value": value}))]

    assert (frames, reader.partial) == ([{"value": value}], False)


def test_lone_surrogates_pass_unchanged():
    (packet,) = packets(encode(FRAME))

    assert fed(PacketReader(), packet) == FRAME


def test_an_announced_giant_is_refused_before_it_is_buffered():
    with pytest.raises(WireError, match="4,294,967,295 bytes announced"):
        PacketReader().feed(wire.FIRST + b"\xff\xff\xff\xff")


@pytest.mark.parametrize("body", [b"[]", b"1", b"{", b"\xff", b'{"a":' * 100_000])
def test_a_body_that_is_not_an_object_is_refused(body):
    with pytest.raises(WireError):
        decode(body)


def test_a_frame_over_the_cap_is_not_sent(monkeypatch):
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 100)

    with pytest.raises(WireError, match="exceeds 100"):
        encode({"text": "x" * 100})


def fed(reader, packet):
    body = reader.feed(packet)
    return None if body is None else decode(body)


def big(letter):
    return {"text": letter * 3 * wire.PACKET_BYTES}


def test_a_long_frame_travels_in_several_packets():
    sent = list(packets(encode(big("x"))))
    reader = PacketReader()

    assert len(sent) == 4
    assert [fed(reader, packet) for packet in sent] == [None, None, None, big("x")]


def test_a_process_killed_in_the_middle_of_a_frame_does_not_garble_the_next_one():
    reader = PacketReader()
    for packet in list(packets(encode(big("x"))))[:2]:
        assert reader.feed(packet) is None

    assert fed(reader, next(packets(encode({"t": "new"})))) == {"t": "new"}


def test_the_rest_of_a_frame_that_began_elsewhere_is_skipped():
    reader = PacketReader()
    rest = list(packets(encode(big("x"))))[1:]

    assert [reader.feed(packet) for packet in rest] == [None] * 3
    assert not reader.partial
    assert fed(reader, next(packets(encode({"t": "new"})))) == {"t": "new"}


@pytest.mark.parametrize("packet", [b"", b"\x02abc", b"\x01\0\0\0", b"\x01" + encode({}) * 2])
def test_packets_without_a_mark_or_a_length_or_with_two_frames_are_refused(packet):
    with pytest.raises(WireError):
        PacketReader().feed(packet)
