"""Frames arrive whole, whatever the pieces they come in; what is no frame is refused before it is believed."""

import asyncio
import itertools
import socket
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.job.commands import Succeeded
from holdfast.worker.process.frames import FRAME_MAX, BrokenFrame, FromChild, Log, Progress, Result, Unpacker, pack

MESSAGES = st.lists(
    st.one_of(
        st.builds(Progress, st.binary(max_size=3_000), st.none() | st.binary(max_size=50)),
        st.builds(Log, st.tuples(st.floats(allow_nan=False), st.text(max_size=8), st.text(max_size=200))),
        st.builds(Result, st.builds(Succeeded, st.none() | st.binary(max_size=200)), st.integers(0, 2**40)),
    ),
    max_size=8,
)


async def read_stream(data: bytes, cuts: list[int]) -> list[object]:
    reader = asyncio.StreamReader()
    unpacker: Unpacker[object] = Unpacker(FromChild)
    reading = asyncio.create_task(read_all(unpacker, reader))
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        reader.feed_data(data[start:end])
        await asyncio.sleep(0)
    reader.feed_eof()
    return await reading


async def read_all(unpacker: Unpacker[object], reader: asyncio.StreamReader) -> list[object]:
    found = []
    while (message := await unpacker.from_stream(reader)) is not None:
        found.append(message)
    return found


@given(MESSAGES, st.lists(st.integers(0, 100_000), max_size=20))
def test_messages_arrive_as_they_were_sent_in_whatever_pieces(messages: list[object], cuts: list[int]) -> None:
    assert asyncio.run(read_stream(b"".join(map(pack, messages)), cuts)) == messages


@given(MESSAGES, st.integers(1, 4_000))
def test_a_frame_that_is_cut_short_counts_as_the_end(messages: list[object], missing: int) -> None:
    data = b"".join(map(pack, messages))
    found = asyncio.run(read_stream(data[:-missing], []))
    assert found == messages[: len(found)]


def send_and_close(sock: socket.socket, messages: list[object]) -> None:
    with sock:
        sock.sendall(b"".join(map(pack, messages)))


@given(MESSAGES)
def test_a_blocking_socket_gives_the_same(messages: list[object]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=send_and_close, args=(theirs, messages))
        sender.start()
        unpacker: Unpacker[object] = Unpacker(FromChild)
        found = []
        while (message := unpacker.from_socket(ours)) is not None:
            found.append(message)
        sender.join()
    assert found == messages


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ((FRAME_MAX + 1).to_bytes(4), "at most 67,108,864 bytes, found 67,108,865"),
        (b"\xff\xff\xff\xff", "found 4,294,967,295"),
        (b"\x00\x00\x00\x01\xc1", "bytes that are none"),
        (b"\x00\x00\x00\x00", "found 0 bytes"),
        (b"\x00\x00\x00\x0d" + msgspec.msgpack.encode({"type": "pickle"}), "that are none"),
    ],
)
async def test_what_is_no_frame_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(BrokenFrame, match=told):
        await read_stream(data, [])


def test_a_message_over_the_limit_is_not_sent() -> None:
    with pytest.raises(BrokenFrame, match="at most"):
        pack(Progress(b"x" * (FRAME_MAX + 1)))
