"""Reads and writes of files."""

import errno
import mmap
import os
import pickle

import numpy as np
import pytest

import vyre_io


@pytest.mark.parametrize("size", [0, 1, 8, 4096, 65536, 65537, 300_000, 1 << 20])
@pytest.mark.parametrize("offset", [0, 1, 4095, 70_000])
def test_a_read_gives_the_bytes_of_the_file(engine, path, uncached, size, offset):
    expected = path.read_bytes()[offset : offset + size]
    for is_cached in [True, False]:
        if not is_cached:
            uncached(path)
        buffer = bytearray(b"\xff" * (size + 2))
        with vyre_io.File(path, engine=engine) as file:
            assert file.pread(buffer, offset, size, at=1).result() == len(expected)
        assert buffer[1 : 1 + len(expected)] == expected
        assert buffer[0] == 0xFF and buffer[1 + len(expected) :].count(0xFF) == len(buffer) - 1 - len(expected)


@pytest.mark.parametrize("size", [0, 1, 4096, 65536, 65537, 1 << 20])
def test_a_write_arrives_and_the_rest_stays(engine, path, size):
    before = path.read_bytes()
    data = os.urandom(size)
    with vyre_io.File(path, "r+", engine=engine) as file:
        for buffer in [data, bytearray(data), np.frombuffer(data, dtype=np.uint8)]:
            assert file.pwrite(buffer, 3).result() == size
            assert file.sync().result() == 0
            assert path.read_bytes() == before[:3] + data + before[3 + size :]
            assert file.pwrite(before, 0).result() == len(before)


def test_operations_beyond_the_depth_wait_for_others(engine, path, uncached):
    uncached(path)
    words = path.read_bytes()
    with vyre_io.File(path, engine=engine) as file:
        buffers = [np.zeros(512, dtype=np.uint64) for _ in range(200)]
        futures = [file.pread(buffer, 4096 * number) for number, buffer in enumerate(buffers)]
        assert [future.result() for future in futures] == [4096] * 200
    for number, buffer in enumerate(buffers):
        assert buffer.tobytes() == words[4096 * number : 4096 * (number + 1)]


def test_results_come_without_those_of_earlier_operations(engine, path, uncached):
    uncached(path)
    with vyre_io.File(path, engine=engine) as file:
        buffers = [bytearray(100_000) for _ in range(30)]
        futures = [file.pread(buffer, 5) for buffer in buffers]
        assert futures[-1].result() == 100_000
        assert all(future.result() == 100_000 for future in futures)
    assert all(buffer == buffers[0] for buffer in buffers)


def test_errors_name_the_file(engine, path, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        vyre_io.File(tmp_path / "none", engine=engine)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == str(tmp_path / "none")

    with vyre_io.File(path, engine=engine) as file:
        with pytest.raises(OSError) as caught:
            file.pwrite(b"x").result()
    assert caught.value.errno in (errno.EACCES, errno.EBADF)
    assert caught.value.filename == str(path)

    with vyre_io.File(tmp_path, engine=engine) as directory:
        with pytest.raises(IsADirectoryError) as caught:
            directory.pread(bytearray(8)).result()
    assert caught.value.filename == str(tmp_path)


def test_an_error_comes_from_the_kernel(engine):
    with vyre_io.File("/dev/full", "r+", engine=engine) as full:
        for size in [10, 100_000]:
            with pytest.raises(OSError) as caught:
                full.pwrite(bytes(size)).result()
            assert caught.value.errno == errno.ENOSPC
            assert caught.value.filename == "/dev/full"


def test_buffers_that_cannot_be_used_are_refused(engine, path):
    with vyre_io.File(path, "r+", engine=engine) as file:
        with pytest.raises(BufferError, match="read-only"):
            file.pread(b"12345678")
        with pytest.raises(BufferError, match="contiguous"):
            file.pread(np.zeros((8, 8))[:, 3])
        with pytest.raises(TypeError):
            file.pread([1, 2])
        for size, at in [(9, 0), (8, 1), (None, 9), (1 << 62, 1 << 62)]:
            with pytest.raises(ValueError, match="inside the buffer"):
                file.pread(bytearray(8), 0, size, at=at)
        assert file.pread(bytearray(8), at=8).result() == 0


def test_any_contiguous_buffer_is_read_into(engine, path, uncached, tmp_path):
    expected = path.read_bytes()[:81_920]
    memory = mmap.mmap(-1, 81_920)
    np.zeros(81_920, dtype=np.uint8).tofile(tmp_path / "mapped")
    buffers = [
        np.zeros((64, 160), dtype=np.float64),
        np.zeros((160, 64), dtype=np.float64, order="F"),
        np.zeros(40_960, dtype=np.float16),
        memory,
        memoryview(bytearray(100_000))[5:81_925],
        # The kernel pins no pages of a file.
        np.memmap(tmp_path / "mapped", mode="r+"),
    ]
    with vyre_io.File(path, engine=engine) as file:
        for buffer in buffers:
            uncached(path)
            assert file.pread(buffer).result() == 81_920
            found = buffer.tobytes("A") if hasattr(buffer, "tobytes") else buffer[:]
            assert found == expected


def test_a_buffer_is_kept_only_until_the_result_is_there(engine, path, uncached):
    with vyre_io.File(path, engine=engine) as file:
        for size in [8, 200_000]:
            uncached(path)
            buffer = bytearray(size)
            future = file.pread(buffer)
            future.result()
            buffer.extend(b"longer")
            assert len(buffer) == size + 6


def test_registered_memory_is_used_and_given_back(engine, path, uncached):
    uncached(path)
    words = path.read_bytes()
    uncached(path)
    buffer = bytearray(400_000)
    with vyre_io.File(path, "r+", engine=engine) as file:
        with engine.register(buffer) as memory:
            assert len(memory) == 400_000
            assert file.pread(memory, 7, 300_000, at=50_000).result() == 300_000
            assert file.pwrite(memory, 0, 100_000, at=50_000).result() == 100_000
            with pytest.raises(BufferError):
                buffer.extend(b"x")
            with pytest.raises(ValueError, match="inside the buffer"):
                file.pread(memory, 0, 1, at=400_000)
        buffer.extend(b"x")
        assert memory.closed
        with pytest.raises(ValueError, match="closed"):
            file.pread(memory)
        with engine.register(b"constant") as memory, pytest.raises(BufferError, match="read-only"):
            file.pread(memory)
        with vyre_io.Engine(depth=1) as other, other.register(bytearray(8)) as memory:
            with pytest.raises(ValueError, match="another engine"):
                file.pread(memory)
        with pytest.raises(ValueError, match="empty"):
            engine.register(b"")
    assert bytes(buffer[50_000:350_000]) == words[7:300_007]
    assert path.read_bytes() == words[7:100_007] + words[100_000:]


def test_a_batch_has_the_outcome_of_each_request(engine, path, uncached):
    words = path.read_bytes()
    uncached(path)
    buffer = np.zeros(1 << 20, dtype=np.uint8)
    with vyre_io.File(path, "r+", engine=engine) as file, vyre_io.File("/dev/full", "w", engine=engine) as full:
        order = np.random.default_rng(1).permutation(256)
        reads = [vyre_io.Read(file, buffer, 4096 * int(page), 4096, at=4096 * at) for at, page in enumerate(order)]
        batch = engine.submit(reads)
        assert len(batch) == 256 and batch.result() == [4096] * 256 and batch.done()
        pages = np.frombuffer(words[: 1 << 20], dtype=np.uint8).reshape(256, 4096)
        assert np.array_equal(buffer.reshape(256, 4096), pages[order])

        mixed = [vyre_io.Write(file, b"begin", 0), vyre_io.Write(full, b"x"), vyre_io.Sync(file)]
        with pytest.raises(OSError) as caught:
            engine.submit(mixed).result()
        assert caught.value.filename == "/dev/full"
        outcomes = engine.submit(mixed).outcomes()
        assert outcomes[0] == 5 and outcomes[2] == 0 and outcomes[1].errno == errno.ENOSPC
        assert engine.submit([]).result() == []
        with pytest.raises(TypeError, match="request"):
            engine.submit([file])
        with pytest.raises(ValueError, match="inside"):
            engine.submit([vyre_io.Write(file, b"never", 0), vyre_io.Read(file, buffer, 0, 1 << 30)])
    assert path.read_bytes()[:8] == b"begin" + words[5:8]


def test_modes_open_as_open_does(tmp_path):
    path = tmp_path / "new"
    with vyre_io.File(path, "xb") as file:
        assert file.mode == "xb" and file.name == str(path)
        file.pwrite(b"new").result()
    with pytest.raises(FileExistsError):
        vyre_io.File(path, "x+")
    with vyre_io.File(path, "r+") as file:
        assert file.size() == 3
    with vyre_io.File(path, "w+") as file:
        assert file.size() == 0 and file.pread(bytearray(3)).result() == 0
    with pytest.raises(ValueError, match="no mode"):
        vyre_io.File(path, "a")
    file.close()
    assert file.closed
    for operation in [file.sync, file.size, lambda: file.pread(bytearray(1))]:
        with pytest.raises(ValueError, match="closed"):
            operation()


def test_a_closed_file_ends_what_is_in_flight(engine, path, uncached):
    uncached(path)
    buffer = bytearray(500_000)
    file = vyre_io.File(path, engine=engine)
    future = file.pread(buffer)
    file.close()
    assert future.result() == 500_000
    assert buffer == path.read_bytes()[:500_000]


def test_direct_reads_bypass_the_page_cache(path):
    try:
        file = vyre_io.File(path, direct=True)
    except OSError as error:
        pytest.skip(f"no direct I/O here: {error}")
    with file:
        buffer = bytearray(65_536)
        assert file.pread(buffer, 65_536).result() == 65_536
        assert buffer == path.read_bytes()[65_536:131_072]


def test_a_file_is_pickled_as_its_path(path):
    with vyre_io.File(path, "w") as file:
        file.pwrite(b"kept").result()
        copy = pickle.loads(pickle.dumps(file))
        buffer = bytearray(4)
        assert copy.pread(buffer).result() == 4 and buffer == b"kept"
        copy.close()
    with vyre_io.Engine(depth=1) as engine, vyre_io.File(path, engine=engine) as file:
        with pytest.raises(TypeError, match="worker"):
            pickle.dumps(file)


def test_settings_are_checked():
    for wrong in [{"depth": 0}, {"depth": 4097}, {"transport": "none"}, {"wait": "long"}]:
        with pytest.raises(ValueError, match="must be"):
            vyre_io.Engine(**wrong)
    with pytest.raises(OSError, match="core"):
        vyre_io.Engine(core=100_000)


def test_a_closed_engine_refuses(path, uncached):
    engine = vyre_io.Engine(depth=2)
    file = vyre_io.File(path, "r+", engine=engine)
    future = file.pwrite(b"written")
    engine.close()
    assert future.result() == 7
    with pytest.raises(ValueError, match="engine is closed"):
        file.pwrite(b"x")
    with pytest.raises(ValueError, match="engine is closed"):
        file.pread(bytearray(1))
    with pytest.raises(ValueError, match="engine is closed"):
        engine.submit([])
    with pytest.raises(ValueError, match="engine is closed"):
        engine.register(bytearray(8))
    engine.close()
