//! I/O on a path: its file system, direct I/O, and a trial read.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, StatxFlags, fstat, fstatfs, ftruncate, open, seek,
    statx, unlink,
};
use rustix::io::Errno;
use vyre_io::uring::alignment_of;

use super::file_system::{caveat, hazard, is_generated, is_memory, name};
use super::gpu::Views;
use super::page_cache;
use super::report::{Alignment, AlignmentSource, Finding, PathReport};
use super::ring::{ReadError, Trial};
use super::units::{bytes, words};

/// The minimum number of bytes of a trial read, and the alignment that needs no remark.
const PAGE: u32 = 4096;

/// A path under examination, with the findings so far.
struct Probe<'a> {
    path: &'a Path,
    report: PathReport,
    views: &'a Views,
    findings: Vec<Finding>,
}

/// Returns the name of a data path.
fn path_name(direct: bool, by: &str) -> &'static str {
    match (direct, by) {
        (true, "registered") => "direct registered",
        (true, "threads") => "direct threads",
        (true, _) => "direct plain",
        (false, "registered") => "buffered registered",
        (false, "threads") => "buffered threads",
        (false, _) => "buffered plain",
    }
}

/// Opens the file with these flags in addition to its own.
type Open<'a> = &'a dyn Fn(OFlags) -> Result<OwnedFd, Errno>;

/// Examines a path. Without a transport, reports only the findings that need none.
pub(super) fn probe(
    path: &Path,
    trial: Option<&mut Trial>,
    views: &Views,
) -> (PathReport, Vec<Finding>) {
    let mut probe = Probe::new(path, views);
    if let Err(errno) = probe.look(trial) {
        probe.cannot_open(errno);
    }
    (probe.report, probe.findings)
}

impl<'a> Probe<'a> {
    fn new(path: &'a Path, views: &'a Views) -> Self {
        Self {
            path,
            views,
            report: PathReport {
                path: path.to_string_lossy().into_owned(),
                ..PathReport::default()
            },
            findings: Vec::new(),
        }
    }

    fn look(&mut self, trial: Option<&mut Trial>) -> Result<(), Errno> {
        let kind = self.identify()?;
        let path = self.path;
        let system = self.report.file_system.as_deref().unwrap_or_default();
        if let Some((what, advice)) = hazard(system) {
            let what = format!("{system}: {what}");
            self.find(Finding::note(what, advice));
        }
        match kind {
            FileType::RegularFile | FileType::BlockDevice => self.file(trial, kind, &|more| {
                let flags = more | OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
                open(path, flags, Mode::empty())
            }),
            FileType::Directory => self.directory(trial),
            _ => {
                self.report.reason = format!(
                    "a {} was left unopened: opening one may block, or act on a device",
                    kind_name(kind)
                );
                let what = format!("not tried: {}", self.report.reason);
                let advice = "name a regular file, a block device, or a directory";
                self.find(Finding::note(what, advice));
                Ok(())
            }
        }
    }

    /// Opens the file with O_PATH, which neither blocks nor affects a device.
    fn identify(&mut self) -> Result<FileType, Errno> {
        let named = open(self.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&named)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        self.report.kind = Some(kind_name(kind));
        if kind == FileType::RegularFile {
            self.report.size = u64::try_from(stat.st_size).ok();
        }
        self.report.file_system = match kind {
            // The node's file system says nothing about the device that it names.
            FileType::BlockDevice | FileType::CharacterDevice => None,
            _ => Some(name(fstatfs(&named)?.f_type as u32)),
        };
        Ok(kind)
    }

    /// Examines a directory through a file made in it, which is nameless or unlinked at once. Closing
    /// deletes it.
    fn directory(&mut self, trial: Option<&mut Trial>) -> Result<(), Errno> {
        let path = self.path;
        let nameless = |more| {
            let flags = more | OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            with_a_hole(open(path, flags, Mode::RUSR | Mode::WUSR)?)
        };
        let named = |more| {
            let name = path.join(format!(".vyre-io-doctor-{}", std::process::id()));
            let flags = more | OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            let file = open(&name, flags, Mode::RUSR | Mode::WUSR)?;
            unlink(&name)?;
            with_a_hole(file)
        };
        let unsupported = match nameless(OFlags::empty()) {
            Ok(_) => return self.file(trial, FileType::RegularFile, &nameless),
            Err(errno) => errno,
        };
        match named(OFlags::empty()) {
            Ok(_) => {
                self.find(Finding::note(
                    format!("files without a name are refused ({})", words(unsupported)),
                    "nothing needs doing: vyre-io copy keeps a hidden file beside its result instead",
                ));
                self.file(trial, FileType::RegularFile, &named)
            }
            Err(errno @ (Errno::MFILE | Errno::NFILE)) => Err(errno),
            Err(errno) => {
                self.report.reason = format!("no file can be made in it ({})", words(errno));
                let what = format!("a directory that cannot be tried: {}", self.report.reason);
                let advice = match errno {
                    Errno::ACCESS | Errno::PERM => "name a file in it, or make it writable",
                    Errno::ROFS => "name a file in it: the file system is mounted read-only",
                    Errno::NOSPC | Errno::DQUOT => "make room on it, or name a file in it",
                    _ => "name a file in it",
                };
                self.find(Finding::note(what, advice));
                Ok(())
            }
        }
    }

    fn file(
        &mut self,
        trial: Option<&mut Trial>,
        kind: FileType,
        open: Open<'_>,
    ) -> Result<(), Errno> {
        let buffered = open(OFlags::empty())?;
        if kind == FileType::BlockDevice {
            self.report.size = seek(&buffered, SeekFrom::End(0)).ok();
        } else {
            self.page_cache(&buffered);
            self.report.view = Some(self.views.examine(&buffered));
        }
        let direct = self.direct(&buffered, kind, open)?;
        let Some(trial) = trial else {
            self.report.reason = "no transport could be made".to_owned();
            return Ok(());
        };
        let direct = match direct {
            Ok(file) => self.try_direct(trial, file),
            Err(reason) => Ok(Err(reason)),
        };
        let direct = match direct {
            Ok(direct) => direct,
            Err(late) => {
                // A second read would not be answered either.
                self.cannot_read(&late);
                return Ok(());
            }
        };
        let (direct, reason) = match direct {
            Ok(reason) => (true, reason),
            Err(reason) => match trial.read(buffered, PAGE) {
                Ok(_) => (false, reason),
                Err(error) => {
                    self.cannot_read(&error);
                    return Ok(());
                }
            },
        };
        let by = trial.data_path();
        self.report.data_path = Some(path_name(direct, by));
        self.report.reason = reason;
        if by == "plain" {
            self.report.reason += "; buffers cannot be registered";
        }
        Ok(())
    }

    /// Reports whether page-cache reads are possible. They are an option, so a refusal is no finding.
    fn page_cache(&mut self, buffered: &OwnedFd) {
        let verdict = page_cache::examine(buffered);
        if verdict.mapped_pages_alone {
            self.find(Finding::note(
                "another user owns it: page-cache reads copy only pages that the process has mapped",
                "run as its owner, or have the pages mapped beforehand (Mapping::populate)",
            ));
        }
        self.report.page_cache = Some(verdict.text);
    }

    /// Returns the file opened for direct I/O, or why that is not possible or has no effect.
    fn direct(
        &mut self,
        buffered: &OwnedFd,
        kind: FileType,
        open: Open<'_>,
    ) -> Result<Result<OwnedFd, String>, Errno> {
        let opened = open(OFlags::DIRECT);
        self.report.direct_opens = Some(opened.is_ok());
        let system = self.report.file_system.clone().unwrap_or_default();
        if is_generated(&system) {
            self.find(Finding::note(
                format!("{system} makes up what its files hold when they are read: no size, no direct I/O"),
                "use vyre-io copy or cat, which read such a file to its end; bench cannot",
            ));
            return Ok(Err("its contents are made up when it is read".to_owned()));
        }
        if is_memory(&system) {
            self.find(Finding::note(
                format!("{system} keeps its files in memory: direct I/O means nothing there"),
                "measure on a file system on a drive",
            ));
            return Ok(Err("its files are memory".to_owned()));
        }
        let file = match opened {
            Ok(file) => file,
            Err(errno @ (Errno::MFILE | Errno::NFILE)) => return Err(errno),
            Err(errno) => {
                let reason = format!("O_DIRECT is refused ({})", words(errno));
                self.find(Finding::cost(
                    format!("{reason}: data pass through the page cache, one copy more"),
                    "put it on a file system with direct I/O, such as ext4 or XFS",
                ));
                return Ok(Err(reason));
            }
        };
        if let Some((what, advice)) = caveat(&system) {
            self.find(Finding::note(format!("{system}: {what}"), advice));
        }
        let Some(alignment) = alignment(buffered, kind) else {
            let reason = "the file system says that it takes no direct I/O on this file".to_owned();
            self.find(Finding::cost(
                format!("{reason}: O_DIRECT passes through the page cache all the same"),
                "take encryption, verity, compression or data journalling off the file",
            ));
            return Ok(Err(reason));
        };
        self.remark_on(alignment);
        self.report.alignment = Some(alignment);
        Ok(Ok(file))
    }

    fn remark_on(&mut self, alignment: Alignment) {
        if alignment.from == AlignmentSource::Fallback {
            self.find(Finding::note(
                format!(
                    "neither kernel nor file system states the alignment of direct I/O; multiples of \
                     {} are assumed",
                    alignment.offset
                ),
                "keep blocks and buffers multiples of that",
            ));
        }
        let most = alignment.memory.max(alignment.offset);
        if most > PAGE {
            self.find(Finding::note(
                format!("direct I/O goes in multiples of {}", bytes(most.into())),
                "make blocks and buffers a multiple of that",
            ));
        }
    }

    /// Tries reads. Returns the finding for or against direct I/O, or an error if the file does not
    /// answer.
    fn try_direct(
        &mut self,
        trial: &mut Trial,
        file: OwnedFd,
    ) -> Result<Result<String, String>, ReadError> {
        let unit = self.report.alignment.map_or(PAGE, |align| align.offset);
        let len = unit.max(PAGE);
        if len > Trial::MOST {
            let why = "opens with O_DIRECT; its blocks are too large for a trial";
            return Ok(Ok(why.to_owned()));
        }
        Ok(match trial.read(file, len) {
            Ok(_) => Ok(format!(
                "opens with O_DIRECT, and a direct read of {} worked",
                bytes(len.into())
            )),
            Err(error @ ReadError::Late) => return Err(error),
            // The buffered read will say so too.
            Err(error @ ReadError::Untried(_)) => Err(error.describe()),
            Err(error) => {
                let reason = format!("a direct read {}", error.describe());
                self.find(Finding::cost(
                    format!("it opens with O_DIRECT, but {reason}"),
                    "open it buffered (no --direct), or move it to another file system",
                ));
                Err(reason)
            }
        })
    }

    fn cannot_read(&mut self, error: &ReadError) {
        self.report.reason = format!("a read {}", error.describe());
        let advice = match error {
            ReadError::Untried(_) => "run vyre-io doctor again on fewer paths",
            ReadError::Late => {
                "check whether the drive, the server or the daemon behind it answers at all (dmesg)"
            }
            ReadError::Failed(_) => {
                "check the drive or the server behind it (dmesg), and that cat can read it"
            }
        };
        let what = format!("it opens, but {}", self.report.reason);
        self.find(Finding::broken(what, advice));
    }

    fn cannot_open(&mut self, errno: Errno) {
        let error = words(errno);
        let advice = match errno {
            Errno::NOENT => "check the path: nothing is there",
            Errno::NOTDIR => "check the path: a part of it is a file, not a directory",
            Errno::ACCESS => "allow this user to read it and to search the directories above it",
            Errno::PERM => {
                "allow it to this process: file seals, a container's device list, or \
                            a security module forbid it"
            }
            Errno::MFILE => "raise RLIMIT_NOFILE (ulimit -n)",
            Errno::NFILE => "raise the sysctl fs.file-max",
            Errno::LOOP => "check the symbolic links: they go round in a circle",
            _ => "check that it can be read, with cat for one",
        };
        self.find(Finding::broken(
            format!("cannot be opened: {error}"),
            advice,
        ));
        self.report.reason = "cannot be opened".to_owned();
        self.report.error = Some(error);
    }

    /// Adds a finding about this path.
    fn find(&mut self, mut finding: Finding) {
        finding.what = format!("{}: {}", self.report.path, finding.what);
        self.findings.push(finding);
    }
}

/// Extends an empty file by a hole, so that it can be read.
fn with_a_hole(file: OwnedFd) -> Result<OwnedFd, Errno> {
    ftruncate(&file, u64::from(Trial::MOST))?;
    Ok(file)
}

impl ReadError {
    fn describe(&self) -> String {
        match self {
            Self::Failed(errno) => format!("failed ({})", words(*errno)),
            Self::Late => "was not answered in time".to_owned(),
            Self::Untried(why) => format!("could not be tried ({why})"),
        }
    }
}

/// Returns the alignment of direct I/O and its source; `None` if the file system states that the file
/// does not support it.
fn alignment(file: &OwnedFd, kind: FileType) -> Option<Alignment> {
    let align = alignment_of(file.as_fd()).ok()?;
    let stated = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
        .ok()
        .filter(|stat| stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0)
        .map(|stat| stat.stx_dio_mem_align != 0 && stat.stx_dio_offset_align != 0);
    let from = match stated {
        Some(false) => return None,
        Some(true) => AlignmentSource::Statx,
        None if kind == FileType::BlockDevice => AlignmentSource::BlockSize,
        None => AlignmentSource::Fallback,
    };
    Some(Alignment {
        memory: align.memory,
        offset: align.offset,
        from,
    })
}

const fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "regular file",
        FileType::Directory => "directory",
        FileType::BlockDevice => "block device",
        FileType::CharacterDevice => "character device",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::Symlink => "symbolic link",
        FileType::Unknown => "file of unknown kind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::doctor::report::Level;

    /// A pipe without a writer stands in for a file on a server that is gone.
    #[test]
    fn a_file_that_never_answers_is_broken_and_holds_nobody_up() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        let mut trial = Trial::start().unwrap();
        trial.read_limit = std::time::Duration::from_millis(1);
        let mut probe = Probe::new(Path::new("gone"), &Views::NONE);
        let open = |_| rustix::io::fcntl_dupfd_cloexec(&reader, 0);
        probe
            .file(Some(&mut trial), FileType::RegularFile, &open)
            .unwrap();
        assert_eq!(probe.report.data_path, None);
        let last = probe.findings.last().unwrap();
        assert_eq!(last.level, Level::Broken, "{last:?}");
        assert!(last.what.contains("not answered in time"), "{last:?}");
        let late = |finding: &&Finding| finding.what.contains("in time");
        assert_eq!(probe.findings.iter().filter(late).count(), 1);
        // Other paths are tried all the same.
        trial.read_limit = std::time::Duration::from_secs(60);
        let (report, _) = super::probe(Path::new("/proc/self/exe"), Some(&mut trial), &Views::NONE);
        assert!(report.data_path.is_some(), "{report:?}");
    }

    #[test]
    fn without_a_transport_the_rest_is_still_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (report, findings) = super::probe(file.path(), None, &Views::NONE);
        assert_eq!(report.kind, Some("regular file"));
        assert!(report.direct_opens.is_some() && report.file_system.is_some());
        assert_eq!(report.data_path, None);
        assert_eq!(report.reason, "no transport could be made");
        assert!(
            findings
                .iter()
                .all(|finding| finding.level != Level::Broken)
        );
    }
}
