//! `vyre-io bench`: measures the queue and the loop.

mod bare_servers;
mod cuda;
pub(crate) mod kernel;
mod lanes;
mod loops;
mod marks;
mod plan;
mod plot;
mod report;
mod round;
mod rounds;
mod tally;
mod target;
mod text;
mod untimed;
mod written;

use std::fs;
use std::io::{self, Write};

use crate::args::{BenchArgs, DeviceArg, Format};
use crate::failure::Failure;
use cuda::Cuda;
use plan::Plan;
use report::Report;
use rounds::Rounds;
use target::Target;

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    if let (Some(path), DeviceArg::Cuda(_)) = (&args.write_ptx, args.device) {
        let ptx = kernel::PROGRAM.portable_ptx()?;
        return fs::write(path, ptx.text()).map_err(|error| Failure::file("write", path, error));
    }
    let mut plan = Plan::new(args)?;
    plan.place(args)?;
    let cuda = match args.device {
        DeviceArg::Threads => None,
        DeviceArg::Cuda(ordinal) => Some(Cuda::open(args, ordinal)?),
    };
    let target = Target::open(args, &plan)?;
    let rounds = Rounds::run(args, &plan, cuda.as_ref(), target.as_ref())?;
    let gpu = cuda.as_ref().map(Cuda::report);
    let report = Report::new(args, &plan, &rounds, gpu);
    print(&report, args.format)?;
    if let Some(path) = &args.plot {
        plot::write(&report, path)?;
    }
    rounds.tally.check()
}

fn print(report: &Report, format: Format) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if format == Format::Json {
        serde_json::to_writer(&mut out, report)?;
        return writeln!(out);
    }
    text::print(report, &mut out)
}
