//! The bytes of each operation, word for word, and each rule of attaching.

use vyre_ioq::abi::{self, header_word, op, status};
use vyre_ioq::{HostQueue, QueueLayout};

use crate::driver::Driver;
use crate::memory::Shared;
use crate::rig::Rig;

const WORD: usize = size_of::<u32>();

/// Requests of every operation with every flag: as the protocol writes them, and as the words of a slot with a
/// header. A bare slot holds words 0 to 7.
#[rustfmt::skip]
fn requests() -> Vec<(String, [u32; 16])> {
    let mut all = Vec::new();
    // Distinct bytes, so that a word in the wrong place or half of one shows.
    let (file, buffer) = (0x0102_0304_u32, 0x1112_1314_u32);
    let (low, high) = (0x2122_2324_u32, 0x3132_3334_u32);
    let (count, tag) = (0x4142_4344_u32, 0x5152_5354_u32);
    let (at_low, at_high, deadline) = (0x6162_6364_u32, 0x7172_7374_u32, 0x8182_8384_u32);
    let long = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let (offset, at) = (long(low, high), long(at_low, at_high));
    let p = status::PUBLISHED;
    for flags in [0, 2] {
        all.push((
            format!("1 {file} {offset} {count} {buffer} {at} {flags} {deadline} {tag}"),
            [op::READ, file, buffer, low, high, count, p, tag, at_low, at_high, flags, deadline, 0, 0, 0, 0],
        ));
    }
    for flags in 0..4 {
        all.push((
            format!("2 {file} {offset} {count} {buffer} {at} {flags} {deadline} {tag}"),
            [op::WRITE, buffer, file, low, high, count, p, tag, at_low, at_high, flags, deadline, 0, 0, 0, 0],
        ));
    }
    all.push((
        format!("3 0 0 0 0 0 0 {deadline} {tag}"),
        [op::FENCE, 0, 0, 0, 0, 0, p, tag, 0, 0, 0, deadline, 0, 0, 0, 0],
    ));
    all.push((
        format!("4 {file} 0 0 0 0 0 {deadline} {tag}"),
        [op::SYNC, 0, file, 0, 0, 0, p, tag, 0, 0, 0, deadline, 0, 0, 0, 0],
    ));
    all.push((
        format!("5 {file} {offset} {count} 0 0 0 {deadline} {tag}"),
        [op::PREFETCH, 0, file, low, high, count, p, tag, 0, 0, 0, deadline, 0, 0, 0, 0],
    ));
    all.push((
        format!("6 {file} {offset} {count} 0 0 0 {deadline} {tag}"),
        [op::MAP, 0, file, low, high, count, p, tag, 0, 0, 0, deadline, 0, 0, 0, 0],
    ));
    let most = u32::MAX;
    all.push((
        format!("1 {most} {} {most} {most} {} 2 {most} {most}", u64::MAX, u64::MAX),
        [op::READ, most, most, most, most, most, p, most, most, most, 2, most, 0, 0, 0, 0],
    ));
    all.push(("1 0 0 0 0 0 0 0 0".into(), [op::READ, 0, 0, 0, 0, 0, p, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    all
}

/// Publishes each request in slot 1 of three, over the words of the previous one, by `reserve` and `publish` and
/// by `submit`. Slots 0 and 2 must not change.
fn each_request(driver: &mut Driver, rig: &mut Rig, check: impl Fn(&Rig, &[u32; 16], &str)) {
    driver.expect("reserve", "ok 0");
    let mut published = 0;
    for (request, words) in requests() {
        for submit in [false, true] {
            if submit {
                driver.expect(&format!("submit {request}"), "ok 1");
            } else {
                driver.expect("reserve", "ok 1");
                driver.expect(&format!("publish 1 {request}"), "ok");
            }
            check(rig, &words, &request);
            rig.serve(1, Ok(0));
            driver.expect("take 1", &format!("ok {} OK 0", words[abi::word::TAG]));
            published += 1;
        }
    }
    assert_eq!(published, 2 * requests().len());
}

pub(crate) fn words_of_each_operation(driver: &mut Driver) {
    let mut rig = Rig::headed(driver, 3);
    let header = rig.memory.words::<1024>(0);
    each_request(driver, &mut rig, |rig, words, request| {
        assert_eq!(&rig.words::<16>(1), words, "{request}");
        assert_eq!(rig.words::<16>(0), [0; 16], "slot 0 was only reserved");
        assert_eq!(rig.words::<16>(2), [0; 16], "slot 2 was not used");
        assert_eq!(
            rig.memory.words::<1024>(0),
            header,
            "the header is not the device's"
        );
    });
}

pub(crate) fn words_of_each_operation_bare(driver: &mut Driver) {
    // Not at the first byte: words before the queue are not the device's either.
    let mut rig = Rig::bare_with_counts(driver, 3, 64);
    each_request(driver, &mut rig, |rig, words, request| {
        assert_eq!(rig.words::<8>(1), words[..8], "{request}");
        assert_eq!(rig.words::<8>(0), [0; 8], "slot 0 was only reserved");
        assert_eq!(rig.words::<8>(2), [0; 8], "slot 2 was not used");
        assert_eq!(rig.memory.words::<16>(0), [0; 16], "before the queue");
    });
}

/// The driver's memory with a queue of two slots in it.
fn created(driver: &Driver) -> Shared {
    let memory = driver.fresh_memory();
    let layout = QueueLayout::with_slots(2).with_id(0x8182_8384_8586_8788);
    let region = memory.region(0, layout.bytes()).expect("aligned");
    drop(HostQueue::create(region, &layout).expect("a fit region"));
    memory
}

/// Returns the result of attaching when a header word holds `value`.
fn with_word(driver: &mut Driver, word: usize, value: u32) -> String {
    let memory = created(driver);
    memory.store(word, value);
    let before = memory.words::<2048>(0);
    let answer = driver.attach(0, 8192, "header");
    assert_eq!(memory.words::<2048>(0), before, "attaching stores nothing");
    answer
}

pub(crate) fn attach_rules_of_the_header(driver: &mut Driver) {
    created(driver);
    for offset in [1, 2, 3, 4, 64, 2048, 4092] {
        assert_eq!(driver.attach(offset, 4224, "header"), "err Misaligned");
    }
    for len in [0, 4, 4092, 4095, 4096, 4096 + 64, 4096 + 127] {
        assert_eq!(
            driver.attach(0, len, "header"),
            "err TooShort",
            "{len} bytes"
        );
    }
    assert!(driver.attach(0, 4096 + 128, "header").starts_with("ok 2 "));
    assert_eq!(
        driver.attach(4096, 8192, "header"),
        "err BadMagic",
        "no queue there"
    );

    let magic = abi::MAGIC;
    let rules: &[(usize, &[u32], &str)] = &[
        (0, &[0, magic[1], magic[0].swap_bytes()], "BadMagic"),
        (1, &[0, magic[0], magic[1] | 1 << 24], "BadMagic"),
        (header_word::MAJOR, &[0, 2, u32::MAX], "MajorVersion"),
        (
            header_word::STRIDE,
            &[0, 32, 63, 65, 128, u32::MAX],
            "BadStride",
        ),
        (
            header_word::SLOTS_OFFSET,
            &[0, 64, 4032, 4095, 4097, 4128, u32::MAX],
            "BadSlotsOffset",
        ),
        // So far away that its end does not fit 32 bits.
        (
            header_word::SLOTS_OFFSET,
            &[8192, 8128, 0x8000_0000, 0xffff_ffc0],
            "TooShort",
        ),
        (
            header_word::SLOTS,
            &[0, 4097, 0x0400_0000, 0x0400_0001, u32::MAX],
            "BadSlotCount",
        ),
        (header_word::SLOTS, &[65, 4096], "TooShort"),
    ];
    for (word, values, name) in rules {
        for &value in *values {
            let answer = with_word(driver, *word, value);
            assert_eq!(answer, format!("err {name}"), "word {word} is {value:#x}");
        }
    }
    for word in 10..16 {
        for value in [1, 0x8000_0000] {
            assert_eq!(
                with_word(driver, word, value),
                "err ReservedNotZero",
                "word {word}"
            );
        }
    }
}

pub(crate) fn attach_rules_of_the_bare_layout(driver: &mut Driver) {
    let memory = driver.fresh_memory();
    for offset in [1, 2, 3, 5, 4095] {
        assert_eq!(driver.attach(offset, 64, "bare"), "err Misaligned");
    }
    for len in [1, 4, 31, 33, 36, 63, 2047, 2049, 2052] {
        assert_eq!(
            driver.attach(0, len, "bare"),
            "err BareLength",
            "{len} bytes"
        );
    }
    for len in [0, 65 * 32, 128 * 32] {
        assert_eq!(
            driver.attach(0, len, "bare"),
            "err BadSlotCount",
            "{len} bytes"
        );
    }
    assert!(
        memory.words::<3072>(0) == [0; 3072],
        "attaching stores nothing"
    );
}

pub(crate) fn what_attach_takes_from_the_header(driver: &mut Driver) {
    let id = 0x8182_8384_8586_8788_u64;
    for (word, value, features) in [
        (header_word::FEATURES, 0, 0),
        (header_word::FEATURES, 1, 1),
        (header_word::FEATURES, u32::MAX, 3),
        (header_word::FEATURES, u32::MAX - 1, 2),
        (header_word::MINOR, 1, 0),
        (header_word::MINOR, u32::MAX, 0),
        // Not in line 0: nobody reads it.
        (20, u32::MAX, 0),
    ] {
        let answer = with_word(driver, word, value);
        assert_eq!(
            answer,
            format!("ok 2 {features} {id}"),
            "word {word} is {value:#x}"
        );
    }

    // Slots further on, and what the header says later moves nothing.
    let memory = created(driver);
    memory.store(header_word::SLOTS_OFFSET, 4096 + 192);
    let answer = driver.attach(0, 8192, "header");
    assert_eq!(answer, format!("ok 2 0 {id}"));
    for word in 0..1024 {
        memory.store(word, u32::MAX);
    }
    driver.expect("submit 3 0 0 0 0 0 0 0 7", "ok 0");
    let slots = (4096 + 192) / WORD;
    assert_eq!(memory.load(slots + abi::word::STATUS), status::PUBLISHED);
    assert_eq!(memory.load(slots + abi::word::TAG), 7);
    driver.expect("submit 3 0 0 0 0 0 0 0 8", "ok 1");
    assert_eq!(memory.load(slots + 16 + abi::word::TAG), 8);
    driver.expect("reserve", "err QueueFull");
}
