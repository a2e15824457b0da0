// Shared by the kernels of the examples: queues, a barrier for all warps of a grid, and error reporting.
// Include it after vyre_ioq.cuh. common/mod.rs has `Port` and `Grid` with the same layout.

namespace examples {
using namespace vyre_ioq;
using simt::lane_id;

// A queue, and the handles that its host assigned. Warp W uses port W % args.port_count.
struct Port {
    Queue queue;
    u32 file, pool;
};

// State that all warps of the grid share. In GPU memory, zeroed.
struct Grid {
    u32 arrived;  // arrivals at barriers so far, of all warps
    u32 failed;   // 1: a warp gave up, and all end
    u32 end;      // WaitStatus of the wait that failed
    u32 error;    // errno of its outcome, if there is one
    u64 item;     // the block or row that it concerned
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

// A warp of a kernel. `Args` has ports, port_count, grid, warps and timeout_ns. All 32 lanes call the
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

    // Reports a failure. The first report is kept; every other warp sees it at its next barrier.
    VYRE_IOQ_DEVICE void give_up(u64 item, WaitStatus end, u32 error) const {
        Grid *grid = args.grid;
        if (mem::fetch_or_device_acquire(&grid->failed, 1) != 0) return;
        grid->end = (u32)end;
        grid->error = error;
        grid->item = item;
        grid->warp = warp;
    }

    // Returns whether the requests of all lanes that submitted one succeeded. If not, the warp gives up.
    VYRE_IOQ_DEVICE bool all_well(u64 item, bool asked, const WaitResult &result) const {
        u32 unwell = simt::ballot(FULL_WARP, asked && !result.ok());
        if (unwell == 0) return true;
        if (lane_id() == simt::lowest_bit(unwell)) give_up(item, result.status, result.outcome.error());
        return false;
    }

    // The leader submits for all lanes, after all of them have finished with the buffer.
    VYRE_IOQ_DEVICE Ticket submit(const Request &request, u32 hint) const {
        simt::sync(FULL_WARP);
        return lane_id() == 0 ? port.queue.submit(request, hint) : Ticket{NO_SLOT};
    }

    // The leader waits. Then every lane sees the bytes.
    VYRE_IOQ_DEVICE bool wait(Ticket ticket, u64 item) const {
        WaitResult result = {};
        if (lane_id() == 0) result = port.queue.wait(ticket, limits);
        bool well = all_well(item, lane_id() == 0, result);
        simt::sync(FULL_WARP);  // the leader's acquire, before the other lanes read the bytes
        return well;
    }

    // Waits until all warps of the grid have arrived for the `nth` time, counted from 1. What each warp did
    // before happens before what any does next. Returns false if a warp gave up or does not arrive. All
    // warps must be resident at once, which a cooperative launch guarantees.
    VYRE_IOQ_DEVICE bool barrier(u32 nth) const {
        bool met = true;
        simt::sync(FULL_WARP);  // every lane's stores, before the leader's release
        if (lane_id() == 0) {
            // Release, paired with the acquire below. The read-modify-writes of later arrivals continue
            // the release sequence of earlier ones.
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
        simt::sync(FULL_WARP);  // the leader's acquire, before every lane goes on
        return met;
    }
};
}  // namespace examples
