// Tests the CUDA header on a GPU: a mock host runs on the CPU, threads and warps in various numbers run on the
// GPU. Checks every outcome, and prints the costs. Needs a GPU and CUDA 12.3 or later; no Rust. Ends within a
// minute, and returns 0 on success.
//
//     nvcc -arch=sm_90 -std=c++17 -O2 -I../../include selftest.cu -o selftest && ./selftest
//     cuobjdump -res-usage selftest           # registers of each kernel
//
// To check that NVRTC compiles the headers as one text, without an include path:
//
//     g++ -std=c++17 nvrtc_check.cpp -I/usr/local/cuda/include -L/usr/local/cuda/lib64 -lnvrtc
//         -o nvrtc_check && ./nvrtc_check ../../include sm_90        # all on one line

#include "vyre_ioq.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

using namespace vyre_ioq;

static void cuda(cudaError_t result, const char *what) {
    if (result == cudaSuccess) return;
    fprintf(stderr, "FAIL: %s: %s\n", what, cudaGetErrorString(result));
    exit(1);
}
#define CUDA(call) cuda(call, #call)

static VYRE_IOQ_HOST_DEVICE u32 mix(u32 x) {
    x = (x ^ x >> 16) * 0x7feb352d;
    return x ^ x >> 15;
}

// ---- The host: answers each request with a number made of its words ----

static VYRE_IOQ_HOST_DEVICE u32 answer(u32 tag) { return mix(tag) & 0x7fffffff; }
static VYRE_IOQ_HOST_DEVICE bool fails(u32 tag) { return tag % 7 == 0; }

struct Host {
    u32 *base = nullptr;
    u32 slots = 0;
    bool bare = false;
    std::atomic<bool> stop{false};
    std::atomic<u32> torn{0};
    u64 served = 0;
    std::thread thread;

    u32 *slot(u32 i) const {
        return bare ? base + i * BARE_SLOT_BYTES / 4 : base + (HEADER_BYTES + i * SLOT_BYTES) / 4;
    }

    void create() {
        memset(base, 0, HEADER_BYTES + MAX_SLOTS * SLOT_BYTES);
        if (bare) return;
        base[HEADER_WORD_MAGIC + 1] = MAGIC_1;
        base[HEADER_WORD_MAJOR] = ABI_MAJOR;
        base[HEADER_WORD_STRIDE] = SLOT_BYTES;
        base[HEADER_WORD_SLOTS] = slots;
        base[HEADER_WORD_SLOTS_OFFSET] = HEADER_BYTES;
        __atomic_store_n(base + HEADER_WORD_STATE, STATE_RUNNING, __ATOMIC_RELEASE);
        __atomic_store_n(base + HEADER_WORD_MAGIC, MAGIC_0, __ATOMIC_RELEASE);
    }

    void serve(u32 *at) {
        u32 words[16] = {};
        for (u32 i = 0; i < (bare ? 8u : 16u); ++i) {
            words[i] = __atomic_load_n(at + i, __ATOMIC_RELAXED);
        }
        u32 tag = words[WORD_TAG];
        if (mix(tag + 9) % 2 == 0) {  // A host may tell of a claim, or not.
            __atomic_store_n(at + WORD_STATUS, STATUS_CLAIMED, __ATOMIC_RELAXED);
        }
        bool right = words[WORD_OP] == OP_READ && words[WORD_SOURCE] == mix(tag + 1) &&
                     words[WORD_DESTINATION] == mix(tag + 2) &&
                     words[WORD_FILE_OFFSET_LOW] == mix(tag + 3) &&
                     words[WORD_FILE_OFFSET_HIGH] == mix(tag + 4) &&
                     words[WORD_COUNT] == mix(tag + 5);
        if (!bare) {
            right = right && words[WORD_BUFFER_OFFSET_LOW] == mix(tag + 6) &&
                    words[WORD_BUFFER_OFFSET_HIGH] == mix(tag + 7) &&
                    words[WORD_FLAGS] == FLAG_EXACT && words[WORD_DEADLINE] == mix(tag + 8);
        }
        for (u32 i = WORD_RESERVED; i < 16; ++i) right = right && words[i] == 0;
        if (!right) torn += 1;
        __atomic_store_n(at + WORD_COUNT, answer(tag), __ATOMIC_RELAXED);
        u32 outcome = fails(tag) ? STATUS_ERROR : STATUS_OK;
        __atomic_store_n(at + WORD_STATUS, outcome, __ATOMIC_RELEASE);
        ++served;
    }

    // Sweeps the groups that are in use until it is stopped.
    void run() {
        u32 beat = 0;
        while (!stop) {
            for (u32 first = 0; first < slots; first += GROUP_SLOTS) {
                u32 *mark = base + HEADER_WORD_IN_USE + first / GROUP_SLOTS;
                if (first != 0 && __atomic_load_n(mark, __ATOMIC_RELAXED) == 0) continue;
                u32 end = std::min(first + (u32)GROUP_SLOTS, slots);
                for (u32 i = first; i < end; ++i) {
                    u32 *at = slot(i);
                    u32 found = __atomic_load_n(at + WORD_STATUS, __ATOMIC_ACQUIRE);
                    if (found == STATUS_PUBLISHED) serve(at);
                }
            }
            if (!bare) __atomic_store_n(base + HEADER_WORD_HEARTBEAT, ++beat, __ATOMIC_RELAXED);
        }
    }

    void start(u32 many, bool is_bare) {
        slots = many;
        bare = is_bare;
        stop = false;
        torn = 0;
        served = 0;
        create();
        thread = std::thread([this] { run(); });
    }

    void end(u32 last_state) {
        stop = true;
        if (thread.joinable()) thread.join();
        if (!bare) __atomic_store_n(base + HEADER_WORD_STATE, last_state, __ATOMIC_RELEASE);
    }
};

// ---- The device ----

// What the lanes of a kernel found.
struct Found {
    u32 right, wrong, full, gone, late;
    u64 ticks[512];  // of single requests, where one lane measures
};

enum Level : u32 { THREADS, WARPS, SHARED };

static __device__ Request asked(u32 tag) {
    u64 file_offset = mix(tag + 3) | (u64)mix(tag + 4) << 32;
    u64 buffer_offset = mix(tag + 6) | (u64)mix(tag + 7) << 32;
    return Request::read(mix(tag + 1), file_offset, mix(tag + 5), mix(tag + 2), buffer_offset)
        .exact().with_deadline(mix(tag + 8)).with_tag(tag);
}

// Counts a result. The bare layout has no room for some words; its host does not look at them.
static __device__ void count(Found *found, const WaitResult &result, u32 tag) {
    if (result.status == WaitStatus::COMPLETED) {
        u32 status = fails(tag) ? STATUS_ERROR : STATUS_OK;
        bool right = result.outcome.status == status && result.outcome.count == answer(tag) &&
                     result.outcome.tag == tag;
        atomicAdd(right ? &found->right : &found->wrong, 1);
    } else {
        atomicAdd(result.status == WaitStatus::HOST_GONE ? &found->gone
                  : result.status == WaitStatus::TIMED_OUT ? &found->late : &found->full, 1);
    }
}

// Requests of a lane, one after the other; tries a full queue again, up to a bound.
__global__ void by_threads(Queue queue, WaitLimits limits, u32 laps, Found *found) {
    u32 lane = blockIdx.x * blockDim.x + threadIdx.x;
    for (u32 lap = 0; lap < laps; ++lap) {
        u32 tag = lane << 16 | lap;
        WaitResult result;
        for (u32 tries = 0; tries < 100000; ++tries) {
            result = queue.perform(asked(tag), lane, limits);
            if (result.status != WaitStatus::QUEUE_FULL) break;
            __nanosleep(1000);
        }
        count(found, result, tag);
        if (result.status == WaitStatus::HOST_GONE || result.status == WaitStatus::TIMED_OUT) return;
    }
}

__global__ void by_warps(Queue queue, WaitLimits limits, u32 laps, Found *found) {
    u32 lane = blockIdx.x * blockDim.x + threadIdx.x;
    u32 mask = blockDim.x < 32 ? (1u << blockDim.x) - 1 : FULL_WARP;
    for (u32 lap = 0; lap < laps; ++lap) {
        u32 tag = lane << 16 | lap;
        bool done = false, over = false;
        for (u32 tries = 0; tries < 100000; ++tries) {
            u32 left = __ballot_sync(mask, !done);
            if (left == 0) break;
            if (!done) {
                Ticket ticket = queue.warp_submit(left, asked(tag), lane);
                WaitResult result = queue.warp_wait(left, ticket, limits);
                done = result.status != WaitStatus::QUEUE_FULL;
                if (done) count(found, result, tag);
                over = result.status == WaitStatus::HOST_GONE || result.status == WaitStatus::TIMED_OUT;
            }
            __syncwarp(mask);
        }
        if (!done) atomicAdd(&found->full, 1);
        if (__any_sync(mask, over || !done)) return;
    }
}

// A request for each warp; its result is counted by the last lane, which did not ask.
__global__ void by_sharing(Queue queue, WaitLimits limits, u32 laps, Found *found) {
    u32 lane = blockIdx.x * blockDim.x + threadIdx.x, warp = lane / 32;
    for (u32 lap = 0; lap < laps; ++lap) {
        u32 tag = warp << 16 | lap;
        WaitResult result;
        for (u32 tries = 0; tries < 100000; ++tries) {
            result = queue.warp_perform(FULL_WARP, asked(tag), warp, limits);
            if (result.status != WaitStatus::QUEUE_FULL) break;
        }
        if (lane % 32 == 31) count(found, result, tag);
        if (result.status != WaitStatus::COMPLETED) return;
    }
}

// One lane alone, with a clock.
__global__ void timed(Queue queue, WaitLimits limits, Found *found) {
    for (u32 lap = 0; lap < 512; ++lap) {
        u64 began = clock64();
        WaitResult result = queue.perform(asked(lap), 0, limits);
        found->ticks[lap] = clock64() - began;
        count(found, result, lap);
        if (result.status != WaitStatus::COMPLETED) return;
    }
}

// ---- The tests ----

static u32 passed = 0, failed = 0;
static Host host;
static DeviceState *device_state;
static Found *found;
static size_t memory_bytes = HEADER_BYTES + MAX_SLOTS * SLOT_BYTES;

static void report(bool holds, const char *what, u32 lanes) {
    (holds ? passed : failed) += 1;
    printf("%s: %s, %u lanes\n", holds ? "PASS" : "FAIL", what, lanes);
}

static Queue begin(u32 slots, bool bare) {
    host.start(slots, bare);
    CUDA(cudaMemset(device_state, 0, sizeof(DeviceState)));
    CUDA(cudaMemset(found, 0, sizeof(Found)));
    void *device;
    CUDA(cudaHostGetDevicePointer(&device, host.base, 0));
    Queue queue;
    AttachError rule = bare ? Queue::attach_bare_with_counts(device, slots * BARE_SLOT_BYTES, device_state,
                                                        &queue)
                       : Queue::attach(host.base, device, memory_bytes, device_state, &queue);
    if (rule != AttachError::NONE) {
        fprintf(stderr, "FAIL: the queue is refused by rule %u\n", (u32)rule);
        exit(1);
    }
    return queue;
}

static Found end(u32 last_state) {
    CUDA(cudaGetLastError());
    CUDA(cudaDeviceSynchronize());
    host.end(last_state);
    Found result;
    CUDA(cudaMemcpy(&result, found, sizeof(Found), cudaMemcpyDeviceToHost));
    return result;
}

static WaitLimits bounded() {
    WaitLimits limits;
    limits.timeout_ns = 3000000000ull;
    return limits;
}

static void launch(Level level, const Queue &queue, const WaitLimits &limits, u32 lanes, u32 laps) {
    u32 threads = level == SHARED ? lanes * 32 : lanes;  // where a warp shares, it is the lane
    u32 block = std::min(threads, 128u), blocks = threads / block;
    if (level == THREADS) by_threads<<<blocks, block>>>(queue, limits, laps, found);
    if (level == WARPS) by_warps<<<blocks, block>>>(queue, limits, laps, found);
    if (level == SHARED) by_sharing<<<blocks, block>>>(queue, limits, laps, found);
}

static void outcomes(Level level, u32 lanes, u32 slots, bool bare) {
    static const char *const NAMES[] = {"threads", "warps", "shared by warps"};
    u32 laps = 200;
    Queue queue = begin(slots, bare);
    launch(level, queue, bounded(), lanes, laps);
    Found result = end(STATE_STOPPED);
    char what[96];
    snprintf(what, sizeof what, "%s, %u %sslots: %u right, %u wrong, %u torn", NAMES[level], slots,
             bare ? "bare " : "", result.right, result.wrong, host.torn.load());
    bool all = result.right == lanes * laps && host.served == lanes * laps;
    u32 bad = result.wrong + result.full + result.gone + result.late + host.torn;
    report(all && bad == 0, what, lanes);
}

// Nobody serves: each lane must learn of it, within its limits.
static void endings() {
    WaitLimits limits;
    limits.timeout_ns = 50000000ull;
    for (u32 level = THREADS; level <= WARPS; ++level) {
        Queue queue = begin(64, false);
        host.end(STATE_RUNNING);
        launch((Level)level, queue, limits, 32, 1);
        report(end(STATE_RUNNING).late == 32, "TIMED_OUT", 32);

        queue = begin(64, false);
        host.end(STATE_STOPPED);
        launch((Level)level, queue, bounded(), 32, 1);
        report(end(STATE_STOPPED).gone == 32, "HOST_GONE by STATE", 32);

        limits.heartbeat_timeout_ns = 10000000ull;
        queue = begin(64, false);
        host.end(STATE_RUNNING);
        launch((Level)level, queue, limits, 32, 1);
        report(end(STATE_RUNNING).gone == 32, "HOST_GONE by HEARTBEAT", 32);
        limits.heartbeat_timeout_ns = 0;
    }
}

static void latency() {
    int kilohertz = 0;
    CUDA(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, 0));
    Queue queue = begin(64, false);
    timed<<<1, 1>>>(queue, bounded(), found);
    Found result = end(STATE_STOPPED);
    report(result.right == 512, "one lane with a clock", 1);
    std::vector<u64> ticks(result.ticks + 1, result.ticks + 512);  // the first warms up
    std::sort(ticks.begin(), ticks.end());
    double scale = 1e6 / kilohertz;
    printf("round trip, one lane: p50 %.0f ns, p99 %.0f ns, at %d MHz by attribute\n",
           ticks[255] * scale, ticks[505] * scale, kilohertz / 1000);
}

static void rate(Level level, u32 lanes) {
    u32 laps = 2000;
    Queue queue = begin(MAX_SLOTS, false);
    cudaEvent_t from, to;
    CUDA(cudaEventCreate(&from));
    CUDA(cudaEventCreate(&to));
    CUDA(cudaEventRecord(from));
    launch(level, queue, bounded(), lanes, laps);
    CUDA(cudaEventRecord(to));
    Found result = end(STATE_STOPPED);
    float milliseconds = 0;
    CUDA(cudaEventElapsedTime(&milliseconds, from, to));
    u32 bad = result.wrong + result.full + result.gone + result.late + host.torn;
    report(bad == 0, "rate", lanes);
    printf("%s: %.2f M requests/s\n", level == THREADS ? "threads" : "warps",
           result.right / (milliseconds * 1e3));
}

int main() {
    auto began = std::chrono::steady_clock::now();
    // Before any kernel: a module that is loaded late waits for the kernels that run.
    setenv("CUDA_MODULE_LOADING", "EAGER", 1);
    CUDA(cudaSetDeviceFlags(cudaDeviceMapHost));
    void *memory;
    CUDA(cudaHostAlloc(&memory, memory_bytes, cudaHostAllocMapped));
    host.base = (u32 *)memory;
    CUDA(cudaMalloc(&device_state, sizeof(DeviceState)));
    CUDA(cudaMalloc(&found, sizeof(Found)));
    cudaDeviceProp device;
    CUDA(cudaGetDeviceProperties(&device, 0));
    printf("%s, sm_%d%d\n", device.name, device.major, device.minor);

    for (u32 lanes : {1u, 2u, 32u, 64u, 256u, 1024u}) {
        for (u32 level = THREADS; level <= SHARED; ++level) {
            outcomes((Level)level, lanes, lanes < 64 ? 64 : lanes, false);
        }
        // Fewer slots than lanes.
        if (lanes >= 64) outcomes(THREADS, lanes, lanes / 2 + 1, false);
        if (lanes >= 64) outcomes(WARPS, lanes, lanes / 2 + 1, false);
        if (lanes <= 64) outcomes(THREADS, lanes, 64, true);
        if (lanes <= 64) outcomes(WARPS, lanes, 64, true);
        auto spent = std::chrono::steady_clock::now() - began;
        if (spent > std::chrono::seconds(40)) {
            report(false, "the tests take too long", lanes);
            break;
        }
    }
    endings();
    latency();
    rate(THREADS, 1);
    rate(THREADS, 32);
    rate(THREADS, 1024);
    rate(WARPS, 1024);
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
