//! Kernels with prebuilt PTX.

use std::path::Path;

use vyre_ioq::headers;
use xxhash_rust::xxh3::xxh3_64;

use crate::code::Ptx;
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::kernel::Kernel;

/// The compute capability of prebuilt PTX: the oldest that the queue supports.
const PORTABLE: (u32, u32) = crate::gpu::OLDEST;

/// A kernel with prebuilt PTX, which is loaded where there is no NVRTC or none that suits the GPU and the
/// driver.
///
/// ```no_run
/// use vyre_ioq_cuda::{Gpu, Program};
///
/// # const SOURCE: &str = "";
/// # const PREBUILT: &str = "";
/// // In a program: include_str!("load.cuh") and include_str!("load.ptx").
/// const LOAD: Program<'_> = Program::new(SOURCE, "load", PREBUILT);
///
/// let loaded = LOAD.load(&Gpu::open(0)?)?;
/// # let _ = loaded.kernel();
/// # Ok::<(), vyre_ioq_cuda::CudaError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    source: &'a str,
    name: &'a str,
    prebuilt: &'a str,
}

/// A loaded [`Program`].
#[derive(Clone, Debug)]
pub struct LoadedProgram {
    kernel: Kernel,
    prebuilt: bool,
}

impl LoadedProgram {
    /// Returns the kernel.
    pub const fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Returns whether the kernel's PTX was compiled beforehand.
    pub const fn is_prebuilt(&self) -> bool {
        self.prebuilt
    }
}

impl<'a> Program<'a> {
    /// Returns the program whose kernel is the `extern "C"` function `name` of `source`. The source is as
    /// for [`Ptx::compile`]. `prebuilt` is the text that [`portable_ptx`](Self::portable_ptx) made.
    pub const fn new(source: &'a str, name: &'a str, prebuilt: &'a str) -> Self {
        Self {
            source,
            name,
            prebuilt,
        }
    }

    /// Compiles and loads the kernel. Loads the prebuilt PTX if NVRTC is missing or makes no code that
    /// the driver accepts, so an unsuitable NVRTC is no worse than none.
    ///
    /// # Errors
    /// [`CudaError`] if the driver loads neither NVRTC's code nor the prebuilt PTX, or if it fails for a
    /// reason that another compiler would not change.
    pub fn load(&self, gpu: &Gpu) -> Result<LoadedProgram, CudaError> {
        let error = match Kernel::compile(gpu, self.source, self.name) {
            Ok(kernel) => {
                return Ok(LoadedProgram {
                    kernel,
                    prebuilt: false,
                });
            }
            Err(error) if is_of_the_compiler(&error) => error,
            Err(error) => return Err(error),
        };
        let prebuilt = Ptx::from_text(self.prebuilt.to_owned());
        self.load_ptx(gpu, &prebuilt).map_err(|refused| {
            // To install a compiler would not help where the driver takes nothing.
            if error == CudaError::NoCompiler {
                refused
            } else {
                error
            }
        })
    }

    /// Loads PTX from a file instead.
    ///
    /// # Errors
    /// [`CudaError::Ptx`] if the file cannot be read, or another [`CudaError`] if the driver does not load
    /// the PTX.
    pub fn load_file(&self, gpu: &Gpu, path: &Path) -> Result<LoadedProgram, CudaError> {
        self.load_ptx(gpu, &Ptx::from_file(path)?)
    }

    fn load_ptx(&self, gpu: &Gpu, ptx: &Ptx) -> Result<LoadedProgram, CudaError> {
        Ok(LoadedProgram {
            kernel: Kernel::load(gpu, ptx, self.name)?,
            prebuilt: true,
        })
    }

    /// Compiles the kernel to PTX for as many GPUs as NVRTC supports: NVRTC 12 for every GPU that the
    /// queue supports, NVRTC 13 from compute capability 7.5. The first line of the text identifies the
    /// source and the headers. Needs no GPU.
    ///
    /// # Errors
    /// The same as for [`Ptx::compile`].
    pub fn portable_ptx(&self) -> Result<Ptx, CudaError> {
        let ptx = Ptx::compile_portable(self.source, PORTABLE)?;
        Ok(Ptx::from_text([&self.first_line(), ptx.text()].concat()))
    }

    /// Returns whether the prebuilt PTX was made from this source and the headers of this version.
    pub fn is_current(&self) -> bool {
        self.prebuilt.starts_with(&self.first_line())
    }

    /// Returns the first line of prebuilt PTX.
    fn first_line(&self) -> String {
        let text = [headers::CUDA, self.source].concat();
        format!(
            "// XXH3 of the sources: {:016x}\n",
            xxh3_64(text.as_bytes())
        )
    }
}

/// Returns whether the prebuilt PTX may load although NVRTC's code failed with this error.
fn is_of_the_compiler(error: &CudaError) -> bool {
    matches!(
        error,
        CudaError::NoCompiler
            | CudaError::NoArchitecture { .. }
            | CudaError::Compile(_)
            | CudaError::CodeTooNew { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_compiler_cannot_do_is_made_good() {
        let (version, compute, driver) = ((12, 4), (12, 0), (12, 4));
        let refused = |error: &str| CudaError::Driver {
            call: "cuModuleLoadData",
            error: error.to_owned(),
        };
        for error in [
            CudaError::NoCompiler,
            CudaError::Compile("invalid value for --gpu-architecture (-arch)".to_owned()),
            CudaError::NoArchitecture { version, compute },
            CudaError::CodeTooNew { driver },
        ] {
            assert!(is_of_the_compiler(&error), "{error}");
        }
        for error in [
            refused("CUDA_ERROR_INVALID_PTX"),
            refused("CUDA_ERROR_OUT_OF_MEMORY"),
            CudaError::NoJit("CUDA_ERROR_JIT_COMPILATION_DISABLED".to_owned()),
        ] {
            assert!(!is_of_the_compiler(&error), "{error}");
        }
    }

    #[test]
    fn prebuilt_ptx_of_another_source_is_not_current() {
        let first_line = Program::new("a", "name", "").first_line();
        assert!(Program::new("a", "name", &first_line).is_current());
        assert!(!Program::new("b", "name", &first_line).is_current());
        assert!(!Program::new("a", "name", "").is_current());
    }
}
