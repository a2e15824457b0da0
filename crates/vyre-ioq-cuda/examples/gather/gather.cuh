// Out-of-core gather, as in graph learning: for each node of a mini-batch, reads the features of some random
// neighbours from a table that is far larger than the buffer, and averages them. Each lane of a warp requests
// the row of one neighbour. While a warp averages the rows of one node, those of the next are in flight, even
// across the end of a mini-batch.
//
// If there is a view of the table, no row is requested: the warp loads the rows from there.
//
// Include it after vyre_ioq.cuh and grid.cuh. rows.rs has the same structures with the same layout, and the
// same arithmetic in the same order.

namespace gather {
using namespace examples;

struct Args {
    View view;                  // of the table; without bytes, rows are requested
    const Port *ports;
    const unsigned char *data;  // mapped memory: 64 rows for each warp
    float *means;               // `columns` for each node
    u64 *ended;                 // end of each mini-batch by the device's clock; then the start
    Grid *grid;
    u64 rows, seed;
    u64 timeout_ns;              // for an outcome, or for the other warps
    u32 port_count, warps;
    u32 columns;                // f32 values of a row
    u32 fanout;                 // neighbours of a node: 1 to 32
    u32 batch_size, batches;    // nodes of a mini-batch, and mini-batches
};

// Returns the row of a node's neighbour.
VYRE_IOQ_DEVICE inline u64 neighbour(const Args &args, u64 node, u32 number) {
    return mix(args.seed + (node * 32 + number) * 0x9e3779b97f4a7c15ull) % args.rows;
}

struct Gather : Worker<Args> {
    using Worker::Worker;

    VYRE_IOQ_DEVICE u64 node_count() const { return (u64)args.batches * args.batch_size; }
    VYRE_IOQ_DEVICE bool asks() const { return lane_id() < args.fanout; }
    VYRE_IOQ_DEVICE u32 mask() const { return FULL_WARP >> (32 - args.fanout); }

    // Returns the offset of a lane's row in one of the warp's two halves.
    VYRE_IOQ_DEVICE u64 place(u32 half, u32 lane) const {
        return ((u64)(2 * warp + half) * 32 + lane) * args.columns * sizeof(float);
    }

    // Averages the neighbours' rows of a node, part by part, as `work` does. Eight rows are loaded at once.
    template <class Part>
    VYRE_IOQ_DEVICE void average(u64 node, u64 parts) const {
        enum : u32 { VALUES = sizeof(Part) / 4 };
        for (u64 part = lane_id(); part < parts; part += 32) {
            float sums[VALUES] = {};
            for (u32 first = 0; first < args.fanout; first += VIEW_LOADS) {
                Part found[VIEW_LOADS];
                for (u32 i = 0; i < VIEW_LOADS; ++i) {
                    if (first + i < args.fanout) {
                        found[i] = args.view.element<Part>(neighbour(args, node, first + i) * parts + part);
                    }
                }
                for (u32 i = 0; i < VIEW_LOADS; ++i) {
                    if (first + i >= args.fanout) continue;
                    const u32 *words = (const u32 *)&found[i];
                    for (u32 value = 0; value < VALUES; ++value) sums[value] += float_of(words[value]);
                }
            }
            float *means = args.means + node * args.columns + part * VALUES;
            for (u32 value = 0; value < VALUES; ++value) means[value] = sums[value] / (float)args.fanout;
        }
    }

    VYRE_IOQ_DEVICE void run_in_view() const {
        if (warp == 0 && lane_id() == 0) args.ended[args.batches] = simt::now_ns();
        for (u32 batch = 0; batch < args.batches; ++batch) {
            u64 end = (u64)(batch + 1) * args.batch_size;
            for (u64 node = (u64)batch * args.batch_size + warp; node < end; node += args.warps) {
                if (args.columns % 4 == 0) {
                    average<Quad>(node, args.columns / 4);
                } else {
                    average<u32>(node, args.columns);
                }
            }
            if (!barrier(batch + 1)) return;
            if (warp == 0 && lane_id() == 0) args.ended[batch] = simt::now_ns();
        }
    }

    // Each lane requests a row.
    VYRE_IOQ_DEVICE Ticket ask(u64 node, u32 half) const {
        Ticket ticket{NO_SLOT};
        simt::sync(FULL_WARP);  // every lane has read the rows that were here
        if (node < node_count() && asks()) {
            u32 bytes = args.columns * (u32)sizeof(float);
            u64 offset = neighbour(args, node, lane_id()) * bytes;
            Request row = Request::read(port.file, offset, bytes, port.pool, place(half, lane_id()));
            u32 hint = (2 * (warp / args.port_count) + half) * 32;
            ticket = port.queue.warp_submit(mask(), row.exact(), hint);
        }
        return ticket;
    }

    // Waits for the rows of a node and averages them, column by column.
    VYRE_IOQ_DEVICE bool work(u64 node, u32 half, Ticket ticket) const {
        WaitResult result = port.queue.warp_wait(FULL_WARP, ticket, limits);
        if (!all_well(node, asks(), result)) return false;
        for (u32 column = lane_id(); column < args.columns; column += 32) {
            float sum = 0;
            for (u32 row = 0; row < args.fanout; ++row) {
                sum += ((const float *)(args.data + place(half, row)))[column];
            }
            args.means[node * args.columns + column] = sum / (float)args.fanout;
        }
        return true;
    }

    VYRE_IOQ_DEVICE void run() const {
        if (args.view.bytes != 0) return run_in_view();
        if (warp == 0 && lane_id() == 0) args.ended[args.batches] = simt::now_ns();
        u64 node = warp;
        u32 half = 0;
        Ticket ticket = ask(node, half);
        for (u32 batch = 0; batch < args.batches; ++batch) {
            u64 end = (u64)(batch + 1) * args.batch_size;
            while (node < end) {
                u64 next = node + args.warps < end ? node + args.warps : end + warp;
                Ticket early = ask(next, half ^ 1);
                if (!work(node, half, ticket)) return;
                node = next;
                ticket = early;
                half ^= 1;
            }
            if (!barrier(batch + 1)) return;
            if (warp == 0 && lane_id() == 0) args.ended[batch] = simt::now_ns();
        }
    }
};
}  // namespace gather

extern "C" __global__ void gather_kernel(const gather::Args args) {
    // Warps run or skip as a whole: `args.warps` is a number of warps.
    vyre_ioq::u32 warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (warp < args.warps) gather::Gather(args, warp).run();
}
