//! Pinned memory through which a thread copies between files and the GPU.
#![expect(
    unsafe_code,
    reason = "a file is read into memory that the copy engine reads, and written from what it writes"
)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::slice;
use std::sync::Arc;

use vyre_uring::Buffer;

use super::context::Context;
use super::event::Event;
use super::memory::{DeviceMemory, Registration};
use super::stream::Stream;
use crate::bounce::BounceError;
use crate::error::CudaError;

/// The bytes of a half: copies of 2 MiB run at nine tenths of the speed of the bus.
const HALF: usize = 2 << 20;

/// Two halves of pinned memory, one of which the copy engine uses while the thread uses the other.
#[derive(Debug)]
pub(crate) struct Bounce {
    // First, since dropping it waits.
    stream: Stream,
    halves: [Half; 2],
}

#[derive(Debug)]
struct Half {
    memory: Registration,
    /// Happens when the copy engine is done with the half.
    copied: Event,
}

impl Half {
    fn address(&self) -> *mut u8 {
        self.memory.buffer().as_ptr()
    }

    /// Returns the first `len` bytes.
    ///
    /// # Safety
    /// The copy engine does not use the half meanwhile.
    unsafe fn bytes(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= HALF);
        // SAFETY: the buffer has these bytes, which are initialized, as all of a buffer is. Nobody else has the buffer,
        // and the caller knows that the copy engine does not use it.
        unsafe { slice::from_raw_parts_mut(self.address(), len) }
    }
}

impl Bounce {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self, CudaError> {
        let half = || {
            Ok::<_, CudaError>(Half {
                memory: Registration::new(context, Buffer::anonymous(HALF)?)?,
                copied: Event::new(context)?,
            })
        };
        Ok(Self {
            stream: Stream::new(context)?,
            halves: [half()?, half()?],
        })
    }

    /// Reads a part of a file to memory. Returns the number of bytes, which is less than `len` where the file ends.
    pub(crate) fn read(
        &mut self,
        (file, offset): (&File, u64),
        to: &DeviceMemory,
        (at, len): (u64, usize),
    ) -> Result<usize, BounceError> {
        let read = self.read_halves((file, offset), to, (at, len));
        // Also after an error: what was started uses the halves, and memory of the caller's.
        let waited = self.stream.wait();
        let count = read?;
        waited?;
        Ok(count)
    }

    fn read_halves(
        &mut self,
        (file, offset): (&File, u64),
        to: &DeviceMemory,
        (at, len): (u64, usize),
    ) -> Result<usize, BounceError> {
        let mut done = 0;
        for turn in 0.. {
            let want = (len - done).min(HALF);
            if want == 0 {
                break;
            }
            let half = &mut self.halves[turn % 2];
            if turn >= 2 {
                half.copied.wait()?;
            }
            // SAFETY: its last copy has ended.
            let count = read_some(file, unsafe { half.bytes(want) }, offset + done as u64)?;
            if count > 0 {
                // SAFETY: the half has the bytes. `read` waits for the stream before anything is dropped.
                unsafe {
                    to.copy_in(half.address(), at + done as u64, count as u64, &self.stream)
                }?;
                half.copied.record(&self.stream)?;
            }
            done += count;
            if count < want {
                break;
            }
        }
        Ok(done)
    }

    /// Writes memory to a part of a file. Returns the number of bytes.
    pub(crate) fn write(
        &mut self,
        (file, offset): (&File, u64),
        from: &DeviceMemory,
        (at, len): (u64, usize),
    ) -> Result<usize, BounceError> {
        let written = self.write_halves((file, offset), from, (at, len));
        // Also after an error: as in `read`.
        let waited = self.stream.wait();
        written?;
        waited?;
        Ok(len)
    }

    fn write_halves(
        &mut self,
        (file, offset): (&File, u64),
        from: &DeviceMemory,
        (at, len): (u64, usize),
    ) -> Result<(), BounceError> {
        let pieces = len.div_ceil(HALF);
        // One copy is ahead of what is written.
        for turn in 0..=pieces {
            if turn < pieces {
                let half = &self.halves[turn % 2];
                let start = turn * HALF;
                let count = (len - start).min(HALF) as u64;
                // SAFETY: the half has room for the bytes, and `write` waits for the stream before anything is dropped.
                unsafe { from.copy_out(at + start as u64, half.address(), count, &self.stream) }?;
                half.copied.record(&self.stream)?;
            }
            let Some(before) = turn.checked_sub(1) else {
                continue;
            };
            let half = &mut self.halves[before % 2];
            half.copied.wait()?;
            let start = before * HALF;
            // SAFETY: its copy has ended, and the next one begins in the next turn.
            let bytes = unsafe { half.bytes((len - start).min(HALF)) };
            file.write_all_at(bytes, offset + start as u64)?;
        }
        Ok(())
    }
}

/// Fills bytes from a file, as far as that has any.
fn read_some(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
