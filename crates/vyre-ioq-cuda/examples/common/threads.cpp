// Runs a kernel on CPU threads, 32 for each warp. threads.rs compiles it with the text of the kernel in
// kernel.cuh and its name in VYRE_KERNEL, and runs:
//
//     kernel ARGS VIEWS BLOCKS THREADS [ADDRESS MEMORY]...
//
// ARGS is a file with the kernel's parameter, VIEWS one with the views of the queues, both as Rust lays them
// out. Each MEMORY is mapped at its ADDRESS, so that the addresses in ARGS and VIEWS are valid here; after an "r", for
// reading only.

#define __global__

namespace {
struct Index {
    unsigned x;
};
thread_local Index blockIdx, threadIdx;
Index blockDim, gridDim;
}  // namespace

#include "vyre_ioq.cuh"
#include "vyre_view.cuh"
#include "vyre_windows.cuh"
#include "kernel.cuh"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

using namespace vyre_ioq;

namespace {

template <class Kernel> struct Parameter;
template <class Args> struct Parameter<void(Args)> {
    using Type = Args;
};
using Args = Parameter<decltype(VYRE_KERNEL)>::Type;

[[noreturn]] void fail(const char *what) {
    fprintf(stderr, "kernel on threads: %s\n", what);
    exit(1);
}

struct Mapped {
    u64 base, bytes;
    Mapped(const char *address, const char *path) {
        char *mark;
        base = strtoull(address, &mark, 0);
        bool only_read = *mark == 'r';
        int file = open(path, only_read ? O_RDONLY : O_RDWR);
        struct stat stat;
        if (file < 0 || fstat(file, &stat) != 0) fail("cannot open the memory");
        bytes = (u64)stat.st_size;
        int flags = MAP_SHARED | MAP_FIXED_NOREPLACE;
        int protection = only_read ? PROT_READ : PROT_READ | PROT_WRITE;
        void *at = mmap((void *)base, bytes, protection, flags, file, 0);
        if (at != (void *)base) fail("cannot map the memory where it should be");
        close(file);
    }
};

std::string contents(const char *path) {
    std::ifstream in(path, std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

// Compares the view of a queue that Rust made with the one that the header makes.
void check_view(const Queue &view, const std::vector<Mapped> &memories) {
    for (const Mapped &memory : memories) {
        if (memory.base != (u64)view.base) continue;
        Queue ours;
        AttachError rule = Queue::attach(view.base, view.base, memory.bytes, view.device_state, &ours);
        if (rule != AttachError::NONE) fail("not a queue");
        if (view.first != ours.first) fail("another offset of the slots");
        if (view.id != ours.id || view.slots != ours.slots) fail("another queue");
        if (view.features != ours.features) fail("other features");
        if (view.bare != ours.bare || view.units != ours.units) fail("another layout");
        return;
    }
    fail("a queue in no memory");
}
}  // namespace

int main(int count, char **args) {
    if (count < 5 || count % 2 == 0) fail("arguments are missing");
    std::string text = contents(args[1]), views = contents(args[2]);
    Args parameter;
    if (text.size() != sizeof parameter) fail("the parameter has another size in Rust");
    memcpy((void *)&parameter, text.data(), sizeof parameter);
    gridDim.x = (unsigned)strtoul(args[3], nullptr, 0);
    blockDim.x = (unsigned)strtoul(args[4], nullptr, 0);
    if (gridDim.x == 0 || blockDim.x == 0 || blockDim.x % 32 != 0) fail("no blocks of whole warps");

    std::vector<Mapped> memories;
    for (int at = 5; at < count; at += 2) memories.emplace_back(args[at], args[at + 1]);
    Queue view;
    if (views.size() % sizeof view != 0) fail("a view has another size in Rust");
    for (size_t at = 0; at < views.size(); at += sizeof view) {
        memcpy((void *)&view, views.data() + at, sizeof view);
        check_view(view, memories);
    }

    unsigned all = gridDim.x * blockDim.x;
    std::vector<shim::Warp> warps(all / 32);
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < all; ++number) {
        threads.emplace_back([&, number] {
            blockIdx.x = number / blockDim.x;
            threadIdx.x = number % blockDim.x;
            shim::Lane lane(&warps[number / 32], number % 32);
            VYRE_KERNEL(parameter);
        });
    }
    for (std::thread &thread : threads) thread.join();
    return 0;
}
