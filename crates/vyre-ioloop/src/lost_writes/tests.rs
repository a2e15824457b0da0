use std::fs::File;

use super::*;

fn identity(number: u64) -> FileIdentity {
    FileIdentity::for_tests(u64::MAX, number)
}

fn opened(file: &tempfile::NamedTempFile) -> Arc<OwnedFd> {
    Arc::new(File::open(file.path()).expect("it opens").into())
}

fn duplicate(file: &Arc<OwnedFd>) -> Arc<OwnedFd> {
    Arc::new(file.try_clone().expect("a descriptor"))
}

#[test]
fn a_failure_is_for_all_that_were_inserted_before_and_for_their_duplicates() {
    let mut registry = Registry::new();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let other = registry.insert(identity(2), &opened(&file), true);
    let old = opened(&file);
    let [one, two] = [&old, &opened(&file)].map(|file| registry.insert(identity(1), file, true));
    assert_eq!((one.lost(), two.lost()), (None, None));
    registry.note(&one.log, Errno::NOSPC);
    assert_eq!(
        (one.lost(), two.lost()),
        (Some(Errno::NOSPC), Some(Errno::NOSPC))
    );
    assert_eq!(other.lost(), None, "another file");
    let again = registry.insert(identity(1), &duplicate(&old), true);
    assert_eq!(again.lost(), Some(Errno::NOSPC), "the same open file");
    drop((one, two, again));
    let again = registry.insert(identity(1), &old, true);
    assert_eq!(
        again.lost(),
        Some(Errno::NOSPC),
        "nobody named the file meanwhile"
    );
    let fresh = registry.insert(identity(1), &opened(&file), true);
    assert_eq!(fresh.lost(), None);
    registry.note(&fresh.log, Errno::IO);
    assert_eq!(fresh.lost(), Some(Errno::IO), "it has failed by now, too");
    let last = registry.insert(identity(1), &opened(&file), true);
    assert_eq!(last.lost(), None);
}

#[test]
fn descriptions_beyond_what_is_kept_count_as_old() {
    let mut registry = Registry::new();
    registry.kept = MAX_KEPT - 1;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let [first, second] = [(); 2].map(|()| opened(&file));
    let entry = registry.insert(identity(1), &first, true);
    let _second = registry.insert(identity(1), &second, true);
    registry.note(&entry.log, Errno::IO);
    assert_eq!(registry.kept, MAX_KEPT);
    let fresh = registry.insert(identity(1), &opened(&file), true);
    assert_eq!(fresh.lost(), Some(Errno::IO));
}

#[test]
fn duplicates_are_kept_once() {
    let mut registry = Registry::new();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let old = opened(&file);
    let entry = registry.insert(identity(1), &old, true);
    let more: Vec<_> = (0..10).map(|_| duplicate(&old)).collect();
    let _entries: Vec<_> = more
        .iter()
        .map(|file| registry.insert(identity(1), file, true))
        .collect();
    registry.note(&entry.log, Errno::IO);
    assert_eq!(registry.kept, 1);
}

#[test]
fn files_that_nobody_names_are_forgotten_unless_they_lost_writes() {
    let mut registry = Registry::new();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let old = opened(&file);
    let lost = registry.insert(identity(0), &old, true);
    registry.note(&lost.log, Errno::IO);
    drop(lost);
    for number in 1..10_000 {
        registry.insert(identity(number), &old, true);
    }
    assert!(registry.files.len() < 200, "{}", registry.files.len());
    assert!(registry.insert(identity(0), &old, true).lost().is_some());
    let known = &registry.files[&identity(0)];
    assert!(known.clean.is_empty());
}

#[test]
fn a_success_waits_for_the_flushes_that_began_before_it_was_seen_and_no_others() {
    let log = FlushLog::new(identity(1));
    let [first, second] = [(); 2].map(|()| log.begin());
    let awaited = log.end(first).expect("another is out");
    assert!(!log.has_ended(awaited));
    // However many begin later, and overlap.
    let mut later = log.begin();
    for _ in 0..100_000 {
        let next = log.begin();
        log.end(later);
        later = next;
        assert!(!log.has_ended(awaited));
    }
    log.end(second);
    assert!(
        log.has_ended(awaited),
        "{:x}",
        log.rounds.load(Ordering::Relaxed)
    );
    assert_eq!(log.end(later), None, "nothing is out any more");
}

#[test]
fn a_success_waits_for_the_flushes_of_earlier_rounds() {
    let log = FlushLog::new(identity(1));
    let [first, second] = [(); 2].map(|()| log.begin());
    let before = log.end(first).expect("another is out");
    assert!(!log.has_ended(before), "the next round begins");
    let third = log.begin();
    let awaited = log.end(third).expect("the second is out");
    assert_ne!(awaited, before);
    assert!(!log.has_ended(awaited), "the second is out");
    log.end(second);
    assert!(log.has_ended(before) && log.has_ended(awaited));
}

#[test]
fn one_flush_at_a_time_waits_for_nothing() {
    let log = FlushLog::new(identity(1));
    for _ in 0..10 {
        let round = log.begin();
        assert_eq!(log.end(round), None);
    }
}

#[test]
fn rounds_may_wrap() {
    let log = FlushLog::new(identity(1));
    log.rounds
        .store(u64::from(u16::MAX) << ROUND_SHIFT, Ordering::Relaxed);
    let [first, second] = [(); 2].map(|()| log.begin());
    let awaited = log.end(first).expect("another is out");
    assert!(!log.has_ended(awaited));
    let third = log.begin();
    log.end(second);
    assert!(log.has_ended(awaited));
    let awaited = log.begin();
    assert!(log.end(third).is_some());
    log.end(awaited);
}

/// Loops that begin, fail and end flushes of one file at once: whoever is told that all flushes of a
/// round have ended sees every failure noted in it.
#[test]
fn no_failure_of_an_overlapping_flush_goes_unseen() {
    let log = FlushLog::new(identity(1));
    let noted = [const { AtomicU32::new(0) }; 4];
    let began = [const { AtomicU32::new(0) }; 4];
    std::thread::scope(|scope| {
        for own in 0..4 {
            let (log, noted, began) = (&log, &noted, &began);
            scope.spawn(move || {
                for turn in 1..=2_000 {
                    let round = log.begin();
                    began[own].store(turn, Ordering::SeqCst);
                    // Its failure, which the others have to see.
                    noted[own].store(turn, Ordering::Relaxed);
                    let before: Vec<u32> =
                        began.iter().map(|it| it.load(Ordering::SeqCst)).collect();
                    if let Some(awaited) = log.end(round) {
                        while !log.has_ended(awaited) {
                            std::thread::yield_now();
                        }
                    }
                    for (noted, &before) in noted.iter().zip(&before) {
                        assert!(noted.load(Ordering::Relaxed) >= before);
                    }
                }
            });
        }
    });
}
