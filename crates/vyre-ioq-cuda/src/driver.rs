//! Safe calls of the CUDA driver. No other module of the crate calls it.
//!
//! Each object made here holds its context. It is freed with that context current, on any thread.
#![expect(unsafe_code, reason = "the CUDA driver is a C library")]

mod copies;

use std::ffi::{CString, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use bytemuck::NoUninit;
use cudarc::driver::result::DriverError;
use cudarc::driver::sys;
use vyre_uring::Buffer;

use crate::error::CudaError;
use crate::kernel::{Cubin, LaunchConfig};

pub(crate) use copies::{CopyStream, Event};

/// Converts the driver's status to a result.
fn check(call: &'static str, answer: sys::CUresult) -> Result<(), CudaError> {
    if answer == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    Err(CudaError::Driver {
        call,
        error: name_of(answer),
    })
}

fn name_of(answer: sys::CUresult) -> String {
    DriverError(answer).error_name().map_or_else(
        |_| format!("error {}", answer as u32),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Loads and initializes the driver, and returns the number of devices.
pub(crate) fn start() -> Result<u32, CudaError> {
    // SAFETY: loading the driver's library runs its initializers, which are made to run in any
    // process at any time.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    // SAFETY: takes no pointer; 0 is the one value allowed.
    match unsafe { sys::cuInit(0) } {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => return Err(CudaError::NoDevice),
        answer => check("cuInit", answer)?,
    }
    let mut count = 0;
    // SAFETY: the pointer is to an integer that outlives the call.
    check("cuDeviceGetCount", unsafe {
        sys::cuDeviceGetCount(&raw mut count)
    })?;
    match u32::try_from(count) {
        Ok(0) | Err(_) => Err(CudaError::NoDevice),
        Ok(count) => Ok(count),
    }
}

/// Returns the CUDA version of the driver: 13000 is 13.0.
pub(crate) fn version() -> Result<u32, CudaError> {
    let mut version = 0;
    // SAFETY: the pointer is to an integer that outlives the call.
    check("cuDriverGetVersion", unsafe {
        sys::cuDriverGetVersion(&raw mut version)
    })?;
    Ok(version.unsigned_abs())
}

/// A device with the primary context of this process, which is retained until the last clone is
/// dropped.
#[derive(Debug)]
pub(crate) struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: contexts of the driver may be used from any thread, by several at once.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub(crate) fn of(ordinal: u32) -> Result<Arc<Self>, CudaError> {
        let mut device = 0;
        // SAFETY: the pointer is to an integer that outlives the call.
        check("cuDeviceGet", unsafe {
            sys::cuDeviceGet(&raw mut device, ordinal.cast_signed())
        })?;
        let mut context = ptr::null_mut();
        // SAFETY: the pointer is to a handle that outlives the call; the device is one.
        check("cuDevicePrimaryCtxRetain", unsafe {
            sys::cuDevicePrimaryCtxRetain(&raw mut context, device)
        })?;
        Ok(Arc::new(Self { device, context }))
    }

    /// Makes this the current context of the calling thread until the guard is dropped. The guard
    /// restores the previous context, by which other code in the process chooses its device.
    fn enter(&self) -> Result<Current<'_>, CudaError> {
        // SAFETY: the context is retained until `self` is dropped.
        check("cuCtxPushCurrent", unsafe {
            sys::cuCtxPushCurrent_v2(self.context)
        })?;
        Ok(Current(PhantomData))
    }

    pub(crate) fn name(&self) -> Result<String, CudaError> {
        let mut bytes = [0_u8; 256];
        let len = bytes.len() as c_int;
        // SAFETY: the driver writes at most `len` bytes, a zero byte among them.
        check("cuDeviceGetName", unsafe {
            sys::cuDeviceGetName(bytes.as_mut_ptr().cast(), len, self.device)
        })?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(0);
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    pub(crate) fn attribute(&self, which: sys::CUdevice_attribute) -> Result<u32, CudaError> {
        let mut value = 0;
        // SAFETY: the pointer is to an integer that outlives the call; the device is one.
        check("cuDeviceGetAttribute", unsafe {
            sys::cuDeviceGetAttribute(&raw mut value, which, self.device)
        })?;
        Ok(value.unsigned_abs())
    }
}

/// Guard for as long as a context of this crate is the calling thread's current one.
#[must_use]
struct Current<'a>(PhantomData<(&'a Context, *const ())>);

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut popped = ptr::null_mut();
        // SAFETY: the pointer is to a handle that outlives the call. The guard is not `Send`, guards of
        // a thread are dropped in the reverse of their order, and no call in between leaves another
        // context: what is popped is what `enter` pushed.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&raw mut popped) };
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once by `of`, and everything made in it held a clone that is gone.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// Host memory that is pinned and mapped into every context until it is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    context: Arc<Context>,
    device: u64,
    // Dropped after the memory was given up.
    buffer: Buffer,
}

impl Registration {
    pub(crate) fn new(context: &Arc<Context>, buffer: Buffer) -> Result<Self, CudaError> {
        let _current = context.enter()?;
        let (base, len) = (buffer.as_ptr().cast::<c_void>(), buffer.len());
        let flags = sys::CU_MEMHOSTREGISTER_DEVICEMAP | sys::CU_MEMHOSTREGISTER_PORTABLE;
        // SAFETY: the range is that of a buffer which `self` keeps until it is unregistered.
        let answer = unsafe { sys::cuMemHostRegister_v2(base, len, flags) };
        if answer != sys::CUresult::CUDA_SUCCESS {
            return Err(CudaError::Register {
                bytes: len,
                error: name_of(answer),
            });
        }
        let mut made = Self {
            context: Arc::clone(context),
            device: 0,
            buffer,
        };
        // SAFETY: the pointer is to an integer that outlives the call; the range is registered.
        check("cuMemHostGetDevicePointer", unsafe {
            sys::cuMemHostGetDevicePointer_v2(&raw mut made.device, base, 0)
        })?;
        Ok(made)
    }

    /// Returns the address of the first byte for kernels.
    pub(crate) const fn device(&self) -> u64 {
        self.device
    }

    pub(crate) fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Ok(_current) = self.context.enter() {
            // SAFETY: registered by `new`, once, at this address.
            let _ = unsafe { sys::cuMemHostUnregister(self.buffer.as_ptr().cast()) };
        }
    }
}

/// GPU memory that is freed on drop.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    context: Arc<Context>,
    address: u64,
    len: usize,
}

impl DeviceMemory {
    pub(crate) fn zeroed(context: &Arc<Context>, len: usize) -> Result<Self, CudaError> {
        let current = context.enter()?;
        let made = Self::allocate(context, len)?;
        // SAFETY: the range was just allocated.
        check("cuMemsetD8", unsafe {
            sys::cuMemsetD8_v2(made.address, 0, len)
        })?;
        settle(&current)?;
        Ok(made)
    }

    fn allocate(context: &Arc<Context>, len: usize) -> Result<Self, CudaError> {
        let _current = context.enter()?;
        let mut made = Self {
            context: Arc::clone(context),
            address: 0,
            len,
        };
        // SAFETY: the pointer is to an integer that outlives the call.
        match unsafe { sys::cuMemAlloc_v2(&raw mut made.address, len) } {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => return Err(CudaError::OutOfMemory(len)),
            answer => check("cuMemAlloc", answer)?,
        }
        Ok(made)
    }

    /// Allocates memory that holds a copy of `bytes`.
    pub(crate) fn of(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, CudaError> {
        let current = context.enter()?;
        let made = Self::allocate(context, bytes.len())?;
        // SAFETY: both ranges have the length of `bytes`, which the call has read, or copied to a place
        // of the driver's own, when it returns.
        check("cuMemcpyHtoD", unsafe {
            sys::cuMemcpyHtoD_v2(made.address, bytes.as_ptr().cast(), bytes.len())
        })?;
        settle(&current)?;
        Ok(made)
    }

    /// Copies everything out, after everything launched on the null stream has ended.
    pub(crate) fn read(&self) -> Result<Vec<u8>, CudaError> {
        let _current = self.context.enter()?;
        let mut bytes = vec![0_u8; self.len];
        // SAFETY: both ranges have the length of `bytes`; the call returns when all is written.
        check("cuMemcpyDtoH", unsafe {
            sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), self.address, self.len)
        })?;
        Ok(bytes)
    }

    pub(crate) const fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.address == 0 {
            return;
        }
        if let Ok(_current) = self.context.enter() {
            // SAFETY: allocated by `allocate` and freed once. Kernels that use it have ended: each keeps
            // it, by its launch's contract or as a field of its `Launch`.
            let _ = unsafe { sys::cuMemFree_v2(self.address) };
        }
    }
}

/// Waits for the null stream, which runs fills and copies. The streams of kernels do not wait for it,
/// so kernels could otherwise overtake them.
fn settle(_: &Current<'_>) -> Result<(), CudaError> {
    // SAFETY: the null stream is always there.
    check("cuStreamSynchronize", unsafe {
        sys::cuStreamSynchronize(ptr::null_mut())
    })
}

/// Code for the driver to load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Image<'a> {
    Ptx(&'a str),
    Cubin(&'a Cubin),
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
            Image::Cubin(Cubin(bytes)) => bytes.as_ptr().cast(),
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

    /// Starts the kernel on a stream of its own.
    ///
    /// # Safety
    /// `A` is the type of the kernel's only parameter. Everything that the kernel accesses through it
    /// stays valid until the stream has ended.
    pub(crate) unsafe fn launch<A: NoUninit>(
        &self,
        config: &LaunchConfig,
        argument: &A,
    ) -> Result<Stream, CudaError> {
        let _current = self.context.enter()?;
        let stream = Stream::new(&self.context)?;
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
            hStream: stream.stream,
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
            answer => check("cuLaunchKernelEx", answer).map(|()| stream),
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

/// A sequence of kernels or copies that run one after the other. It waits for no other stream.
#[derive(Debug)]
pub(crate) struct Stream {
    context: Arc<Context>,
    stream: sys::CUstream,
}

// SAFETY: streams of the driver may be used from any thread.
unsafe impl Send for Stream {}

impl Stream {
    fn new(context: &Arc<Context>) -> Result<Self, CudaError> {
        let _current = context.enter()?;
        let mut made = Self {
            context: Arc::clone(context),
            stream: ptr::null_mut(),
        };
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the pointer is to a handle that outlives the call.
        check("cuStreamCreate", unsafe {
            sys::cuStreamCreate(&raw mut made.stream, flags)
        })?;
        Ok(made)
    }

    /// Returns whether the kernel has ended, or its error.
    pub(crate) fn is_done(&self) -> Result<bool, CudaError> {
        let _current = self.context.enter()?;
        // SAFETY: the stream is there until `self` is dropped.
        match unsafe { sys::cuStreamQuery(self.stream) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            answer => check("cuStreamQuery", answer).map(|()| true),
        }
    }

    /// Waits until the kernel has ended.
    pub(crate) fn wait(&self) -> Result<(), CudaError> {
        let _current = self.context.enter()?;
        // SAFETY: the stream is there until `self` is dropped.
        check("cuStreamSynchronize", unsafe {
            sys::cuStreamSynchronize(self.stream)
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // What the kernel uses goes next: it must have ended.
        let _ = self.wait();
        if self.stream.is_null() {
            return;
        }
        if let Ok(_current) = self.context.enter() {
            // SAFETY: made by `new` and destroyed once.
            let _ = unsafe { sys::cuStreamDestroy_v2(self.stream) };
        }
    }
}
