// Streams the weights of a model, layer by layer, and reduces them. The warps share the blocks of a layer;
// while a warp works on one block, its next is in flight, even across the end of a layer. As in a model, each
// layer needs the result of the layer before, so all warps meet at the end of each layer.
//
// If there is a view of the file, no block is requested: the warps load the blocks from there.
//
// Include it after vyre_ioq.cuh and grid.cuh. weights.rs has the same structures with the same layout, and
// the same arithmetic in the same order.

namespace stream_weights {
using namespace examples;

// Type of the values of a tensor. OTHER: only the digest is computed.
enum : u32 { OTHER = 0, F32 = 1, F16 = 2, BF16 = 3 };

// Tensors are ordered by layer. Blocks are numbered across all tensors.
struct Tensor {
    u64 offset, bytes;  // in the file; at least one byte
    u64 first_block;
    u32 dtype, spare;
};

// Each layer has at least one block.
struct Layer {
    u64 first_block, end_block;
    u32 first_tensor, spare;
};

// The result of reducing a block.
struct Found {
    double sum;   // of its finite values
    u64 digest;   // of its bits, chained to the layers before
    u32 largest;  // bits of the greatest magnitude, as f32
    u32 odd;      // number of infinities and NaNs
};

struct Args {
    View view;                  // of the file; without bytes, blocks are requested
    const Port *ports;
    const unsigned char *data;  // mapped memory: two blocks for each warp
    const Tensor *tensors;
    const Layer *layers;
    Found *found;               // for each block
    u64 *digests;               // for each layer, zeroed; then the end of the chain
    Grid *grid;
    u64 timeout_ns;              // for an outcome, or for the other warps
    u32 port_count, layer_count, warps, block_size;
};

// The block that a warp works on. Past the last block, layer == layer_count.
struct Cursor {
    u64 block;
    u32 layer, tensor;
};

// Moves a cursor to the first existing block at or after it.
VYRE_IOQ_DEVICE inline Cursor first_block_from(const Args &args, u32 warp, Cursor cursor) {
    while (cursor.block >= args.layers[cursor.layer].end_block) {
        cursor.layer += 1;
        if (cursor.layer == args.layer_count) return cursor;
        cursor.block = args.layers[cursor.layer].first_block + warp;
        cursor.tensor = args.layers[cursor.layer].first_tensor;
    }
    for (;; cursor.tensor += 1) {
        const Tensor &tensor = args.tensors[cursor.tensor];
        u64 blocks = (tensor.bytes + args.block_size - 1) / args.block_size;
        if (cursor.block < tensor.first_block + blocks) return cursor;
    }
}

VYRE_IOQ_DEVICE inline Cursor after(const Args &args, u32 warp, Cursor cursor) {
    cursor.block += args.warps;
    return first_block_from(args, warp, cursor);
}

// Offset of a block in its tensor, and its length.
struct Extent {
    u64 offset;
    u32 bytes;
};

VYRE_IOQ_DEVICE inline Extent extent(const Args &args, Cursor cursor) {
    const Tensor &tensor = args.tensors[cursor.tensor];
    u64 offset = (cursor.block - tensor.first_block) * args.block_size;
    u64 rest = tensor.bytes - offset;
    return Extent{offset, rest < args.block_size ? (u32)rest : args.block_size};
}

VYRE_IOQ_DEVICE inline void count_value(Found *found, u32 bits) {
    u32 magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x7f800000) {
        found->odd += 1;
        return;
    }
    found->sum += (double)float_of(bits);
    if (magnitude > found->largest) found->largest = magnitude;
}

// Converts f16 to f32 by bits. Exact, including subnormal numbers.
VYRE_IOQ_DEVICE inline u32 widened(u32 half) {
    u32 magnitude = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
    if (magnitude >= 0x7c00u << 13) return sign | 0x7f800000 | magnitude;
    // The exponents have different biases: multiply by 2 to the power of 112.
    return sign | float_bits(float_of(magnitude) * float_of((127 + 112) << 23));
}

VYRE_IOQ_DEVICE inline void count_word(Found *found, u32 dtype, u32 word) {
    if (dtype == F32) return count_value(found, word);
    for (u32 shift = 0; shift < 32; shift += 16) {
        u32 half = word >> shift & 0xffff;
        if (dtype == F16) count_value(found, widened(half));
        if (dtype == BF16) count_value(found, half << 16);
    }
}

// Loads the 16 bytes at `at`. Bytes past the end of the block are zero, and do not affect the result.
VYRE_IOQ_DEVICE inline Words unit_at(const unsigned char *block, u32 at, u32 bytes) {
    if (bytes - at >= 16) return *(const Words *)(block + at);
    Words words = {};
    for (u32 byte = at; byte < bytes; ++byte) {
        words.at[(byte - at) / 4] |= (u32)block[byte] << (byte - at) % 4 * 8;
    }
    return words;
}

VYRE_IOQ_DEVICE inline void count_unit(Found *found, u32 dtype, const Words &words, u64 place,
                                   u64 chain) {
    for (u32 word = 0; word < 4; ++word) count_word(found, dtype, words.at[word]);
    for (u32 pair = 0; pair < 2; ++pair) {
        u64 value = (u64)words.at[2 * pair + 1] << 32 | words.at[2 * pair];
        found->digest += mix((value ^ chain) + place + 8 * pair);
    }
}

enum : u32 {
    STEP = 32 * 16,  // bytes between two units of a lane
    AHEAD = 4,       // loads that each lane has in flight
};

// The lanes' sums are added in order, so the result is the same to the last bit on any machine.
VYRE_IOQ_DEVICE inline Found together(const Found &own) {
    Found all = {};
    for (u32 from = 0; from < 32; ++from) {
        all.sum += double_of(shuffle64(bits_of(own.sum), from));
        all.digest += shuffle64(own.digest, from);
        u32 largest = simt::shuffle(FULL_WARP, own.largest, from);
        all.largest = largest > all.largest ? largest : all.largest;
        all.odd += simt::shuffle(FULL_WARP, own.odd, from);
    }
    return all;
}

// Returns 16 bytes that begin `skip` bytes after the start of `low`, which `high` follows. Of them, all but the first
// `count` are zeroed.
VYRE_IOQ_DEVICE inline Words joined(const Quad &low, const Quad &high, u32 skip, u32 count) {
    u32 words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    for (u32 i = 0; i < 6; ++i) words[i] = skip & 8 ? words[i + 2] : words[i];
    for (u32 i = 0; i < 5; ++i) words[i] = skip & 4 ? words[i + 1] : words[i];
    u32 bits = skip % 4 * 8;
    Words found = {};
    for (u32 i = 0; i < 4; ++i) {
        u32 word = bits == 0 ? words[i] : words[i] >> bits | words[i + 1] << (32 - bits);
        u32 bytes = count > 4 * i ? count - 4 * i : 0;
        found.at[i] = bytes >= 4 ? word : word & ((1u << 8 * bytes) - 1);
    }
    return found;
}

// Reduces a block of a view, as `reduce` does. The block may begin at any byte: each lane loads whole quads, and
// gets the one that follows its own from the next lane.
VYRE_IOQ_DEVICE inline Found reduce_in_view(const View &view, u64 offset, u32 dtype, Extent extent, u64 chain) {
    u32 skip = (u32)(offset % 16), lane = lane_id();
    u64 end = offset + extent.bytes;
    Found own = {};
    for (u32 first = 0; first < extent.bytes; first += AHEAD * STEP) {
        Quad quads[AHEAD + 1] = {};
        for (u32 i = 0; i <= AHEAD; ++i) {
            // Of the last row, the first lane's quad alone is needed.
            u64 at = offset - skip + first + i * STEP + lane * 16;
            if (at < end && (i < AHEAD || (lane == 0 && skip != 0))) quads[i] = view.quad(at);
        }
        for (u32 i = 0; i < AHEAD; ++i) {
            Quad next = {};
            if (skip != 0) {
                Quad mine = quads[i];
                if (lane == 0) mine = quads[i + 1];
                u32 from = (lane + 1) % 32;
                next = Quad{simt::shuffle(FULL_WARP, mine.x, from), simt::shuffle(FULL_WARP, mine.y, from),
                            simt::shuffle(FULL_WARP, mine.z, from), simt::shuffle(FULL_WARP, mine.w, from)};
            }
            u32 at = first + i * STEP + lane * 16;
            if (at >= extent.bytes) continue;
            u32 left = extent.bytes - at;
            Words words = joined(quads[i], next, skip, left < 16 ? left : 16);
            count_unit(&own, dtype, words, extent.offset + at, chain);
        }
    }
    return together(own);
}

// Reduces a block by the whole warp. Lane L processes every 32nd unit from L on.
VYRE_IOQ_DEVICE inline Found reduce(const unsigned char *block, u32 dtype, Extent extent, u64 chain) {
    Found own = {};
    u32 at = lane_id() * 16;
    for (; at + (AHEAD - 1) * STEP + 16 <= extent.bytes; at += AHEAD * STEP) {
        Words words[AHEAD];
        for (u32 i = 0; i < AHEAD; ++i) words[i] = *(const Words *)(block + at + i * STEP);
        for (u32 i = 0; i < AHEAD; ++i) {
            count_unit(&own, dtype, words[i], extent.offset + at + i * STEP, chain);
        }
    }
    for (; at < extent.bytes; at += STEP) {
        Words words = unit_at(block, at, extent.bytes);
        count_unit(&own, dtype, words, extent.offset + at, chain);
    }
    return together(own);
}

struct Stream : Worker<Args> {
    using Worker::Worker;

    VYRE_IOQ_DEVICE u64 place(u32 half) const { return (u64)(2 * warp + half) * args.block_size; }

    // Requests a block, into one of the warp's two buffers.
    VYRE_IOQ_DEVICE Ticket ask(Cursor cursor, u32 half) const {
        if (cursor.layer == args.layer_count || args.view.bytes != 0) return Ticket{NO_SLOT};
        Extent part = extent(args, cursor);
        Request request = Request::read(port.file, args.tensors[cursor.tensor].offset + part.offset,
                                        part.bytes, port.pool, place(half));
        return submit(request.exact(), 2 * (warp / args.port_count) + half);
    }

    // Waits for a block and reduces it.
    VYRE_IOQ_DEVICE bool work(Cursor cursor, u32 half, Ticket ticket, u64 chain) const {
        u32 dtype = args.tensors[cursor.tensor].dtype;
        Extent part = extent(args, cursor);
        Found found;
        if (args.view.bytes != 0) {
            found = reduce_in_view(args.view, args.tensors[cursor.tensor].offset + part.offset, dtype, part, chain);
        } else {
            if (!wait(ticket, cursor.block)) return false;
            found = reduce(args.data + place(half), dtype, part, chain);
        }
        if (lane_id() == 0) {
            args.found[cursor.block] = found;
            add(&args.digests[cursor.layer], found.digest);
        }
        return true;
    }

    VYRE_IOQ_DEVICE void run() const {
        Cursor now = first_block_from(args, warp, Cursor{args.layers[0].first_block + warp, 0, 0});
        u32 half = 0;
        Ticket ticket = ask(now, half);
        u64 chain = 0;
        for (u32 layer = 0; layer < args.layer_count; ++layer) {
            while (now.layer == layer) {
                Cursor next = after(args, warp, now);
                Ticket early = ask(next, half ^ 1);
                if (!work(now, half, ticket, chain)) return;
                now = next;
                ticket = early;
                half ^= 1;
            }
            if (!barrier(layer + 1)) return;
            chain = mix(chain ^ args.digests[layer]);
        }
        if (warp == 0 && lane_id() == 0) args.digests[args.layer_count] = chain;
    }
};
}  // namespace stream_weights

extern "C" __global__ void stream_weights_kernel(const stream_weights::Args args) {
    // Warps run or skip as a whole: `args.warps` is a number of warps.
    vyre_ioq::u32 warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (warp < args.warps) stream_weights::Stream(args, warp).run();
}
