#!/usr/bin/env python3
"""Compares reads of cached files by a GPU with what PyTorch and safetensors offer, in one run.

Needs PyTorch with CUDA, safetensors, and the examples of vyre-ioq-cuda:

    cargo build --release -p vyre-ioq-cuda --examples
    python3 benches/python/views.py --examples target/release/examples --dir /var/tmp

It makes two files in the directory, of 2 GiB and 4 GiB, and keeps them. Figures are medians of --runs runs. The examples
compare what they read with the file, and fail where a byte is wrong. Of the other ways, those that gather all rows at once
are compared with the rows that PyTorch finds on the CPU.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

import torch
from safetensors.torch import load_file, save_file

COLUMNS = 128
GATHERED = 1_600_000
BATCH = 25_600
# The warps of the examples' kernels, and the loops of those that make requests: what is fastest on 16 cores.
SHAPES = {"queue": ["--warps", 128, "--loops", 8], "view": ["--warps", 1024]}
BLOCKS = {"queue": "256KiB", "view": "64KiB"}


def median_rate(runs, amount, work):
    """Returns the median of amount / seconds, after one run that is not counted."""
    rates = []
    for run in range(runs + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        rates.append(amount / (time.perf_counter() - began))
    return statistics.median(rates[1:])


def make_table(path, size):
    if os.path.exists(path) and os.path.getsize(path) == size:
        return
    generator = torch.Generator().manual_seed(1)
    with open(path, "wb") as file:
        for _ in range(size // (64 << 20)):
            file.write(torch.rand(64 << 18, generator=generator).numpy().tobytes())
        os.fsync(file.fileno())


def make_weights(path, size):
    if os.path.exists(path):
        return
    each = 64 << 20
    tensors = {
        f"model.layers.{index}.weight": torch.rand(each // 2).to(torch.bfloat16)
        for index in range(size // each)
    }
    save_file(tensors, path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def read_once(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(8 << 20):
            pass


def example(options, name, *arguments):
    """Runs an example and returns what it printed."""
    program = os.path.join(options.examples, name)
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{name} {arguments}: {done.stdout}{done.stderr}")
    return done.stdout


def number(text, pattern):
    return float(re.search(pattern, text).group(1))


def rows_by_torch(options, path):
    count = os.path.getsize(path) // 4
    table = torch.from_file(path, size=count, dtype=torch.float32).view(-1, COLUMNS)
    ids = torch.randint(len(table), (GATHERED,))
    whole = {}

    def index():
        whole["rows"] = table[ids].to("cuda")

    def index_in_batches():
        for part in ids.split(BATCH):
            table[part].to("cuda")

    def embedding():
        rows = torch.nn.functional.embedding(ids, table)
        whole["rows"] = rows.pin_memory().to("cuda", non_blocking=True)

    ways = [
        ("torch.from_file(...)[ids].to('cuda')", index),
        (f"... in batches of {BATCH}", index_in_batches),
        ("embedding, pin_memory, copy", embedding),
    ]
    for what, way in ways:
        rate = median_rate(options.runs, GATHERED, way)
        if "rows" in whole:
            assert torch.equal(whole.pop("rows").cpu(), table[ids]), what
        yield what, rate / 1e6, "M rows/s"


def rows_by_examples(options, path):
    for way in ["queue", "view"]:
        rates = []
        for _ in range(options.runs):
            said = example(
                options, "gather", "--file", path, "--dim", COLUMNS, "--way", way, *SHAPES[way],
                "--batches", 16, "--batch-size", 4096,
            )
            rates.append(number(said, r"(\d+) rows/s") / 1e6)
        yield f"examples/gather, {way}: 25 rows each averaged", statistics.median(rates), "M rows/s"


def weights_by_python(options, path):
    def load():
        load_file(path, device="cuda")

    rate = median_rate(options.runs, os.path.getsize(path), load)
    yield "safetensors load_file(device='cuda')", rate / 1e9, "GB/s"


def weights_by_examples(options, path):
    for way in ["queue", "view"]:
        rates = []
        for _ in range(options.runs):
            said = example(
                options, "stream_weights", "--file", path, "--way", way, *SHAPES[way], "--block", BLOCKS[way],
            )
            rates.append(number(said, r"([\d.]+) GB/s"))
        yield f"examples/stream_weights, {way}: reduced, not kept", statistics.median(rates), "GB/s"


def views(options):
    said = example(options, "view_bench", "--json", "--dir", options.dir, "--runs", options.runs)
    for row in json.loads(said.splitlines()[-1])["rows"]:
        if row["what"].startswith(("rows of 512", "load", "the copy engine")):
            yield f"view_bench: {row['what']}", row["median"], row["unit"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", required=True, help="directory of the built examples")
    parser.add_argument("--dir", default="/var/tmp", help="directory of the files, on ext4 or tmpfs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--table-bytes", type=int, default=2 << 30)
    parser.add_argument("--weights-bytes", type=int, default=4 << 30)
    options = parser.parse_args()
    table = os.path.join(options.dir, "vyre-views-table.bin")
    weights = os.path.join(options.dir, "vyre-views-weights.safetensors")
    make_table(table, options.table_bytes)
    make_weights(weights, options.weights_bytes)
    read_once(table)
    read_once(weights)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, medians of {options.runs}\n")
    print("| what | rate | |\n| --- | --- | --- |")
    for rows in [
        rows_by_torch(options, table),
        rows_by_examples(options, table),
        weights_by_python(options, weights),
        weights_by_examples(options, weights),
        views(options),
    ]:
        for what, rate, unit in rows:
            print(f"| {what} | {rate:.2f} | {unit} |", flush=True)


if __name__ == "__main__":
    main()
