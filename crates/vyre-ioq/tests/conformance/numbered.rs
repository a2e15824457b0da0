//! Requests that are a function of their tag, for the command `threads`: see PROTOCOL.md.

use vyre_ioq::abi::{SlotImage, op, status, word};
use vyre_ioq::{BufferHandle, Errno, FileHandle, Flags, Request};

fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}

fn field(tag: u32, number: u32) -> u32 {
    mix(tag.wrapping_mul(16).wrapping_add(number))
}

/// Returns the outcome that the host stores for the request with this tag.
pub(crate) fn answer(tag: u32) -> Result<u32, Errno> {
    let value = field(tag, 8);
    if tag.is_multiple_of(7) {
        Err(Errno::from_raw(value))
    } else {
        Ok(value)
    }
}

/// The request with a tag, as words.
pub(crate) struct Numbered([u32; 16]);

impl Numbered {
    pub(crate) fn new(tag: u32, bare: bool) -> Self {
        let f = |number| field(tag, number);
        let mut words = [
            op::READ,
            f(0),
            0,
            f(1),
            f(2),
            f(3),
            0,
            tag,
            f(4),
            f(5),
            f(6) & 2,
            f(7),
            0,
            0,
            0,
            0,
        ];
        let len = if bare { 8 } else { 16 };
        words[len..].fill(0);
        let summed = words[..len].iter().enumerate();
        words[word::DESTINATION] = summed
            .filter(|&(number, _)| ![word::STATUS, word::DESTINATION].contains(&number))
            .fold(0, |sum, (number, value)| {
                sum.wrapping_add(mix(value.wrapping_add(number as u32)))
            });
        Self(words)
    }

    pub(crate) fn request(&self) -> Request {
        let words = &self.0;
        let long = |low| u64::from(words[low]) | u64::from(words[low + 1]) << 32;
        let (file, buffer) = (words[word::SOURCE], words[word::DESTINATION]);
        let offset = long(word::FILE_OFFSET_LOW);
        let read = Request::read(FileHandle::from_raw(file), offset, words[word::COUNT]);
        let at = long(word::BUFFER_OFFSET_LOW);
        read.into_buffer(BufferHandle::from_raw(buffer), at)
            .with_flags(Flags::from_bits_retain(words[word::FLAGS]))
            .with_deadline(words[word::DEADLINE])
            .with_tag(words[word::TAG])
    }

    /// Returns whether a claimed image is this request, word for word.
    pub(crate) fn is(&self, image: &SlotImage) -> bool {
        let mut words = self.0;
        words[word::STATUS] = status::PUBLISHED;
        bytemuck::cast::<_, [u32; 16]>(*image) == words
    }
}
