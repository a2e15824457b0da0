#!/usr/bin/env python3
"""A CuPy kernel that asks for its own reads: it sums a file, block by block, through a queue that vyre_io serves.

    python3 examples/cupy_reads.py FILE

Needs CuPy with NVRTC, and a GPU. No thread of Python takes part while the kernel runs.
"""

import os
import sys

import cupy
import numpy

import vyre_io

WARPS = 128
BLOCK = 64 << 10

SOURCE = r"""
#include "vyre_ioq.cuh"
#include "vyre_view.cuh"

// Each warp reads blocks of the file to a place of its own in the buffer, and adds their words.
extern "C" __global__ void sum_file(const vyre_ioq::Queue *queue, unsigned file, unsigned buffer,
                                    const unsigned char *data, unsigned long long bytes, unsigned block,
                                    unsigned long long *sum, unsigned *failed) {
    using namespace vyre_ioq;
    const Queue own = *queue;
    u64 warps = gridDim.x * blockDim.x / 32, warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    u64 place = warp * block, total = 0;
    for (u64 offset = warp * block; offset < bytes; offset += warps * block) {
        u32 count = bytes - offset < block ? (u32)(bytes - offset) : block;
        Request request = Request::read(file, offset, count, buffer, place).exact();
        WaitResult result = own.warp_perform(FULL_WARP, request, (u32)warp, WaitLimits());
        if (!result.ok()) {
            if (simt::lane_id() == 0) atomicAdd(failed, 1);
            return;
        }
        View read = {data + place, count};
        read.warp_read(FULL_WARP, 0, count, [&](u64, const Quad &quad) {
            total += (u64)quad.x + quad.y + quad.z + quad.w;
        });
        simt::sync(FULL_WARP);  // before the next block comes to the same place
    }
    atomicAdd(sum, total);
}
"""


def sum_file(path):
    """Returns the sum of the file's words of 32 bits. A rest of up to three bytes counts as a word that ends in zeros."""
    kernel = cupy.RawKernel(SOURCE, "sum_file", options=("--std=c++17", "-I" + vyre_io.include()))
    found = cupy.zeros(1, cupy.uint64)
    failed = cupy.zeros(1, cupy.uint32)
    with vyre_io.File(path) as file, vyre_io.CudaQueue([file], buffer_bytes=WARPS * BLOCK) as queue:
        arguments = (
            numpy.uint64(queue.address),
            numpy.uint32(queue.files[0]),
            numpy.uint32(queue.buffer_handle),
            numpy.uint64(queue.buffer_address),
            numpy.uint64(file.size()),
            numpy.uint32(BLOCK),
            found,
            failed,
        )
        kernel((WARPS // 8,), (256,), arguments)
        # Before the queue is closed: the kernel's requests need its thread.
        cupy.cuda.get_current_stream().synchronize()
    if failed.item():
        raise OSError(f"{failed.item()} warps could not read {path}")
    return found.item()


def main():
    path = sys.argv[1]
    found = sum_file(path)
    words = numpy.fromfile(path, dtype=numpy.uint8)
    words = numpy.pad(words, (0, -len(words) % 4)).view(numpy.uint32)
    assert found == int(words.sum(dtype=numpy.uint64)), (found, words.sum(dtype=numpy.uint64))
    print(f"the words of {os.path.getsize(path)} bytes add up to {found}, as they do on the CPU")


if __name__ == "__main__":
    main()
