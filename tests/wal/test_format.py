"""FORMAT.md, byte by byte, and T12 of the test plan: no bytes can do more than be refused."""

import struct
from zlib import crc32

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from holdfast.wal import Recovery, verify
from holdfast.wal.errors import WalError
from holdfast.wal.frame import encode_group, frame_size, seed_of
from holdfast.wal.layout import Identity, Mark, decode_mark, encode_identity, encode_slot
from holdfast.wal.segment import SegmentHeader, decode_header, encode_header
from tests.features import feature
from tests.wal.conftest import Open
from tests.wal.damage import LIMIT, WatchedDisk, sample
from tests.wal.disk import SimDisk
from tests.wal.helpers import fill, payloads
from tests.wal.world import SMALL

FIRST = "00000000000000000001.log"


@feature("B20", "B21")
def test_frames_lie_on_disk_as_the_format_page_says() -> None:
    salt = b"saltsalt"
    seed = crc32(salt)
    data, crc = encode_group([b"hello", b"12345678"], after=6, synced=5, previous_crc=0xABCD, seed=seed)
    assert len(data) == frame_size(5) + frame_size(8) == 48 + 48
    assert data[:8] == b"HFR\x01" + b"\x01\x01\x00\x00"
    length, payload_crc, number, synced, previous, header_crc = struct.unpack("<IIQQII", data[8:40])
    assert (length, number, synced, previous) == (5, 7, 5, 0xABCD)
    assert payload_crc == crc32(b"saltsalt" + b"hello")
    assert header_crc == crc32(b"saltsalt" + data[:36])
    assert data[40:48] == b"hello\0\0\0"
    assert struct.unpack("<I", data[48 + 32 : 48 + 36])[0] == header_crc
    assert struct.unpack("<I", data[48 + 36 : 48 + 40])[0] == crc


def test_headers_lie_on_disk_as_the_format_page_says() -> None:
    header = SegmentHeader(first=9, previous_end=8, previous_crc=7, salt=b"12345678", store_id=b"i" * 16, epoch=3)
    data = encode_header(header)
    assert struct.unpack("<8sHHIQQII8s16sQ20sI", data) == (
        *(b"HFSEGMNT", 1, 0, 96, 9, 8, 7, 0, b"12345678", b"i" * 16, 3, bytes(20)),
        crc32(data[:92]),
    )
    assert decode_header("x", data) == header
    mark = encode_slot(Mark(5, 2))
    assert struct.unpack("<4sIQQII", mark) == (b"HFMK", 0, 5, 2, 0, crc32(mark[:28]))
    identity = encode_identity(Identity(b"s" * 16))
    assert struct.unpack("<8sIIII16s20sI", identity) == (
        *(b"HOLDFAST", 1, 0, 0, 0, b"s" * 16, bytes(20)),
        crc32(identity[:60]),
    )


@feature("BW11")
@pytest.mark.parametrize("offset", range(40))
def test_the_header_checksum_covers_every_byte_of_the_header_the_length_too(offset: int) -> None:
    files = sample(frames=2, snapshots=False).files
    last = max(name for name in files if name.endswith(".log"))
    flipped = bytearray(files[last])
    flipped[96 + offset] ^= 0x01
    with pytest.raises(WalError, match="no valid frame header"):
        payloads(SimDisk({**files, last: bytes(flipped)}))


def test_padding_that_is_not_zero_is_damage() -> None:
    disk = SimDisk()
    log = Recovery.begin(disk, SMALL).serve(threaded=False)
    fill(log, b"five5")
    log.abandon()
    disk.names[FIRST].seen[96 + 40 + 6] = 1
    with pytest.raises(WalError, match="does not match its checksum"):
        payloads(disk)


def test_a_payload_that_imitates_frames_is_only_a_payload(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    fill(log, b"one")
    copy = bytes(disk.names[FIRST].seen[96:160])
    fill(log, copy + copy)
    other, _ = encode_group([b"imitated"], after=2, synced=2, previous_crc=1, seed=seed_of(b"another!"))
    fill(log, other)
    log.close()
    assert payloads(disk) == [b"one", copy + copy, other]


MUTATION = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 1 << 20), st.binary(min_size=1, max_size=12)),
    st.tuples(st.just("cut"), st.integers(0, 1 << 20), st.just(b"")),
    st.tuples(st.just("insert"), st.integers(0, 1 << 20), st.binary(min_size=1, max_size=80)),
    st.tuples(
        st.just("length"),
        st.integers(0, 30),
        st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\x01", b"\xff\xff\xff\x7f"]),
    ),
)


def _mutated(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, extra in changes:
        at = place % (len(data) + 1)
        if kind == "set":
            data = data[:at] + extra + data[at + len(extra) :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "insert":
            data = data[:at] + extra + data[at:]
        else:
            at = 96 + 8 + 8 * place
            data = data[:at] + extra + data[at + 4 :]
    return data


SAMPLE = sample(frames=6)


@settings(max_examples=800)
@given(name=st.sampled_from(sorted(SAMPLE.files)), changes=st.lists(MUTATION, min_size=1, max_size=4))
@example(name="MARK", changes=[("cut", 0, b"")])
def test_no_bytes_do_more_than_be_refused(name: str, changes: list[tuple[str, int, bytes]]) -> None:
    _open_or_refuse(name, changes)


@pytest.mark.soak
@settings(max_examples=100_000)
@given(name=st.sampled_from(sorted(SAMPLE.files)), changes=st.lists(MUTATION, min_size=1, max_size=8))
def test_a_hundred_thousand_mutations_do_no_more_than_be_refused(
    name: str, changes: list[tuple[str, int, bytes]]
) -> None:
    _open_or_refuse(name, changes)


def _open_or_refuse(name: str, changes: list[tuple[str, int, bytes]]) -> None:
    disk = WatchedDisk({**SAMPLE.files, name: _mutated(SAMPLE.files[name], changes)})
    try:
        recovery = Recovery.begin(disk, SMALL)
        found = [*recovery.records(), *(frame.payload for frame in recovery.replay())]
        assert tuple(found) == SAMPLE.payloads
    except WalError:
        verify(disk)


@settings(max_examples=200)
@given(
    data=st.binary(max_size=300), kind=st.sampled_from(["FORMAT", "MARK", FIRST, "00000000000000000003.snap", "LOCK"])
)
def test_a_folder_of_nonsense_is_refused_or_taken_for_empty(data: bytes, kind: str) -> None:
    disk = WatchedDisk({kind: data})
    try:
        Recovery.begin(disk, SMALL).serve(threaded=False).abandon()
    except WalError:
        assert LIMIT
    assert decode_mark(data) is None or kind


def test_a_length_of_four_gigabytes_in_a_valid_header_is_not_believed() -> None:
    from holdfast.wal.frame import CRC, FIELDS

    salt_at, files = 40, sample(frames=1, snapshots=False).files
    data = files[FIRST]
    seed = seed_of(data[salt_at : salt_at + 8])
    head = FIELDS.pack(b"HFR", 1, 1, 1, 0, 0xFFFFFFFF, 0, 1, 0, 0)
    forged = data[:96] + head + CRC.pack(crc32(head, seed)) + data[136:]
    with pytest.raises(WalError, match="a frame that does not follow"):
        payloads(WatchedDisk({**files, FIRST: forged}))
