//! Runs tests in child processes, counts those that cannot run here, and removes all that they set
//! up.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, getegid, geteuid, kill_process, set_parent_process_death_signal};

use crate::needs::Need;
use crate::scene::{LIMIT, Scene};
use crate::stage::Stage;
use crate::undo;

/// Test that runs in a process of its own.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Name of the test, which says what it shows.
    pub name: &'static str,
    /// Facilities that the machine has to provide.
    pub needs: &'static [Need],
    /// Function of the test. It fails by a panic.
    pub run: fn(&Scene),
}

/// Defines a list of tests: the name of each function, and its needs.
#[macro_export]
macro_rules! tests {
    ($($test:ident: [$($need:expr),* $(,)?]),+ $(,)?) => {
        &[$($crate::Test {
            name: concat!(module_path!(), "::", stringify!($test)),
            needs: &[$($need),*],
            run: $test,
        }),+]
    };
}

/// Environment variable of a child: the test to run, and the directory of its stage.
const TEST: &str = "VYRE_FAULTS_TEST";
const SCENE: &str = "VYRE_FAULTS_SCENE";
/// File with which a child reports that its test is over, passed or failed.
const OVER: &str = ".over";
/// Environment variable. Set to `1`, it makes a test fail that cannot run.
const ALL: &str = "VYRE_FAULTS_ALL";

/// Time limit of a test. Only a hang takes longer.
const HANG: Duration = LIMIT.saturating_mul(3);

/// Runs tests, each on a stage below `scratch`. This is the `main` of a test program.
///
/// The last line of the output is `faults: N run, M skipped`, with the reasons. A test is skipped,
/// and counted, where the machine lacks what it needs.
pub fn run(scratch: &str, tests: &'static [&'static [Test]]) -> ExitCode {
    let mut all = tests.iter().copied().flatten();
    if let Some(name) = std::env::var_os(TEST) {
        let test = all.find(|test| *test.name == *name);
        return act(test.expect("the parent knows the tests"));
    }
    let arguments = Arguments::from_args();
    // Before there is a second thread: none can get a namespace of its users then.
    make_mounts_private();
    end_by_signals();
    let skipped = Arc::new(Mutex::new(BTreeMap::<&str, u32>::new()));
    let trials = all
        .map(|test| trial(test, scratch.into(), skipped.clone()))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    undo::all();
    let skipped = skipped.lock().unwrap_or_else(PoisonError::into_inner);
    let ran = conclusion.num_passed + conclusion.num_failed;
    let count: u32 = skipped.values().sum();
    let why: Vec<String> = skipped
        .iter()
        .map(|(why, count)| format!("{why} ({count})"))
        .collect();
    let colon = if why.is_empty() { "" } else { ": " };
    println!(
        "faults: {ran} run, {count} skipped{colon}{}",
        why.join(", ")
    );
    conclusion.exit_code()
}

fn trial(
    test: &'static Test,
    scratch: PathBuf,
    skipped: Arc<Mutex<BTreeMap<&'static str, u32>>>,
) -> Trial {
    Trial::ignorable_test(test.name, move || {
        let Some(why) = test.needs.iter().find_map(|need| need.lacking()) else {
            return watch(test, &scratch).map(|()| Completion::Completed);
        };
        if std::env::var_os(ALL).is_some_and(|all| all == "1") {
            return Err(Failed::from(format!("cannot run: {why}")));
        }
        let mut skipped = skipped.lock().unwrap_or_else(PoisonError::into_inner);
        *skipped.entry(why).or_default() += 1;
        Ok(Completion::ignored_with(why))
    })
}

/// Runs the test, in the child.
fn act(test: &Test) -> ExitCode {
    // A parent that is gone can end no hang.
    let _ = set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let _ = SigSet::all().thread_unblock();
    let dir = PathBuf::from(std::env::var_os(SCENE).expect("the parent sets it"));
    let over = dir.join(OVER);
    let say_over = move || drop(std::fs::write(&over, ""));
    // Unwinding may hang before the end, and the end of the process after it.
    let (report, say_failed) = (std::panic::take_hook(), say_over.clone());
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        say_failed();
    }));
    (test.run)(&Scene::new(dir));
    say_over();
    ExitCode::SUCCESS
}

/// Sets up the stage, has a child run the test, and removes the stage.
fn watch(test: &Test, scratch: &Path) -> Result<(), Failed> {
    let mut stage = Stage::set(scratch, test.needs)?;
    let (mut output, writer) = std::io::pipe()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env(TEST, test.name)
        .env(SCENE, stage.dir())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn()?;
    drop(command);
    let text = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = output.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let over = stage.dir().join(OVER);
    let ended = wait(&mut child, HANG, || over.exists());
    let hang = (ended.is_none() && !over.exists()).then(|| threads(child.id()));
    stage.release();
    if hang.is_some() {
        kill(&child);
    }
    // What hung is released, so that the process can end.
    let ended = ended.or_else(|| wait(&mut child, LIMIT, || false));
    let hang = hang.or_else(|| ended.is_none().then(|| threads(child.id())));
    if ended.is_none() {
        kill(&child);
    }
    drop(stage);
    let text = match ended {
        // Its output ends with the process.
        Some(_) => text.join().unwrap_or_default(),
        None => String::new(),
    };
    match (hang, ended) {
        (None, Some(status)) if status.success() => {
            print!("{text}");
            Ok(())
        }
        (None, Some(status)) => Err(format!("{}\n{text}", describe(status)).into()),
        (hang, ended) => {
            let threads = hang.unwrap_or_default();
            let gone = ended.map_or("and did not end", |_| "and was killed");
            Err(format!("it hung {gone}; its threads:\n{threads}\n{text}").into())
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match status.signal().map(Signal::try_from) {
        Some(Ok(signal)) => format!("the process was killed by {signal}"),
        _ => format!("the process ended with {status}"),
    }
}

/// Waits until the process ends or `other` holds. Returns its status if it ended.
fn wait(child: &mut Child, limit: Duration, other: impl Fn() -> bool) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if other() || Instant::now() >= end {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn kill(child: &Child) {
    if let Some(pid) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Returns the kernel stacks of the threads of a process.
fn threads(process: u32) -> String {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return String::new();
    };
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    tasks
        .flatten()
        .map(|task| {
            let name = read(task.path().join("comm"));
            let stack = read(task.path().join("stack"));
            format!("{} {}\n{stack}", task.file_name().display(), name.trim())
        })
        .collect()
}

/// Makes signals that end the run remove the stage first.
fn end_by_signals() {
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    if signals.thread_block().is_err() {
        return;
    }
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            undo::all();
            std::process::exit(128 + signal as i32);
        }
    });
}

/// Gives this process and its children a mount namespace of their own, so that mounts go with them.
/// Without that right, it uses a user namespace, where the machine allows one.
fn make_mounts_private() {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        if unshare(flags).is_err() {
            return;
        }
        let maps = [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("0 {user} 1")),
            ("gid_map", format!("0 {group} 1")),
        ];
        for (file, text) in maps {
            let _ = std::fs::write(format!("/proc/self/{file}"), text);
        }
    }
    let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    let _ = mount_change("/", all);
}
