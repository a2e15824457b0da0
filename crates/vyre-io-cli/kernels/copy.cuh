// The kernel behind `vyre-io copy --device cuda`. Each lane is a warp. It takes a block that no
// other lane has taken, reads it into its own part of mapped memory, writes it to the destination,
// and takes the next one. The last lane to end requests the fence or the sync.
//
// Include it after vyre_ioq.cuh. src/copy/kernel.rs has the same structures with the same layout;
// its tests run the same text on threads.

namespace vyre_ioq {
namespace copy {

// Nanoseconds. A sleeping loop beats a few times a second; a loop that hangs in a system call, in a
// file system that does not answer, does not beat.
constexpr u64 HEARTBEAT_TIMEOUT_NS = 60000000000ull;

// Purpose of the request that failed, or NONE.
enum class Purpose : u32 { NONE, READ, WRITE, FENCE, SYNC };

struct Args {
    Queue queue;
    unsigned char *data;     // mapped memory: a block for each lane
    u32 *copied;             // mapped memory: a word for each lane, the blocks that it has copied
    struct Shared *shared;   // in GPU memory
    struct Fault *faults;    // one for each lane
    u64 bytes;               // length of the file
    u32 from, to, pool;      // handles
    u32 lane_count, block_size;
    u32 granularity;         // the lengths of requests are multiples of this
    u32 fence, sync;         // 1: request it at the end
};

// State that the lanes share. Zero at first.
struct Shared {
    u64 next;                // the first block that no lane has taken
    u64 ended;               // number of lanes that have ended
    u32 failed;              // 1: no lane takes another block
    u32 spare;
};

struct Fault {
    u64 offset;              // in the file
    u32 purpose;             // Purpose
    u32 end;                 // WaitStatus
    u32 error;               // errno, or 0 if too few bytes were moved
    u32 expected, found;     // bytes
    u32 spare;
};

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
VYRE_IOQ_DEVICE __forceinline__ u64 take_number(u64 *at) { return atomicAdd(at, 1ull); }
#else
inline u64 take_number(u64 *at) { return __atomic_fetch_add(at, 1, __ATOMIC_RELAXED); }
#endif

// Takes a number for the warp, and returns it to all lanes.
VYRE_IOQ_DEVICE inline u64 numbered(u64 *at) {
    u64 number = simt::lane_id() == 0 ? take_number(at) : 0;
    u64 high = simt::shuffle(FULL_WARP, (u32)(number >> 32), 0);
    return high << 32 | simt::shuffle(FULL_WARP, (u32)number, 0);
}

struct Block {
    u64 offset;
    u32 bytes;               // bytes of the file; 0: there is no further block
    u32 ask;                 // bytes to request: rounded up for direct I/O
};

VYRE_IOQ_DEVICE inline Block next_block(const Args &args) {
    u32 failed = simt::lane_id() == 0 ? mem::load_device(&args.shared->failed) : 0;
    if (simt::shuffle(FULL_WARP, failed, 0) != 0) return Block{};
    u64 offset = numbered(&args.shared->next) * args.block_size;
    if (offset >= args.bytes) return Block{};
    u64 rest = args.bytes - offset;
    u32 bytes = rest < args.block_size ? (u32)rest : args.block_size;
    u32 ask = (bytes + args.granularity - 1) / args.granularity * args.granularity;
    return Block{offset, bytes, ask};
}

// Performs one request of the whole warp, and returns whether it moved at least `expected` bytes.
// It waits for as long as the host's heartbeat moves: a slow drive is no reason to give up.
VYRE_IOQ_DEVICE inline bool ask(const Args &args, const Request &request, u32 hint, Purpose purpose, u64 offset,
                            u32 expected, Fault *fault) {
    WaitLimits limits;
    limits.timeout_ns = ~0ull;
    limits.heartbeat_timeout_ns = HEARTBEAT_TIMEOUT_NS;
    WaitResult result = args.queue.warp_perform(FULL_WARP, request, hint, limits);
    u32 found = result.outcome.bytes();
    if (result.ok() && found >= expected) return true;
    u32 error = result.status == WaitStatus::COMPLETED ? result.outcome.error() : 0;
    *fault = Fault{offset, (u32)purpose, (u32)result.status, error, expected, found, 0};
    return false;
}

VYRE_IOQ_DEVICE inline bool copy_block(const Args &args, const Block &block, u32 number, Fault *fault) {
    u64 place = (u64)number * args.block_size;
    Request read = Request::read(args.from, block.offset, block.ask, args.pool, place);
    if (!ask(args, read, number, Purpose::READ, block.offset, block.bytes, fault)) return false;
    // Zero the bytes that a direct write carries past the end of the file, which is trimmed later.
    for (u32 at = block.bytes + simt::lane_id(); at < block.ask; at += 32) {
        args.data[place + at] = 0;
    }
    Request write = Request::write(args.to, block.offset, block.ask, args.pool, place).exact();
    return ask(args, write, number, Purpose::WRITE, block.offset, block.ask, fault);
}

// Called by the last lane to end. It needs no ordering with the other lanes: each has taken all of
// its outcomes, and failures that this lane does not see are in their faults.
VYRE_IOQ_DEVICE inline void finish(const Args &args, u32 number, Fault *fault) {
    if (args.fence != 0) {
        if (!ask(args, Request::fence(), number, Purpose::FENCE, 0, 0, fault)) return;
    }
    if (args.sync != 0) ask(args, Request::sync(args.to), number, Purpose::SYNC, 0, 0, fault);
}

// Runs one lane on all 32 threads of a warp.
VYRE_IOQ_DEVICE inline void run_lane(const Args &args, u32 number) {
    bool leader = simt::lane_id() == 0;
    Fault fault = {};
    u32 copied = 0;
    for (;;) {
        Block block = next_block(args);
        if (block.bytes == 0 || !copy_block(args, block, number, &fault)) break;
        copied += 1;
        if (leader) mem::store_system(args.copied + number, copied);
    }
    if (leader && fault.purpose != 0) mem::or_device(&args.shared->failed, 1);
    u64 before = numbered(&args.shared->ended);
    u32 failed = leader ? mem::load_device(&args.shared->failed) : 0;
    failed = simt::shuffle(FULL_WARP, failed, 0);
    if (before + 1 == args.lane_count && failed == 0) finish(args, number, &fault);
    if (leader) args.faults[number] = fault;
}
}  // namespace copy
}  // namespace vyre_ioq

extern "C" __global__ void vyre_ioq_copy(const vyre_ioq::copy::Args args) {
    // Warps run or skip as a whole: `lane_count` is a number of warps.
    vyre_ioq::u32 number = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (number < args.lane_count) vyre_ioq::copy::run_lane(args, number);
}
