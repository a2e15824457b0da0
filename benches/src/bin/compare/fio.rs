//! fio with its io_uring engine, if it is installed.

use std::process::Command;

use serde::Deserialize;

use crate::error::CompareError;
use crate::lane::Work;
use crate::run::Bench;

/// Operations that fio submits, and reaps at most, at a time.
const BATCH: u32 = 16;

#[derive(Deserialize)]
struct Report {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    error: i32,
    read: Reads,
}

#[derive(Deserialize)]
struct Reads {
    iops: f64,
}

/// Returns the version of fio. `None` if it cannot be started.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("fio").arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !version.is_empty()).then_some(version)
}

/// Returns the reads per second. fio verifies nothing.
pub(crate) fn measure(bench: &Bench, work: &Work) -> Result<f64, CompareError> {
    let output = Command::new("fio")
        .args(arguments(work))
        .arg(format!("--filename={}", bench.target.path().display()))
        .args(
            bench
                .loop_core()
                .map(|core| format!("--cpus_allowed={core}")),
        )
        .output()
        .map_err(CompareError::FioStart)?;
    if !output.status.success() {
        let (status, message) = (
            output.status,
            String::from_utf8_lossy(&output.stderr).into(),
        );
        return Err(CompareError::Fio { status, message });
    }
    let rate = rate(&output.stdout)?;
    rate.ok_or_else(|| CompareError::Fio {
        status: output.status,
        message: "it reports an error, or no job".into(),
    })
}

fn arguments(work: &Work) -> Vec<String> {
    let options = [
        "--name=compare",
        "--ioengine=io_uring",
        "--fixedbufs=1",
        "--registerfiles=1",
        // Memory of malloc(3) begins inside a page: copies of large blocks into it take twice as long.
        "--mem=mmap",
        "--rw=randread",
        "--norandommap=1",
        "--invalidate=0",
        "--readonly",
        "--time_based",
        "--output-format=json",
    ];
    let numbers = [
        ("iodepth_batch_submit", BATCH.min(work.depth)),
        ("iodepth_batch_complete_max", BATCH.min(work.depth)),
        ("iodepth", work.depth),
        ("bs", work.size),
    ];
    let numbers = numbers.map(|(name, value)| format!("--{name}={value}"));
    let bytes = work.blocks * u64::from(work.size);
    let time = format!("--runtime={}ms", work.time.as_millis());
    let options = options.into_iter().map(str::to_owned).chain(numbers);
    options.chain([time, format!("--size={bytes}")]).collect()
}

/// Returns `None` if the job failed.
fn rate(report: &[u8]) -> Result<Option<f64>, serde_json::Error> {
    let report: Report = serde_json::from_slice(report)?;
    let job = report.jobs.into_iter().next();
    Ok(job.filter(|job| job.error == 0).map(|job| job.read.iops))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_and_errors_are_seen() {
        let report = |error: i32| {
            format!(
                r#"{{"fio version":"fio-3.33","jobs":[{{"error":{error},"read":{{"iops":912345.5,"bw":1}},"write":{{}}}}]}}"#
            )
        };
        assert_eq!(
            rate(report(0).as_bytes()).expect("a report"),
            Some(912_345.5)
        );
        assert_eq!(rate(report(5).as_bytes()).expect("a report"), None);
        assert_eq!(rate(br#"{"jobs":[]}"#).expect("a report"), None);
        assert!(rate(b"fio: an error").is_err());
    }
}
