//! Memory that a thread of its own gives back, since that waits for running kernels.

use std::mem;
use std::thread;

/// Values that a thread of its own drops.
#[derive(Debug)]
pub(crate) struct GivenBack<T: Send + 'static>(Vec<T>);

impl<T: Send> GivenBack<T> {
    pub(crate) fn push(&mut self, value: T) {
        self.0.push(value);
    }
}

impl<T: Send> Default for GivenBack<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Send> Drop for GivenBack<T> {
    fn drop(&mut self) {
        let values = mem::take(&mut self.0);
        if values.is_empty() {
            return;
        }
        let thread = thread::Builder::new().name("vyre-view-end".to_owned());
        // Without a thread, they are dropped here.
        let _ = thread.spawn(move || drop(values));
    }
}
