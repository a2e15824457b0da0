//! The crate's own kernels: their sources, and PTX that was compiled from them beforehand.

use std::path::Path;

use vyre_ioq::headers;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::kernel::{Kernel, Ptx};

/// The oldest GPUs that current compilers know; prebuilt PTX is for these and later.
const PORTABLE: (u32, u32) = (7, 5);
/// What the driver calls PTX of a compiler that is newer than itself.
const TOO_NEW: &str = "CUDA_ERROR_UNSUPPORTED_PTX_VERSION";

/// A kernel of this crate.
#[derive(Debug)]
pub(crate) struct Program {
    /// The device code; [`Ptx::compile`] puts `vyre_ioq.cuh` before it.
    pub(crate) source: &'static str,
    /// The kernel in it.
    pub(crate) name: &'static str,
    /// A file of `ptx`, as [`portable`](Self::portable) made it.
    pub(crate) prebuilt: &'static str,
}

/// A kernel of this crate that is loaded.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) kernel: Kernel,
    /// Whether its PTX was compiled beforehand.
    pub(crate) prebuilt: bool,
}

impl Program {
    /// Compiles and loads the kernel. Where there is no NVRTC, or one that is newer than the driver,
    /// the prebuilt PTX does.
    pub(crate) fn load(&self, gpu: &Gpu) -> Result<Loaded, CudaError> {
        let compiled = Ptx::compile(self.source, gpu.capabilities().compute)
            .and_then(|ptx| Kernel::load(gpu, &ptx, self.name));
        match compiled {
            Ok(kernel) => Ok(Loaded {
                kernel,
                prebuilt: false,
            }),
            Err(error) if is_for_want_of_a_compiler(&error) => {
                self.load_ptx(gpu, &Ptx::from_text(self.prebuilt.to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// Loads PTX from a file.
    pub(crate) fn load_file(&self, gpu: &Gpu, path: &Path) -> Result<Loaded, CudaError> {
        self.load_ptx(gpu, &Ptx::from_file(path)?)
    }

    fn load_ptx(&self, gpu: &Gpu, ptx: &Ptx) -> Result<Loaded, CudaError> {
        Ok(Loaded {
            kernel: Kernel::load(gpu, ptx, self.name)?,
            prebuilt: true,
        })
    }

    /// What NVRTC makes of the kernel for any GPU that it knows, below a line that says of which
    /// sources.
    pub(crate) fn portable(&self) -> Result<Ptx, CudaError> {
        let ptx = Ptx::compile(self.source, PORTABLE)?;
        Ok(Ptx::from_text([&self.head(), ptx.text()].concat()))
    }

    /// The first line of prebuilt PTX.
    fn head(&self) -> String {
        let text = [headers::CUDA_PARTS, headers::CUDA, self.source].concat();
        format!(
            "// XXH3 of the sources: {:016x}\n",
            xxh3_64(text.as_bytes())
        )
    }
}

fn is_for_want_of_a_compiler(error: &CudaError) -> bool {
    match error {
        CudaError::NoCompiler => true,
        CudaError::Driver { error, .. } => error == TOO_NEW,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAMS: [&Program; 2] = [&crate::bench::PROGRAM, &crate::copy::PROGRAM];

    #[test]
    fn the_prebuilt_ptx_is_of_the_present_sources() {
        for program in PROGRAMS {
            assert!(
                program.prebuilt.starts_with(&program.head()),
                "the PTX of {} is of other sources than those here: run `cargo xtask ptx` on a \
                 machine with NVRTC, which needs no GPU",
                program.name
            );
            let entry = format!(".visible .entry {}(", program.name);
            assert!(program.prebuilt.contains(&entry), "no {}", program.name);
            assert!(program.prebuilt.len() < 150 << 10, "{}", program.name);
        }
    }

    #[test]
    fn the_driver_of_cuda_12_4_takes_the_prebuilt_ptx() {
        for program in PROGRAMS {
            let mut lines = program.prebuilt.lines();
            let version = lines.find_map(|line| line.strip_prefix(".version "));
            let (major, minor) = version
                .and_then(|it| it.split_once('.'))
                .expect("a version");
            let version: (u32, u32) = (
                major.parse().expect("a number"),
                minor.parse().expect("a number"),
            );
            assert!(
                version <= (8, 4),
                "{}: compile it with NVRTC 12.4, not later: drivers refuse PTX that is newer",
                program.name
            );
            assert!(
                program.prebuilt.contains(".b128"),
                "{}: compile it with NVRTC 12.4, not earlier: there are no units of 16 bytes",
                program.name
            );
        }
    }

    #[test]
    fn the_sources_compile_for_old_gpus_and_new() {
        for program in PROGRAMS {
            for compute in [(7, 5), (9, 0)] {
                match Ptx::compile(program.source, compute) {
                    Err(CudaError::NoCompiler) => {
                        eprintln!("SKIPPED: {} for {compute:?}: no NVRTC", program.name);
                    }
                    compiled => assert!(compiled.is_ok(), "{}: {compiled:?}", program.name),
                }
            }
        }
    }

    #[test]
    fn only_the_want_of_a_compiler_is_made_good() {
        let newer = |error: &str| CudaError::Driver {
            call: "cuModuleLoadData",
            error: error.to_owned(),
        };
        assert!(is_for_want_of_a_compiler(&CudaError::NoCompiler));
        assert!(is_for_want_of_a_compiler(&newer(TOO_NEW)));
        assert!(!is_for_want_of_a_compiler(&newer("CUDA_ERROR_INVALID_PTX")));
        assert!(!is_for_want_of_a_compiler(&CudaError::Compile(
            String::new()
        )));
    }
}
