// The kernels that ask for windows: they compare every word that they load with what the file holds. They are for use
// after grid.cuh and view_bench.cuh.
//
// windows.rs has the structure with the same layout.

namespace window_bench {
using namespace examples;

struct Args {
    Windows windows;
    const Port *ports;
    Grid *grid;
    const unsigned char *data;  // mapped memory: a block for each warp
    const u64 *order;           // the windows to ask for, one after the other
    u64 *times;                 // nanoseconds
    u64 *wrong;                 // gains the number of wrong quads
    u64 *sum;                   // gains the sum of all words, once for each pass
    u64 *read;                  // gains the bytes that were read through the queue
    u64 timeout_ns, count, seed, block;
    u32 port_count, warps, factor, passes, looks_up, asks_only;
};

struct Bench : Worker<Args> {
    using Worker::Worker;

    // Adds the words of a quad, and compares them.
    struct Tally {
        u64 sum = 0;
        u32 wrong = 0;

        VYRE_IOQ_DEVICE void count(u32 factor, u64 offset, const Quad &quad, u32 words) {
            wrong += view_bench::is_wrong(factor, offset, quad, words);
            sum += quad.x;
            sum += words > 1 ? quad.y : 0;
            sum += words > 2 ? quad.z : 0;
            sum += words > 3 ? quad.w : 0;
        }
    };

    VYRE_IOQ_DEVICE u32 words_at(u64 offset) const {
        u64 left = args.windows.file.bytes - offset;
        return left < 16 ? (u32)(left / 4) : 4;
    }

    // Reads a block through the queue.
    VYRE_IOQ_DEVICE bool read(u64 offset, u32 count, Tally *tally) const {
        u64 place = (u64)warp * args.block;
        u32 hint = warp / args.port_count;
        WaitResult result =
            port.queue.warp_perform(FULL_WARP, Request::read(port.file, offset, count, port.pool, place).exact(), hint, limits);
        if (!all_well(offset, true, result)) return false;
        View data = {args.data + place, count};
        data.warp_read(FULL_WARP, 0, count, [&](u64 at, const Quad &quad) {
            tally->count(args.factor, offset + at, quad, words_at(offset + at));
        });
        if (lane_id() == 0) add(args.read, count);
        simt::sync(FULL_WARP);  // before the next block comes to the same place
        return true;
    }

    // Sums a block: out of its windows, or through the queue where the host has no room for them.
    VYRE_IOQ_DEVICE bool block(u64 offset, u32 count, Tally *tally) const {
        MapResult found = args.windows.warp_map(FULL_WARP, port.queue, port.file, offset, count,
                                                warp / args.port_count, limits);
        if (!found.ok()) {
            // Whatever the reason, the queue reads the block, or says why not.
            if (found.status == WaitStatus::COMPLETED) return args.asks_only != 0 || read(offset, count, tally);
            if (lane_id() == 0) give_up(offset, found.status, found.error);
            return false;
        }
        if (args.asks_only != 0) return true;
        args.windows.warp_read(FULL_WARP, offset, count, [&](u64 at, const Quad &quad) {
            tally->count(args.factor, at, quad, words_at(at));
        });
        return true;
    }

    VYRE_IOQ_DEVICE void sum() const {
        Tally tally;
        u64 bytes = args.windows.file.bytes;
        for (u32 pass = 0; pass < args.passes; ++pass) {
            if (!barrier(pass + 1)) return;
            if (warp == 0 && lane_id() == 0) args.times[pass] = simt::now_ns();
            for (u64 offset = warp * args.block; offset < bytes; offset += args.warps * args.block) {
                u64 count = bytes - offset < args.block ? bytes - offset : args.block;
                if (!block(offset, (u32)count, &tally)) return;
            }
        }
        add(args.sum, tally.sum);
        if (tally.wrong != 0) add(args.wrong, tally.wrong);
        if (!barrier(args.passes + 1)) return;
        if (warp == 0 && lane_id() == 0) args.times[args.passes] = simt::now_ns();
    }

    VYRE_IOQ_DEVICE u64 expected(u64 word) const {
        u32 first = (u32)(2 * word) * args.factor;
        return (u64)(first + args.factor) << 32 | first;
    }

    // One thread asks for one window after the other, and loads its first word.
    VYRE_IOQ_DEVICE void latency() const {
        u64 wrong = 0;
        for (u64 i = 0; i < args.count; ++i) {
            u64 offset = args.order[i] << args.windows.shift;
            u64 began = simt::now_ns();
            MapResult found = args.windows.map(port.queue, port.file, offset, 8, 0, limits);
            if (!found.ok()) return give_up(offset, found.status, found.error);
            if (args.asks_only == 0) wrong += args.windows.load<u64>(offset) != expected(offset / 8);
            args.times[i] = simt::now_ns() - began;
        }
        if (wrong != 0) add(args.wrong, wrong);
    }

    // One thread: each load decides which comes next. It looks each window up, or none.
    VYRE_IOQ_DEVICE void chain() const {
        u64 words = args.windows.file.elements<u64>(), at = args.seed % words, wrong = 0;
        for (u64 i = 0; i < args.count; ++i) {
            if (args.looks_up != 0) {
                MapResult found = args.windows.map(port.queue, port.file, at * 8, 8, 0, limits);
                if (!found.ok()) return give_up(at * 8, found.status, found.error);
            }
            u64 value = args.windows.file.element<u64>(at);
            wrong += value != expected(at);
            at = mix(value + i) % words;
        }
        if (wrong != 0) add(args.wrong, wrong);
    }
};
}  // namespace window_bench

extern "C" __global__ void window_sum_kernel(const window_bench::Args args) {
    vyre_ioq::u32 warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (warp < args.warps) window_bench::Bench(args, warp).sum();
}
extern "C" __global__ void window_latency_kernel(const window_bench::Args args) {
    window_bench::Bench(args, 0).latency();
}
extern "C" __global__ void window_chain_kernel(const window_bench::Args args) {
    window_bench::Bench(args, 0).chain();
}
