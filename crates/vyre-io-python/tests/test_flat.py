"""Many rounds of the same leave no memory, descriptor, mapping or thread behind."""

import asyncio
import gc
import os
import resource
import signal
import threading
import time

import numpy as np
import pytest

import vyre_io
from vyre_io.adapters.lmcache import FileConnector


def usage():
    gc.collect()
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * resource.getpagesize()
    with open("/proc/self/maps") as maps:
        mappings = len(maps.readlines())
    return (len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))), mappings, resident


def settled_usage():
    """Returns what is in use once it stays so: a thread that looks for pages gives a closed file's back a moment later."""
    found, same = usage(), 0
    for _ in range(200):
        time.sleep(0.02)
        last, found = found, usage()
        same = same + 1 if found[:2] == last[:2] else 0
        if same == 5:
            break
    return found


def assert_flat(work, path, rounds):
    work(path, max(rounds // 10, 10))
    before, mappings, resident = settled_usage()
    work(path, rounds)
    after, mappings_after, resident_after = settled_usage()
    # What earlier tests left may end meanwhile, and threads take a moment to end.
    deadline = time.monotonic() + 5
    while any(now > then for now, then in zip(after, before)) and time.monotonic() < deadline:
        time.sleep(0.05)
        after, mappings_after, resident_after = usage()
    assert all(now <= then for now, then in zip(after, before)), (before, after)
    # The allocators of Python and of the system keep a little.
    assert mappings_after - mappings < 16
    assert resident_after - resident < 4 << 20


def files_that_are_read(path, rounds):
    buffer = bytearray(4096)
    for _ in range(rounds):
        with vyre_io.File(path) as file:
            file.pread(buffer, 4096).result()


def files_that_the_loop_knows(path, rounds):
    for _ in range(rounds):
        with vyre_io.File(path, "r+") as file:
            file.pwrite(b"word").result()


def long_reads(path, rounds):
    buffer = bytearray(200_000)
    for _ in range(rounds):
        with vyre_io.File(path) as file:
            assert file.pread(buffer).result() == 200_000


def forgotten_files_and_futures(path, rounds):
    for _ in range(rounds):
        file = vyre_io.File(path, "r+")
        file.pwrite(b"word")
        file.pread(bytearray(140_000))
    # All that began before has ended with the engine's next looks.
    for _ in range(3):
        vyre_io.File(path, "r+").sync().result()


def cancelled_futures(path, rounds):
    with vyre_io.File(path, "r+") as file:
        for _ in range(rounds):
            file.pwrite(b"word", 8).cancel()
        file.sync().result()


def cancelled_long_reads(path, rounds):
    with vyre_io.File(path, "r+") as file:
        for _ in range(rounds):
            file.pread(bytearray(140_000)).cancel()
        file.sync().result()


def batches(path, rounds):
    buffer = bytearray(64 * 1024)
    engine = vyre_io.default_engine()
    with vyre_io.File(path, "r+") as file:
        for _ in range(rounds):
            reads = [vyre_io.Read(file, buffer, 1024 * at, 1024, at=1024 * at) for at in range(63)]
            engine.submit([*reads, vyre_io.Write(file, b"word")]).result()


def awaited_futures(path, rounds):
    async def main():
        with vyre_io.File(path, "r+") as file:
            for _ in range(rounds):
                await file.pwrite(b"word")

    asyncio.run(main())


def errors(path, rounds):
    with vyre_io.File(path) as file:
        for _ in range(rounds):
            with pytest.raises(OSError):
                file.pwrite(b"word").result()
            with pytest.raises(FileNotFoundError):
                vyre_io.File("/nonexistent")


def gathers(path, rounds):
    for _ in range(rounds):
        with vyre_io.File(path) as file:
            vyre_io.gather(file, np.arange(100), 512)


def views(path, rounds):
    for _ in range(rounds):
        view = vyre_io.host_view(path, "uint8", [1 << 20])
        assert np.from_dlpack(view)[8] == 8
        view.close()


def engines(path, rounds):
    for _ in range(rounds):
        with vyre_io.Engine(depth=4) as engine, vyre_io.File(path, engine=engine) as file:
            file.pread(bytearray(140_000)).result()


def registrations(path, rounds):
    buffer = bytearray(140_000)
    with vyre_io.Engine(depth=4) as engine, vyre_io.File(path, engine=engine) as file:
        for _ in range(rounds):
            with engine.register(buffer) as memory:
                file.pread(memory).result()


def connectors(path, rounds):
    for _ in range(rounds):
        connector = FileConnector(path.parent / "kv", workers=2)
        connector.submit_batch_set(["key"], [bytes(1000)])
        connector.close()


def forks(path, rounds):
    with vyre_io.File(path, "r+") as file:
        for _ in range(rounds):
            pending = file.pwrite(b"word")
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    code = 4 - file.pwrite(b"word").result()
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert pending.result() == 4


def interrupted_batches(path, rounds):
    pipe = path.parent / "pipe"
    if not pipe.exists():
        os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    for _ in range(rounds):
        # Its end cancels the reads, which nothing else ends.
        with vyre_io.Engine(depth=4, drain_timeout=0) as engine, vyre_io.File(pipe, engine=engine) as file:
            batch = engine.submit([vyre_io.Read(file, bytearray(100)) for _ in range(8)])
            timer = threading.Timer(0.005, signal.raise_signal, [signal.SIGINT])
            with pytest.raises(KeyboardInterrupt):
                # On a busy machine, the interrupt comes before the wait.
                timer.start()
                batch.result()
            timer.join()
    os.close(writer)


# The rounds of each run, and those of the option --soak.
ROUNDS = {
    files_that_are_read: (100_000, 1_000_000),
    files_that_the_loop_knows: (10_000, 100_000),
    long_reads: (1000, 100_000),
    forgotten_files_and_futures: (1000, 100_000),
    cancelled_futures: (10_000, 1_000_000),
    cancelled_long_reads: (2000, 100_000),
    batches: (1000, 20_000),
    awaited_futures: (5000, 100_000),
    errors: (10_000, 100_000),
    gathers: (2000, 100_000),
    views: (10_000, 100_000),
    engines: (100, 5000),
    registrations: (2000, 100_000),
    connectors: (50, 2000),
    forks: (50, 1000),
    interrupted_batches: (50, 1000),
}


@pytest.fixture
def interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("work", ROUNDS, ids=lambda work: work.__name__)
def test_rounds_leave_nothing_behind(work, path, interruptible, pytestconfig):
    assert_flat(work, path, ROUNDS[work][pytestconfig.getoption("--soak")])
