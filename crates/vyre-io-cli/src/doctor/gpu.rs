//! The first GPU, opened as `bench --device cuda` opens it, and views of files by it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use vyre_io::mapped::Mapping;
use vyre_ioq_cuda::CudaError;
use vyre_ioq_cuda::view::View;

use super::report::{Finding, Gpu};

/// Vendor ID on the PCI bus.
const NVIDIA: &str = "0x10de";

/// Directory in which the kernel lists PCI devices.
const PCI: &str = "/sys/bus/pci/devices";

/// Text of the report if kernels can read the pages of a file.
pub(super) const POSSIBLE: &str = "possible";

/// The same where running kernels cannot ask for windows of a file.
pub(super) const WITHOUT_WINDOWS: &str = "possible, without windows";

/// The opened GPU, for views of files, or the reason why it is not there.
pub(super) struct Views(Result<vyre_ioq_cuda::Gpu, CudaError>);

impl Views {
    /// Those of a machine without a driver.
    #[cfg(test)]
    pub(super) const NONE: Self = Self(Err(CudaError::NoDriver));

    /// Pins the first page of a file. Returns [`POSSIBLE`], or the reason why kernels cannot read the file's
    /// pages.
    pub(super) fn examine(&self, file: &OwnedFd) -> String {
        // What is wrong with the file is wrong on every machine.
        if let Err(error) = Mapping::new(file, 0..1) {
            return error.to_string();
        }
        match &self.0 {
            Ok(gpu) => match View::new(gpu, file, 0..Mapping::page_size()) {
                Ok(_) if gpu.capabilities().uses_host_pointers => POSSIBLE.to_owned(),
                Ok(_) => WITHOUT_WINDOWS.to_owned(),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        }
    }
}

/// Examines the GPU. Returns no finding on a machine without one.
pub(super) fn examine() -> (Views, Gpu, Option<Finding>) {
    let views = Views(vyre_ioq_cuda::Gpu::open(0));
    let (gpu, finding) = describe(&views.0);
    (views, gpu, finding)
}

fn describe(opened: &Result<vyre_ioq_cuda::Gpu, CudaError>) -> (Gpu, Option<Finding>) {
    match opened.as_ref().map(vyre_ioq_cuda::Gpu::capabilities) {
        Ok(found) => {
            let gpu = Gpu {
                usable: true,
                why: None,
                name: Some(found.name.clone()),
                compute_capability: Some(dotted(found.compute)),
                driver: Some(dotted(found.driver)),
                host_native_atomics: Some(found.host_native_atomics),
                data_path: Some(found.path.to_string()),
            };
            let finding = Finding::ok(format!("a GPU can be the device: {}", found.name));
            (gpu, Some(finding))
        }
        Err(error) if is_on_the_bus(Path::new(PCI)) => {
            let (gpu, finding) = unusable(error);
            (gpu, Some(finding))
        }
        Err(_) => (none(), None),
    }
}

/// Returns whether the machine has a device of the vendor.
fn is_on_the_bus(devices: &Path) -> bool {
    let vendor = |device: fs::DirEntry| fs::read_to_string(device.path().join("vendor")).ok();
    let devices = fs::read_dir(devices).into_iter().flatten().flatten();
    devices
        .filter_map(vendor)
        .any(|vendor| vendor.trim() == NVIDIA)
}

fn none() -> Gpu {
    Gpu {
        why: Some("no NVIDIA GPU in this machine".into()),
        ..Gpu::default()
    }
}

fn unusable(error: &CudaError) -> (Gpu, Finding) {
    let words = error.to_string();
    // The errors say what is wrong, a colon, and what to do.
    let (what, advice) = words
        .split_once(": ")
        .unwrap_or((&words, "look at nvidia-smi"));
    let finding = Finding::note(format!("no GPU can be the device: {what}"), advice);
    let gpu = Gpu {
        why: Some(words.clone()),
        ..Gpu::default()
    };
    (gpu, finding)
}

fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_what_to_do() {
        for error in [
            CudaError::NoDriver,
            CudaError::StaticProgram,
            CudaError::NoDevice,
        ] {
            let (gpu, finding) = unusable(&error);
            assert!(!gpu.usable && gpu.name.is_none());
            assert_eq!(gpu.why, Some(error.to_string()));
            assert!(finding.advice.is_some_and(|advice| !advice.is_empty()));
        }
    }

    #[test]
    fn a_path_without_views_says_whether_that_is_for_the_file_or_the_machine() {
        let views = Views::NONE;
        let open = |path: &Path| OwnedFd::from(fs::File::open(path).unwrap());
        let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        let verdict = views.examine(&open(file.path()));
        assert_eq!(verdict, CudaError::NoDriver.to_string());
        let verdict = views.examine(&open(Path::new("/proc/version")));
        assert!(
            verdict.contains("is not one of ext4 and tmpfs"),
            "{verdict}"
        );
    }

    #[test]
    fn a_machine_without_a_gpu_is_known_by_its_bus() {
        let bus = tempfile::tempdir().unwrap();
        assert!(!is_on_the_bus(&bus.path().join("missing")));
        for (name, vendor) in [("0000:00:01.0", "0x8086\n"), ("0000:00:02.0", "0x10de\n")] {
            assert!(!is_on_the_bus(bus.path()));
            fs::create_dir(bus.path().join(name)).unwrap();
            fs::write(bus.path().join(name).join("vendor"), vendor).unwrap();
        }
        assert!(is_on_the_bus(bus.path()));
    }
}
