#!/usr/bin/env python3
"""Compares arrays of a GPU that are files (the package vyre-io) with other ways to read cached files, in one run.

Needs vyre-io, PyTorch with CUDA, Triton and safetensors; with InstantTensor, it is compared, too.

    pip install ./crates/vyre-io-python
    python3 benches/python/cuda.py --dir /var/tmp

It makes two files in the directory, of 2 GiB and 4 GiB, and keeps them. The ways take turns in --rounds rounds after one
that is not counted; figures are medians with their range. Results are compared with each other's.
"""

import argparse
import os
import statistics
import time

import numpy
import torch
import triton
import triton.language as tl
from safetensors.torch import load_file, save_file

import vyre_io

COLUMNS = 128
GATHERED = 1_600_000
BATCH = 25_600
GIB = 1 << 30


@triton.jit
def copy_rows(table, ids, out, columns: tl.constexpr, rows: tl.constexpr, count):
    places = tl.program_id(0) * rows + tl.arange(0, rows)
    here = places < count
    numbers = tl.load(ids + places, mask=here)
    column = tl.arange(0, columns)
    values = tl.load(table + numbers[:, None] * columns + column[None, :], mask=here[:, None])
    tl.store(out + places[:, None].to(tl.int64) * columns + column[None, :], values, mask=here[:, None])


def make_table(path, size):
    if not os.path.exists(path) or os.path.getsize(path) != size:
        generator = numpy.random.default_rng(1)
        with open(path, "wb") as file:
            for _ in range(size // (64 << 20)):
                file.write(generator.random(64 << 18, dtype=numpy.float32).tobytes())


def make_weights(path, size):
    if not os.path.exists(path):
        each = 64 << 20
        random = torch.rand(each // 2).to(torch.bfloat16)
        save_file({f"layers.{index}.weight": random * (index + 1) for index in range(size // each)}, path)


def read_once(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(8 << 20):
            pass


def turns(options, title, unit, ways, check):
    """Runs the ways in turns. Each returns an amount and what `check` compares with the first one's."""
    rates = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        first = None
        for name, way in ways.items():
            torch.cuda.synchronize()
            began = time.perf_counter()
            amount, result = way()
            torch.cuda.synchronize()
            took = time.perf_counter() - began
            if number:
                rates[name].append(amount / took)
            elif first is None:
                first = result
            else:
                check(name, first, result)
            del result
        del first
    print(f"\n| {title} | {unit}, median | range |\n| --- | --- | --- |")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):,.1f} | {min(found):,.1f} to {max(found):,.1f} |", flush=True)


def rows(options, path):
    count = os.path.getsize(path) // 4
    table = torch.from_file(path, size=count, dtype=torch.float32).view(-1, COLUMNS)
    view = vyre_io.cuda_view(path, torch.float32, table.shape)
    tensor = torch.from_dlpack(view)
    ids = torch.randint(len(table), (GATHERED,))
    on_gpu = ids.cuda()
    out = torch.empty(GATHERED, COLUMNS, device="cuda")

    def kernel():
        copy_rows[(triton.cdiv(GATHERED, 16),)](tensor, on_gpu, out, COLUMNS, 16, GATHERED)
        return GATHERED / 1e6, out

    def batches():
        parts = [table[part].to("cuda") for part in ids.split(BATCH)]
        return GATHERED / 1e6, torch.cat(parts)

    def pinned():
        some = torch.nn.functional.embedding(ids, table).pin_memory()
        return GATHERED / 1e6, some.to("cuda", non_blocking=True)

    def check(name, first, result):
        assert torch.equal(first, result), name

    from vyre_io.torch import FileTensor

    file_tensor = FileTensor(tensor)
    ways = {
        "cuda_view, t[ids]": lambda: (GATHERED / 1e6, tensor[on_gpu]),
        "cuda_view, FileTensor[ids]": lambda: (GATHERED / 1e6, file_tensor[on_gpu]),
        "cuda_view, a Triton kernel": kernel,
        "torch.from_file(...)[ids].to('cuda')": lambda: (GATHERED / 1e6, table[ids].to("cuda")),
        f"the same in batches of {BATCH:,}": batches,
        "embedding, pin_memory, copy": pinned,
    }
    turns(options, f"{GATHERED:,} random rows of 512 B", "M rows/s", ways, check)


def sums(options, path):
    size = os.path.getsize(path)
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(GIB / total)
    began = time.perf_counter()
    view = vyre_io.cuda_view(path, torch.float32, (size // 4,))
    tensor = torch.from_dlpack(view)
    print(f"\n{size / GIB:.0f} GiB pinned in {time.perf_counter() - began:.3f} s; torch may take 1 GiB of the GPU")
    expected = numpy.fromfile(path, dtype=numpy.float32).sum(dtype=numpy.float64)

    def check(name, first, result):
        assert abs(result - expected) / expected < 1e-4, (name, result, expected)

    def by_view():
        return size / 1e9, tensor.sum().item()

    turns(options, "sum of a file that is larger than that", "GB/s", {"cuda_view, t.sum()": by_view, "again": by_view}, check)
    torch.cuda.set_per_process_memory_fraction(1.0)


def weights(options, path):
    size = os.path.getsize(path) / 1e9

    def instant():
        import instanttensor

        tensors = {}
        with instanttensor.safe_open([path], framework="pt", device=0) as file:
            for name, tensor in file.tensors():
                tensors[name] = tensor
        return size, tensors

    def check(name, first, result):
        assert first.keys() == result.keys()
        for key, tensor in first.items():
            assert torch.equal(tensor, result[key]), (name, key)

    ways = {
        "vyre_io load_safetensors(..., 'cuda')": lambda: (size, vyre_io.load_safetensors(path, "cuda")),
        "safetensors load_file(device='cuda')": lambda: (size, load_file(path, device="cuda")),
    }
    for backend in ["MMAP", "URING_BUFFERED"]:
        def by_instant(backend=backend):
            os.environ["INSTANTTENSOR_BACKEND"] = backend
            return instant()

        try:
            by_instant()
            ways[f"InstantTensor, {backend}"] = by_instant
        except Exception as error:
            print(f"InstantTensor, {backend}: {error!r}"[:300])
    turns(options, "a safetensors file of 4 GiB, from the call to the last tensor", "GB/s", ways, check)
    lazy = []
    for _ in range(options.rounds):
        began = time.perf_counter()
        tensors = vyre_io.load_safetensors(path, "cuda", lazy=True)
        lazy.append(time.perf_counter() - began)
        del tensors
        while vyre_io.pinned_bytes():
            time.sleep(0.01)
    print(f"\nlazy: usable after {statistics.median(lazy):.3f} s ({min(lazy):.3f} to {max(lazy):.3f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the files are made (default: /var/tmp)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each way (default: 5)")
    options = parser.parse_args()
    table = os.path.join(options.dir, "vyre-io-table.f32")
    model = os.path.join(options.dir, "vyre-io-model.safetensors")
    make_table(table, 2 * GIB)
    make_weights(model, 4 * GIB)
    read_once(table)
    read_once(model)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, Triton {triton.__version__}, {os.cpu_count()} cores")
    rows(options, table)
    weights(options, model)
    sums(options, table)


if __name__ == "__main__":
    main()
