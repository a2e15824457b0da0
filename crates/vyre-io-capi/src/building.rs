//! A builder of Rust, whose methods take it by value, as an object of C.

use crate::failure::Failure;

/// A builder that is changed in place. Once it was taken, and after a panic in a change, it is a new one.
pub(crate) struct Building<B> {
    builder: Option<B>,
    fresh: fn() -> B,
}

impl<B> Building<B> {
    pub(crate) const fn new(fresh: fn() -> B) -> Self {
        Self {
            builder: None,
            fresh,
        }
    }

    pub(crate) fn take(&mut self) -> B {
        self.builder.take().unwrap_or_else(self.fresh)
    }

    /// Changes the builder by one of its methods.
    pub(crate) fn set(&mut self, change: impl FnOnce(B) -> B) -> Result<(), Failure> {
        let builder = self.take();
        self.builder = Some(change(builder));
        Ok(())
    }
}
