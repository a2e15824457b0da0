// SPDX-License-Identifier: MIT OR Apache-2.0
// A CUDA kernel reads blocks of a file, changes them, and writes them to another file, by itself: through a queue that
// this program hosts with libvyre_io. Afterwards the program compares the files.
//
//   nvcc -std=c++17 -arch=native kernel_io.cu -I PREFIX/include -L PREFIX/lib -lvyre_io -o kernel_io
//   ./kernel_io [MEGABYTES]
#include <cuda_runtime.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "vyre_io.hpp"
#include "vyre_ioq.cuh"

namespace {

constexpr unsigned BLOCK = 64 << 10, WARPS = 64, SLOTS = 128;

/// Arguments of the kernel. Files are named by handles, the memory by its address and its handle.
struct Args {
    vyre_ioq::Queue queue;
    unsigned char *data;
    unsigned in, out, pool, blocks;
    unsigned *failure;  // the first errno
};

/// Each warp reads, changes and writes blocks of its own, in its part of the memory.
__global__ void change(Args args)
{
    using namespace vyre_ioq;
    const unsigned warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    const u64 place = u64(warp) * BLOCK;
    for (unsigned block = warp; block < args.blocks; block += WARPS) {
        const u64 at = u64(block) * BLOCK;
        const Request read = Request::read(args.in, at, BLOCK, args.pool, place).exact();
        WaitResult result = args.queue.warp_perform(FULL_WARP, read, warp, WaitLimits());
        if (result.ok()) {
            for (unsigned i = lane; i < BLOCK; i += 32) args.data[place + i] ^= 0x5a;
            __syncwarp();
            const Request write = Request::write(args.out, at, BLOCK, args.pool, place).exact();
            result = args.queue.warp_perform(FULL_WARP, write, warp, WaitLimits());
        }
        if (!result.ok()) {
            if (lane == 0) atomicCAS(args.failure, 0u, result.outcome.error());
            return;
        }
    }
}

void check(cudaError_t error)
{
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "kernel_io: %s\n", cudaGetErrorString(error));
    std::exit(1);
}

/// Memory of the host that the GPU maps.
std::shared_ptr<void> mapped(std::size_t bytes)
{
    void *memory = nullptr;
    check(cudaHostAlloc(&memory, bytes, cudaHostAllocMapped));
    return std::shared_ptr<void>(memory, [](void *memory) { cudaFreeHost(memory); });
}

void *address_for_kernels(const std::shared_ptr<void> &memory)
{
    void *address = nullptr;
    check(cudaHostGetDevicePointer(&address, memory.get(), 0));
    return address;
}

vyre_io::Descriptor unnamed_file()
{
    char path[] = "/tmp/kernel_io-XXXXXX";
    vyre_io::Descriptor file(::mkstemp(path));
    ::unlink(path);
    return file;
}

unsigned char byte_at(std::size_t i) { return static_cast<unsigned char>(i * 31 + i / 4096); }

int run(unsigned blocks)
{
    const std::size_t size = std::size_t{blocks} * BLOCK;
    std::vector<unsigned char> bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = byte_at(i);
    const auto source = unnamed_file(), target = unnamed_file();
    if (::pwrite(source.get(), bytes.data(), size, 0) != static_cast<ssize_t>(size)) return 1;

    // What the kernel may name: one file to read, one to write, and memory.
    auto files = vyre_io::FileTable::make();
    const auto in = files.insert(source.get(), VYRE_IO_RIGHT_READ);
    const auto out = files.insert(target.get(), VYRE_IO_RIGHT_WRITE);
    const auto data = mapped(std::size_t{WARPS} * BLOCK);
    const auto buffer = vyre_io::Buffer::from_memory(data.get(), std::size_t{WARPS} * BLOCK, data);
    auto buffers = vyre_io::BufferTable::make();
    const auto pool = buffers.insert(buffer);

    // The queue is in memory that the kernel maps, and the locks of its lanes are in GPU memory.
    const auto slots = mapped(vyre_io::Queue::layout_bytes(SLOTS));
    const auto queue = vyre_io::Queue::in_memory(slots.get(), vyre_io::Queue::layout_bytes(SLOTS), slots, SLOTS);
    Args args = {};
    vyre_ioq::DeviceState *state = nullptr;
    check(cudaMalloc(&state, sizeof(*state)));
    check(cudaMemset(state, 0, sizeof(*state)));
    check(cudaMalloc(&args.failure, sizeof(unsigned)));
    check(cudaMemset(args.failure, 0, sizeof(unsigned)));
    if (vyre_ioq::Queue::attach(queue.memory(), address_for_kernels(slots), queue.bytes(), state, &args.queue) !=
        vyre_ioq::AttachError::NONE) {
        std::fprintf(stderr, "kernel_io: the kernel's end cannot attach\n");
        return 1;
    }
    args.data = static_cast<unsigned char *>(address_for_kernels(data));
    args.in = in, args.out = out, args.pool = pool, args.blocks = blocks;

    auto io = vyre_io::LoopBuilder().files(files).buffers(buffers).queue(queue).spawn();
    const auto begun = std::chrono::steady_clock::now();
    change<<<WARPS / 8, 256>>>(args);
    check(cudaGetLastError());
    check(cudaDeviceSynchronize());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;

    unsigned failure = 0;
    check(cudaMemcpy(&failure, args.failure, sizeof(failure), cudaMemcpyDeviceToHost));
    const auto counters = io.queue_counters(0);
    io.stop();
    check(cudaFree(state));
    check(cudaFree(args.failure));
    if (failure != 0) {
        std::fprintf(stderr, "kernel_io: a request failed with errno %u\n", failure);
        return 1;
    }
    std::vector<unsigned char> copy(size);
    if (::pread(target.get(), copy.data(), size, 0) != static_cast<ssize_t>(size)) {
        std::fprintf(stderr, "kernel_io: the copy is too short\n");
        return 1;
    }
    for (std::size_t i = 0; i < size; ++i) {
        if (copy[i] != (bytes[i] ^ 0x5a)) {
            std::fprintf(stderr, "kernel_io: byte %zu of the copy is wrong\n", i);
            return 1;
        }
    }
    std::printf("%u blocks of %u KiB were read, changed and written by a kernel: all bytes right, %llu requests, %.3f s\n",
                blocks, BLOCK >> 10, static_cast<unsigned long long>(counters.claimed), took.count());
    return 0;
}

}  // namespace

int main(int argc, char **argv)
{
    const unsigned long megabytes = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 64;
    try {
        return run(static_cast<unsigned>(megabytes * 16));
    } catch (const vyre_io::Error &error) {
        std::fprintf(stderr, "kernel_io: %s\n", error.what());
        return 1;
    }
}
