//! The crate's own kernels: their sources, and prebuilt PTX.

use std::path::Path;

use vyre_ioq::headers;
use xxhash_rust::xxh3::xxh3_64;

use crate::code::Ptx;
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::kernel::Kernel;

/// The compute capability of prebuilt PTX: the oldest that the queue supports.
const PORTABLE: (u32, u32) = crate::gpu::OLDEST;

/// A kernel of this crate.
#[derive(Debug)]
pub(crate) struct Program {
    /// The device code. [`Ptx::compile`] prepends `vyre_ioq.cuh`.
    pub(crate) source: &'static str,
    /// The name of the kernel.
    pub(crate) name: &'static str,
    /// A file in `ptx`, made by [`portable`](Self::portable).
    pub(crate) prebuilt: &'static str,
}

/// A loaded kernel of this crate.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) kernel: Kernel,
    /// Whether its PTX was prebuilt.
    pub(crate) prebuilt: bool,
}

impl Program {
    /// Compiles and loads the kernel. Loads the prebuilt PTX if NVRTC is missing or makes no code that
    /// the driver accepts, so an unsuitable NVRTC is no worse than none.
    pub(crate) fn load(&self, gpu: &Gpu) -> Result<Loaded, CudaError> {
        let error = match Kernel::compile(gpu, self.source, self.name) {
            Ok(kernel) => {
                return Ok(Loaded {
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

    /// Compiles the kernel to PTX for as many GPUs as NVRTC supports, below a line that identifies the
    /// sources.
    pub(crate) fn portable(&self) -> Result<Ptx, CudaError> {
        let ptx = Ptx::compile_portable(self.source, PORTABLE)?;
        Ok(Ptx::from_text([&self.head(), ptx.text()].concat()))
    }

    /// The first line of prebuilt PTX.
    fn head(&self) -> String {
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
    use std::io::Write;

    use super::*;

    const PROGRAMS: [&Program; 2] = [&crate::bench::PROGRAM, &crate::copy::PROGRAM];

    #[test]
    fn the_prebuilt_ptx_is_of_the_present_sources() {
        for program in PROGRAMS {
            assert!(
                program.prebuilt.starts_with(&program.head()),
                "the PTX of {} is of other sources than those here: run `cargo xtask ptx` on a \
                 machine with NVRTC 12.4, which needs no GPU",
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
                program.prebuilt.contains("\n.target sm_70\n"),
                "{}: compile it for every GPU that Gpu::open takes",
                program.name
            );
            assert!(
                program.prebuilt.contains(".b128"),
                "{}: compile it with NVRTC 12.4, not earlier: there are no units of 16 bytes",
                program.name
            );
        }
    }

    /// The clocks of two multiprocessors differ, and a warp may move to another multiprocessor. A
    /// difference that is compared as a signed number could then stay small for long.
    #[test]
    fn a_clock_that_goes_back_ends_the_lead() {
        for program in PROGRAMS {
            let compared: Vec<_> = program
                .prebuilt
                .lines()
                .map(str::trim)
                .filter(|it| it.starts_with("setp.") && it.ends_with(", 800;"))
                .collect();
            assert!(!compared.is_empty(), "{}: no lead of 800", program.name);
            assert!(
                compared.iter().all(|it| it.starts_with("setp.lt.u64 ")),
                "{}: {compared:?}",
                program.name
            );
        }
    }

    #[test]
    fn the_sources_compile_for_old_gpus_and_new() {
        for program in PROGRAMS {
            for compute in [(7, 0), (7, 5), (9, 0), (12, 0)] {
                match Ptx::compile(program.source, compute) {
                    Err(error @ CudaError::NoCompiler) => {
                        let line =
                            format!("SKIPPED: the_sources_compile_for_old_gpus_and_new: {error}\n");
                        let _ = std::io::stderr().write_all(line.as_bytes());
                        return;
                    }
                    Err(CudaError::NoArchitecture { .. }) => assert_eq!(compute, (7, 0)),
                    compiled => assert!(compiled.is_ok(), "{}: {compiled:?}", program.name),
                }
            }
        }
    }

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
}
