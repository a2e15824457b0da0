//! A guest: QEMU without the processor's help, an NVMe drive, and two serial lines.

use super::Options;
use super::initramfs::Image;
use super::packages::Kernel;
use super::results::Results;
use crate::report::Skip;
use crate::workspace::{Result, Workspace, cmd, stream, succeeds};

const QEMU: &str = "qemu-system-x86_64";

/// Output of a guest, beside its image.
const SAID: &str = "guest.log";

/// Size of the drive, of which only what is written takes room.
const DRIVE: u64 = 4 << 30;

/// Sees to it that this machine has what it takes to make and to boot a guest.
pub(crate) fn need_programs(ws: &Workspace) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Skip("the guests are for x86-64".to_owned()).into());
    }
    for (program, package) in
        [(QEMU, "qemu-system-x86"), ("dpkg-deb", "dpkg"), ("xz", "xz-utils"), ("timeout", "coreutils")]
    {
        if !succeeds(cmd!(ws, "{program} --version")) {
            return Err(format!("no {program}: install {package}").into());
        }
    }
    Ok(())
}

/// Boots a guest, and returns what it reports until it ends. The kernel's log goes to a file beside its image.
pub(crate) fn boot(ws: &Workspace, kernel: &Kernel, image: &Image, options: &Options) -> Result<Results> {
    let dir = ws.target.join("kernels").join(kernel.name);
    let (drive, log) = (dir.join("drive"), dir.join("kernel.log"));
    std::fs::File::create(&drive)?.set_len(DRIVE)?;
    let Image { kernel: file, initramfs } = image;
    let machine = ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072", "-no-reboot", "-nodefaults"];
    let lines = [format!("file:{}", log.display()), "stdio".to_owned()];
    let [first, second] = &lines;
    // To look into a guest that hangs, or to stop it for a while.
    let monitor = format!("unix:{},server,nowait", dir.join("monitor").display());
    let console = ["-display", "none", "-serial", first, "-serial", second, "-monitor", &monitor];
    let what = format!("file={},format=raw,if=none,id=d,cache=unsafe", drive.display());
    let drives = ["-drive", &what, "-device", "nvme,drive=d,serial=d"];
    let checks = if options.no_checks { "checks=no" } else { "" };
    let words = format!("console=ttyS0 panic=-1 quiet {checks}");
    let seconds = (60 * options.limit).to_string();
    let limit = ["--kill-after=10", &seconds];
    let boot = ["-kernel".as_ref(), file.as_os_str(), "-initrd".as_ref(), initramfs.as_os_str()];
    let qemu = cmd!(ws, "timeout {limit...} {QEMU} {machine...} {console...} {drives...} {boot...} -append {words}");
    let mut lines = String::new();
    let outcome = stream(qemu, |line| {
        lines.push_str(line);
        lines.push('\n');
    });
    ws.sh.remove_path(&drive)?;
    if let Err(error) = outcome {
        lines += &format!("\n@@ broken {error}\n");
    }
    ws.sh.write_file(dir.join(SAID), lines)?;
    last(ws, kernel)
}

/// Returns what a guest reported when it was last booted.
pub(crate) fn last(ws: &Workspace, kernel: &Kernel) -> Result<Results> {
    Ok(Results::of(&ws.sh.read_file(ws.target.join("kernels").join(kernel.name).join(SAID))?))
}
