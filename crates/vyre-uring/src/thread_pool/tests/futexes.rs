//! Sleeps that other processes end: by futexes and by an eventfd.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::kernel_features::KernelFeatures;

/// Returns pools that wait on words by each means, and their words.
fn pools_with_words() -> Vec<(ThreadPool, Arc<[AtomicU32]>)> {
    let mut pools = Vec::new();
    let without = KernelFeatures::FUTEX_WAITV;
    for (withheld, count, expected) in [
        (KernelFeatures::empty(), 2, FutexMeans::Vector),
        (KernelFeatures::empty(), 300, FutexMeans::Relays(3)),
        (without, 2, FutexMeans::Relays(2)),
    ] {
        let mut pool = ThreadPool::builder().withhold(withheld).build().unwrap();
        let words: Arc<[AtomicU32]> = (0..count).map(|_| AtomicU32::new(0)).collect();
        let futexes = words.iter().map(|word| FutexWord::new(word.as_ptr()));
        assert_eq!(pool.setup_report().futexes(), None);
        let heard = pool.set_futexes(futexes.collect());
        if withheld.is_empty() && !has_waitv(withheld) {
            let test = "a_futex_ends_a_wait_whether_it_changes_before_or_during_it";
            let line = format!("SKIPPED: {test}: no futex_waitv in this kernel\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            continue;
        }
        assert!(heard);
        assert_eq!(pool.setup_report().futexes(), Some(expected));
        pools.push((pool, words));
    }
    pools
}

#[test]
fn a_futex_ends_a_wait_whether_it_changes_before_or_during_it() {
    for (pool, words) in pools_with_words() {
        futexes_end_waits(pool, &words);
    }
}

fn futexes_end_waits(mut pool: ThreadPool, words: &Arc<[AtomicU32]>) {
    let wake = |word: &AtomicU32| {
        let flags = rustix::thread::futex::Flags::empty();
        rustix::thread::futex::wake(word, flags, u32::MAX >> 1).unwrap();
    };
    let load = |words: &[AtomicU32]| -> Vec<u32> {
        words
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .collect()
    };
    for round in 0..20 {
        let word = round * 67 % words.len();
        // The word has changed before the wait: the kernel compares, unless a relay waits from before.
        let expected = load(words);
        words[word].fetch_add(1, Ordering::Relaxed);
        wake(&words[word]);
        pool.wait_on(&expected, Some(HANG)).unwrap();
        // It changes during the wait, or just before it.
        let theirs = words.clone();
        let (asleep, now) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            now.recv().unwrap();
            theirs[word].fetch_add(1, Ordering::Relaxed);
            wake(&theirs[word]);
        });
        let expected = load(words);
        asleep.send(()).unwrap();
        pool.wait_on(&expected, Some(HANG)).unwrap();
        other.join().unwrap();
        // So does the waker.
        pool.waker().unwrap().wake();
        pool.wait_on(&load(words), Some(HANG)).unwrap();
        // So does the time.
        pool.wait_on(&load(words), Some(Duration::from_micros(10)))
            .unwrap();
    }
    // So does a completion.
    pool.set_file(
        FileSlot::new(0),
        Some(Arc::new(File::open("/dev/zero").unwrap().into())),
    )
    .unwrap();
    pool.set_buffer(BufferSlot::new(0), Some(Buffer::anonymous(4096).unwrap()))
        .unwrap();
    pool.push(read_of(0, 1), 0).unwrap();
    let mut reaped = 0;
    while reaped == 0 {
        pool.wait_on(&load(words), Some(HANG)).unwrap();
        reaped = pool.reap(|completion| assert_eq!(completion.result, Ok(1)));
    }
}

/// No futex is of use at an address that nothing is mapped at. Waits are short then, but the thread does not spin.
#[test]
fn a_word_that_the_kernel_cannot_read_ends_waits_soon() {
    for withheld in [KernelFeatures::empty(), KernelFeatures::FUTEX_WAITV] {
        let mut pool = ThreadPool::builder().withhold(withheld).build().unwrap();
        let unmapped = FutexWord::new(std::ptr::without_provenance(4096));
        assert!(pool.set_futexes(vec![unmapped]));
        // A relay tells of the refusal first.
        pool.wait_on(&[0], Some(HANG)).unwrap();
        let started = std::time::Instant::now();
        for _ in 0..3 {
            pool.wait_on(&[0], Some(HANG)).unwrap();
        }
        assert!(started.elapsed() >= Duration::from_millis(3));
    }
}

#[test]
fn an_eventfd_wakes_the_owner_as_its_waker_does() {
    let mut pool = pool(2);
    let theirs = pool.wake_fd().unwrap();
    let again = pool.wake_fd().unwrap();
    for fd in [&theirs, &again, &theirs] {
        // Before the wait, and during it.
        rustix::io::write(fd, &1u64.to_ne_bytes()).unwrap();
        pool.wait(Some(HANG)).unwrap();
        let other = fd.try_clone().unwrap();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(3));
            rustix::io::write(&other, &1u64.to_ne_bytes()).unwrap();
        });
        pool.wait(Some(HANG)).unwrap();
        late.join().unwrap();
    }
}
