// Copies rows of a view to memory of the GPU, in the order of a list of row numbers. Include it after
// vyre_view.cuh. The structure in src/view/rows.rs has the same layout.
//
// A lane has eight loads in flight: a warp takes as many rows at once as fit, and a long row in parts.

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define VYRE_IOQ_UNROLL_ _Pragma("unroll")
#else
#define VYRE_IOQ_UNROLL_
#endif

namespace vyre_ioq_rows {
using namespace vyre_ioq;

struct Rows {
    View view;
    u64 first;           // offset of row 0 in the view
    u64 row_bytes;
    u64 rows;            // in the view
    const u64 *ids;      // the numbers of the rows
    u64 count;           // of the numbers
    unsigned char *out;  // `count` rows
    u32 *outside;        // gains 1 for each number that names no row; the row is then zeros
};

// The numbers of the rows that a warp copies together.
struct Group {
    u64 first;
    u32 rows;
};

template <typename Unit>
VYRE_IOQ_DEVICE inline void copy_part(const Rows &args, const Group &group, u64 part, u32 units, u64 row_units) {
    u32 all = group.rows * units;
    u32 lane = simt::lane_id();
    // First all numbers: no load of a view is moved before an earlier one.
    u64 ids[VIEW_LOADS];
    VYRE_IOQ_UNROLL_
    for (u32 i = 0; i < VIEW_LOADS; ++i) {
        u32 number = i * 32 + lane;
        ids[i] = number < all ? args.ids[group.first + number / units] : 0;
    }
    Unit found[VIEW_LOADS];
    VYRE_IOQ_UNROLL_
    for (u32 i = 0; i < VIEW_LOADS; ++i) {
        u32 number = i * 32 + lane;
        if (number >= all) continue;
        u64 unit = part + number % units;
        found[i] = Unit{};
        if (ids[i] < args.rows) {
            found[i] = args.view.load<Unit>(args.first + ids[i] * args.row_bytes + unit * sizeof(Unit));
        } else if (unit == 0) {
            mem::fetch_add_device(args.outside, 1);
        }
    }
    VYRE_IOQ_UNROLL_
    for (u32 i = 0; i < VIEW_LOADS; ++i) {
        u32 number = i * 32 + lane;
        if (number >= all) continue;
        u64 row = group.first + number / units;
        Unit *to = static_cast<Unit *>(static_cast<void *>(args.out));
        to[row * row_units + part + number % units] = found[i];
    }
}

template <typename Unit>
VYRE_IOQ_DEVICE inline void copy_rows(const Rows &args, u64 warp, u64 warps) {
    constexpr u32 AT_ONCE = VIEW_LOADS * 32;
    u64 row_units = args.row_bytes / sizeof(Unit);
    u32 rows = row_units < AT_ONCE ? AT_ONCE / static_cast<u32>(row_units) : 1;
    u32 units = row_units < AT_ONCE ? static_cast<u32>(row_units) : AT_ONCE;
    for (u64 first = warp * rows; first < args.count; first += warps * rows) {
        u64 left = args.count - first;
        Group group{first, left < rows ? static_cast<u32>(left) : rows};
        for (u64 part = 0; part < row_units; part += units) {
            u64 rest = row_units - part;
            copy_part<Unit>(args, group, part, rest < units ? static_cast<u32>(rest) : units, row_units);
        }
    }
}
}  // namespace vyre_ioq_rows

extern "C" __global__ void vyre_ioq_gather_rows(const vyre_ioq_rows::Rows args) {
    using namespace vyre_ioq_rows;
    u64 warp = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 32, warps = (u64)gridDim.x * blockDim.x / 32;
    u64 bits = (u64)args.view.base | args.first | args.row_bytes | (u64)args.out;
    if (bits % 16 == 0) {
        copy_rows<Quad>(args, warp, warps);
    } else if (bits % 8 == 0) {
        copy_rows<u64>(args, warp, warps);
    } else if (bits % 4 == 0) {
        copy_rows<u32>(args, warp, warps);
    } else {
        copy_rows<unsigned char>(args, warp, warps);
    }
}
