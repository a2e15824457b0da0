//! The texts of the headers in `include`, for programs that compile device code at run time or write
//! the headers where a compiler finds them.

/// `vyre_ioq_parts.cuh`: what [`CUDA`] is made of.
pub const CUDA_PARTS: &str = include_str!("../include/vyre_ioq_parts.cuh");

/// `vyre_ioq.cuh`: the device's end for CUDA kernels. NVRTC takes [`CUDA_PARTS`] and this, one after
/// the other, with no include path.
pub const CUDA: &str = include_str!("../include/vyre_ioq.cuh");

/// `vyre_ioq_shim.h`: what the two stand on where there is no GPU.
pub const CUDA_SHIM: &str = include_str!("../include/vyre_ioq_shim.h");

/// `vyre_ioq_abi.h`: the numbers of the ABI, for C and C++.
pub const C_ABI: &str = include_str!("../include/vyre_ioq_abi.h");

/// `vyre_ioq.h`: the device's end for C and C++.
pub const C: &str = include_str!("../include/vyre_ioq.h");

/// `vyre_ioq_wait.h`: waits that a clock bounds, for C and C++.
pub const C_WAIT: &str = include_str!("../include/vyre_ioq_wait.h");
