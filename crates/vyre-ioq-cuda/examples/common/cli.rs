//! The part of the command line that the examples share.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use tempfile::NamedTempFile;
use vyre_ioq_cuda::CudaError;

use crate::common::{Device, Error, Way};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A GPU.
    Cuda,
    /// Threads of the CPU, which run the kernel as compiled by g++. Slow.
    Threads,
}

/// The device that runs the kernel, and the loops that serve it.
#[derive(Debug, Args)]
pub(crate) struct On {
    /// Device that runs the kernel.
    #[arg(long, value_enum, default_value = "cuda")]
    device: Kind,
    /// Number of the GPU.
    #[arg(long, default_value_t = 0)]
    gpu: u32,
    /// Number of warps of the kernel; by default one for each multiprocessor, at most 128, or eight, at most 1024, where
    /// it reads in a view.
    #[arg(long)]
    warps: Option<u32>,
    /// Number of loops that serve the kernel, each with a thread and a queue of its own.
    #[arg(long)]
    loops: Option<u32>,
}

/// The way of the bytes, for kernels that only read.
#[allow(
    dead_code,
    reason = "not every program with this file reads files in a view"
)]
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Reads {
    /// The way of the file's bytes to the kernel.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) way: Way,
}

impl On {
    /// Returns the device.
    pub(crate) fn open(&self) -> Result<Device, Error> {
        let device = match self.device {
            Kind::Cuda => Device::gpu(self.gpu),
            Kind::Threads => Device::threads(),
        }?;
        println!("{}", device.name());
        Ok(device)
    }

    /// Returns the number of warps, for a kernel that reads in a view or through the queue, and the number of loops.
    /// There are no more warps than `most` unless more were asked for.
    pub(crate) fn shape(
        &self,
        device: &Device,
        in_view: bool,
        most: u32,
    ) -> Result<(u32, u32), Error> {
        let mut warps = device.warps(self.warps, in_view)?;
        if self.warps.is_none() {
            warps = warps.min(most.max(1));
        }
        let loops = match self.device {
            Kind::Cuda => 4,
            Kind::Threads => 1,
        };
        let loops = self.loops.unwrap_or(loops.min(warps));
        println!("{warps} warps, served by {loops} loops");
        Ok((warps, loops))
    }
}

/// Returns the file that was given, or a temporary one that `make` fills and that is deleted with
/// its guard.
pub(crate) fn given_or_made(
    given: Option<PathBuf>,
    make: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(PathBuf, Option<NamedTempFile>), Error> {
    if let Some(path) = given {
        return Ok((path, None));
    }
    let file = NamedTempFile::new().map_err(Error::file(&std::env::temp_dir()))?;
    make(file.path())?;
    Ok((file.path().to_owned(), Some(file)))
}

/// Reports an error, and returns the exit status: 0 for success, 1 for failure. Wrong usage has
/// ended the program with 2 before.
pub(crate) fn end(result: Result<(), Error>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    if matches!(
        error,
        Error::Cuda(
            CudaError::NoDriver
                | CudaError::StaticProgram
                | CudaError::NoDevice
                | CudaError::NoCompiler
        )
    ) {
        eprintln!("--device threads runs the same kernel without them, slowly");
    }
    ExitCode::FAILURE
}

/// Formats a rate in bytes per second.
pub(crate) fn rate(bytes: u64, time: std::time::Duration) -> String {
    format!("{:.2} GB/s", bytes as f64 / time.as_secs_f64() / 1e9)
}

/// Parses a size, such as `256MiB`.
pub(crate) fn size<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let size = parse_size::parse_size(text).map_err(|error| error.to_string())?;
    T::try_from(size).map_err(|_| "too much".to_owned())
}
