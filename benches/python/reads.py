#!/usr/bin/env python3
"""Compares reads of a cached file by the package vyre-io with other ways in Python, in rounds that take turns.

Needs vyre-io and NumPy; with PyTorch, it also compares gathers, and with kvikio, reads of blocks. --rust names the program
vyre-io, whose benchmark then takes turns with batches of Python: one lane with 64 reads in flight and one loop that polls,
out of the page cache by copies, as batches of Python are, and by io_uring.

    pip install ./crates/vyre-io-python
    cargo build --release -p vyre-io-cli
    python3 benches/python/reads.py --dir /var/tmp --rust target/release/vyre-io

It makes a file of 1 GiB in the directory, and keeps it. Figures are medians of --rounds rounds, with their range. Each way
first reads once what is not counted, and its bytes are compared with the file's.
"""

import argparse
import asyncio
import concurrent.futures
import json
import os
import random
import statistics
import subprocess
import time

import numpy

import vyre_io

SIZE = 1 << 30
BLOCK = 4096
DEPTH = 256
ROW = 512


def make(path):
    if not os.path.exists(path) or os.path.getsize(path) != SIZE:
        numpy.arange(SIZE // 8, dtype=numpy.uint64).tofile(path)
    with open(path, "rb", buffering=0) as file:
        while file.read(8 << 20):
            pass


def offsets(count, seed):
    generator = random.Random(seed)
    return [BLOCK * generator.randrange(SIZE // BLOCK) for _ in range(count)]


def right(buffer, wanted):
    """Compares the first word of each block with what the file has there."""
    words = numpy.asarray(buffer).view(numpy.uint64)[:: BLOCK // 8]
    return [int(word) * 8 for word in words] == list(wanted)


def find_kvikio():
    """Returns the module of kvikio, if it is there and works without a GPU."""
    try:
        import kvikio

        return kvikio
    except Exception as error:
        print(f"without kvikio: {error}")
        return None


class Batches:
    """Batches of 256 blocks into one array."""

    title = f"batches of {DEPTH} blocks of 4 KiB into one array, thousand blocks/s"
    rounds = 40

    def __init__(self, path, rust=None):
        self.rust = rust
        self.path = path
        self.file = vyre_io.File(path)
        self.engine = vyre_io.default_engine()
        self.fd = os.open(path, os.O_RDONLY)
        self.map = numpy.memmap(path, dtype=numpy.uint8, mode="r")
        self.pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        self.buffer = numpy.zeros(DEPTH * BLOCK, dtype=numpy.uint8)
        self.parts = [memoryview(self.buffer)[at * BLOCK : (at + 1) * BLOCK] for at in range(DEPTH)]

    def ways(self):
        rust = {
            "Rust: vyre-io bench, page-cache reads, depth 64": ["--page-cache"],
            "Rust: vyre-io bench, io_uring, depth 64": [],
        }
        kvikio = find_kvikio()
        return {
            "vyre_io submit([Reads(...)]).counts()": self.arrays,
            "vyre_io submit([Reads(...)]).result()": self.arrays_to_list,
            "vyre_io submit([Read(...), ...]).result()": self.submit,
            "vyre_io gather": self.gather,
            "vyre_io pread(...).result(), one by one": self.one_by_one,
            **({name: options for name, options in rust.items() if self.rust}),
            **({"kvikio pread(...), then get() of each": self.kvikio(kvikio)} if kvikio else {}),
            "os.preadv, one by one": self.preadv,
            "os.preadv in a thread pool": self.pooled,
            "memmap, one by one": self.mapped,
            "memmap[ids]": self.fancy,
        }

    def run(self, way):
        if isinstance(way, list):
            return self.in_rust(way)
        took = 0
        for seed in range(self.rounds):
            wanted = offsets(DEPTH, seed)
            # A program that describes its reads by arrays has them as arrays.
            self.offsets = numpy.array(wanted)
            self.buffer[::BLOCK] = 255
            began = time.perf_counter()
            way(wanted)
            took += time.perf_counter() - began
            assert right(self.buffer, wanted), way
        return DEPTH * self.rounds / took / 1e3

    def in_rust(self, options):
        command = [self.rust, "bench", "--file", self.path, "--block-size", str(BLOCK), "--depth", "64"]
        command += ["--policy", "spin", "--seconds", "0.5", "--format", "json", *options]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert found["errors"] == 0 and found["page_cache"] == ("--page-cache" in options)
        return found["iops"] / 1e3

    def arrays(self, wanted):
        counts = self.engine.submit([vyre_io.Reads(self.file, self.buffer, self.offsets, BLOCK)]).counts()
        assert (numpy.asarray(counts) == BLOCK).all()

    def arrays_to_list(self, wanted):
        self.engine.submit([vyre_io.Reads(self.file, self.buffer, self.offsets, BLOCK)]).result()

    def kvikio(self, kvikio):
        file = kvikio.CuFile(self.path, "r")
        parts = self.buffer.reshape(DEPTH, BLOCK)

        def run(wanted):
            for future in [file.pread(part, BLOCK, at) for part, at in zip(parts, wanted)]:
                future.get()

        return run

    def submit(self, wanted):
        file, buffer = self.file, self.buffer
        reads = [vyre_io.Read(file, buffer, at, BLOCK, at=index * BLOCK) for index, at in enumerate(wanted)]
        self.engine.submit(reads).result()

    def gather(self, wanted):
        vyre_io.gather(self.file, [at // BLOCK for at in wanted], BLOCK, self.buffer)

    def one_by_one(self, wanted):
        pread, buffer = self.file.pread, self.buffer
        for index, at in enumerate(wanted):
            pread(buffer, at, BLOCK, at=index * BLOCK).result()

    def preadv(self, wanted):
        for part, at in zip(self.parts, wanted):
            os.preadv(self.fd, [part], at)

    def pooled(self, wanted):
        list(self.pool.map(lambda part, at: os.preadv(self.fd, [part], at), self.parts, wanted))

    def mapped(self, wanted):
        buffer, file = self.buffer, self.map
        for index, at in enumerate(wanted):
            buffer[index * BLOCK : (index + 1) * BLOCK] = file[at : at + BLOCK]

    def fancy(self, wanted):
        blocks = self.map.reshape(-1, BLOCK)
        blocks.take([at // BLOCK for at in wanted], axis=0, out=self.buffer.reshape(-1, BLOCK))


class Tasks(Batches):
    """An asyncio program with 64 tasks, each of which reads one block after the other."""

    title = "asyncio, 64 tasks that read blocks of 4 KiB, thousand blocks/s"
    tasks, steps = 64, 40

    def ways(self):
        return {
            "vyre_io await pread(...)": self.awaited,
            "os.preadv by asyncio.to_thread": self.to_thread,
        }

    def run(self, way):
        began = time.perf_counter()
        asyncio.run(self.main(way))
        return self.tasks * self.steps / (time.perf_counter() - began) / 1e3

    async def main(self, way):
        await asyncio.gather(*(self.task(way, number) for number in range(self.tasks)))

    async def task(self, way, number):
        buffer = bytearray(BLOCK)
        for at in offsets(self.steps, number):
            await way(buffer, at)
        assert int.from_bytes(buffer[:8], "little") * 8 == at

    async def awaited(self, buffer, at):
        await self.file.pread(buffer, at)

    async def to_thread(self, buffer, at):
        await asyncio.to_thread(os.preadv, self.fd, [buffer], at)


class Gathers:
    """Random rows of 512 bytes into one array."""

    count = 1_600_000
    title = f"gather of {count:,} rows of 512 B into an array, million rows/s"

    def __init__(self, path, rust=None):
        self.file = vyre_io.File(path)
        self.ids = numpy.random.default_rng(1).integers(SIZE // ROW, size=self.count)
        self.out = numpy.zeros((self.count, ROW // 4), dtype=numpy.float32)
        self.table = numpy.memmap(path, dtype=numpy.float32, mode="r").reshape(-1, ROW // 4)
        self.others = {}
        try:
            import torch
        except ImportError:
            return
        table = torch.from_file(path, size=SIZE // 4, dtype=torch.float32).view(-1, ROW // 4)
        ids, out = torch.from_numpy(self.ids), torch.from_numpy(self.out)
        batches = list(zip(ids.split(25_600), out.split(25_600)))
        self.others = {
            "torch.index_select(..., out=)": lambda: torch.index_select(table, 0, ids, out=out),
            "the same in batches of 25,600": lambda: [
                torch.index_select(table, 0, ids, out=out) for ids, out in batches
            ],
            "torch table[ids], new memory": lambda: out.data_ptr() and table[ids],
            "torch embedding, new memory": lambda: torch.nn.functional.embedding(ids, table),
        }

    def ways(self):
        return {
            "vyre_io gather": lambda: vyre_io.gather(self.file, self.ids, ROW, self.out),
            "numpy take from memmap": lambda: self.table.take(self.ids, axis=0, out=self.out, mode="clip"),
            **self.others,
        }

    def run(self, way):
        self.out[::1000] = 0
        began = time.perf_counter()
        result = way()
        took = time.perf_counter() - began
        rows = self.out if result is None or isinstance(result, list) else numpy.asarray(result)
        some = slice(None, None, 1000)
        words = rows[some].view(numpy.uint64)[:, 0]
        assert numpy.array_equal(words, self.ids[some].astype(numpy.uint64) * (ROW // 8)), way
        return self.count / took / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the file is made (default: /var/tmp)")
    parser.add_argument("--rust", metavar="PROGRAM", help="the program vyre-io, to compare with its benchmark")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each way (default: 7)")
    options = parser.parse_args()
    path = os.path.join(options.dir, "vyre-io-reads.bin")
    make(path)
    for kind in [Batches, Tasks, Gathers]:
        case = kind(path, options.rust)
        ways = case.ways()
        rates = {name: [] for name in ways}
        for number in range(options.rounds + 1):
            for name, way in ways.items():
                rate = case.run(way)
                if number:
                    rates[name].append(rate)
        print(f"\n| {case.title} | median | range |\n| --- | --- | --- |")
        for name, found in rates.items():
            print(f"| {name} | {statistics.median(found):,.1f} | {min(found):,.1f} to {max(found):,.1f} |")


if __name__ == "__main__":
    main()
