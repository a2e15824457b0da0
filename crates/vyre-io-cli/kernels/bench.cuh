// The persistent kernel behind `vyre-io bench --device cuda`. Each lane is a warp that keeps one
// request in flight. It requests a block, waits for it, moves the block to GPU memory and verifies
// it if the arguments say so, and requests the next one. It ends when its time is over, its
// operations are done, or the host stores the stop word.
//
// Include it after vyre_ioq.cuh. src/bench/kernel.rs has the same structures with the same layout;
// its tests run the same text on threads.

namespace vyre_ioq {
namespace bench {

enum : u32 {
    SUB_BUCKETS = 32,   // buckets of a latency for each power of two
    BUCKETS = 1056,     // up to 2^37 ticks; the last bucket also holds longer ones
    POLL_EACH = 16,     // operations between two polls of the stop word
    SECTOR = 512,       // bytes that carry one stamp
    UNITS_OF_SECTOR = SECTOR / 16,
    AHEAD = 8,          // loads that a lane has in flight when a warp reads a block
};

// A queue of some of the lanes, with the handles that its host gave out.
struct LaneQueue {
    Queue queue;
    u32 file, pool;
};

struct Args {
    const LaneQueue *queues;
    unsigned char *data;     // mapped memory: a block for each lane
    struct Lane *lanes;      // in GPU memory
    u32 *histograms;         // BUCKETS words for each lane
    const u32 *stop;         // mapped memory: any value but 0 ends every lane
    u32 *stopped;            // in GPU memory: what lane 0 found in `stop`, for the others
    unsigned char *landed;   // in GPU memory: a block for each lane; null: they stay in `data`
    u64 blocks;              // number of blocks in the file
    u64 nanoseconds;         // time for which lanes submit requests
    u64 timeout;             // nanoseconds to wait for one outcome
    u64 heartbeat_timeout;   // nanoseconds that the host's heartbeat may stand still; 0: no limit
    u64 operations;          // number for each lane; 0: until the time is over
    u64 seed;
    u32 queue_count, lane_count, block_size;
    u32 op;                  // OP_READ, OP_WRITE, OP_FENCE
    u32 random;              // 0: each lane takes its blocks in order
    u32 stamped;             // 1: the blocks hold stamps
    u32 read_each;           // READ: one block in this many is read in full; 0: none
    u32 lands;               // READ: 1: the warp copies each block to `landed`
};

// Results of a lane.
struct Lane {
    u64 ops, bytes, failed, verified, bad;
    u64 bad_offset;          // offset of the first bad block
    u64 began, ended;        // by the GPU's clock, in nanoseconds
    u64 ticks;               // the same time in ticks of the multiprocessor
    u64 waited;              // ticks that requests took
    u64 sum;                 // sum of all words of the blocks read in full, so that the reads are not omitted
    u32 first_error;         // errno
    u32 end;                 // WaitStatus of the wait that failed, or COMPLETED
};

struct alignas(16) Pair {
    u64 a, b;
};

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define VYRE_IOQ_UNROLL _Pragma("unroll")
VYRE_IOQ_DEVICE __forceinline__ u64 ticks() { return (u64)clock64(); }
VYRE_IOQ_DEVICE __forceinline__ void count_up(u32 *at) { atomicAdd(at, 1u); }
VYRE_IOQ_DEVICE __forceinline__ u64 high_product(u64 a, u64 b) { return __umul64hi(a, b); }
VYRE_IOQ_DEVICE __forceinline__ u32 log2_of(u64 value) { return 63 - (u32)__clzll((long long)value); }
#else
#define VYRE_IOQ_UNROLL
inline u64 ticks() { return simt::now_ns(); }
inline void count_up(u32 *at) { *at += 1; }
inline u64 high_product(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
inline u32 log2_of(u64 value) { return 63 - (u32)__builtin_clzll(value); }
#endif

// Each value below SUB_BUCKETS has a bucket of its own; above, each power of two has SUB_BUCKETS
// buckets.
VYRE_IOQ_DEVICE inline u32 bucket_of(u64 value) {
    if (value < SUB_BUCKETS) return (u32)value;
    u32 power = log2_of(value);
    u32 bucket = (power - 4) * SUB_BUCKETS + (u32)(value >> (power - 5)) % SUB_BUCKETS;
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

// ---- The choice of blocks: SplitMix64, as for lanes on a CPU ----

VYRE_IOQ_DEVICE inline u64 next_block(const Args &args, u64 *state) {
    if (args.random == 0) {
        u64 number = *state % args.blocks;
        *state += 1;
        return number;
    }
    *state += 0x9e3779b97f4a7c15ull;
    u64 z = *state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return high_product(z ^ z >> 31, args.blocks);
}

// ---- Stamps: a sector holds a magic number, its index, and the XXH3 of both in all other words ----

enum : u64 { STAMP_MAGIC = 0x706d747365727976ull };  // "vyrestmp"

VYRE_IOQ_DEVICE inline u64 byte_swapped(u64 value) {
    value = (value & 0x00ff00ff00ff00ffull) << 8 | (value >> 8 & 0x00ff00ff00ff00ffull);
    value = (value & 0x0000ffff0000ffffull) << 16 | (value >> 16 & 0x0000ffff0000ffffull);
    return value << 32 | value >> 32;
}

// Returns the 64-bit XXH3 of the 16 bytes of magic number and index. The two constants are words of
// its secret: 24 ^ 32, and 40 ^ 48.
VYRE_IOQ_DEVICE inline u64 stamp_of(u64 index) {
    u64 low = STAMP_MAGIC ^ 0x6782737bea4239b9ull;
    u64 high = index ^ 0xaf56bc3b0996523aull;
    u64 hash = 16 + byte_swapped(low) + high + (low * high ^ high_product(low, high));
    hash = (hash ^ hash >> 37) * 0x165667919e3779f9ull;
    return hash ^ hash >> 32;
}

// Returns a unit of a stamped sector.
VYRE_IOQ_DEVICE inline Pair stamp_unit(u64 index, u32 unit) {
    if (unit == 0) return Pair{STAMP_MAGIC, index};
    u64 fill = stamp_of(index);
    return Pair{fill, fill};
}

// Stamps a block with the whole warp.
VYRE_IOQ_DEVICE inline void stamp_block(Pair *block, u64 offset, u32 bytes) {
    u32 lane = simt::lane_id();
    for (u32 sector = 0; sector < bytes / SECTOR; ++sector) {
        block[sector * UNITS_OF_SECTOR + lane] = stamp_unit(offset / SECTOR + sector, lane);
    }
}

// Loads a block with the whole warp: lane N loads unit N of every sector. It loads several units
// before it uses the first, since one at a time would wait for the bus each time. `use` gets each
// unit with its sector.
template <typename Use>
VYRE_IOQ_DEVICE inline void load_block(const Pair *block, u32 bytes, const Use &use) {
    const Pair *own = block + simt::lane_id();
    u32 sectors = bytes / SECTOR, sector = 0;
    for (; sector + AHEAD <= sectors; sector += AHEAD) {
        Pair found[AHEAD];
        VYRE_IOQ_UNROLL
        for (u32 i = 0; i < AHEAD; ++i) found[i] = own[(sector + i) * UNITS_OF_SECTOR];
        VYRE_IOQ_UNROLL
        for (u32 i = 0; i < AHEAD; ++i) use(sector + i, found[i]);
    }
    for (; sector < sectors; ++sector) use(sector, own[sector * UNITS_OF_SECTOR]);
}

// Reads a block in full with the whole warp, and returns whether every sector holds its stamp.
VYRE_IOQ_DEVICE inline bool read_block(const Pair *block, u64 offset, u32 bytes, bool stamped,
                                   u64 *sum) {
    u32 lane = simt::lane_id();
    u64 wrong = 0, total = 0;
    load_block(block, bytes, [&](u32 sector, const Pair &found) {
        total += found.a + found.b;
        if (stamped) {
            Pair expected = stamp_unit(offset / SECTOR + sector, lane);
            wrong |= (found.a ^ expected.a) | (found.b ^ expected.b);
        }
    });
    *sum += total;
    return simt::ballot(FULL_WARP, wrong != 0) == 0;
}

// Copies a block with the whole warp. In read_block(), each lane reads only what it wrote itself;
// any other reader needs a sync() first.
VYRE_IOQ_DEVICE inline void copy_block(const Pair *from, Pair *to, u32 bytes) {
    Pair *own = to + simt::lane_id();
    load_block(from, bytes, [&](u32 sector, const Pair &found) {
        own[sector * UNITS_OF_SECTOR] = found;
    });
}

// Returns the sum over all lanes, so that the compiler cannot omit the reads of any.
VYRE_IOQ_DEVICE inline u64 sum_over_warp(u64 own) {
    u64 total = 0;
    for (u32 from = 0; from < 32; ++from) {
        u64 high = simt::shuffle(FULL_WARP, (u32)(own >> 32), from);
        total += high << 32 | simt::shuffle(FULL_WARP, (u32)own, from);
    }
    return total;
}

// ---- A lane ----

VYRE_IOQ_DEVICE inline Request request_of(const Args &args, const LaneQueue &at, u64 offset,
                                      u64 place) {
    if (args.op == OP_READ) {
        return Request::read(at.file, offset, args.block_size, at.pool, place).exact();
    }
    if (args.op == OP_WRITE) {
        return Request::write(at.file, offset, args.block_size, at.pool, place).exact();
    }
    return Request::fence();
}

// Called by the leader alone.
VYRE_IOQ_DEVICE inline void count_reply(const Args &args, const WaitResult &result, Lane *lane) {
    if (result.status != WaitStatus::COMPLETED) {
        lane->end = (u32)result.status;
        return;
    }
    lane->ops += 1;
    lane->bytes += args.op == OP_FENCE ? 0 : result.outcome.bytes();
    if (!result.ok()) {
        if (lane->failed == 0) lane->first_error = result.outcome.error();
        lane->failed += 1;
    }
}

// Returns whether the lanes must stop. Only lane 0 loads the stop word across the bus: a GPU
// serializes its loads of one address of host memory.
VYRE_IOQ_DEVICE inline bool is_stopped(const Args &args, u32 number) {
    if (number != 0) return mem::load_device(args.stopped) != 0;
    if (mem::load_system(args.stop) == 0) return false;
    mem::or_device(args.stopped, 1);
    return true;
}

// Runs one lane on all 32 threads of a warp.
VYRE_IOQ_DEVICE inline void run_lane(const Args &args, u32 number) {
    const LaneQueue at = args.queues[number % args.queue_count];
    bool leader = simt::lane_id() == 0;
    u64 place = (u64)number * args.block_size;
    Pair *block = (Pair *)(args.data + place);
    Pair *landed = args.landed == nullptr ? block : (Pair *)(args.landed + place);
    u32 *histogram = args.histograms + (u64)number * BUCKETS;
    u64 share = args.blocks * number / args.lane_count;
    u64 state = args.random == 0 ? share : args.seed ^ (u64)number << 40;
    // The lane keeps one slot for the whole run. Without a slot, the first result is QUEUE_FULL.
    Ticket ticket{NO_SLOT};
    if (leader) ticket = at.queue.reserve(number / args.queue_count);
    WaitLimits limits;
    limits.timeout_ns = args.timeout;
    limits.heartbeat_timeout_ns = args.heartbeat_timeout;
    Lane lane = {};
    lane.end = (u32)WaitStatus::COMPLETED;
    lane.began = simt::now_ns();
    u64 first_tick = ticks();
    u32 go = 1;
    for (u64 round = 0; go != 0; ++round) {
        u64 offset = args.op == OP_FENCE ? 0 : next_block(args, &state) * args.block_size;
        if (args.op == OP_WRITE && args.stamped != 0) stamp_block(block, offset, args.block_size);
        u64 before = ticks();
        WaitResult result = at.queue.warp_perform_kept(FULL_WARP, ticket,
                                                 request_of(args, at, offset, place), limits);
        u64 after = ticks();
        lane.waited += after - before;
        bool read = args.op == OP_READ && result.ok();
        if (read && args.lands != 0) {
            copy_block(block, landed, args.block_size);
            // The whole warp has copied the block before the next request may change it and before
            // the clock is read.
            simt::sync(FULL_WARP);
            after = ticks();
        }
        if (leader) {
            if (result.status == WaitStatus::COMPLETED) count_up(&histogram[bucket_of(after - before)]);
            count_reply(args, result, &lane);
        }
        bool in_full = args.read_each != 0 && round % args.read_each == 0;
        if (read && in_full) {
            bool intact = read_block(landed, offset, args.block_size, args.stamped != 0, &lane.sum);
            if (leader && args.stamped != 0) {
                if (!intact && lane.bad == 0) lane.bad_offset = offset;
                (intact ? lane.verified : lane.bad) += 1;
            }
            // The whole warp has read the block before the next request may change it.
            simt::sync(FULL_WARP);
        }
        if (leader) {
            go = lane.end == (u32)WaitStatus::COMPLETED;
            if (args.operations != 0 && round + 1 >= args.operations) go = 0;
            if (simt::now_ns() - lane.began >= args.nanoseconds) go = 0;
            if (round % POLL_EACH == 0 && is_stopped(args, number)) go = 0;
        }
        go = simt::shuffle(FULL_WARP, go, 0);
    }
    // Lane 0 no longer loads the stop word, and whatever ended this lane will end the others too.
    if (leader && number == 0 && lane.end != (u32)WaitStatus::COMPLETED) mem::or_device(args.stopped, 1);
    // A slot whose request has no outcome stays reserved.
    if (leader && lane.end == (u32)WaitStatus::COMPLETED) at.queue.unreserve(ticket);
    lane.sum = sum_over_warp(lane.sum);
    lane.ended = simt::now_ns();
    lane.ticks = ticks() - first_tick;
    if (leader) args.lanes[number] = lane;
}
}  // namespace bench
}  // namespace vyre_ioq

extern "C" __global__ void vyre_ioq_bench(const vyre_ioq::bench::Args args) {
    // Warps run or skip as a whole: `lane_count` is a number of warps.
    vyre_ioq::u32 number = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (number < args.lane_count) vyre_ioq::bench::run_lane(args, number);
}
