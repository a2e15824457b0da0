// The kernels of view_bench: they read a view in several ways, and compare every word that they read with what the
// file holds. Word number I of the file is I * factor, modulo 2^32.
//
// measures.rs has the structure with the same layout.

namespace view_bench {
using namespace vyre_ioq;

struct Args {
    View view;
    const unsigned char *memory;  // memory of the GPU, to be compared
    const u64 *ids;               // row numbers
    u64 count;                    // blocks of a warp, loads, rows, or bytes of memory
    u64 row_bytes, seed;
    u64 *wrong;                   // gains the number of wrong quads
    u32 factor, spare;
};

VYRE_IOQ_DEVICE inline u64 mix(u64 z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

// Returns whether 16 bytes at an offset of the file are right. `last` of their words are compared.
VYRE_IOQ_DEVICE inline u32 is_wrong(u32 factor, u64 offset, const Quad &quad, u32 words = 4) {
    u32 first = (u32)(offset / 4) * factor;
    u32 odd = quad.x ^ first;
    if (words > 1) odd |= quad.y ^ (first + factor);
    if (words > 2) odd |= quad.z ^ (first + 2 * factor);
    if (words > 3) odd |= quad.w ^ (first + 3 * factor);
    return odd != 0;
}

VYRE_IOQ_DEVICE inline u64 thread() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
VYRE_IOQ_DEVICE inline u64 threads() { return (u64)gridDim.x * blockDim.x; }
VYRE_IOQ_DEVICE inline void report(const Args &args, u32 wrong) {
    if (wrong != 0) atomicAdd(args.wrong, (u64)wrong);
}
}  // namespace view_bench

// Random blocks of 4 KiB, `count` for each warp.
extern "C" __global__ void blocks_kernel(const view_bench::Args args) {
    using namespace view_bench;
    u64 warp = thread() / 32, blocks = args.view.bytes / 4096;
    u32 wrong = 0;
    for (u64 i = 0; i < args.count; ++i) {
        u64 offset = mix(args.seed + warp * args.count + i) % blocks * 4096;
        args.view.warp_read(FULL_WARP, offset, 4096, [&](u64 at, const Quad &quad) {
            wrong += is_wrong(args.factor, at, quad);
        });
    }
    report(args, wrong);
}

// The whole view, in order.
extern "C" __global__ void whole_kernel(const view_bench::Args args) {
    using namespace view_bench;
    u32 wrong = 0;
    for (u64 offset = thread() / 32 * 4096; offset < args.view.bytes; offset += threads() / 32 * 4096) {
        u64 rest = args.view.bytes - offset;
        args.view.warp_read(FULL_WARP, offset, rest < 4096 ? rest : 4096, [&](u64 at, const Quad &quad) {
            u64 left = args.view.bytes - at;
            wrong += is_wrong(args.factor, at, quad, left < 16 ? (u32)(left / 4) : 4);
        });
    }
    report(args, wrong);
}

// One thread: each load decides which comes next.
extern "C" __global__ void chain_kernel(const view_bench::Args args) {
    using namespace view_bench;
    u64 words = args.view.elements<u64>(), at = args.seed % words, wrong = 0;
    for (u64 i = 0; i < args.count; ++i) {
        u64 value = args.view.element<u64>(at);
        u32 first = (u32)(2 * at) * args.factor;
        wrong += value != ((u64)(first + args.factor) << 32 | first);
        at = mix(value + i) % words;
    }
    report(args, (u32)wrong);
}

// Compares `count` bytes of memory with the start of the file.
extern "C" __global__ void memory_kernel(const view_bench::Args args) {
    using namespace view_bench;
    const Quad *quads = (const Quad *)args.memory;
    u32 wrong = 0;
    for (u64 at = thread(); at < (args.count + 15) / 16; at += threads()) {
        u64 left = args.count - at * 16;
        wrong += is_wrong(args.factor, at * 16, quads[at], left < 16 ? (u32)(left / 4) : 4);
    }
    report(args, wrong);
}

// Compares `count` rows of memory with those of the file.
extern "C" __global__ void rows_kernel(const view_bench::Args args) {
    using namespace view_bench;
    const Quad *quads = (const Quad *)args.memory;
    u64 units = args.row_bytes / 16;
    u32 wrong = 0;
    for (u64 at = thread(); at < args.count * units; at += threads()) {
        u64 offset = args.ids[at / units] * args.row_bytes + at % units * 16;
        wrong += is_wrong(args.factor, offset, quads[at]);
    }
    report(args, wrong);
}
