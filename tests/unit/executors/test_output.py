from hypothesis import given
from hypothesis import strategies as st

from everbell.executors.output import MAX_CHUNK, MAX_SEGMENTS, BoundedSink

writes = st.lists(st.tuples(st.sampled_from(["out", "err"]), st.binary(max_size=40)), max_size=40)


def joined(chunks, stream=None):
    return b"".join(data for name, data in chunks if stream in (None, name))


def test_small_output_is_kept_whole_and_live():
    sink = BoundedSink(100)
    sink.write("out", b"a\x00\xff")
    sink.write("err", b"b")
    assert sink.drain() == [("out", b"a\x00\xff"), ("err", b"b")]
    assert sink.drain() == []
    sink.write("out", b"c")
    assert sink.finish() == [("out", b"c")]
    assert not sink.truncated
    assert sink.total_bytes == 5


def test_the_middle_is_dropped_and_counted():
    sink = BoundedSink(10)
    sink.write("out", b"0123456789abcdefghij")
    assert sink.drain() == [("out", b"01234")]
    assert sink.finish() == [("out", b"\n... 10 bytes dropped ...\n"), ("out", b"fghij")]
    assert sink.truncated
    assert sink.total_bytes == 20


def test_neither_late_writes_nor_a_second_finish_give_more():
    sink = BoundedSink(10)
    sink.write("out", b"a")
    sink.finish()
    sink.write("out", b"b")
    assert sink.finish() == []
    assert sink.total_bytes == 2
    assert sink.truncated


def test_chunks_are_bounded():
    sink = BoundedSink(4 * MAX_CHUNK)
    sink.write("out", b"x" * (2 * MAX_CHUNK - 1))
    assert [len(data) for _, data in sink.drain()] == [MAX_CHUNK, MAX_CHUNK - 1]


def test_byte_wise_ping_pong_is_bounded():
    sink = BoundedSink(1_000_000)
    for _ in range(3 * MAX_SEGMENTS):
        sink.write("out", b"o")
        sink.write("err", b"e")
    assert len(sink.finish()) <= 2 * MAX_SEGMENTS + 1
    assert sink.truncated
    assert sink.total_bytes == 6 * MAX_SEGMENTS


def test_limit_of_one_byte():
    sink = BoundedSink(1)
    sink.write("out", b"abc")
    assert sink.finish() == [("out", b"a"), ("out", b"\n... 2 bytes dropped ...\n")]


@given(writes, st.integers(1, 300))
def test_head_and_tail_are_what_was_written(items, limit):
    sink = BoundedSink(limit)
    early = []
    for stream, data in items:
        sink.write(stream, data)
        early += sink.drain()
    written = b"".join(data for _, data in items)
    kept = joined(early + sink.finish())
    assert sink.total_bytes == len(written)
    assert sink.dropped_bytes == max(0, len(written) - limit)
    if sink.truncated:
        marker = f"\n... {sink.dropped_bytes} bytes dropped ...\n".encode()
        tail = limit // 2
        end = written[len(written) - tail :]
        assert kept == written[: limit - tail] + marker + end
    else:
        assert kept == written


@given(writes)
def test_order_per_stream(items):
    sink = BoundedSink(10_000)
    for stream, data in items:
        sink.write(stream, data)
    chunks = sink.finish()
    for stream in ("out", "err"):
        assert joined(chunks, stream) == b"".join(data for name, data in items if name == stream)
