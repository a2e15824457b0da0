//! File that a copy replaces: checks whether it may be replaced, and keeps its attributes.
//!
//! The copy is a new file that takes over the old one's name. It gets the old one's owner, group,
//! mode, ACL and extended attributes before any byte is copied, so that what is not permitted is
//! refused early.

use std::ffi::CString;
use std::fs::Metadata;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Gid, Mode, StatxAttributes, StatxFlags, Uid, XattrFlags};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::CapabilitySet;

use crate::failure::Failure;
use crate::name::Shown;

const ACL: &str = "system.posix_acl_access";
/// Names or prefixes of the extended attributes that are kept. The others depend on the contents, such
/// as capabilities, or belong to the kernel.
const KEPT: [&str; 4] = [ACL, "user.", "security.selinux", "security.SMACK64"];
/// Mode bits that are kept. A program that is replaced loses its set-user-ID bit, as it does when
/// it is written to.
const KEPT_MODE: u32 = 0o1777;
const STICKY: u32 = 0o1000;

pub(super) struct Replaced {
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
    attributes: Vec<(CString, Vec<u8>)>,
    /// Set if the file is replaced even if not all attributes can be kept.
    regardless: bool,
}

impl Replaced {
    /// Examines the file at `path`. Refuses a file that could not or should not be replaced.
    pub(super) fn examine(
        path: &Path,
        old: &Metadata,
        directory: &OwnedFd,
        regardless: bool,
    ) -> Result<Self, Failure> {
        let refuse = |why: String| {
            Err(Failure::Refused {
                path: path.into(),
                why,
            })
        };
        if let Some(why) = cannot_be_renamed_over(path, old, directory)? {
            return refuse(why);
        }
        if !regardless {
            if old.nlink() > 1 {
                return refuse(format!(
                    "it has {} names (hard links), and only this one would lead to the copy; use \
                     --replace for that, or remove this name first",
                    old.nlink()
                ));
            }
            if rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)
                == Err(Errno::ACCESS)
            {
                return refuse("it is write-protected; use --replace to replace it".into());
            }
        }
        let attributes = match attributes(path) {
            Ok(attributes) => attributes,
            Err(_) if regardless => Vec::new(),
            Err(errno) => return Err(Failure::file("read the attributes of", path, errno)),
        };
        Ok(Self {
            path: path.into(),
            uid: old.uid(),
            gid: old.gid(),
            mode: old.mode() & KEPT_MODE,
            attributes,
            regardless,
        })
    }

    /// Gives `file` the owner, attributes and mode of the old file. If that is not permitted, the
    /// call fails; with `--replace` it continues, and the group gets no more rights than others
    /// have.
    pub(super) fn make_alike(&self, file: impl AsFd) -> Result<(), Failure> {
        let file = file.as_fd();
        let owned = self.give_owner(file);
        let attributed = self.give_attributes(file);
        let kept = owned.and(attributed);
        let mode = match kept {
            Err(_) if self.regardless => self.mode & !0o070 | (self.mode & 0o7) << 3 & self.mode,
            _ => self.mode,
        };
        let moded = give_mode(file, mode);
        match kept.and(moded) {
            Err((what, errno)) if !self.regardless => Err(Failure::Refused {
                path: self.path.clone(),
                why: format!(
                    "{} cannot be kept ({errno}); use --replace to replace it all the same, or copy \
                     to another name",
                    match what {
                        Kept::Owner => format!("its owner {}:{}", self.uid, self.gid),
                        Kept::Attribute(name) =>
                            format!("its attribute {}", Shown(Path::new(&name))),
                        Kept::Mode => format!("its mode {:04o}", self.mode),
                    }
                ),
            }),
            _ => Ok(()),
        }
    }

    fn give_owner(&self, file: impl AsFd) -> Result<(), (Kept, Errno)> {
        let failed = |errno| (Kept::Owner, errno);
        let now = rustix::fs::fstat(&file).map_err(failed)?;
        let uid = (now.st_uid != self.uid).then(|| Uid::from_raw(self.uid));
        let gid = (now.st_gid != self.gid).then(|| Gid::from_raw(self.gid));
        if uid.is_none() && gid.is_none() {
            return Ok(());
        }
        rustix::fs::fchown(&file, uid, gid).map_err(failed)?;
        let now = rustix::fs::fstat(&file).map_err(failed)?;
        if (now.st_uid, now.st_gid) == (self.uid, self.gid) {
            Ok(())
        } else {
            Err(failed(Errno::PERM))
        }
    }

    fn give_attributes(&self, file: impl AsFd) -> Result<(), (Kept, Errno)> {
        // The directory may have a default ACL that the old file does not follow.
        if !self
            .attributes
            .iter()
            .any(|(name, _)| name.to_bytes() == ACL.as_bytes())
        {
            let _ = rustix::fs::fremovexattr(&file, ACL);
        }
        for (name, value) in &self.attributes {
            let mut now = vec![0; value.len() + 1];
            let same = rustix::fs::fgetxattr(&file, name, &mut now[..])
                .is_ok_and(|len| now[..len] == value[..]);
            if !same {
                rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()).map_err(
                    |errno| {
                        let name = String::from_utf8_lossy(name.to_bytes()).into_owned();
                        (Kept::Attribute(name), errno)
                    },
                )?;
            }
        }
        Ok(())
    }
}

/// Property of the old file that could not be kept.
enum Kept {
    Owner,
    Attribute(String),
    Mode,
}

fn give_mode(file: impl AsFd, mode: u32) -> Result<(), (Kept, Errno)> {
    let failed = |errno| (Kept::Mode, errno);
    let now = || rustix::fs::fstat(&file).map(|now| now.st_mode & 0o7777);
    if now().map_err(failed)? == mode {
        return Ok(());
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed)?;
    if now().map_err(failed)? == mode {
        Ok(())
    } else {
        Err(failed(Errno::OPNOTSUPP))
    }
}

/// Returns the reason why no file can be renamed over this one, whatever the options.
fn cannot_be_renamed_over(
    path: &Path,
    old: &Metadata,
    directory: &OwnedFd,
) -> Result<Option<String>, Failure> {
    let failed = |errno| Failure::file("examine", path, errno);
    let flags = attribute_flags(CWD, path);
    if flags.contains(StatxAttributes::IMMUTABLE) {
        return Ok(Some("it is immutable (`chattr -i` ends that)".into()));
    }
    if flags.contains(StatxAttributes::APPEND) {
        return Ok(Some("it is append-only (`chattr -a` ends that)".into()));
    }
    if flags.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(Some(
            "it is a mount point, which no other file can replace; `cp` writes into it".into(),
        ));
    }
    let parent = rustix::fs::fstat(directory).map_err(failed)?;
    let me = geteuid().as_raw();
    let is_sticky = parent.st_mode & STICKY != 0;
    let may_rename = [old.uid(), parent.st_uid].contains(&me)
        || rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::FOWNER));
    if is_sticky && !may_rename {
        return Ok(Some(format!(
            "it belongs to user {}, and its directory is sticky: only that user may replace it; \
             `cp` writes into it if its mode allows that",
            old.uid()
        )));
    }
    Ok(None)
}

/// Returns the attribute flags of a file, such as immutable, append-only and mount point. Returns none
/// if the kernel does not report them.
pub(super) fn attribute_flags(
    directory: impl AsFd,
    path: impl rustix::path::Arg,
) -> StatxAttributes {
    rustix::fs::statx(directory, path, AtFlags::EMPTY_PATH, StatxFlags::empty())
        .map_or(StatxAttributes::empty(), |about| about.stx_attributes)
}

fn attributes(path: &Path) -> rustix::io::Result<Vec<(CString, Vec<u8>)>> {
    let mut names = match rustix::fs::listxattr_query(path) {
        Ok(len) => vec![0; len],
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let len = rustix::fs::listxattr(path, &mut names[..])?;
    names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| KEPT.iter().any(|kept| name.starts_with(kept.as_bytes())))
        .map(|name| {
            let name = CString::new(name).map_err(|_| Errno::INVAL)?;
            let mut value = vec![0; rustix::fs::getxattr_query(path, &name)?];
            let len = rustix::fs::getxattr(path, &name, &mut value[..])?;
            value.truncate(len);
            Ok((name, value))
        })
        .collect()
}
