"""Waiting, giving up, and what happens in between."""

import asyncio
import concurrent.futures
import os
import signal
import threading
import time

import pytest

import vyre_io


def test_a_wait_ends_with_the_timeout_and_the_operation_goes_on(pipe):
    file, writer = pipe
    buffer = bytearray(5)
    future = file.pread(buffer)
    assert not future.done() and "pending" in repr(future)
    for timeout in [0, 0.05]:
        with pytest.raises(TimeoutError):
            future.result(timeout)
    with pytest.raises(OverflowError):
        future.result(1e300)
    os.write(writer, b"bytes")
    assert future.result(10) == 5 and buffer == b"bytes"
    assert future.done() and "done" in repr(future) and not future.cancel()
    assert future.result(0) == 5


def test_the_interpreter_runs_while_a_thread_waits(pipe):
    file, writer = pipe
    buffer = bytearray(5)
    future = file.pread(buffer)
    results = []
    thread = threading.Thread(target=lambda: results.append(future.result()))
    thread.start()
    # A thread that held the interpreter's lock would let nobody write.
    os.write(writer, b"bytes")
    thread.join(10)
    assert results == [5]


def test_a_buffer_is_kept_after_a_cancellation_until_the_outcome_is_there(pipe):
    file, writer = pipe
    buffer = bytearray(100_000)
    future = file.pread(buffer)
    assert future.cancel() and future.cancelled() and "cancelled" in repr(future)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    with pytest.raises(BufferError):
        buffer.extend(b"x")
    os.write(writer, bytes(100_000))
    for _ in range(1000):
        future.done()
        try:
            buffer.extend(b"x")
            break
        except BufferError:
            time.sleep(0.01)
    assert len(buffer) == 100_001


def test_operations_that_have_not_begun_are_forgotten(pipe):
    file, writer = pipe
    # More than the engine's depth.
    futures = [file.pread(bytearray(100)) for _ in range(20)]
    last = bytearray(100)
    waiting = file.pread(last)
    assert waiting.cancel()
    last.extend(b"x")
    assert all(future.cancel() for future in futures)


def test_ctrl_c_ends_a_wait(pipe):
    file, _ = pipe
    future = file.pread(bytearray(5))
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            future.result()
    finally:
        signal.signal(signal.SIGINT, before)
    timer.join()
    assert not future.done()


def test_a_signal_whose_handler_returns_does_not_end_a_wait(pipe):
    file, writer = pipe
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(os.write(writer, b"bytes")))
    try:
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        assert file.pread(bytearray(5)).result(10) == 5
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [5]


def test_tasks_await_results(path, engine, uncached):
    words = path.read_bytes()

    async def reader(file, number):
        buffer = bytearray(8192)
        for step in range(8):
            offset = 8192 * ((number + 16 * step) % 128)
            assert await file.pread(buffer, offset) == 8192
            assert buffer == words[offset : offset + 8192]
        return number

    async def main():
        with vyre_io.File(path, engine=engine) as file:
            return await asyncio.gather(*(reader(file, number) for number in range(64)))

    for _ in range(2):
        uncached(path)
        assert asyncio.run(main()) == list(range(64))


def test_a_batch_is_awaited(path, engine, uncached):
    async def main():
        with vyre_io.File(path, engine=engine) as file:
            buffer = bytearray(20 * 4096)
            reads = [vyre_io.Read(file, buffer, 4096 * at, 4096, at=4096 * at) for at in range(20)]
            assert await engine.submit(reads) == [4096] * 20
            return buffer

    uncached(path)
    assert asyncio.run(main()) == path.read_bytes()[: 20 * 4096]


def test_errors_and_cancellations_reach_tasks(pipe):
    file, writer = pipe

    async def main():
        with pytest.raises(OSError) as caught:
            await file.pwrite(b"x")
        assert caught.value.filename == file.name
        future = file.pread(bytearray(5))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(future_of(future), 0.05)
        assert future.cancelled()
        late = file.pread(bytearray(5))
        task = asyncio.ensure_future(future_of(late))
        await asyncio.sleep(0.05)
        os.write(writer, bytes(10))
        assert await task == 5

    async def future_of(future):
        return await future

    asyncio.run(main())
