//! The rules by which a header is accepted: each word is read once and judged as a private copy.

use crate::abi::{self, HeaderImage, header_word};
use crate::error::AttachError;
use crate::layout::{Features, Geometry};
use crate::region::Region;
use crate::sync::Ordering;

/// Copies line 0 of the header into a private image and reads each word once.
///
/// The magic is loaded first, with acquire. It pairs with the release in
/// [`initialise`](crate::queue_header::initialise): an end that sees the magic sees the rest of the
/// line.
fn read_header(region: &Region) -> Result<HeaderImage, AttachError> {
    if region.len() < abi::HEADER_BYTES {
        return Err(AttachError::TooShort {
            need: abi::HEADER_BYTES,
            have: region.len(),
        });
    }
    let line = region.words::<16>(0);
    let magic = line.load(header_word::MAGIC, Ordering::Acquire);
    if magic != abi::MAGIC[0] {
        let second = line.load(header_word::MAGIC + 1, Ordering::Relaxed);
        return Err(AttachError::BadMagic {
            found: [magic, second],
        });
    }
    let mut words = [magic; 16];
    for (word, copy) in words.iter_mut().enumerate().skip(1) {
        *copy = line.load(word, Ordering::Relaxed);
    }
    Ok(bytemuck::cast(words))
}

/// Checks the header of `region` against every rule. Returns the geometry, the features that both
/// ends know, and the identifier of the queue.
pub(crate) fn check_header(region: &Region) -> Result<(Geometry, Features, u64), AttachError> {
    let address = region.as_ptr().addr();
    if !address.is_multiple_of(abi::HEADER_ALIGN) {
        return Err(AttachError::Misaligned {
            address,
            align: abi::HEADER_ALIGN,
        });
    }
    let image = read_header(region)?;
    let (geometry, features) = check_image(&image, address, region.len())?;
    let id = u64::from(image.queue_id[0]) | u64::from(image.queue_id[1]) << 32;
    Ok((geometry, features, id))
}

/// Checks a private copy of the header against the rules and against the memory that it describes.
fn check_image(
    image: &HeaderImage,
    address: usize,
    len: usize,
) -> Result<(Geometry, Features), AttachError> {
    if image.magic != abi::MAGIC {
        return Err(AttachError::BadMagic { found: image.magic });
    }
    if image.major != abi::ABI_MAJOR {
        return Err(AttachError::MajorVersion {
            theirs: image.major,
            ours: abi::ABI_MAJOR,
        });
    }
    if image.stride as usize != abi::SLOT_BYTES {
        return Err(AttachError::BadStride {
            stride: image.stride,
        });
    }
    let offset = image.slots_offset;
    if !(offset as usize).is_multiple_of(abi::SLOT_BYTES) || (offset as usize) < abi::HEADER_BYTES {
        return Err(AttachError::BadSlotsOffset { offset });
    }
    if let Some(word) = image.reserved.iter().position(|&word| word != 0) {
        return Err(AttachError::ReservedNotZero {
            word: header_word::QUEUE_ID + 2 + word,
            value: image.reserved[word],
        });
    }
    let geometry = Geometry::after_header(image.slots, offset as usize)
        .check_slots()?
        .check_memory(address, len)?;
    Ok((geometry, Features::from_bits_truncate(image.features)))
}

#[cfg(kani)]
mod proofs;
