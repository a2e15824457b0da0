// Spills blocks of a KV cache to a file and restores them. Each warp generates blocks and writes them, two in
// flight at a time. When all are published, one warp for each queue issues a FENCE and a SYNC. Then the buffer
// is overwritten, and other warps read the blocks back in another order and compare them.
//
// Include it after vyre_ioq.cuh and grid.cuh. blocks.rs has the same structures with the same layout, and
// generates the same blocks.

namespace kv_spill {
using namespace examples;

enum : u32 { SPILL = 1, RESTORE = 2 };

struct Counts {
    u64 written, compared, bad;
    u64 bad_block;    // one of the bad blocks, if there are any
    u64 early;        // writes without an outcome after the fence; must be 0
    u64 synced;       // queues whose writes are on stable storage
};

struct Args {
    const Port *ports;
    unsigned char *data;  // mapped memory: two blocks for each warp
    Counts *counts;
    Grid *grid;
    u64 blocks, seed;
    u64 stride;           // of the reading order: coprime to `blocks`
    u64 timeout_ns;        // for an outcome, or for the other warps
    u32 port_count, warps;
    u32 block_size;       // a multiple of 16
    u32 phases;           // SPILL, RESTORE, or both
};

// Returns 8 bytes of a block.
VYRE_IOQ_DEVICE inline u64 value_of(u64 seed, u64 block, u64 at) {
    return mix(seed + mix(block + 1) + at * 0x9e3779b97f4a7c15ull);
}

// Returns the `i`th block in reading order.
VYRE_IOQ_DEVICE inline u64 in_other_order(const Args &args, u64 i) {
    return (i * args.stride + args.stride / 2) % args.blocks;
}

// A request of a warp. Only the leader has the ticket.
struct Sent {
    Ticket ticket;
    u64 block;
};

struct Spill : Worker<Args> {
    using Worker::Worker;

    VYRE_IOQ_DEVICE u64 place(u32 half) const { return (u64)(2 * warp + half) * args.block_size; }
    VYRE_IOQ_DEVICE u32 hint(u32 half) const { return 2 * (warp / args.port_count) + half; }
    VYRE_IOQ_DEVICE Words *units(u32 half) const { return (Words *)(args.data + place(half)); }
    VYRE_IOQ_DEVICE Words made(u64 block, u32 unit) const {
        u64 low = value_of(args.seed, block, 2 * unit), high = value_of(args.seed, block, 2 * unit + 1);
        return Words{{(u32)low, (u32)(low >> 32), (u32)high, (u32)(high >> 32)}};
    }

    VYRE_IOQ_DEVICE Sent send(const Request &request, u64 block, u32 half) const {
        return Sent{submit(request, hint(half)), block};
    }
    VYRE_IOQ_DEVICE bool taken(const Sent &sent) const { return wait(sent.ticket, sent.block); }
    VYRE_IOQ_DEVICE bool is_none(const Sent &sent) const { return sent.block >= args.blocks; }
    VYRE_IOQ_DEVICE void count(u64 *counter, u64 many) const {
        if (lane_id() == 0) add(counter, many);
    }

    // Writes the warp's share. `last` receives the requests that are still in flight at the end.
    VYRE_IOQ_DEVICE bool spill(Sent last[2]) const {
        u32 half = 0;
        for (u64 block = warp; block < args.blocks; block += args.warps, half ^= 1) {
            // The buffer is free once its last write has its outcome.
            if (!is_none(last[half]) && !taken(last[half])) return false;
            for (u32 unit = lane_id(); unit < args.block_size / 16; unit += 32) {
                units(half)[unit] = made(block, unit);
            }
            Request write = Request::write(port.file, block * args.block_size, args.block_size,
                                           port.pool, place(half));
            last[half] = send(write.exact(), block, half);
            count(&args.counts->written, 1);
        }
        return true;
    }

    // One warp for each queue waits until every earlier write has completed, and then until it is durable.
    VYRE_IOQ_DEVICE bool make_durable() const {
        if (warp >= args.port_count) return true;
        if (!taken(send(Request::fence(), args.blocks, 0))) return false;
        if (!taken(send(Request::sync(port.file), args.blocks, 0))) return false;
        count(&args.counts->synced, 1);
        return true;
    }

    // Takes the outcomes of the last writes. After the fence they must be there.
    VYRE_IOQ_DEVICE bool collect(const Sent last[2]) const {
        for (u32 half = 0; half < 2; ++half) {
            if (is_none(last[half])) continue;
            Outcome outcome;
            if (lane_id() == 0 && !port.queue.poll(last[half].ticket, &outcome)) {
                add(&args.counts->early, 1);
            }
            if (!taken(last[half])) return false;
        }
        return true;
    }

    // Overwrites the buffer, so that no byte of a block is left.
    VYRE_IOQ_DEVICE void overwrite() const {
        for (u32 half = 0; half < 2; ++half) {
            for (u32 unit = lane_id(); unit < args.block_size / 16; unit += 32) {
                units(half)[unit] = Words{{0xdddddddd, 0xdddddddd, 0xdddddddd, 0xdddddddd}};
            }
        }
    }

    VYRE_IOQ_DEVICE Sent ask(u64 i, u32 half) const {
        if (i >= args.blocks) return Sent{Ticket{NO_SLOT}, args.blocks};
        u64 block = in_other_order(args, i);
        Request read = Request::read(port.file, block * args.block_size, args.block_size, port.pool,
                                     place(half));
        return send(read.exact(), block, half);
    }

    VYRE_IOQ_DEVICE bool intact(u64 block, u32 half) const {
        u32 wrong = 0;
        for (u32 unit = lane_id(); unit < args.block_size / 16; unit += 32) {
            Words found = units(half)[unit], expected = made(block, unit);
            for (u32 word = 0; word < 4; ++word) wrong |= found.at[word] ^ expected.at[word];
        }
        return simt::ballot(FULL_WARP, wrong != 0) == 0;
    }

    // Reads the warp's share in reading order. The next block is in flight while the warp compares one.
    VYRE_IOQ_DEVICE bool restore() const {
        u32 half = 0;
        Sent now = ask(warp, half);
        for (u64 i = warp; i < args.blocks; i += args.warps, half ^= 1) {
            Sent next = ask(i + args.warps, half ^ 1);
            if (!taken(now)) return false;
            count(&args.counts->compared, 1);
            if (!intact(now.block, half)) {
                count(&args.counts->bad, 1);
                if (lane_id() == 0) args.counts->bad_block = now.block;
            }
            now = next;
        }
        return true;
    }

    VYRE_IOQ_DEVICE void run() const {
        if (args.phases & SPILL) {
            Sent last[2] = {{Ticket{NO_SLOT}, args.blocks}, {Ticket{NO_SLOT}, args.blocks}};
            if (!spill(last) || !barrier(1) || !make_durable() || !barrier(2) || !collect(last)) return;
        }
        overwrite();
        if (args.phases & RESTORE) restore();
    }
};
}  // namespace kv_spill

extern "C" __global__ void kv_spill_kernel(const kv_spill::Args args) {
    // Warps run or skip as a whole: `args.warps` is a number of warps.
    vyre_ioq::u32 warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (warp < args.warps) kv_spill::Spill(args, warp).run();
}
