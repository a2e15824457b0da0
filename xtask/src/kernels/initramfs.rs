//! The image from which a guest runs: the programs of its distribution, ours, and the modules of its kernel.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::cpio::Archive;
use super::left_out;
use super::modules::{self, Modules};
use super::packages::Kernel;
use super::programs::Programs;
use crate::tools::STATIC_TARGET;
use crate::workspace::{Result, Workspace, cmd};

/// The first process of a guest.
const INIT: &str = include_str!("init.sh");

/// Users that programs of the packages ask for.
const USERS: &str = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n_rpc:x:101:65534::/run:/bin/sh\n\
                     statd:x:102:65534::/run:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nnogroup:x:65534:\n";

/// Folders that are links into `usr`, and those that are needed although nothing is in them.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib64"];
const FOLDERS: &[&str] =
    &["proc", "sys", "dev", "run", "tmp", "var/tmp", "root", "m", "base", "bb", "var/lib/nfs/v4recovery", "run/lock"];

/// Parts of the packages that nothing in a guest runs, and which are large.
const LEAVE: &[&str] = &["perl", "python", "libicu", "systemd-", "systemctl", "udevadm", "gconv", "klibc"];

/// Files that a guest is booted from.
pub(crate) struct Image {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
}

pub(crate) fn build(ws: &Workspace, kernel: &Kernel, debs: &[PathBuf], programs: &Programs) -> Result<Image> {
    let dir = ws.target.join("kernels").join(kernel.name);
    let root = dir.join("root");
    unpack(ws, debs, &root)?;
    let modules = only(ws, &root.join("usr/lib/modules"))?;
    let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut archive = Archive::default();
    for name in MERGED {
        archive.folder(&format!("usr/{name}"));
        archive.link(name, &format!("usr/{name}"));
    }
    for name in FOLDERS {
        archive.folders_of(&format!("{name}/"));
    }
    for part in ["usr/bin", "usr/sbin", "usr/lib/x86_64-linux-gnu", "usr/lib64", "etc"] {
        files(&mut archive, &root, part)?;
    }
    archive.file("etc/passwd", USERS.as_bytes());
    archive.file("etc/group", GROUPS.as_bytes());
    archive.program("init", INIT.as_bytes());
    let mut order = String::new();
    for (name, bytes) in Modules::read(ws, &modules)?.in_order(|path| modules::unpacked(ws, path))? {
        archive.file(&format!("{name}.ko"), &bytes);
        order += &format!("/{name}.ko\n");
    }
    archive.file("modules", order.as_bytes());
    ours(ws, &mut archive, programs)?;
    let initramfs = dir.join("initramfs.cpio");
    ws.sh.write_file(&initramfs, archive.finish())?;
    // Newer packages have the kernel beside its modules.
    let places = [root.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
    let kernel = places.into_iter().find(|path| path.exists()).ok_or("no kernel in its package")?;
    Ok(Image { kernel, initramfs })
}

/// Unpacks packages into a folder, without their scripts.
fn unpack(ws: &Workspace, debs: &[PathBuf], root: &Path) -> Result<()> {
    ws.sh.remove_path(root)?;
    for name in MERGED {
        ws.sh.create_dir(root.join("usr").join(name))?;
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))?;
    }
    let script = "for deb; do dpkg-deb --fsys-tarfile \"$deb\" | \
                  tar --extract --keep-directory-symlink --no-same-owner --directory \"$0\" || exit; done";
    Ok(cmd!(ws, "sh -c {script} {root} {debs...}").quiet().run()?)
}

/// Returns the one entry of a folder.
fn only(ws: &Workspace, dir: &Path) -> Result<PathBuf> {
    match ws.sh.read_dir(dir)?.as_slice() {
        [entry] => Ok(entry.clone()),
        _ => Err(format!("{} should have one entry", dir.display()).into()),
    }
}

/// Adds the files and the links of a folder, but no folders in it.
fn files(archive: &mut Archive, root: &Path, part: &str) -> Result<()> {
    archive.folders_of(&format!("{part}/"));
    let mut entries = std::fs::read_dir(root.join(part))?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (path, kind) = (format!("{part}/{name}"), entry.file_type()?);
        if LEAVE.iter().any(|leave| name.contains(leave)) || kind.is_dir() {
        } else if kind.is_symlink() {
            archive.link(&path, &std::fs::read_link(entry.path())?.to_string_lossy());
        } else if entry.metadata()?.permissions().mode() & 0o111 == 0 {
            archive.file(&path, &std::fs::read(entry.path())?);
        } else {
            archive.program(&path, &std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// Adds our programs. Tests find the command, and start, where they were built.
fn ours(ws: &Workspace, archive: &mut Archive, programs: &Programs) -> Result<()> {
    for (path, name) in [(&programs.command, "vyre-io"), (&programs.check, "check")] {
        archive.program(&format!("usr/bin/{name}"), &ws.sh.read_binary_file(path)?);
    }
    let built = programs.command.display().to_string();
    archive.folders_of(&built);
    archive.link(&built, "/usr/bin/vyre-io");
    // The folder in which cargo lets tests make files.
    let scratch = ws.target.join(STATIC_TARGET).join("tmp").display().to_string();
    archive.folders_of(&scratch);
    archive.link(&scratch, "/base/tmp");
    archive.folder("tests");
    let mut list = String::new();
    for (number, test) in programs.tests.iter().enumerate() {
        let (program, dir) = (format!("/tests/{number}"), test.dir.display().to_string());
        archive.folders_of(&format!("{dir}/"));
        archive.program(&program, &ws.sh.read_binary_file(&test.file)?);
        list += &format!("{} {dir} {program} {}\n", test.name, left_out::arguments(&test.name));
    }
    archive.file("list", list.as_bytes());
    Ok(())
}
