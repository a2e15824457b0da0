"""Batches that arrays describe, and their ends for whoever waits for many."""

import array
import asyncio
import errno
import gc
import os
import select
import signal
import sys
import threading
import time

import numpy
import pytest

import vyre_io


def wait_until(question):
    for _ in range(1000):
        if question():
            return
        time.sleep(0.01)
    pytest.fail("10 seconds were not enough")


@pytest.mark.parametrize("is_cached", [True, False])
def test_arrays_describe_reads(path, engine, uncached, is_cached):
    words = path.read_bytes()
    offsets = numpy.random.default_rng(3).integers(len(words) - 100_000, size=40)
    with vyre_io.File(path, engine=engine) as file:
        for size in [1, 4096, 90_000]:
            out = numpy.zeros((40, size), numpy.uint8)
            # At first by system calls, and once the pages are known, by copies.
            for _ in range(3):
                is_cached or uncached(path)
                out[:] = 0
                batch = engine.submit([vyre_io.Reads(file, out, offsets, size)])
                assert len(batch) == 40 and batch.result(10) == [size] * 40
                assert all(row.tobytes() == words[at : at + size] for row, at in zip(out, offsets))
                time.sleep(0.05)


@pytest.mark.parametrize("kind", [list, tuple, array.array, numpy.uint64, numpy.int64, numpy.int32, "strided"])
def test_arrays_are_of_many_kinds(path, kind):
    offsets, sizes, places = [800, 0, 16], [8, 24, 0], [40, 8, 0]

    def as_kind(numbers):
        if kind is array.array:
            return array.array("q", numbers)
        if kind == "strided":
            return numpy.repeat(numpy.array(numbers), 2)[::2]
        return kind(numbers) if kind in (list, tuple) else numpy.array(numbers, kind)

    words = path.read_bytes()
    engine = vyre_io.default_engine()
    with vyre_io.File(path) as file:
        out = bytearray(50)
        reads = vyre_io.Reads(file, out, as_kind(offsets), as_kind(sizes), at=as_kind(places))
        assert len(reads) == 3
        # A request may be given again.
        for _ in range(2):
            assert engine.submit([reads]).result() == [8, 24, 0]
        assert out == bytes(8) + words[:24] + bytes(8) + words[800:808] + bytes(2)
        # Without places, one follows the other.
        close = bytearray(32)
        assert engine.submit([vyre_io.Reads(file, close, as_kind(offsets), as_kind(sizes))]).result() == [8, 24, 0]
        assert close == words[800:808] + words[:24]


def test_requests_of_all_kinds_make_one_batch(tmp_path, engine):
    memory = engine.register(numpy.arange(1000, dtype=numpy.uint8) % 251)
    with vyre_io.File(tmp_path / "a", "w+", engine=engine) as a, vyre_io.File(tmp_path / "b", "w+", engine=engine) as b:
        writes = [
            vyre_io.Writes(a, memory, [0, 100], 100),
            vyre_io.Write(b, b"bytes", 7),
            vyre_io.Writes(b, bytes(range(10)), [100, 90], [3, 7]),
            vyre_io.Sync(a),
        ]
        assert engine.submit(writes).result() == [100, 100, 5, 3, 7, 0]
        assert (tmp_path / "a").read_bytes() == bytes(range(200))
        assert (tmp_path / "b").read_bytes()[90:] == bytes(range(3, 10)) + bytes(3) + bytes(range(3))
        out = bytearray(20)
        reads = [vyre_io.Read(a, out, 5, 2), vyre_io.Reads(a, out, [10] * 9, [1] * 9, at=range(2, 11))]
        assert engine.submit(reads).result() == [2] + [1] * 9
        assert out == bytes([5, 6] + [10] * 9) + bytes(9)
        assert engine.submit([vyre_io.Reads(a, memory, [], 4)]).result() == []
        assert engine.submit([]).result() == []
    memory.close()


def test_results_of_a_batch_are_an_array(path, tmp_path, engine):
    size = path.stat().st_size
    empty = tmp_path / "empty"
    empty.touch()
    with vyre_io.File(path, engine=engine) as file, vyre_io.File(tmp_path, engine=engine) as directory:
        out = bytearray(4096 * 12)
        ends = vyre_io.Reads(file, out, [size - 5, size, 0] + [size - 1] * 9, 4096)
        batch = engine.submit([ends, vyre_io.Read(directory, bytearray(5))])
        counts = numpy.asarray(batch.counts(10))
        assert counts.dtype == numpy.int64
        assert counts.tolist() == [5, 0, 4096] + [1] * 9 + [-errno.EISDIR]
        assert [getattr(outcome, "errno", outcome) for outcome in batch.outcomes()] == [*counts[:-1], errno.EISDIR]
        with pytest.raises(IsADirectoryError) as caught:
            batch.result()
        assert caught.value.filename == str(tmp_path)
        with vyre_io.File(empty, engine=engine) as nothing:
            assert engine.submit([vyre_io.Reads(nothing, out, [0] * 12, 4096)]).result() == [0] * 12


def test_wrong_arrays_are_refused_before_anything_begins(path, engine):
    out = bytearray(b"x" * 100)
    with vyre_io.File(path, engine=engine) as file:
        for arguments, places, error, text in [
            (([-1], 4), None, ValueError, "offsets has a number that is negative"),
            ((numpy.array([-1]), 4), None, ValueError, "offsets has a number that is negative"),
            (([1 << 70], 4), None, ValueError, "offsets has a number that is negative, or"),
            (([0.5], 4), None, TypeError, "offsets is no array"),
            ((numpy.zeros(3), 4), None, TypeError, "astype"),
            ((5, 4), None, TypeError, "offsets is no array"),
            (([0, 1], [1]), None, ValueError, "size has 1 numbers, and offsets has 2"),
            (([0, 1], 1), [1, 2, 3], ValueError, "at has 3 numbers, and offsets has 2"),
            (([0, 1], [1 << 63, 1 << 63]), None, ValueError, "too large"),
            (([0, 0], 50), [0, 51], ValueError, "50 bytes at 51 are not inside the buffer of 100"),
            (([0] * 3, 50), None, ValueError, "50 bytes at 100 are not inside"),
        ]:
            with pytest.raises(error, match=text):
                reads = vyre_io.Reads(file, out, *arguments, at=places)
                engine.submit([vyre_io.Read(file, out), reads])
        with pytest.raises(BufferError):
            engine.submit([vyre_io.Reads(file, bytes(100), [0], 4)])
        with pytest.raises(TypeError, match="Reads"):
            engine.submit([vyre_io.Read(file, out), 7])
    assert out == b"x" * 100


def test_copies_see_what_happens_to_the_file(tmp_path):
    """Batches copy out of a mapping, and their results are those of os.pread."""
    path = tmp_path / "changing"
    engine = vyre_io.default_engine()
    generator = numpy.random.default_rng(5)
    path.write_bytes(generator.bytes(300_000))
    with vyre_io.File(path) as file, open(path, "r+b", buffering=0) as other:
        out = numpy.zeros((64, 5000), numpy.uint8)
        for step in range(60):
            size = [300_000, 100_000, 4096, 299_990, 900_000, 0, 50_000][step % 7]
            other.truncate(size)
            os.pwrite(other.fileno(), generator.bytes(10), int(generator.integers(size + 1)))
            offsets = generator.integers(310_000, size=64)
            counts = engine.submit([vyre_io.Reads(file, out, offsets, 5000)]).counts()
            for at, row, count in zip(offsets.tolist(), out, counts):
                assert row[:count].tobytes() == os.pread(other.fileno(), 5000, at), (step, at)
            if step < 20:
                # The pages become known meanwhile.
                time.sleep(0.02)


def test_batches_with_keys_are_drained(path, engine, uncached):
    with vyre_io.File(path, engine=engine) as file:
        assert engine.drain() == []
        descriptor = engine.event_fd()
        assert descriptor == engine.event_fd() and select.select([descriptor], [], [], 0)[0] in ([], [descriptor])
        engine.drain()
        assert select.select([descriptor], [], [], 0)[0] == []
        for is_cached in [True, False]:
            is_cached or uncached(path)
            keys = {7, 0, (1 << 64) - 1, 1}
            for key in keys:
                reads = [vyre_io.Reads(file, bytearray(60_000), range(0, 60_000, 6000), 6000)]
                batch = engine.submit(reads, key=key)
                assert batch.key == key
            # More than the engine's depth, and no number.
            assert engine.submit(reads).key is None
            found = []
            while len(found) < 4:
                assert select.select([descriptor], [], [], 10)[0] == [descriptor]
                found += engine.drain()
            assert all(batch.done() and batch.result(0) == [6000] * 10 for batch in found)
            assert {batch.key for batch in found} == keys
            assert engine.drain() == []
    for key in [-1, 1 << 64, "key"]:
        with pytest.raises((OverflowError, TypeError)):
            engine.submit([], key=key)
    engine.submit([], key=5)
    assert [batch.key for batch in engine.drain()] == [5]


def test_failures_and_closed_engines_are_drained(tmp_path, path):
    engine = vyre_io.Engine(depth=2, drain_timeout=0.05)
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    with vyre_io.File(tmp_path / "pipe", engine=engine) as file, vyre_io.File(tmp_path, engine=engine) as directory:
        engine.submit([vyre_io.Read(directory, bytearray(5))], key=1)
        wait_until(lambda: any(batch.counts().tolist() == [-errno.EISDIR] for batch in engine.drain()))
        engine.submit([vyre_io.Read(file, bytearray(5)) for _ in range(5)], key=2)
        assert engine.drain() == []
        engine.close()
        assert [(batch.key, *batch.counts()) for batch in engine.drain()] == [(2, *[-errno.ECANCELED] * 5)]
        with pytest.raises(ValueError, match="closed"):
            engine.submit([vyre_io.Read(file, bytearray(5))], key=3)
        assert engine.drain() == []
    os.close(writer)


def test_a_batch_that_was_given_up_is_drained_once_its_memory_is_free(pipe, engine):
    file, writer = pipe
    buffer = bytearray(100_000)
    batch = engine.submit([vyre_io.Read(file, buffer)], key=1)
    assert batch.cancel() and engine.drain() == []
    with pytest.raises(BufferError):
        buffer.extend(b"x")
    os.write(writer, bytes(100_000))
    assert select.select([engine.event_fd()], [], [], 10)[0]
    found = []
    wait_until(lambda: found.extend(engine.drain()) or found)
    assert found[0].key == 1 and found[0].cancelled()
    buffer.extend(b"x")


def test_a_thread_that_waits_for_another_result_hides_no_end(pipe, engine):
    """Whoever looks at the outcomes ends all operations that have one, and tells the others."""
    file, writer = pipe
    descriptor = engine.event_fd()
    engine.submit([vyre_io.Read(file, bytearray(4))], key=9)
    other = file.pread(bytearray(4))
    thread = threading.Thread(target=other.result)
    thread.start()
    time.sleep(0.05)
    os.write(writer, bytes(8))
    thread.join(10)
    found = []
    while not found:
        assert select.select([descriptor], [], [], 10)[0]
        found = engine.drain()
    assert [batch.key for batch in found] == [9]


def test_tasks_wait_without_threads_and_timers(pipe, engine):
    file, writer = pipe
    looks = []

    async def main():
        loop = asyncio.get_running_loop()
        buffers = [bytearray(5) for _ in range(8)]
        threads = len(os.listdir("/proc/self/task"))
        tasks = [asyncio.ensure_future(result(file.pread(buffer))) for buffer in buffers]
        tasks.append(asyncio.ensure_future(result(engine.submit([vyre_io.Read(file, bytearray(5))]))))
        # The engine's depth is 8: the last one begins when another has ended.
        await asyncio.sleep(0.2)
        assert len(os.listdir("/proc/self/task")) == threads or "threads" in engine.transport
        assert not any(task.done() for task in tasks)
        loop.call_later = loop.call_at = lambda *_: pytest.fail("a timer")
        before = len(looks)
        for number in range(9):
            os.write(writer, b"bytes")
        for task in tasks:
            await task
        del loop.call_later, loop.call_at
        assert [task.result() for task in tasks] == [5] * 8 + [[5]] and buffers == [b"bytes"] * 8
        return len(looks) - before

    async def result(operation):
        return await operation

    import vyre_io._asyncio

    look = vyre_io._asyncio._Waiters._look
    vyre_io._asyncio._Waiters._look = lambda self: looks.append(look(self))
    try:
        assert 1 <= asyncio.run(main()) <= 40
    finally:
        vyre_io._asyncio._Waiters._look = look


def test_several_tasks_and_threads_wait_for_one_operation(pipe):
    file, writer = pipe
    future = file.pread(bytearray(5))
    results = []

    async def main():
        async def task():
            return await future

        tasks = [asyncio.ensure_future(task()) for _ in range(3)]
        await asyncio.sleep(0.05)
        threading.Timer(0.05, lambda: os.write(writer, b"bytes")).start()
        return await asyncio.gather(*tasks)

    thread = threading.Thread(target=lambda: results.append(future.result()))
    loops = [threading.Thread(target=lambda: results.extend(asyncio.run(main()))) for _ in range(2)]
    for each in [thread, *loops]:
        each.start()
    for each in [thread, *loops]:
        each.join(20)
    assert results == [5] * 7


def test_a_task_learns_that_another_gave_its_operation_up(pipe):
    file, _ = pipe

    async def main():
        future = file.pread(bytearray(5))

        async def task():
            return await future

        waiting = asyncio.ensure_future(task())
        await asyncio.sleep(0.05)
        assert future.cancel()
        with pytest.raises(BaseException) as caught:
            await waiting
        assert type(caught.value).__name__ == "CancelledError"

    asyncio.run(asyncio.wait_for(main(), 10))


def test_a_cancelled_task_keeps_its_buffer_until_the_outcome_is_there(pipe):
    file, writer = pipe
    buffer = bytearray(100_000)

    async def main():
        async def read():
            return await file.pread(buffer)

        task = asyncio.ensure_future(read())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(BufferError):
            buffer.extend(b"x")
        os.write(writer, bytes(100_000))
        for _ in range(1000):
            # The loop's own look gives it back.
            await asyncio.sleep(0.01)
            try:
                return buffer.extend(b"x")
            except BufferError:
                pass
        pytest.fail("the buffer was not given back")

    asyncio.run(main())


def test_event_loops_leave_nothing_behind(path, uncached):
    async def main():
        with vyre_io.File(path) as file:
            uncached(path)
            assert await file.pread(bytearray(200_000)) == 200_000

    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    asyncio.run(main())
    before = descriptors()
    for _ in range(30):
        asyncio.run(main())
    assert descriptors() <= before + 1


def test_a_fork_drains_nothing(path, engine, uncached):
    uncached(path)
    with vyre_io.File(path, engine=engine) as file:
        engine.submit([vyre_io.Reads(file, bytearray(800_000), [0] * 8, 100_000)], key=4)
        child = os.fork()
        if child == 0:
            code = 0
            for use in [engine.drain, engine.event_fd, lambda: engine.submit([], key=1)]:
                try:
                    use()
                    code = 1
                except RuntimeError as error:
                    code |= "forked" not in str(error)
            try:
                # With an engine, a watcher of pages and an event loop of its own.
                asyncio.run(in_child(path))
            except BaseException:
                code = 3
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        found = []
        wait_until(lambda: found.extend(engine.drain()) or found)
        assert found[0].key == 4 and found[0].result() == [100_000] * 8


async def in_child(path):
    words = path.read_bytes()
    with vyre_io.File(path) as file:
        for size in [4096, 100_000]:
            out = bytearray(20 * size)
            reads = vyre_io.Reads(file, out, range(20), size)
            assert await vyre_io.default_engine().submit([reads]) == [size] * 20
            assert out == b"".join(words[at : at + size] for at in range(20))


IN_FLIGHT = """
import asyncio, os, signal, sys, threading, vyre_io
os.mkfifo(sys.argv[2])
writer = os.open(sys.argv[2], os.O_RDWR)
engine = vyre_io.Engine(depth=4, drain_timeout=0.2)
pipe = vyre_io.File(sys.argv[2], engine=engine)
file = vyre_io.File(sys.argv[1], "r+", engine=engine)
engine.submit([vyre_io.Writes(file, b"at the exit", [0], 11)], key=1)
engine.submit([vyre_io.Reads(pipe, bytearray(800_000), [0] * 8, 100_000)], key=2)
descriptor = engine.event_fd()
async def main():
    reads = [asyncio.ensure_future(wait()) for _ in range(4)]
    await asyncio.sleep(0.05)
async def wait():
    await pipe.pread(bytearray(5))
asyncio.run(main())
print("end")
"""


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "del engine, file, pipe; import gc; gc.collect()"])
def test_the_interpreter_ends_with_batches_in_flight(python, path, tmp_path, end):
    assert python(IN_FLIGHT + end, path, tmp_path / "pipe") == "end\n"
    assert path.read_bytes().startswith(b"at the exit")


def test_ctrl_c_ends_an_event_loop(tmp_path, path):
    import subprocess

    program = IN_FLIGHT + (
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "asyncio.run(wait())\n"
    )
    command = [sys.executable, "-c", program, str(path), str(tmp_path / "pipe")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "KeyboardInterrupt" in done.stderr, done
    assert done.returncode in (1, 130, -signal.SIGINT), done
