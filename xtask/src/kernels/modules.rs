//! Modules of a kernel, with those that they depend on, in the order in which they must be loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::workspace::{Result, Workspace, cmd};

/// The drive, the file systems, and what the device mapper needs. A kernel may have them built in.
pub(crate) const NEEDED: &[&str] = &[
    "nvme",
    "ext4",
    "xfs",
    "btrfs",
    "f2fs",
    "overlay",
    "fuse",
    "nfsd",
    "nfsv3",
    "nfsv4",
    "loop",
    "dm_mod",
    "dm_crypt",
    "dm_snapshot",
    "dm_flakey",
    "dm_delay",
];

/// Modules that the others ask for by other names, if they need them: newer kernels have some elsewhere.
pub(crate) const IF_THERE: &[&str] = &[
    "crc32c_generic",
    "crc32c_cryptoapi",
    "crc32c_intel",
    "crc32_generic",
    "crc32_cryptoapi",
    "libcrc32c",
    "sha256_generic",
    "sha256",
    "xxhash_generic",
    "blake2b_generic",
    "blake2b",
    "xts",
    "ecb",
    "cbc",
    "aes_generic",
    "aesni_intel",
];

/// The modules of a kernel by name, and those that are built in.
pub(crate) struct Modules {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Modules {
    /// Reads the folder that a kernel's package has for it.
    pub(crate) fn read(ws: &Workspace, dir: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut folders = vec![dir.join("kernel")];
        while let Some(folder) = folders.pop() {
            for path in ws.sh.read_dir(folder)? {
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(name) = name(&path) {
                    files.insert(name, path);
                }
            }
        }
        let built_in = ws.sh.read_file(dir.join("modules.builtin"))?;
        let built_in = built_in.lines().filter_map(|line| name(Path::new(line))).collect();
        Ok(Self { files, built_in })
    }

    /// Returns the contents of the modules in the order in which they must be loaded. `read` returns those of one.
    pub(crate) fn in_order(&self, read: impl Fn(&Path) -> Result<Vec<u8>>) -> Result<Vec<(String, Vec<u8>)>> {
        let mut order = Order { modules: self, read, done: BTreeSet::new(), list: Vec::new() };
        for name in IF_THERE.iter().filter(|name| self.files.contains_key(**name)) {
            order.add(name)?;
        }
        for name in NEEDED {
            order.add(name)?;
        }
        Ok(order.list)
    }
}

struct Order<'a, R> {
    modules: &'a Modules,
    read: R,
    done: BTreeSet<String>,
    list: Vec<(String, Vec<u8>)>,
}

impl<R: Fn(&Path) -> Result<Vec<u8>>> Order<'_, R> {
    /// Adds a module after those that it depends on.
    fn add(&mut self, name: &str) -> Result<()> {
        if self.modules.built_in.contains(name) || !self.done.insert(name.to_owned()) {
            return Ok(());
        }
        let file = self.modules.files.get(name).ok_or_else(|| format!("the kernel has no module {name}"))?;
        let bytes = (self.read)(file)?;
        for needed in information(&bytes, "depends").iter().flat_map(|list| list.split(',')) {
            if !needed.is_empty() {
                self.add(&needed.replace('-', "_"))?;
            }
        }
        // `softdep=pre: a b post: c`: it works without them, if not as well.
        for list in information(&bytes, "softdep") {
            let before = list.split("post:").next().unwrap_or_default().trim().trim_start_matches("pre:");
            for soft in before.split_whitespace().map(|name| name.replace('-', "_")) {
                if self.modules.files.contains_key(&soft) {
                    self.add(&soft)?;
                }
            }
        }
        self.list.push((name.to_owned(), bytes));
        Ok(())
    }
}

/// Returns the name of the module in a file `name.ko` or `name.ko.xz`.
fn name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    Some(file.split_once(".ko")?.0.replace('-', "_"))
}

/// Returns the texts `key=…` of a module, each of which ends with a zero.
fn information(module: &[u8], key: &str) -> Vec<String> {
    let entry = |text: &[u8]| std::str::from_utf8(text).ok()?.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
    module.split(|byte| *byte == 0).filter_map(entry).collect()
}

/// Returns the contents of a module, unpacked.
pub(crate) fn unpacked(ws: &Workspace, path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        return Ok(cmd!(ws, "xz --decompress --stdout {path}").quiet().output()?.stdout);
    }
    Ok(ws.sh.read_binary_file(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(depends: &str, softdep: &str) -> Vec<u8> {
        format!("\x7fELF\0license=GPL\0depends={depends}\0{softdep}\0vermagic=1\0").into_bytes()
    }

    #[test]
    fn a_module_comes_after_those_that_it_needs() {
        let contents: BTreeMap<&str, Vec<u8>> = [
            ("dm-crypt.ko.xz", module("dm-mod", "")),
            ("dm-mod.ko", module("", "")),
            ("ext4.ko", module("jbd2,mbcache", "softdep=pre: crc32c-generic nowhere post: late")),
            ("jbd2.ko", module("", "")),
            ("mbcache.ko", module("", "")),
            ("crc32c_generic.ko", module("", "")),
        ]
        .into();
        let files = contents.keys().map(|file| (name(Path::new(file)).unwrap(), PathBuf::from(file))).collect();
        // All others are in the kernel.
        let there = ["dm_crypt", "dm_mod", "ext4"];
        let built_in = NEEDED.iter().filter(|name| !there.contains(name)).map(ToString::to_string).collect();
        let modules = Modules { files, built_in };
        let read = |path: &Path| Ok(contents[path.to_str().unwrap()].clone());
        let order: Vec<String> = modules.in_order(read).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(order, ["crc32c_generic", "jbd2", "mbcache", "ext4", "dm_mod", "dm_crypt"]);
    }

    #[test]
    fn a_module_that_is_nowhere_is_an_error() {
        let modules = Modules { files: BTreeMap::new(), built_in: BTreeSet::new() };
        let error = modules.in_order(|_| Ok(Vec::new())).unwrap_err();
        assert!(error.to_string().contains("nvme"), "{error}");
    }
}
