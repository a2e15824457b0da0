//! The handler of SIGBUS beside the program's own. Each test runs in a process of its own, whose signal
//! actions it may change.
#![expect(
    unsafe_code,
    reason = "installs signal handlers and provokes faults in memory of its own"
)]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::mem::zeroed;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};

use libc::{SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_SIGINFO, SIGBUS, SIGUSR1, siginfo_t};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use rustix::param::page_size;
use vyre_mapped::{CopyError, Mapping, Recovery, RecoveryError};

const CHILD: &str = "VYRE_MAPPED_SIGNALS_CHILD";

/// Runs the test `name` in a child process.
fn child(name: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "")
        .output()
        .unwrap()
}

/// Runs `body` in a child process that runs this test alone, and expects it to succeed.
fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        end_in_a_minute();
        return body();
    }
    let child = child(name);
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{}: {said}{}",
        child.status,
        String::from_utf8_lossy(&child.stderr)
    );
}

/// Runs `body` in a child process that runs this test alone, and expects SIGBUS to end it.
fn ends_by_sigbus(name: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        end_in_a_minute();
        no_core_files();
        body();
        eprintln!("survived");
        return;
    }
    let child = child(name);
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(
        child.status.signal(),
        Some(SIGBUS),
        "{}: {said}",
        child.status
    );
    assert!(!said.contains("survived"), "{said}");
}

/// Sends SIGBUS to a thread of this process. Its `pthread_t` would do in glibc alone: in musl it is a pointer, which
/// threads do not share.
fn send_sigbus(thread: rustix::process::Pid) {
    let process = std::process::id() as libc::pid_t;
    let thread = thread.as_raw_nonzero().get();
    // SAFETY: the call takes no pointer.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGBUS) };
    assert_eq!(sent, 0);
}

/// A fault that nobody handles comes again for ever.
fn end_in_a_minute() {
    // SAFETY: the call takes no pointer.
    unsafe { libc::alarm(60) };
}

fn no_core_files() {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).unwrap();
}

fn memfd(len: usize) -> File {
    let memfd = memfd_create("vyre-mapped", MemfdFlags::empty()).unwrap();
    ftruncate(&memfd, len as u64).unwrap();
    File::from(memfd)
}

/// Maps two pages of which the second faults.
fn foreign_memory() -> *mut u8 {
    let file = memfd(page_size());
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let (len, flags) = (2 * page_size(), MapFlags::SHARED);
    // SAFETY: a new mapping touches no existing memory. It is never unmapped.
    let base = unsafe { mmap(ptr::null_mut(), len, protection, flags, file.as_fd(), 0) };
    base.unwrap().cast()
}

/// Reads the byte that faults.
fn fault_at(memory: *mut u8) -> u8 {
    // SAFETY: the page is mapped. The fault is what the test is about.
    unsafe { memory.wrapping_add(page_size()).read_volatile() }
}

static FAULTS: AtomicUsize = AtomicUsize::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static STACK: AtomicUsize = AtomicUsize::new(0);
static USR1_BLOCKED: AtomicBool = AtomicBool::new(false);

/// The program's own handler: counts, and maps a page where there is none.
extern "C" fn own(_signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    FAULTS.fetch_add(1, SeqCst);
    let here = 0u8;
    STACK.store((&raw const here).addr(), SeqCst);
    // SAFETY: the kernel passes valid information.
    let information = unsafe { &*info };
    CODE.store(information.si_code, SeqCst);
    // SAFETY: zeros are a valid set.
    let mut blocked: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: the call writes the set alone.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut blocked) };
    // SAFETY: the set is initialized.
    USR1_BLOCKED.store(unsafe { libc::sigismember(&blocked, SIGUSR1) } == 1, SeqCst);
    if information.si_code > 0 {
        // SAFETY: a fault has an address.
        let address = unsafe { information.si_addr() };
        ADDRESS.store(address.addr(), SeqCst);
        let page = address.wrapping_byte_sub(address.addr() % page_size());
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        // SAFETY: the page is the test's own, and nothing refers to its bytes.
        unsafe { mmap_anonymous(page, page_size(), protection, flags) }.unwrap();
    }
}

extern "C" fn own_without_information(_signal: c_int) {
    FAULTS.fetch_add(1, SeqCst);
}

/// Installs an action of SIGBUS.
fn install(function: usize, flags: c_int) {
    // SAFETY: zeros are a valid action.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = function;
    action.sa_flags = flags;
    // SAFETY: the set is the action's own.
    unsafe { libc::sigaddset(&mut action.sa_mask, SIGUSR1) };
    // SAFETY: the functions of this file keep the rules of signal handlers.
    let result = unsafe { libc::sigaction(SIGBUS, &action, ptr::null_mut()) };
    assert_eq!(result, 0);
}

fn install_own(flags: c_int) {
    install(own as *const () as usize, SA_SIGINFO | flags);
}

/// Has a copy fault, and checks that it is an error.
fn copy_faults(recovery: &Recovery) {
    let file = memfd(2 * page_size());
    let mapping = Mapping::new(&file, 0..2 * page_size() as u64).unwrap();
    ftruncate(&file, 1).unwrap();
    let mut seen = vec![1; 2 * page_size()];
    let copy = mapping.copy_to(recovery, mapping.range(), &mut seen);
    let copied = page_size();
    assert_eq!(copy, Err(CopyError::Fault { copied }));
}

/// Gives the thread an alternate signal stack, for the rest of a test.
fn use_alternate_stack(memory: &mut [u8]) {
    let stack = libc::stack_t {
        ss_sp: memory.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: memory.len(),
    };
    // SAFETY: the memory outlives every signal of the test.
    assert_eq!(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) }, 0);
}

fn raise() {
    // SAFETY: the call takes no pointer.
    assert_eq!(unsafe { libc::raise(SIGBUS) }, 0);
}

/// Rule: SEC-18.
#[test]
fn foreign_faults_reach_the_programs_own_handler() {
    alone("foreign_faults_reach_the_programs_own_handler", || {
        install_own(0);
        let recovery = Recovery::new().unwrap();
        for round in 1..=100 {
            copy_faults(&recovery);
            let memory = foreign_memory();
            assert_eq!(fault_at(memory), 0);
            assert_eq!(FAULTS.load(SeqCst), round);
            assert_eq!(CODE.load(SeqCst), libc::BUS_ADRERR);
            assert_eq!(ADDRESS.load(SeqCst), memory.addr() + page_size());
        }
        assert_eq!(recovery.check(), Ok(()));
    });
}

/// Rule: SEC-18.
#[test]
fn a_fault_at_the_destination_is_foreign() {
    alone("a_fault_at_the_destination_is_foreign", || {
        install_own(0);
        let recovery = Recovery::new().unwrap();
        let len = page_size();
        let mapping = Mapping::new(memfd(len), 0..len as u64).unwrap();
        let start = foreign_memory();
        let destination = ptr::NonNull::new(start.wrapping_add(len / 2)).unwrap();
        // SAFETY: the destination is mapped; its second half faults, and the own handler maps it.
        let copy = unsafe { mapping.copy_to_ptr(&recovery, 0..len as u64, destination) };
        assert_eq!(copy, Ok(len));
        assert_eq!(FAULTS.load(SeqCst), 1);
        assert_eq!(ADDRESS.load(SeqCst), start.addr() + page_size());
    });
}

#[test]
fn the_own_handler_runs_under_the_mask_that_it_asked_for() {
    alone(
        "the_own_handler_runs_under_the_mask_that_it_asked_for",
        || {
            install_own(0);
            let _recovery = Recovery::new().unwrap();
            fault_at(foreign_memory());
            assert!(USR1_BLOCKED.load(SeqCst));
        },
    );
}

#[test]
fn a_handler_without_information_is_called_too() {
    alone("a_handler_without_information_is_called_too", || {
        install(own_without_information as *const () as usize, SA_NODEFER);
        let recovery = Recovery::new().unwrap();
        raise();
        copy_faults(&recovery);
        raise();
        assert_eq!(FAULTS.load(SeqCst), 2);
    });
}

#[test]
fn handlers_run_on_the_alternate_stack_of_the_thread() {
    alone("handlers_run_on_the_alternate_stack_of_the_thread", || {
        install_own(SA_ONSTACK);
        let mut memory = vec![0u8; 64 << 10];
        use_alternate_stack(&mut memory);
        let recovery = Recovery::new().unwrap();
        memory.fill(0);
        copy_faults(&recovery);
        assert!(
            memory.iter().any(|&byte| byte != 0),
            "the copy's fault used it"
        );
        fault_at(foreign_memory());
        let bounds = memory.as_ptr_range();
        assert!((bounds.start.addr()..bounds.end.addr()).contains(&STACK.load(SeqCst)));
    });
}

#[test]
fn a_handler_that_is_to_be_reset_is_called_once() {
    ends_by_sigbus("a_handler_that_is_to_be_reset_is_called_once", || {
        install_own(SA_RESETHAND);
        let recovery = Recovery::new().unwrap();
        copy_faults(&recovery);
        fault_at(foreign_memory());
        assert_eq!(FAULTS.load(SeqCst), 1);
        copy_faults(&recovery);
        fault_at(foreign_memory());
    });
}

/// Rule: SEC-18.
#[test]
fn without_an_own_handler_a_foreign_fault_ends_the_process() {
    ends_by_sigbus(
        "without_an_own_handler_a_foreign_fault_ends_the_process",
        || {
            install(libc::SIG_DFL, 0);
            let recovery = Recovery::new().unwrap();
            copy_faults(&recovery);
            fault_at(foreign_memory());
        },
    );
}

#[test]
fn beside_the_standard_library_a_foreign_fault_ends_the_process() {
    ends_by_sigbus(
        "beside_the_standard_library_a_foreign_fault_ends_the_process",
        || {
            let recovery = Recovery::new().unwrap();
            copy_faults(&recovery);
            fault_at(foreign_memory());
        },
    );
}

/// Rule: SEC-18.
#[test]
fn a_foreign_fault_that_was_ignored_ends_the_process() {
    ends_by_sigbus("a_foreign_fault_that_was_ignored_ends_the_process", || {
        install(libc::SIG_IGN, 0);
        let _recovery = Recovery::new().unwrap();
        fault_at(foreign_memory());
    });
}

#[test]
fn a_signal_of_a_process_has_its_default_action() {
    ends_by_sigbus("a_signal_of_a_process_has_its_default_action", || {
        install(libc::SIG_DFL, 0);
        let _recovery = Recovery::new().unwrap();
        raise();
    });
}

#[test]
fn a_signal_of_a_process_that_was_ignored_stays_ignored() {
    alone(
        "a_signal_of_a_process_that_was_ignored_stays_ignored",
        || {
            install(libc::SIG_IGN, 0);
            let recovery = Recovery::new().unwrap();
            raise();
            copy_faults(&recovery);
        },
    );
}

/// Rule: SEC-18.
#[test]
fn signals_of_a_process_during_copies_reach_the_own_handler() {
    alone(
        "signals_of_a_process_during_copies_reach_the_own_handler",
        || {
            install_own(0);
            let len = 8 << 20;
            let mapping = Mapping::new(memfd(len), 0..len as u64).unwrap();
            let mut seen = vec![1; len];
            let reader = rustix::thread::gettid();
            let ended = AtomicBool::new(false);
            let recovery = Recovery::new().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !ended.load(SeqCst) {
                        let before = FAULTS.load(SeqCst);
                        send_sigbus(reader);
                        // One at a time, and not without a pause: the reader is to go on between them.
                        while FAULTS.load(SeqCst) == before && !ended.load(SeqCst) {
                            std::thread::yield_now();
                        }
                        std::thread::sleep(std::time::Duration::from_micros(100));
                    }
                });
                for _ in 0..30 {
                    seen.fill(1);
                    let copy = mapping.copy_to(&recovery, 0..len as u64, &mut seen);
                    assert_eq!(copy, Ok(len));
                    assert!(seen.iter().all(|&byte| byte == 0));
                }
                ended.store(true, SeqCst);
            });
            assert!(FAULTS.load(SeqCst) > 30, "{FAULTS:?}");
            assert!(CODE.load(SeqCst) <= 0);
        },
    );
}

/// Rule: SEC-17.
#[test]
fn a_thread_that_blocks_the_signal_gets_no_copies() {
    alone("a_thread_that_blocks_the_signal_gets_no_copies", || {
        let recovery = Recovery::new().unwrap();
        // SAFETY: zeros are a valid set.
        let mut set: libc::sigset_t = unsafe { zeroed() };
        // SAFETY: the set is initialized.
        unsafe { libc::sigaddset(&mut set, SIGBUS) };
        // SAFETY: the call reads the set alone.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) };
        assert_eq!(recovery.check(), Err(RecoveryError::Blocked));
        assert_eq!(Recovery::new().err(), Some(RecoveryError::Blocked));
        // SAFETY: as above.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut()) };
        assert_eq!(recovery.check(), Ok(()));
        copy_faults(&recovery);
    });
}

#[test]
fn a_replaced_handler_is_found() {
    alone("a_replaced_handler_is_found", || {
        let recovery = Recovery::new().unwrap();
        install_own(0);
        assert_eq!(recovery.check(), Err(RecoveryError::Replaced));
        assert_eq!(Recovery::new().err(), Some(RecoveryError::Replaced));
        fault_at(foreign_memory());
        assert_eq!(FAULTS.load(SeqCst), 1);
    });
}

#[test]
fn each_thread_recovers_on_its_own() {
    alone("each_thread_recovers_on_its_own", || {
        install_own(0);
        let threads = (0..8).map(|_| {
            std::thread::spawn(|| {
                let recovery = Recovery::new().unwrap();
                for _ in 0..50 {
                    copy_faults(&recovery);
                    fault_at(foreign_memory());
                }
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().unwrap();
        }
        assert_eq!(FAULTS.load(SeqCst), 400);
    });
}

static FRAMES: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());

/// Notes the frames of the thread, and maps the page that faulted.
extern "C" fn own_with_frames(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // Nothing else of this process allocates or holds the lock: the fault is that of a copy.
    *FRAMES.lock().unwrap() = std::backtrace::Backtrace::force_capture().to_string();
    own(signal, info, context);
}

#[test]
fn a_handler_can_unwind_through_a_copy() {
    if cfg!(target_env = "musl") {
        // Its return from a handler has no unwind information.
        let why = "no handler unwinds past itself with musl";
        let line = format!("SKIPPED: a_handler_can_unwind_through_a_copy: {why}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    alone("a_handler_can_unwind_through_a_copy", || {
        install(own_with_frames as *const () as usize, SA_SIGINFO);
        // A backtrace needs more than the standard library's alternate stack.
        let mut memory = vec![0u8; 1 << 20];
        use_alternate_stack(&mut memory);
        let recovery = Recovery::new().unwrap();
        let len = page_size();
        let mapping = Mapping::new(memfd(len), 0..len as u64).unwrap();
        let destination = ptr::NonNull::new(foreign_memory().wrapping_add(len / 2)).unwrap();
        // SAFETY: the destination is mapped; its second half faults, and the own handler maps it.
        let copy = unsafe { mapping.copy_to_ptr(&recovery, 0..len as u64, destination) };
        assert_eq!(copy, Ok(len));
        let frames = FRAMES.lock().unwrap();
        assert!(frames.contains("copy_to_ptr"), "{frames}");
    });
}

#[test]
fn a_forked_child_recovers() {
    alone("a_forked_child_recovers", || {
        let recovery = Recovery::new().unwrap();
        let file = memfd(2 * page_size());
        let mapping = Mapping::new(&file, 0..2 * page_size() as u64).unwrap();
        let mut seen = vec![1; 2 * page_size()];
        ftruncate(&file, 1).unwrap();
        // SAFETY: the child copies and exits. It takes no lock and allocates nothing.
        let process = unsafe { libc::fork() };
        if process == 0 {
            let copy = mapping.copy_to(&recovery, mapping.range(), &mut seen);
            let is_fault = matches!(copy, Err(CopyError::Fault { .. }));
            // SAFETY: the call takes no pointer.
            unsafe { libc::_exit(if is_fault { 7 } else { 8 }) };
        }
        let mut status = 0;
        // SAFETY: the call writes the status alone.
        assert_eq!(unsafe { libc::waitpid(process, &mut status, 0) }, process);
        assert_eq!(libc::WEXITSTATUS(status), 7, "status {status:#x}");
    });
}

#[test]
fn a_signal_that_was_ignored_interrupts_no_system_call() {
    alone(
        "a_signal_that_was_ignored_interrupts_no_system_call",
        || {
            install(libc::SIG_IGN, 0);
            let _recovery = Recovery::new().unwrap();
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            let thread = rustix::thread::gettid();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..20 {
                        std::thread::sleep(std::time::Duration::from_millis(10));
                        send_sigbus(thread);
                    }
                    rustix::io::write(&writer, b"x").unwrap();
                });
                assert_eq!(rustix::io::read(&reader, &mut [0u8; 1]), Ok(1));
            });
        },
    );
}

/// The kernel drops signals of processes whose action is the default where the first process of a PID
/// namespace gets them. Our handler must stay then.
#[test]
fn the_first_process_of_a_container_keeps_the_handler() {
    const NAME: &str = "the_first_process_of_a_container_keeps_the_handler";
    if std::env::var_os(CHILD).is_some() {
        end_in_a_minute();
        assert_eq!(std::process::id(), 1);
        // The test harness runs this in a thread of the first process.
        install(libc::SIG_DFL, 0);
        let recovery = Recovery::new().unwrap();
        raise();
        assert_eq!(recovery.check(), Ok(()));
        return copy_faults(&recovery);
    }
    let unshare = |command: &[&std::ffi::OsStr]| {
        Command::new("unshare")
            .args(["--pid", "--fork"])
            .args(command)
            .env(CHILD, "")
            .output()
    };
    let may = unshare(&["true".as_ref()]).is_ok_and(|it| it.status.success());
    if !may {
        let skipped = format!("SKIPPED: {NAME}: no new PID namespace\n");
        let _ = std::io::stderr().write_all(skipped.as_bytes());
        return;
    }
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", NAME, "--nocapture"].map(std::ffi::OsStr::new);
    let child = unshare(&[&[program.as_os_str()], &arguments[..]].concat()).unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{}: {said}{}",
        child.status,
        String::from_utf8_lossy(&child.stderr)
    );
}
