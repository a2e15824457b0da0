//! Safe calls of NVRTC, the runtime compiler.
#![expect(unsafe_code, reason = "NVRTC is a C library")]

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use cudarc::nvrtc::sys;

use crate::error::CudaError;

/// The first version that reports the architectures it compiles for.
const TELLS: (u32, u32) = (11, 2);

/// The kind of code to generate, and its architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// PTX for GPUs of this architecture and later ones.
    Ptx(u32),
    /// Machine code, for GPUs of this architecture and later ones of the same generation.
    Cubin(u32),
}

/// The installed NVRTC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compiler {
    version: (u32, u32),
}

impl Compiler {
    pub(crate) fn find() -> Result<Self, CudaError> {
        // SAFETY: loading the library runs its initializers, which are made to run in any process at
        // any time.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::missing(CudaError::NoCompiler));
        }
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the pointers are to integers that outlive the call.
        check("nvrtcVersion", unsafe {
            sys::nvrtcVersion(&raw mut major, &raw mut minor)
        })?;
        let version = (major.unsigned_abs(), minor.unsigned_abs());
        Ok(Self { version })
    }

    /// Returns the CUDA version of NVRTC.
    pub(crate) const fn version(self) -> (u32, u32) {
        self.version
    }

    /// Returns the architectures that NVRTC compiles for, where 90 is compute capability 9.0; empty if
    /// NVRTC is too old to report them.
    pub(crate) fn architectures(self) -> Result<Vec<u32>, CudaError> {
        if self.version < TELLS {
            return Ok(Vec::new());
        }
        let mut count: c_int = 0;
        // SAFETY: the pointer is to an integer that outlives the call.
        check("nvrtcGetNumSupportedArchs", unsafe {
            sys::nvrtcGetNumSupportedArchs(&raw mut count)
        })?;
        let mut found: Vec<c_int> = vec![0; count.unsigned_abs() as usize];
        // SAFETY: the array has room for as many as the compiler has just said there are.
        check("nvrtcGetSupportedArchs", unsafe {
            sys::nvrtcGetSupportedArchs(found.as_mut_ptr())
        })?;
        Ok(found.into_iter().map(c_int::unsigned_abs).collect())
    }

    /// Compiles one file without includes.
    pub(crate) fn compile(self, source: &str, target: Target) -> Result<Vec<u8>, CudaError> {
        let source = CString::new(source).map_err(|_| CudaError::ZeroByte("the device code"))?;
        let program = Program::new(&source)?;
        let architecture = match target {
            Target::Ptx(number) => format!("--gpu-architecture=compute_{number}"),
            Target::Cubin(number) => format!("--gpu-architecture=sm_{number}"),
        };
        program.compile(&[&architecture, "--std=c++17"])?;
        match target {
            Target::Ptx(_) => {
                let mut text =
                    program.take("nvrtcGetPTX", sys::nvrtcGetPTXSize, sys::nvrtcGetPTX)?;
                // The zero byte at its end.
                text.pop();
                Ok(text)
            }
            Target::Cubin(_) => {
                program.take("nvrtcGetCUBIN", sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN)
            }
        }
    }
}

fn check(call: &'static str, answer: sys::nvrtcResult) -> Result<(), CudaError> {
    match answer {
        sys::nvrtcResult::NVRTC_SUCCESS => Ok(()),
        other => Err(CudaError::Compile(format!("{call}: {other:?}"))),
    }
}

type Size = unsafe fn(sys::nvrtcProgram, *mut usize) -> sys::nvrtcResult;
type Bytes = unsafe fn(sys::nvrtcProgram, *mut c_char) -> sys::nvrtcResult;

/// A program in NVRTC, which has its own copy of the source.
struct Program(sys::nvrtcProgram);

impl Program {
    fn new(source: &CString) -> Result<Self, CudaError> {
        let mut program = ptr::null_mut();
        // SAFETY: the pointer is to a handle that outlives the call; the source ends with a zero byte;
        // there is no name, and no header.
        check("nvrtcCreateProgram", unsafe {
            sys::nvrtcCreateProgram(
                &raw mut program,
                source.as_ptr(),
                ptr::null(),
                0,
                ptr::null(),
                ptr::null(),
            )
        })?;
        Ok(Self(program))
    }

    fn compile(&self, options: &[&str]) -> Result<(), CudaError> {
        let options: Vec<CString> = options.iter().flat_map(|it| CString::new(*it)).collect();
        let pointers: Vec<_> = options.iter().map(|it| it.as_ptr()).collect();
        // SAFETY: the program is there until `self` is dropped; each option ends with a zero byte and
        // outlives the call.
        match unsafe {
            sys::nvrtcCompileProgram(self.0, pointers.len() as c_int, pointers.as_ptr())
        } {
            sys::nvrtcResult::NVRTC_ERROR_COMPILATION
            | sys::nvrtcResult::NVRTC_ERROR_INVALID_OPTION => {
                let log = self.take(
                    "nvrtcGetProgramLog",
                    sys::nvrtcGetProgramLogSize,
                    sys::nvrtcGetProgramLog,
                )?;
                let log = String::from_utf8_lossy(&log);
                Err(CudaError::Compile(log.trim_end_matches('\0').to_owned()))
            }
            answer => check("nvrtcCompileProgram", answer),
        }
    }

    /// Copies a result out of NVRTC: `size` returns its length, and `bytes` copies it.
    fn take(&self, call: &'static str, size: Size, bytes: Bytes) -> Result<Vec<u8>, CudaError> {
        let mut len = 0;
        // SAFETY: the program is there; the pointer is to an integer that outlives the call.
        check(call, unsafe { size(self.0, &raw mut len) })?;
        let mut taken = vec![0_u8; len];
        // SAFETY: the program is there; the vector is as long as NVRTC has just said.
        check(call, unsafe { bytes(self.0, taken.as_mut_ptr().cast()) })?;
        Ok(taken)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `new` and destroyed once.
        let _ = unsafe { sys::nvrtcDestroyProgram(&raw mut self.0) };
    }
}
