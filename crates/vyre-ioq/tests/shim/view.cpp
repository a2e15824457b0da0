// A view on a CPU: what its functions give, for each alignment and at the end of the file, by warps of 32 and of
// fewer lanes. With an argument, an access that is not inside the view. Exits with 0, or prints what failed and
// exits with 1.

#include "vyre_view.cuh"

#include <string.h>

#include <thread>
#include <vector>

using namespace vyre_ioq;

namespace {

constexpr u64 PAGE = 4096, END = 2 * PAGE + 1003;  // the last page is not full
alignas(4096) unsigned char pages[3 * PAGE];

void check(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

template <typename Run>
void warp_of(u32 lanes, const Run &run) {
    static shim::Warp warp;
    std::vector<std::thread> threads;
    for (u32 number = 0; number < lanes; ++number) {
        threads.emplace_back([&run, number] {
            shim::Lane lane(&warp, number);
            run(number);
        });
    }
    for (std::thread &thread : threads) thread.join();
}

u32 mask_of(u32 lanes) { return lanes == 32 ? FULL_WARP : (1u << lanes) - 1; }

struct Pair {
    unsigned short low, high;
};

void elements(const View &view) {
    check(view.elements<u64>() == END / 8 && view.elements<Quad>() == END / 16, "elements");
    for (u64 index = 0; index < view.elements<Pair>(); index += 97) {
        Pair pair = view.element<Pair>(index);
        check(memcmp(&pair, pages + index * 4, 4) == 0, "a pair");
    }
    check(view.load<unsigned char>(END - 1) == pages[END - 1], "the last byte");
    Quad quad = view.load<Quad>(PAGE);
    check(memcmp(&quad, pages + PAGE, 16) == 0, "a quad");
    Quad last = view.quad(END / 16 * 16);
    check(memcmp(&last, pages + END / 16 * 16, 16) == 0, "the last quad");
    check(view.contains(0, END) && view.contains(END, 0) && !view.contains(END, 1), "the end");
    check(!view.contains(1, END) && !view.contains(END + 1, 0) && !view.contains(~0ull, 2), "past the end");
}

void blocks(const View &view, u32 lanes, u64 offset, u64 count) {
    std::vector<unsigned char> found(count + 15), times(count / 16 + 1);
    warp_of(lanes, [&](u32) {
        view.warp_read(mask_of(lanes), offset, count, [&](u64 at, const Quad &quad) {
            memcpy(&found[at - offset], &quad, at - offset + 16 <= found.size() ? 16 : count - (at - offset));
            ++times[(at - offset) / 16];
        });
    });
    check(memcmp(found.data(), pages + offset, count) == 0, "a block");
    for (u64 past = count; past < (count + 15) / 16 * 16 && past < found.size(); ++past) {
        check(found[past] == 0, "bytes past a block");
    }
    for (u64 number = 0; number < (count + 15) / 16; ++number) check(times[number] == 1, "once each");
}

void copies(const View &view, u32 lanes, u64 offset, u64 count, u64 shift) {
    alignas(16) static unsigned char to[3 * PAGE + 64];
    memset(to, 0xee, sizeof to);
    warp_of(lanes, [&](u32) {
        view.warp_copy(mask_of(lanes), offset, count, to + 16 + shift);
        check(memcmp(to + 16 + shift, pages + offset, count) == 0, "each lane sees a copy");
    });
    for (u64 at = 0; at < sizeof to; ++at) {
        bool inside = at >= 16 + shift && at < 16 + shift + count;
        check(inside || to[at] == 0xee, "nothing beside a copy");
    }
}
}  // namespace

int main(int count, char **) {
    for (u64 at = 0; at < END; ++at) pages[at] = (unsigned char)(1 + at * 7 % 251);
    View view = {pages, END};
    if (count > 1) return (int)view.element<u64>(END / 8);
    elements(view);
    for (u32 lanes : {32u, 5u}) {
        for (u64 bytes : {0ull, 1ull, 15ull, 16ull, 4096ull, 4100ull, (u64)END}) {
            blocks(view, lanes, 0, bytes);
            blocks(view, lanes, END / 16 * 16 - (bytes < END ? bytes / 16 * 16 : END / 16 * 16), END % 16);
        }
        for (u64 offset : {0ull, 1ull, 4ull, 8ull, 4096ull}) {
            for (u64 shift : {0ull, 3ull, 4ull, 8ull}) {
                copies(view, lanes, offset, END - offset, shift);
                copies(view, lanes, offset, 7, shift);
            }
        }
    }
    return 0;
}
