//! Golden bytes, on which C and CUDA code relies: a change needs a new major version of the ABI.

#![cfg(feature = "std")]

mod common;
mod golden;

use common::{Memory, WORD};
use golden::Numbers;
use vyre_ioq::abi;
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, Features, FileHandle, Flags, HostQueue, LoopState,
    QueueLayout, Request,
};

const FILE: FileHandle = FileHandle::from_raw(0x0403_0201);
const BUFFER: BufferHandle = BufferHandle::from_raw(0x1413_1211);
const FILE_OFFSET: u64 = 0x2827_2625_2423_2221;
const COUNT: u32 = 0x3433_3231;
const TAG: u32 = 0x4443_4241;
const BUFFER_OFFSET: u64 = 0x5857_5655_5453_5251;
const DEADLINE: u32 = 0x6463_6261;

#[rustfmt::skip]
const READ: [u8; 64] = [
    0x01, 0, 0, 0,           0x01, 0x02, 0x03, 0x04,  0x11, 0x12, 0x13, 0x14,  0x21, 0x22, 0x23, 0x24,
    0x25, 0x26, 0x27, 0x28,  0x31, 0x32, 0x33, 0x34,  0x01, 0, 0, 0,           0x41, 0x42, 0x43, 0x44,
    0x51, 0x52, 0x53, 0x54,  0x55, 0x56, 0x57, 0x58,  0x02, 0, 0, 0,           0x61, 0x62, 0x63, 0x64,
    0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,
];
#[rustfmt::skip]
const WRITE: [u8; 64] = [
    0x02, 0, 0, 0,           0x11, 0x12, 0x13, 0x14,  0x01, 0x02, 0x03, 0x04,  0x21, 0x22, 0x23, 0x24,
    0x25, 0x26, 0x27, 0x28,  0x31, 0x32, 0x33, 0x34,  0x01, 0, 0, 0,           0x41, 0x42, 0x43, 0x44,
    0x51, 0x52, 0x53, 0x54,  0x55, 0x56, 0x57, 0x58,  0x01, 0, 0, 0,           0x61, 0x62, 0x63, 0x64,
    0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,
];
#[rustfmt::skip]
const FENCE: [u8; 64] = [
    0x03, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,     0, 0, 0, 0,
    0, 0, 0, 0,     0, 0, 0, 0,  0x01, 0, 0, 0,  0x41, 0x42, 0x43, 0x44,
    0, 0, 0, 0,     0, 0, 0, 0,  0, 0, 0, 0,     0, 0, 0, 0,
    0, 0, 0, 0,     0, 0, 0, 0,  0, 0, 0, 0,     0, 0, 0, 0,
];
#[rustfmt::skip]
const SYNC: [u8; 64] = [
    0x04, 0, 0, 0,  0, 0, 0, 0,  0x01, 0x02, 0x03, 0x04,  0, 0, 0, 0,
    0, 0, 0, 0,     0, 0, 0, 0,  0x01, 0, 0, 0,           0x41, 0x42, 0x43, 0x44,
    0, 0, 0, 0,     0, 0, 0, 0,  0, 0, 0, 0,              0x61, 0x62, 0x63, 0x64,
    0, 0, 0, 0,     0, 0, 0, 0,  0, 0, 0, 0,              0, 0, 0, 0,
];
#[rustfmt::skip]
const PREFETCH: [u8; 64] = [
    0x05, 0, 0, 0,           0, 0, 0, 0,              0x01, 0x02, 0x03, 0x04,  0x21, 0x22, 0x23, 0x24,
    0x25, 0x26, 0x27, 0x28,  0x31, 0x32, 0x33, 0x34,  0x01, 0, 0, 0,           0x41, 0x42, 0x43, 0x44,
    0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,
    0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,
];
#[rustfmt::skip]
const MAP: [u8; 64] = [
    0x06, 0, 0, 0,           0, 0, 0, 0,              0x01, 0x02, 0x03, 0x04,  0x21, 0x22, 0x23, 0x24,
    0x25, 0x26, 0x27, 0x28,  0x31, 0x32, 0x33, 0x34,  0x01, 0, 0, 0,           0x41, 0x42, 0x43, 0x44,
    0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,              0x61, 0x62, 0x63, 0x64,
    0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,
];

fn requests() -> [(Request, &'static [u8; 64]); 6] {
    [
        (read(), &READ),
        (
            Request::write(FILE, FILE_OFFSET, COUNT)
                .from_buffer(BUFFER, BUFFER_OFFSET)
                .durable()
                .with_deadline(DEADLINE)
                .with_tag(TAG),
            &WRITE,
        ),
        (Request::fence().with_tag(TAG), &FENCE),
        (
            Request::sync(FILE).with_tag(TAG).with_deadline(DEADLINE),
            &SYNC,
        ),
        (
            Request::prefetch(FILE, FILE_OFFSET, COUNT).with_tag(TAG),
            &PREFETCH,
        ),
        (
            Request::map(FILE, FILE_OFFSET, COUNT)
                .with_tag(TAG)
                .with_deadline(DEADLINE),
            &MAP,
        ),
    ]
}

fn read() -> Request {
    Request::read(FILE, FILE_OFFSET, COUNT)
        .into_buffer(BUFFER, BUFFER_OFFSET)
        .exact()
        .with_deadline(DEADLINE)
        .with_tag(TAG)
}

/// Returns a queue of two slots in memory that the test can read. Slot 1 must never change.
fn headed() -> (Memory, HostQueue, DeviceQueue) {
    let layout = QueueLayout::with_slots(2);
    let memory = Memory::new(layout.bytes());
    let host = HostQueue::create(memory.region(), &layout).expect("a fit region");
    let device = DeviceQueue::attach(memory.region()).expect("a header");
    (memory, host, device)
}

fn bare() -> (Memory, HostQueue, DeviceQueue) {
    let memory = Memory::new(QueueLayout::bare(2).bytes());
    let host = HostQueue::attach_bare(memory.region()).expect("two slots");
    let device = DeviceQueue::attach_bare(memory.region()).expect("two slots");
    (memory, host, device)
}

/// Rules: ABI-1.1, ABI-2.1.
#[test]
fn each_operation_has_its_bytes_with_a_header() {
    for (request, golden) in requests() {
        let (memory, _host, device) = headed();
        let _ticket = device.submit(request).expect("a free slot");
        assert_eq!(&memory.bytes::<64>(4096), golden, "{request:?}");
        assert_eq!(memory.bytes::<64>(4096 + 64), [0; 64], "slot 1");
    }
}

/// Rules: ABI-1.1, ABI-2.2.
#[test]
fn each_operation_has_its_bytes_in_the_bare_layout() {
    for (request, golden) in requests() {
        let (memory, _host, device) = bare();
        let _ticket = device.submit(request).expect("a free slot");
        assert_eq!(memory.bytes::<32>(0), golden[..32], "{request:?}");
        assert_eq!(memory.bytes::<32>(32), [0; 32], "slot 1");
    }
}

/// `READ` with another status and count.
fn read_with(status: u8, count: [u8; 4]) -> [u8; 64] {
    let mut bytes = READ;
    bytes[20..24].copy_from_slice(&count);
    bytes[24] = status;
    bytes
}

/// Takes a read through every state and compares its bytes by `check`, where outcomes carry counts and
/// the host announces a claim apart.
fn each_state(host: &mut HostQueue, device: &DeviceQueue, check: impl Fn(&str, [u8; 64])) {
    let count = [0x31, 0x32, 0x33, 0x34];
    check("EMPTY", [0; 64]);
    let ticket = device.submit(read()).expect("a free slot");
    check("PUBLISHED", read_with(0x01, count));
    host.claim_published(0..1, drop);
    if !host.geometry().is_bare() {
        check("PUBLISHED, and claimed", read_with(0x01, count));
        assert_eq!(host.announce_claims(), 1);
    }
    check("CLAIMED", read_with(0x02, count));
    host.complete(0, Ok(0x7473_7271)).expect("owed");
    check("OK", read_with(0x10, [0x71, 0x72, 0x73, 0x74]));
    let _ = device.take(ticket).expect("an outcome");
    check("OK, and taken", read_with(0x10, [0x71, 0x72, 0x73, 0x74]));

    let ticket = device.submit(read()).expect("a free slot");
    check("PUBLISHED over OK", read_with(0x01, count));
    host.claim_published(0..1, drop);
    host.complete(0, Err(Errno::ECANCELED)).expect("owed");
    check("ERROR", read_with(0x11, [125, 0, 0, 0]));
    let _ = device.take(ticket).expect("an outcome");
    check("ERROR, and taken", read_with(0x11, [125, 0, 0, 0]));
    let _ticket = device.submit(read()).expect("a free slot");
    check("PUBLISHED over ERROR", read_with(0x01, count));
}

/// Rule: ABI-2.4.
#[test]
fn each_state_has_its_bytes_with_a_header() {
    let (memory, mut host, device) = headed();
    each_state(&mut host, &device, |state, golden| {
        assert_eq!(memory.bytes::<64>(4096), golden, "{state}");
        assert_eq!(memory.bytes::<64>(4096 + 64), [0; 64], "slot 1");
    });
}

/// In the queue of vyre 0.7 the host changes STATUS and no other byte, at the claim too. A device may
/// publish the same request again by STATUS alone.
///
/// Rule: ABI-2.5.
#[test]
fn each_state_has_its_bytes_in_the_bare_layout() {
    let (memory, mut host, device) = bare();
    let check = |state: &str, golden: [u8; 64]| {
        assert_eq!(memory.bytes::<32>(0), golden[..32], "{state}");
        assert_eq!(memory.bytes::<32>(32), [0; 32], "slot 1");
    };
    let count = [0x31, 0x32, 0x33, 0x34];
    check("EMPTY", [0; 64]);
    let ticket = device.submit(read()).expect("a free slot");
    check("PUBLISHED", read_with(0x01, count));
    let answers = [(Ok(7), 0x10), (Err(Errno::ECANCELED), 0x11), (Ok(0), 0x10)];
    for (answer, outcome) in answers {
        host.claim_published(0..1, |claim| {
            assert_eq!(claim.image.count.to_le_bytes(), count, "what was asked for");
        });
        check("CLAIMED", read_with(0x02, count));
        assert_eq!(host.announce_claims(), 0, "announced");
        host.complete(0, answer).expect("owed");
        check("answered", read_with(outcome, count));
        memory.store(abi::word::STATUS, abi::status::PUBLISHED);
        check("PUBLISHED again", read_with(0x01, count));
    }
    host.claim_published(0..1, drop);
    assert_eq!(host.complete_owed(Errno::EIO), 1);
    check("answered with the rest", read_with(0x11, count));
    let outcome = device.take(ticket).expect("an outcome");
    assert_eq!(outcome.bytes(), Err(Errno::EIO));
}

/// Rule: ABI-2.6.
#[test]
fn each_state_has_its_bytes_in_the_bare_layout_with_counts() {
    let memory = Memory::new(QueueLayout::bare(2).bytes());
    let mut host = HostQueue::attach_bare_with_counts(memory.region()).expect("two slots");
    let device = DeviceQueue::attach_bare_with_counts(memory.region()).expect("two slots");
    assert!(host.carries_counts());
    each_state(&mut host, &device, |state, golden| {
        assert_eq!(memory.bytes::<32>(0), golden[..32], "{state}");
        assert_eq!(memory.bytes::<32>(32), [0; 32], "slot 1");
    });
}

/// Rule: ABI-2.8.
#[test]
#[rustfmt::skip]
fn the_header_has_its_bytes() {
    let layout = QueueLayout::with_slots(0x0102).with_id(0x8887_8685_8483_8281);
    let memory = Memory::new(layout.bytes());
    for word in 0..layout.bytes() / WORD {
        memory.store(word, 0xdead_beef);
    }
    let mut host = HostQueue::create(memory.region(), &layout).expect("a fit region");
    assert_eq!(memory.bytes::<64>(0), [
        b'V', b'Y', b'R', b'E',  b'I', b'O', b'Q', 0,      1, 0, 0, 0,  2, 0, 0, 0,
        64, 0, 0, 0,             0x02, 0x01, 0, 0,         0, 0x10, 0, 0,  0, 0, 0, 0,
        0x81, 0x82, 0x83, 0x84,  0x85, 0x86, 0x87, 0x88,  0, 0, 0, 0,  0, 0, 0, 0,
        0, 0, 0, 0,              0, 0, 0, 0,              0, 0, 0, 0,  0, 0, 0, 0,
    ]);
    assert!(
        (64..layout.bytes()).step_by(WORD).all(|byte| memory.load(byte / WORD) == 0),
        "the rest of the header and the slots are zero, whatever the memory held"
    );

    for (state, byte) in [
        (LoopState::Running, 1), (LoopState::Draining, 2), (LoopState::Stopped, 3),
        (LoopState::Failed, 4), (LoopState::Starting, 0),
    ] {
        host.set_state(state);
        assert_eq!(memory.bytes::<8>(64), [byte, 0, 0, 0, 0, 0, 0, 0], "{state:?}");
    }
    host.beat();
    host.beat();
    assert_eq!(memory.bytes::<8>(64), [0, 0, 0, 0, 2, 0, 0, 0], "heartbeat");
    assert_eq!(memory.bytes::<64>(128), [0; 64], "line 2 is the device's");
}

/// Rule: ABI-7.2.
#[test]
fn a_state_word_that_names_nothing_reads_as_failed() {
    for word in [5, 6, 0x100, u32::MAX] {
        assert_eq!(LoopState::from_word(word), LoopState::Failed);
    }
}

/// Integer constants of a module, listed by name.
macro_rules! constants {
    ($path:path, [$($name:ident),+ $(,)?]) => {{
        use $path as the;
        let constants: Numbers =
            [$((stringify!($name).to_owned(), u32::try_from(the::$name).expect("small"))),+]
                .into_iter()
                .collect();
        constants
    }};
}

#[test]
#[rustfmt::skip]
fn the_constants_have_the_golden_numbers() {
    assert_eq!(abi::MAGIC, golden::MAGIC);
    let sizes = constants!(vyre_ioq::abi, [
        SLOT_BYTES, BARE_SLOT_BYTES, HEADER_BYTES, HEADER_ALIGN, MAX_SLOTS, MAX_BARE_SLOTS,
        GROUP_SLOTS, ABI_MAJOR, ABI_MINOR,
    ]);
    assert_eq!(sizes, golden::section(""));
    let words = constants!(vyre_ioq::abi::word, [
        OP, SOURCE, DESTINATION, FILE_OFFSET_LOW, FILE_OFFSET_HIGH, COUNT, STATUS, TAG,
        BUFFER_OFFSET_LOW, BUFFER_OFFSET_HIGH, FLAGS, DEADLINE, RESERVED,
    ]);
    assert_eq!(words, golden::section("WORD_"));
    let header_words = constants!(vyre_ioq::abi::header_word, [
        MAGIC, MAJOR, MINOR, STRIDE, SLOTS, SLOTS_OFFSET, FEATURES, QUEUE_ID, STATE, HEARTBEAT,
        ASLEEP, WAKEUPS, DOORBELL, ARMED, IN_USE, END,
    ]);
    assert_eq!(header_words, golden::section("HEADER_WORD_"));
    let ops = constants!(vyre_ioq::abi::op, [READ, WRITE, FENCE, SYNC, PREFETCH, MAP]);
    assert_eq!(ops, golden::section("OP_"));
    let statuses =
        constants!(vyre_ioq::abi::status, [EMPTY, PUBLISHED, CLAIMED, OK, ERROR]);
    assert_eq!(statuses, golden::section("STATUS_"));
}

#[test]
fn the_types_have_the_golden_numbers() {
    let flags = Flags::all();
    let flags = flags.iter_names().map(|(name, flag)| (name, flag.bits()));
    assert_eq!(named(flags), golden::section("FLAG_"));
    let features = Features::all();
    let features = features.iter_names().map(|(name, bit)| (name, bit.bits()));
    assert_eq!(named(features), golden::section("FEATURE_"));
    let states = (0..=LoopState::Failed as u32).map(|word| {
        let state = LoopState::from_word(word);
        (format!("{state:?}").to_uppercase(), state as u32)
    });
    assert_eq!(named(states), golden::section("STATE_"));
    let errnos = (0..4096).map(Errno::from_raw);
    let errnos = errnos.filter_map(|errno| Some((errno.name()?, errno.raw())));
    assert_eq!(named(errnos), golden::section("ERRNO_"));
}

fn named<N: Into<String>>(pairs: impl IntoIterator<Item = (N, u32)>) -> Numbers {
    let pairs = pairs.into_iter();
    pairs.map(|(name, number)| (name.into(), number)).collect()
}

/// The list from which headers and documents come has each number of the golden one, and no other.
#[test]
fn the_tables_are_complete() {
    let mut listed = Numbers::new();
    for table in abi::TABLES {
        for row in table.rows {
            let name = format!("{}{}", table.prefix, row.name);
            assert!(listed.insert(name, row.value).is_none(), "{row:?} twice");
            assert!(!row.meaning.trim().is_empty(), "{row:?}");
        }
    }
    let [low, high] = golden::MAGIC;
    listed.insert("MAGIC_0".to_owned(), low);
    listed.insert("MAGIC_1".to_owned(), high);
    assert_eq!(listed, golden::all());
}
