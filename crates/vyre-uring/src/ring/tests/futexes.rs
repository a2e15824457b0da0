//! Sleeps that end by futexes, by each means.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::*;
use crate::futex_means::FutexMeans;

/// Says that the kernel has no FUTEX_WAIT. Returns whether it has.
fn has_futex_wait(ring: &Ring, test: &str) -> bool {
    let has = ring.setup_report().supports(crate::Opcode::FutexWait) == Some(true);
    if !has {
        let line = format!("SKIPPED: {test}: no FUTEX_WAIT in this kernel's io_uring\n");
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    }
    has
}

fn wake(word: &AtomicU32) {
    let flags = rustix::thread::futex::Flags::empty();
    rustix::thread::futex::wake(word, flags, u32::MAX >> 1).unwrap();
}

#[test]
fn a_futex_ends_a_wait_whether_it_changes_before_or_during_it() {
    for mut ring in rings() {
        let words: Arc<[AtomicU32; 2]> = Arc::default();
        let futexes = words.each_ref().map(|word| FutexWord::new(word.as_ptr()));
        assert!(ring.set_futexes(futexes.to_vec()));
        let load =
            |words: &[AtomicU32; 2]| words.each_ref().map(|word| word.load(Ordering::Relaxed));
        for round in 0..20 {
            let word = round % 2;
            let expected = load(&words);
            // No wake-up: the kernel compares, unless the wait is queued from before.
            words[word].store(expected[word] + 1, Ordering::Relaxed);
            wake(&words[word]);
            ring.wait_on(&expected, Some(HANG)).unwrap();
            assert_eq!(ring.reap(|_| ()), 0);
            let (asleep, now) = std::sync::mpsc::channel();
            let theirs = words.clone();
            let other = std::thread::spawn(move || {
                now.recv().unwrap();
                theirs[word].fetch_add(1, Ordering::Relaxed);
                wake(&theirs[word]);
            });
            let expected = load(&words);
            asleep.send(()).unwrap();
            ring.wait_on(&expected, Some(HANG)).unwrap();
            assert_eq!(ring.reap(|_| ()), 0);
            other.join().unwrap();
        }
        assert_eq!((ring.stray_completions(), ring.in_flight()), (0, 0));
        // The waits that are still with the kernel keep nothing alive and nobody waiting.
        ring.quiesce(HANG).unwrap();
    }
}

#[test]
fn a_word_that_the_kernel_cannot_read_ends_waits_soon() {
    for mut ring in rings() {
        let unmapped = FutexWord::new(std::ptr::without_provenance(4096));
        assert!(ring.set_futexes(vec![unmapped]));
        for _ in 0..3 {
            ring.wait_on(&[0], Some(HANG)).unwrap();
            assert_eq!(ring.reap(|_| ()), 0);
        }
        // More words than were set: no wait is queued.
        ring.wait_on(&[0, 0], Some(HANG)).unwrap();
        assert_eq!(ring.stray_completions(), 0);
    }
}

#[test]
fn the_best_means_are_taken_and_reported() {
    let word = AtomicU32::new(0);
    let futex = FutexWord::new(word.as_ptr());
    let words = |count| vec![futex; count];
    for (count, withheld, means) in [
        (1, KernelFeatures::FUTEX_WAIT, FutexMeans::Relays(1)),
        (200, KernelFeatures::FUTEX_WAIT, FutexMeans::Relays(2)),
        (2, KernelFeatures::newer_than(5, 15), FutexMeans::Relays(2)),
        (17, KernelFeatures::newer_than(5, 15), FutexMeans::Nothing),
    ] {
        if !crate::wait_list::has_waitv(KernelFeatures::empty()) {
            continue;
        }
        let mut ring = ring_without(withheld);
        assert_eq!(ring.setup_report().futexes(), None);
        assert_eq!(ring.set_futexes(words(count)), means != FutexMeans::Nothing);
        assert_eq!(ring.setup_report().futexes(), Some(means));
        let text = ring.setup_report().to_string();
        assert!(
            text.contains(&format!("\nfutexes noticed by: {means}")),
            "{text}"
        );
        // Whatever the means, a wait on the words ends.
        word.fetch_add(1, Ordering::Relaxed);
        ring.wait_on(&vec![0; count], Some(HANG)).unwrap();
        word.store(0, Ordering::Relaxed);
    }
    let mut ring = ring();
    if has_futex_wait(&ring, "the_best_means_are_taken_and_reported") {
        assert!(ring.set_futexes(words(300)));
        assert_eq!(ring.setup_report().futexes(), Some(FutexMeans::Ring));
    }
}

/// Words come and go while the kernel waits on them. A wait on a word that has gone is not taken for one on the word that
/// has its number now, and neither keeps a word from being waited on.
#[test]
fn words_are_replaced_while_the_kernel_waits_on_them() {
    let mut ring = ring();
    let test = "words_are_replaced_while_the_kernel_waits_on_them";
    if !has_futex_wait(&ring, test) {
        return;
    }
    let words = [const { AtomicU32::new(0) }; 3];
    let [first, second, third] = words.each_ref().map(|word| FutexWord::new(word.as_ptr()));
    let armed = |ring: &Ring| {
        let places = ring.futexes.places.iter();
        places.filter(|place| place.armed).count()
    };
    let soon = Some(Duration::from_millis(1));
    assert!(ring.set_futexes(vec![first, second]));
    ring.wait_on(&[0, 0], soon).unwrap();
    assert_eq!(armed(&ring), 2);
    // The second keeps its wait under another number, and the third gets one.
    assert!(ring.set_futexes(vec![second, third]));
    let end = Instant::now() + HANG;
    while armed(&ring) != 2 {
        ring.wait_on(&[0, 0], soon).unwrap();
        assert_eq!(ring.reap(|_| ()), 0);
        assert!(Instant::now() < end, "the wait on the first word stays");
    }
    for word in &words[1..] {
        wake(word);
        let begun = Instant::now();
        ring.wait_on(&[0, 0], Some(HANG)).unwrap();
        assert!(begun.elapsed() < HANG / 2, "nobody waits on {word:p}");
        assert_eq!(ring.reap(|_| ()), 0);
    }
    // A wake-up of a word that has gone ends nothing.
    ring.wait_on(&[0, 0], soon).unwrap();
    wake(&words[0]);
    assert!(!ring.is_ready());
    // Added and removed for ever: places are used again.
    for round in 0..100 {
        let now = [first, second, third][round % 3];
        assert!(ring.set_futexes(vec![now]));
        ring.wait_on(&[0], Some(Duration::from_micros(50))).unwrap();
        assert_eq!(ring.reap(|_| ()), 0);
    }
    assert!(ring.futexes.places.len() < 10, "{:?}", ring.futexes);
    assert!(ring.set_futexes(Vec::new()));
    let end = Instant::now() + HANG;
    while armed(&ring) > 0 || ring.cancels > 0 {
        ring.wait(soon).unwrap();
        ring.reap(|_| ());
        assert!(Instant::now() < end, "{:?}", ring.futexes);
    }
    assert_eq!((ring.stray_completions(), ring.in_flight()), (0, 0));
}
