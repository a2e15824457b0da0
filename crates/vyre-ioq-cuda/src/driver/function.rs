//! Kernels in loaded modules.
#![expect(unsafe_code, reason = "the CUDA driver is a C library")]

use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use bytemuck::NoUninit;
use cudarc::driver::sys;

use super::context::{Context, version};
use super::status::{check, name_of};
use super::stream::Stream;
use crate::error::CudaError;
use crate::launch_config::LaunchConfig;

/// Code for the driver to load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Image<'a> {
    Ptx(&'a str),
    /// Machine code, of which a header says how long it is.
    Cubin(&'a [u8]),
}

/// A kernel in a loaded module.
#[derive(Debug)]
pub(crate) struct Function {
    context: Arc<Context>,
    module: sys::CUmodule,
    function: sys::CUfunction,
}

// SAFETY: modules and functions of the driver may be used from any thread, by several at once.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Function {
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(crate) fn load(
        context: &Arc<Context>,
        code: Image<'_>,
        name: &str,
    ) -> Result<Self, CudaError> {
        let name = CString::new(name).map_err(|_| CudaError::ZeroByte("the kernel's name"))?;
        let text;
        let image = match code {
            // What begins like this is taken for machine code, whose headers say how long it is.
            Image::Ptx(ptx) if ptx.starts_with('\x7f') => return Err(CudaError::NotPtx),
            Image::Ptx(ptx) => {
                text = CString::new(ptx).map_err(|_| CudaError::ZeroByte("the PTX"))?;
                text.as_ptr().cast()
            }
            Image::Cubin(bytes) => bytes.as_ptr().cast(),
        };
        let _current = context.enter()?;
        let mut made = Self {
            context: Arc::clone(context),
            module: ptr::null_mut(),
            function: ptr::null_mut(),
        };
        // SAFETY: the image is text that ends with a zero byte, or whole machine code of NVRTC's; the
        // pointers outlive the call.
        match unsafe { sys::cuModuleLoadData(&raw mut made.module, image) } {
            sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
                let driver = version()?;
                return Err(CudaError::CodeTooNew {
                    driver: (driver / 1000, driver % 1000 / 10),
                });
            }
            answer @ (sys::CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND
            | sys::CUresult::CUDA_ERROR_JIT_COMPILATION_DISABLED) => {
                return Err(CudaError::NoJit(name_of(answer)));
            }
            answer => check("cuModuleLoadData", answer)?,
        }
        // SAFETY: the module is loaded; the name ends with a zero byte.
        check("cuModuleGetFunction", unsafe {
            sys::cuModuleGetFunction(&raw mut made.function, made.module, name.as_ptr())
        })?;
        made.allow_shared()?;
        Ok(made)
    }

    /// Returns the registers of a thread. This makes the driver load the kernel even under lazy
    /// loading.
    pub(crate) fn registers(&self) -> Result<u32, CudaError> {
        self.attribute(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)
    }

    /// Returns the bytes of a thread in local memory, which holds spilled registers.
    pub(crate) fn local_bytes(&self) -> Result<u32, CudaError> {
        self.attribute(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)
    }

    fn attribute(&self, which: sys::CUfunction_attribute) -> Result<u32, CudaError> {
        let _current = self.context.enter()?;
        let mut value = 0;
        // SAFETY: the pointer is to an integer that outlives the call; the function is loaded.
        check("cuFuncGetAttribute", unsafe {
            sys::cuFuncGetAttribute(&raw mut value, which, self.function)
        })?;
        Ok(value.unsigned_abs())
    }

    /// Starts the kernel on a stream of its context.
    ///
    /// # Safety
    /// `A` is the type of the kernel's only parameter. Everything that the kernel accesses through it
    /// stays valid until what was started on the stream has ended.
    pub(crate) unsafe fn launch<A: NoUninit>(
        &self,
        stream: &Stream,
        config: &LaunchConfig,
        argument: &A,
    ) -> Result<(), CudaError> {
        if !stream.context().is_same(&self.context) {
            return Err(CudaError::OtherGpu("the stream"));
        }
        let _current = self.context.enter()?;
        let [blocks_x, blocks_y, blocks_z] = config.blocks;
        let [threads_x, threads_y, threads_z] = config.threads;
        let mut parameters = [ptr::from_ref(argument).cast_mut().cast::<c_void>()];
        let mut cooperative = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_COOPERATIVE,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue {
                cooperative: config.cooperative.into(),
            },
        };
        let launch = sys::CUlaunchConfig {
            gridDimX: blocks_x,
            gridDimY: blocks_y,
            gridDimZ: blocks_z,
            blockDimX: threads_x,
            blockDimY: threads_y,
            blockDimZ: threads_z,
            sharedMemBytes: config.shared_bytes,
            hStream: stream.raw(),
            attrs: &raw mut cooperative,
            numAttrs: 1,
        };
        // SAFETY: the launch and its attribute outlive the call; the kernel has one parameter of this
        // type, which the driver copies before it returns; what the kernel does is the caller's promise.
        match unsafe {
            let parameters = parameters.as_mut_ptr();
            sys::cuLaunchKernelEx(
                &raw const launch,
                self.function,
                parameters,
                ptr::null_mut(),
            )
        } {
            sys::CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE => {
                Err(CudaError::GridTooLarge {
                    blocks: config.block_count(),
                    most: self.resident_blocks(config)?,
                })
            }
            answer => check("cuLaunchKernelEx", answer),
        }
    }

    /// Returns the number of blocks that the GPU runs at once when it runs nothing else.
    pub(crate) fn resident_blocks(&self, config: &LaunchConfig) -> Result<u64, CudaError> {
        let _current = self.context.enter()?;
        let threads: u64 = config.threads.iter().copied().map(u64::from).product();
        let threads = c_int::try_from(threads).unwrap_or(c_int::MAX);
        let mut each = 0;
        // SAFETY: the pointer is to an integer that outlives the call; the function is loaded.
        check("cuOccupancyMaxActiveBlocksPerMultiprocessor", unsafe {
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(
                &raw mut each,
                self.function,
                threads,
                config.shared_bytes as usize,
            )
        })?;
        let which = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let multiprocessors = self.context.attribute(which)?;
        Ok(u64::from(multiprocessors) * u64::from(each.unsigned_abs()))
    }

    /// Allows blocks to use all the shared memory that the GPU has for one block; the default is 48
    /// KiB. This is called once and not for each launch, because a smaller launch in another thread
    /// would lower the limit.
    fn allow_shared(&self) -> Result<(), CudaError> {
        let of_block =
            sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        // The kernel's own variables are a part of it.
        let own = self.attribute(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
        let most = self.context.attribute(of_block)?.saturating_sub(own);
        let which = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let _current = self.context.enter()?;
        // SAFETY: takes no pointer but the function, which is loaded.
        check("cuFuncSetAttribute", unsafe {
            sys::cuFuncSetAttribute(self.function, which, most.try_into().unwrap_or(c_int::MAX))
        })
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        if self.module.is_null() {
            return;
        }
        if let Ok(_current) = self.context.enter() {
            // SAFETY: loaded by `load` and unloaded once. Streams hold the kernels that they run.
            let _ = unsafe { sys::cuModuleUnload(self.module) };
        }
    }
}
