// One kernel for each device call, with nothing else in it, to measure the registers of each call.

struct Args {
    vyre_ioq::Queue queue;
    unsigned file, pool;
    unsigned *found;  // so that no result is optimized away
};

using namespace vyre_ioq;

__device__ inline Request block_of(const Args &args, u32 number) {
    return Request::read(args.file, number * 4096ull, 4096, args.pool, number * 4096ull);
}
__device__ inline u32 own() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline void keep(const Args &args, const WaitResult &result) {
    args.found[own()] = result.ok() ? result.outcome.count : (u32)result.status;
}

extern "C" __global__ void perform(const Args args) {
    keep(args, args.queue.perform(block_of(args, own()), own(), WaitLimits()));
}
extern "C" __global__ void submit(const Args args) {
    args.found[own()] = args.queue.submit(block_of(args, own()), own()).slot;
}
extern "C" __global__ void wait(const Args args) {
    keep(args, args.queue.wait(Ticket{args.found[own()]}, WaitLimits()));
}
extern "C" __global__ void warp_perform(const Args args) {
    keep(args, args.queue.warp_perform(FULL_WARP, block_of(args, own() / 32), own() / 32, WaitLimits()));
}
extern "C" __global__ void warp_submit_wait(const Args args) {
    Ticket ticket = args.queue.warp_submit(FULL_WARP, block_of(args, own()), own() / 32);
    keep(args, args.queue.warp_wait(FULL_WARP, ticket, WaitLimits()));
}
extern "C" __global__ void fence(const Args args) {
    keep(args, args.queue.perform(Request::fence(), own(), WaitLimits()));
}
extern "C" __global__ void sync(const Args args) {
    keep(args, args.queue.perform(Request::sync(args.file), own(), WaitLimits()));
}
extern "C" __global__ void prefetch(const Args args) {
    keep(args, args.queue.perform(Request::prefetch(args.file, 0, 4096), own(), WaitLimits()));
}
