//! Shows what the memory of a queue holds: `consumer-inspect DUMP` for one with a header, and
//! `consumer-inspect --bare DUMP` for one of the vyre 0.7 layout. For post-mortems: it reads a file,
//! never a live queue.

use std::env;
use std::error::Error;
use std::fs;

use vyre_ioq::abi::{self, HeaderImage, SlotImage, header_word};
use vyre_ioq::state::State;
use vyre_ioq::{Errno, LoopState, Request};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let text = match words[..] {
        ["--bare", dump] => slots(&fs::read(dump)?, abi::BARE_SLOT_BYTES),
        [dump] => queue(&fs::read(dump)?)?,
        _ => return Err("usage: consumer-inspect [--bare] DUMP".into()),
    };
    print!("{text}");
    Ok(())
}

fn queue(dump: &[u8]) -> Result<String, Box<dyn Error>> {
    let line = dump.get(..size_of::<HeaderImage>()).ok_or("no header")?;
    let header: HeaderImage = bytemuck::pod_read_unaligned(line);
    if header.magic != abi::MAGIC || header.major != abi::ABI_MAJOR {
        return Err(format!("not a queue of ABI {}", abi::ABI_MAJOR).into());
    }
    let [low, high] = header.queue_id;
    let state = word(dump, header_word::STATE).ok_or("no host words")?;
    let first = header.slots_offset as usize;
    let len = header.slots as usize * header.stride as usize;
    let memory = dump.get(first..first + len).ok_or("no slots")?;
    Ok(format!(
        "ABI {}.{}, queue {high:08x}{low:08x}, {} slots, host {:?}\n{}",
        header.major,
        header.minor,
        header.slots,
        LoopState::from_word(state),
        slots(memory, abi::SLOT_BYTES),
    ))
}

fn word(dump: &[u8], number: usize) -> Option<u32> {
    let bytes = dump.get(number * 4..number * 4 + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// A line for each slot that is not EMPTY. An outcome stays in its slot when it was taken.
fn slots(memory: &[u8], stride: usize) -> String {
    let mut text = String::new();
    for (number, bytes) in memory.chunks_exact(stride).enumerate() {
        // A bare slot is the first half of a slot; the rest counts as zero.
        let mut whole = [0; abi::SLOT_BYTES];
        whole[..stride].copy_from_slice(bytes);
        let image: SlotImage = bytemuck::cast(whole);
        let what = match State::from_word(image.status) {
            Some(State::Empty) => continue,
            Some(State::Ok) => format!("ok, {} bytes", image.count),
            Some(State::Error) => format!("failed, {}", Errno::from_raw(image.count)),
            Some(state @ (State::Published | State::Claimed)) => match Request::decode(&image) {
                Ok(request) => format!(
                    "{state:?} {:?} of {} bytes at {}",
                    request.op(),
                    request.count(),
                    request.file_offset()
                ),
                Err(error) => format!("{state:?}, but {error}"),
            },
            None => format!("status {:#x}, which names no state", image.status),
        };
        text.push_str(&format!("slot {number}, tag {}: {what}\n", image.tag));
    }
    text
}
