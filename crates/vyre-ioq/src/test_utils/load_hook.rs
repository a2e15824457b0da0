//! Hooks that run between two loads of shared words, for tests.

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

type Hook = Box<dyn FnMut()>;

std::thread_local! {
    static IS_SET: Cell<bool> = const { Cell::new(false) };
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Keeps the hook of [`on_each_load`] in place until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it removes the hook"]
pub struct LoadHook {
    /// The hook belongs to this thread.
    not_send: PhantomData<*const ()>,
}

/// Calls `hook` before each word that this thread loads from a queue's memory, until the guard is
/// dropped.
///
/// A test that plays the device in the hook acts between any two words that a host end loads, such as
/// two status words of one sweep. Loads that `hook` makes itself do not call it.
///
/// # Panics
/// If the thread has a hook already.
pub fn on_each_load(hook: impl FnMut() + 'static) -> LoadHook {
    assert!(!IS_SET.replace(true), "the thread has a hook already");
    HOOK.with_borrow_mut(|set| *set = Some(Box::new(hook)));
    LoadHook {
        not_send: PhantomData,
    }
}

impl Drop for LoadHook {
    fn drop(&mut self) {
        IS_SET.set(false);
        HOOK.with_borrow_mut(|hook| drop(hook.take()));
    }
}

/// Calls the hook of the thread, if it has one.
#[inline]
pub(crate) fn before_load() {
    if IS_SET.get() {
        run();
    }
}

#[cold]
fn run() {
    // Taken out meanwhile: the hook may load words as well.
    let Some(mut hook) = HOOK.with_borrow_mut(Option::take) else {
        return;
    };
    hook();
    HOOK.with_borrow_mut(|kept| *kept = Some(hook));
}
