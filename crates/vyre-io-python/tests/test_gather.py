"""Rows of a file, in the order of a list of numbers."""

import os
import threading

import numpy as np
import pytest

import vyre_io

ROW = 24


@pytest.fixture
def table(tmp_path):
    """A file that begins with 5 bytes, followed by 50,000 rows of three words and a part of a row."""
    path = tmp_path / "table"
    rows = np.arange(150_000, dtype=np.uint64).reshape(-1, 3)
    path.write_bytes(b"start" + rows.tobytes() + b"part")
    return path, rows




@pytest.mark.parametrize("threads", [None, 1, 3, 1000])
@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 40_000])
def test_rows_come_in_the_order_of_their_numbers(table, count, threads):
    path, rows = table
    ids = np.random.default_rng(count).integers(len(rows), size=count)
    with vyre_io.File(path) as file:
        found = vyre_io.gather(file, ids, ROW, offset=5, threads=threads)
        assert found.shape == (count, ROW) and found.dtype == np.uint8
        assert np.array_equal(found.view(np.uint64), rows[ids])
        out = np.full((count, 3), 7, dtype=np.uint64)
        assert vyre_io.gather(file, ids.astype(np.int32), ROW, out, offset=5, threads=threads) is out
        assert np.array_equal(out, rows[ids])
        assert np.array_equal(vyre_io.gather(file, list(ids), ROW, offset=5), found)


def test_a_number_without_a_row_is_an_index_error(table):
    path, rows = table
    with vyre_io.File(path) as file:
        for wrong in [-1, len(rows), 1 << 62]:
            for position in [0, 700, 9_999]:
                ids = np.zeros(10_000, dtype=np.int64)
                ids[position] = wrong
                with pytest.raises(IndexError, match=f"number {position} is {wrong}.* 50000 rows"):
                    vyre_io.gather(file, ids, ROW, offset=5)
        with pytest.raises(IndexError, match="0 rows"):
            vyre_io.gather(file, [0], ROW, offset=1 << 40)


def test_arguments_are_checked(table):
    path, _ = table
    with vyre_io.File(path) as file:
        with pytest.raises(TypeError, match="integers"):
            vyre_io.gather(file, [0.5], ROW)
        with pytest.raises(ValueError, match="row_bytes"):
            vyre_io.gather(file, [0], 0)
        with pytest.raises(ValueError, match="inside the buffer"):
            vyre_io.gather(file, [0, 1], ROW, bytearray(2 * ROW - 1))
        with pytest.raises(BufferError, match="read-only"):
            vyre_io.gather(file, [0], ROW, bytes(ROW))
    with pytest.raises(ValueError, match="closed"):
        vyre_io.gather(file, [0], ROW)


def test_rows_that_are_appended_are_found(table):
    path, rows = table
    with vyre_io.File(path) as file:
        vyre_io.gather(file, [0], ROW, offset=5)
        with open(path, "r+b") as other:
            other.seek(5 + rows.nbytes)
            other.write(bytes(range(ROW)))
        assert bytes(vyre_io.gather(file, [len(rows)], ROW, offset=5)[0]) == bytes(range(ROW))


def test_a_file_that_is_not_mapped_is_read(table):
    """The kernel maps no file that is open with O_DIRECT here."""
    path, rows = table
    try:
        file = vyre_io.File(path, direct=True)
    except OSError as error:
        pytest.skip(f"no direct I/O here: {error}")
    with file:
        with pytest.raises(OSError) as caught:
            vyre_io.gather(file, [1], ROW, offset=5)
        assert caught.value.filename == str(path)
    with vyre_io.File("/proc/self/status") as file, pytest.raises(IndexError, match="0 rows"):
        vyre_io.gather(file, [0], 1)


def test_a_truncation_beside_a_gather_is_an_error_and_no_crash(table):
    path, rows = table
    whole = path.read_bytes()
    stop = threading.Event()

    def truncate():
        while not stop.is_set():
            os.truncate(path, 70_000)
            with open(path, "r+b") as file:
                file.write(whole)

    thread = threading.Thread(target=truncate)
    thread.start()
    outcomes = set()
    try:
        ids = np.random.default_rng(1).integers(len(rows), size=20_000)
        with vyre_io.File(path) as file:
            for _ in range(200):
                try:
                    vyre_io.gather(file, ids, ROW, offset=5)
                    outcomes.add("rows")
                except (IndexError, OSError) as error:
                    outcomes.add(type(error).__name__)
    finally:
        stop.set()
        thread.join()
    assert outcomes


def test_the_interpreter_runs_during_a_gather(table):
    path, rows = table
    ticks = []
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(1)
            stop.wait(0.0001)

    thread = threading.Thread(target=tick)
    ids = np.random.default_rng(1).integers(len(rows), size=4_000_000)
    out = np.empty((len(ids), ROW), dtype=np.uint8)
    with vyre_io.File(path) as file:
        thread.start()
        before = len(ticks)
        vyre_io.gather(file, ids, ROW, out, offset=5)
        during = len(ticks) - before
        stop.set()
        thread.join()
    assert during > 3
