// What the programs of this directory share: arguments, memory, and threads that stand in for lanes.
#ifndef VYRE_IOQ_SHIM_COMMON_HPP
#define VYRE_IOQ_SHIM_COMMON_HPP

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace vyre_ioq;

[[noreturn]] inline void fail(const char *what) {
    fprintf(stderr, "shim: %s\n", what);
    exit(1);
}

inline std::string contents(const char *path) {
    std::ifstream in(path, std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

struct Mapped {
    char *base;
    u64 bytes;
    explicit Mapped(const char *path) {
        int file = open(path, O_RDWR);
        struct stat stat;
        if (file < 0 || fstat(file, &stat) != 0) fail("cannot open the memory");
        bytes = (u64)stat.st_size;
        void *at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (at == MAP_FAILED) fail("cannot map the memory");
        base = (char *)at;
    }
};

// The queue in the memory. What Rust made of it has to be what the header makes of it.
inline Queue attach(const Mapped &memory, Local *local, const Queue &theirs) {
    Queue ours;
    Attach rule = Queue::attach(memory.base, memory.base, memory.bytes, local, &ours);
    if (rule != Attach::Ok) fail("not a queue");
    u64 offset = (u64)((char *)ours.first - (char *)ours.base);
    if ((u64)theirs.first - (u64)theirs.base != offset) fail("another offset of the slots");
    if (theirs.id != ours.id || theirs.slots != ours.slots) fail("another queue");
    if (theirs.features != ours.features) fail("other features");
    if (theirs.bare != ours.bare || theirs.units != ours.units) fail("another layout");
    return ours;
}

// So many warps, each of 32 threads; returns when all have ended.
template <typename Work>
void run_warps(u32 count, const Work &work) {
    std::vector<shim::Warp> warps(count);
    std::vector<std::thread> threads;
    for (u32 number = 0; number < count * 32; ++number) {
        threads.emplace_back([&, number] {
            shim::Lane lane(&warps[number / 32], number % 32);
            work(number / 32);
        });
    }
    for (std::thread &thread : threads) thread.join();
}
#endif  // VYRE_IOQ_SHIM_COMMON_HPP
