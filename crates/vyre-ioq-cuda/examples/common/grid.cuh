// What the kernels of the examples share: queues, boundaries that the warps of a grid meet at, and what
// went wrong. Comes after vyre_ioq.cuh. common/mod.rs has `Port` and `Grid` byte for byte.

namespace examples {
using namespace vyre_ioq;
using simt::lane_id;

// A queue, and the handles that its host gave out. Warp W uses port W % args.port_count.
struct Port {
    Queue queue;
    u32 file, pool;
};

// In memory of the device, zeroed: what all warps of the grid look at.
struct Grid {
    u32 arrived;  // at boundaries so far: a count of all warps together
    u32 failed;   // 1: a warp gave up, and all are to end
    u32 end;      // WaitStatus of the wait that failed
    u32 error;    // the errno of its outcome, if there is one
    u64 item;     // the block or the row that it was about
    u64 warp;
};

struct alignas(16) Words {
    u32 at[4];
};

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
VYRE_IOQ_DEVICE __forceinline__ void arrive(u32 *at) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;"
                 :: "l"(__cvta_generic_to_global(at)) : "memory");
}
VYRE_IOQ_DEVICE __forceinline__ void add(u64 *at, u64 value) { atomicAdd(at, value); }
VYRE_IOQ_DEVICE __forceinline__ float float_of(u32 bits) { return __uint_as_float(bits); }
VYRE_IOQ_DEVICE __forceinline__ u32 float_bits(float value) { return __float_as_uint(value); }
VYRE_IOQ_DEVICE __forceinline__ u64 bits_of(double value) {
    return (u64)__double_as_longlong(value);
}
VYRE_IOQ_DEVICE __forceinline__ double double_of(u64 bits) {
    return __longlong_as_double((long long)bits);
}
#else
inline void arrive(u32 *at) { __atomic_fetch_add(at, 1u, __ATOMIC_RELEASE); }
inline void add(u64 *at, u64 value) { __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }
template <class To, class From> To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
inline float float_of(u32 bits) { return same_bits<float>(bits); }
inline u32 float_bits(float value) { return same_bits<u32>(value); }
inline u64 bits_of(double value) { return same_bits<u64>(value); }
inline double double_of(u64 bits) { return same_bits<double>(bits); }
#endif

// The output function of SplitMix64.
VYRE_IOQ_DEVICE inline u64 mix(u64 z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

VYRE_IOQ_DEVICE inline u64 shuffle64(u64 value, u32 from) {
    u64 high = simt::shuffle(FULL_WARP, (u32)(value >> 32), from);
    return high << 32 | simt::shuffle(FULL_WARP, (u32)value, from);
}

// A warp of a kernel whose `Args` have ports, port_count, grid, warps and timeout_ns. All 32 lanes call its
// functions together.
template <class Args> struct Worker {
    const Args &args;
    const Port port;
    const u32 warp;
    WaitLimits limits;

    VYRE_IOQ_DEVICE Worker(const Args &args, u32 warp)
        : args(args), port(args.ports[warp % args.port_count]), warp(warp) {
        limits.timeout_ns = args.timeout_ns;
    }

    // The first warp that fails says why; every other sees it at its next boundary.
    VYRE_IOQ_DEVICE void give_up(u64 item, WaitStatus end, u32 error) const {
        Grid *grid = args.grid;
        if (mem::fetch_or_device_acquire(&grid->failed, 1) != 0) return;
        grid->end = (u32)end;
        grid->error = error;
        grid->item = item;
        grid->warp = warp;
    }

    // Whether every lane that asked for something has it. If not, the warp gives up.
    VYRE_IOQ_DEVICE bool all_well(u64 item, bool asked, const WaitResult &result) const {
        u32 unwell = simt::ballot(FULL_WARP, asked && !result.ok());
        if (unwell == 0) return true;
        if (lane_id() == simt::lowest_bit(unwell)) give_up(item, result.status, result.outcome.error());
        return false;
    }

    // The leader submits for all lanes. What they did with the buffer before is over.
    VYRE_IOQ_DEVICE Ticket submit(const Request &request, u32 hint) const {
        simt::sync(FULL_WARP);
        return lane_id() == 0 ? port.queue.submit(request, hint) : Ticket{NO_SLOT};
    }

    // The leader waits, and every lane has what came.
    VYRE_IOQ_DEVICE bool wait(Ticket ticket, u64 item) const {
        WaitResult result = {};
        if (lane_id() == 0) result = port.queue.wait(ticket, limits);
        bool well = all_well(item, lane_id() == 0, result);
        simt::sync(FULL_WARP);  // the leader's acquire, before what the lanes read
        return well;
    }

    // Ends when all warps of the grid have come for the `nth` time, from 1 on: what each did before
    // happened before what any does next. False if one gave up, or does not come. The warps must be
    // resident at once: a cooperative launch sees to that.
    VYRE_IOQ_DEVICE bool boundary(u32 nth) const {
        bool met = true;
        simt::sync(FULL_WARP);  // what the lanes did, before the leader's release
        if (lane_id() == 0) {
            // Release, paired with the acquire below: of the last to arrive, and through its
            // read-modify-write of all before.
            arrive(&args.grid->arrived);
            u64 began = simt::now_ns();
            // A difference, so that the count may wrap.
            while ((int)(mem::load_device_acquire(&args.grid->arrived) - nth * args.warps) < 0) {
                if (simt::now_ns() - began >= args.timeout_ns) give_up(nth, WaitStatus::TIMED_OUT, 0);
                if (mem::load_device(&args.grid->failed) != 0) {
                    met = false;
                    break;
                }
                simt::sleep(100);
            }
        }
        met = simt::ballot(FULL_WARP, !met) == 0;
        simt::sync(FULL_WARP);  // the leader's acquire, before what the lanes do next
        return met;
    }
};
}  // namespace examples
