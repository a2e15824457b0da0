//! Device code: compiled by NVRTC, or read as PTX.

use std::path::Path;

use vyre_ioq::headers;

use crate::error::CudaError;
use crate::nvrtc::{Compiler, Target};

/// GPU code as text, which the driver compiles for the GPU at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ptx(String);

impl Ptx {
    /// Compiles device code with NVRTC, for GPUs of compute capability `compute` and later. The text of
    /// `vyre_ioq.cuh` precedes `source`, which needs no include.
    ///
    /// If NVRTC does not know `compute` yet, it compiles for the newest older capability that it knows,
    /// since GPUs run PTX for older ones. A driver refuses PTX of a newer NVRTC; [`Kernel::compile`](crate::Kernel::compile)
    /// then compiles to machine code.
    ///
    /// # Errors
    /// [`CudaError::NoCompiler`] if NVRTC is missing, [`CudaError::NoArchitecture`] if it no longer
    /// knows `compute`, or [`CudaError::Compile`] with its messages if it refuses the code.
    pub fn compile(source: &str, compute: (u32, u32)) -> Result<Self, CudaError> {
        let compiler = Compiler::find()?;
        let best = best(&compiler.architectures()?, compute, |_| true);
        let best = best.ok_or(CudaError::NoArchitecture {
            version: compiler.version(),
            compute,
        })?;
        let text = compiler.compile(&with_headers(source), Target::Ptx(best))?;
        String::from_utf8(text)
            .map(Self)
            .map_err(|error| CudaError::Compile(error.to_string()))
    }

    /// Compiles for as many GPUs as NVRTC supports: those of compute capability `oldest` and later, or
    /// from the oldest later one that NVRTC still knows.
    pub(crate) fn compile_portable(source: &str, oldest: (u32, u32)) -> Result<Self, CudaError> {
        let known = Compiler::find()?.architectures()?;
        let least = known
            .into_iter()
            .filter(|&it| it >= oldest.0 * 10 + oldest.1);
        let least = least.min().map_or(oldest, |it| (it / 10, it % 10));
        Self::compile(source, least)
    }

    /// Wraps prebuilt PTX.
    pub const fn from_text(text: String) -> Self {
        Self(text)
    }

    /// Reads prebuilt PTX from a file.
    ///
    /// # Errors
    /// [`CudaError::Ptx`] if the file cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, CudaError> {
        let text = std::fs::read_to_string(path).map_err(|error| CudaError::Ptx {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self(text))
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Machine code for the GPUs of one generation. The driver loads it without compiling it, so NVRTC may
/// be newer than the driver if both have the same major version of CUDA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cubin(Vec<u8>);

impl Cubin {
    /// Compiles device code with NVRTC, for GPUs of compute capability `compute` and later ones with
    /// the same major number; for a Tegra GPU, for that GPU only. The source is as for
    /// [`Ptx::compile`].
    ///
    /// # Errors
    /// The same as for [`Ptx::compile`]; also [`CudaError::NoArchitecture`] if NVRTC does not know the
    /// generation yet.
    pub fn compile(source: &str, compute: (u32, u32)) -> Result<Self, CudaError> {
        let compiler = Compiler::find()?;
        let takes = |architecture| takes_machine_code(compute, architecture);
        let best = best(&compiler.architectures()?, compute, takes);
        let best = best.ok_or(CudaError::NoArchitecture {
            version: compiler.version(),
            compute,
        })?;
        compiler
            .compile(&with_headers(source), Target::Cubin(best))
            .map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn with_headers(source: &str) -> String {
    [headers::CUDA, source].concat()
}

/// Tegra architectures, 101 and 110 by their old and new names. No other GPU, desktop or Tegra, runs
/// their machine code, and they run no other.
const TEGRA: [u32; 6] = [53, 62, 72, 87, 101, 110];

/// Returns whether a GPU of this capability, if it is no older than `architecture`, runs machine code for
/// it.
fn takes_machine_code(compute: (u32, u32), architecture: u32) -> bool {
    let own = compute.0 * 10 + compute.1;
    let any_tegra = TEGRA.contains(&own) || TEGRA.contains(&architecture);
    own == architecture || (architecture / 10 == compute.0 && !any_tegra)
}

/// Returns the newest architecture whose code a GPU of this capability runs.
fn best(known: &[u32], compute: (u32, u32), suits: impl Fn(u32) -> bool) -> Option<u32> {
    let own = compute.0 * 10 + compute.1;
    let runs = |&it: &u32| it <= own && suits(it);
    known.iter().copied().filter(runs).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Architectures that NVRTC 12.4 and 13.5 say they compile for.
    const OF_12_4: &[u32] = &[50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90];
    const OF_13_5: &[u32] = &[75, 80, 86, 87, 88, 89, 90, 100, 103, 107, 110, 120, 121];

    #[test]
    fn the_newest_architecture_that_the_gpu_runs_is_chosen() {
        let any = |known, compute| best(known, compute, |_| true);
        for (compute, of_12_4, of_13_5) in [
            ((7, 0), Some(70), None),
            ((7, 5), Some(75), Some(75)),
            ((9, 0), Some(90), Some(90)),
            ((10, 0), Some(90), Some(100)),
            ((12, 0), Some(90), Some(120)),
            ((99, 9), Some(90), Some(121)),
        ] {
            assert_eq!(any(OF_12_4, compute), of_12_4, "{compute:?}");
            assert_eq!(any(OF_13_5, compute), of_13_5, "{compute:?}");
        }
        assert_eq!(any(&[], (9, 0)), None);
    }

    #[test]
    fn machine_code_is_of_the_same_generation_and_kind() {
        let same = |known, compute| best(known, compute, |it| takes_machine_code(compute, it));
        assert_eq!(same(OF_12_4, (8, 6)), Some(86));
        assert_eq!(same(OF_13_5, (10, 5)), Some(103));
        assert_eq!(same(OF_12_4, (10, 0)), None);
        assert_eq!(same(OF_13_5, (7, 0)), None);
        // A desktop GPU that is newer than NVRTC gets nothing for Tegra.
        assert_eq!(same(OF_12_4, (8, 8)), Some(86));
        assert_eq!(same(&[80, 86, 87], (8, 9)), Some(86));
        assert_eq!(same(&[100, 101, 120], (10, 3)), Some(100));
        assert_eq!(same(&[110], (11, 2)), None);
        // Tegra gets its own, or nothing.
        assert_eq!(same(OF_12_4, (8, 7)), Some(87));
        assert_eq!(same(&[80, 86], (8, 7)), None);
        assert_eq!(same(&[100], (10, 1)), None);
    }
}
