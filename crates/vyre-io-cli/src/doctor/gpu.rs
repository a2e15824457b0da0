//! The first GPU, opened as `bench --device cuda` opens it.

use vyre_ioq_cuda::CudaError;

use super::report::{Finding, Gpu};

pub(super) fn examine() -> (Gpu, Finding) {
    let opened = vyre_ioq_cuda::Gpu::open(0);
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
            (gpu, finding)
        }
        Err(error) => unusable(error),
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
        for error in [CudaError::NoDriver, CudaError::NoDevice] {
            let (gpu, finding) = unusable(&error);
            assert!(!gpu.usable && gpu.name.is_none());
            assert_eq!(gpu.why, Some(error.to_string()));
            assert!(finding.advice.is_some_and(|advice| !advice.is_empty()));
        }
    }
}
