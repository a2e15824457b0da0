use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::Wake;

use super::*;

/// Longer than any test takes.
const HANG: Duration = Duration::from_secs(60);

struct Told(Mutex<Sender<()>>);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().unwrap().send(());
    }
}

/// With `futex_waitv` and without it, if the kernel has it.
fn kernels() -> impl Iterator<Item = KernelFeatures> {
    let without = KernelFeatures::FUTEX_WAITV;
    let with = has_waitv(KernelFeatures::empty()).then(KernelFeatures::empty);
    with.into_iter().chain([without])
}

fn start(words: &[AtomicU32], withheld: KernelFeatures) -> Option<(Relays, Receiver<()>)> {
    let (told, woken) = mpsc::channel();
    let waker = Waker::from(Arc::new(Told(Mutex::new(told))));
    let futexes: Vec<FutexWord> = words
        .iter()
        .map(|word| FutexWord::new(word.as_ptr()))
        .collect();
    Some((Relays::start(&futexes, &waker, withheld)?, woken))
}

fn words(count: usize) -> Arc<[AtomicU32]> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

fn values(words: &[AtomicU32]) -> Vec<u32> {
    words
        .iter()
        .map(|word| word.load(Ordering::Relaxed))
        .collect()
}

fn ring(word: &AtomicU32) {
    word.fetch_add(1, Ordering::Relaxed);
    sys::wake(word.as_ptr().addr());
}

#[test]
fn each_arming_wakes_once_by_any_word() {
    for withheld in kernels() {
        let words = words(3);
        let (relays, woken) = start(&words, withheld).unwrap();
        for round in 0..60 {
            let expected = values(&words);
            let word = &words[round % 3];
            match round % 4 {
                // Before the wait: the kernel compares.
                0 => {
                    ring(word);
                    assert!(relays.arm(&expected));
                }
                // During the wait, most of the time.
                1 => {
                    assert!(relays.arm(&expected));
                    std::thread::sleep(Duration::from_millis(2));
                    ring(word);
                }
                // Armed again, by a sleep that ended otherwise.
                2 => {
                    assert!(relays.arm(&expected) && relays.arm(&expected));
                    ring(word);
                }
                _ => {
                    assert!(relays.arm(&expected));
                    ring(word);
                }
            }
            woken.recv_timeout(HANG).expect("a wake-up was lost");
            // Without `futex_waitv` each word has a relay, and only one of them was woken.
            if withheld.is_empty() {
                ring(word);
                let more = woken.recv_timeout(Duration::from_millis(1));
                assert!(more.is_err(), "not armed");
            }
        }
    }
}

#[test]
fn as_many_words_as_relays_have_room_for() {
    for withheld in kernels() {
        let each = if withheld.is_empty() {
            WaitList::MOST
        } else {
            1
        };
        let words = words(MOST * each + 1);
        assert!(start(&words, withheld).is_none());
        let words = &words[1..];
        let (relays, woken) = start(words, withheld).unwrap();
        assert_eq!(relays.means(), FutexMeans::Relays(MOST as u32));
        for word in [&words[0], &words[words.len() / 2], &words[words.len() - 1]] {
            assert!(relays.arm(&values(words)));
            ring(word);
            woken.recv_timeout(HANG).expect("a wake-up was lost");
        }
        assert!(!relays.arm(&vec![0; words.len() + 1]), "more than words");
    }
}

#[test]
fn a_word_that_the_kernel_cannot_read_is_refused() {
    for withheld in kernels() {
        let (told, woken) = mpsc::channel();
        let waker = Waker::from(Arc::new(Told(Mutex::new(told))));
        let unmapped = FutexWord::new(std::ptr::without_provenance(4096));
        let relays = Relays::start(&[unmapped], &waker, withheld).unwrap();
        assert!(relays.arm(&[0]));
        woken.recv_timeout(HANG).expect("the transport is told");
        assert!(!relays.arm(&[0]));
    }
}

#[test]
fn a_drop_ends_relays_in_any_state() {
    for withheld in kernels() {
        let ended = {
            // Words of their own: the end of a relay may wake whoever waits on its words.
            let [first, second] = [words(2), words(2)];
            let (idle, never) = start(&first, withheld).unwrap();
            let (armed, told) = start(&second, withheld).unwrap();
            assert!(armed.arm(&[0, 0]));
            std::thread::sleep(Duration::from_millis(2));
            drop((idle, armed));
            [never, told]
        };
        for woken in ended {
            // The sender is dropped with the thread's waker.
            let end = woken.recv_timeout(HANG);
            assert_eq!(end, Err(mpsc::RecvTimeoutError::Disconnected));
        }
    }
}
