//! The texts of the headers in `include`, for programs that compile device code at run time or write
//! the headers where a compiler finds them.

/// The version of the headers: `VYRE_IOQ_VERSION_MAJOR` and so on in C, and that of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The CUDA headers in one text, for NVRTC: it needs no include path.
///
/// `vyre_ioq_abi.cuh`, `vyre_ioq_types.cuh`, `vyre_ioq_device.cuh`, `vyre_ioq.cuh`, `vyre_view.cuh` and
/// `vyre_windows.cuh`, in this order.
pub const CUDA: &str = concat!(
    include_str!("../include/vyre_ioq_abi.cuh"),
    include_str!("../include/vyre_ioq_types.cuh"),
    include_str!("../include/vyre_ioq_device.cuh"),
    include_str!("../include/vyre_ioq.cuh"),
    include_str!("../include/vyre_view.cuh"),
    include_str!("../include/vyre_windows.cuh"),
);

/// The CUDA headers as files, by name and text.
///
/// The last one, `vyre_ioq_shim.h`, is what the others include where there is no GPU.
pub const CUDA_FILES: [(&str, &str); 7] = [
    (
        "vyre_ioq_abi.cuh",
        include_str!("../include/vyre_ioq_abi.cuh"),
    ),
    (
        "vyre_ioq_types.cuh",
        include_str!("../include/vyre_ioq_types.cuh"),
    ),
    (
        "vyre_ioq_device.cuh",
        include_str!("../include/vyre_ioq_device.cuh"),
    ),
    ("vyre_ioq.cuh", include_str!("../include/vyre_ioq.cuh")),
    ("vyre_view.cuh", include_str!("../include/vyre_view.cuh")),
    (
        "vyre_windows.cuh",
        include_str!("../include/vyre_windows.cuh"),
    ),
    (
        "vyre_ioq_shim.h",
        include_str!("../include/vyre_ioq_shim.h"),
    ),
];

/// `vyre_ioq_abi.h`: the numbers of the ABI, for C and C++.
pub const C_ABI: &str = include_str!("../include/vyre_ioq_abi.h");

/// `vyre_ioq_types.h`: requests, outcomes and results, for C and C++.
pub const C_TYPES: &str = include_str!("../include/vyre_ioq_types.h");

/// `vyre_ioq.h`: the device end for C and C++.
pub const C: &str = include_str!("../include/vyre_ioq.h");

/// `vyre_ioq_wait.h`: waits with a clock, for C and C++.
pub const C_WAIT: &str = include_str!("../include/vyre_ioq_wait.h");
