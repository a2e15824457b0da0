//! Each message has the bytes that were written by hand, and every rule of a message has an error of its own.

mod golden;

use std::collections::BTreeSet;

use vyre_io_client::protocol::{
    Code, DecodeError, FileEntry, Header, List, Name, Page, PeerStatus, Reply, Request, TextError,
    kind, spec,
};

/// Offsets of the fields of the header.
const KIND: usize = 4;
const RESERVED: usize = 6;
const LENGTH: usize = 8;
const BODY: usize = 16;

/// Sets the length in the header to that of the packet.
fn with_length(mut packet: Vec<u8>) -> Vec<u8> {
    let length = packet.len() as u32;
    packet[LENGTH..LENGTH + 4].copy_from_slice(&length.to_le_bytes());
    packet
}

fn golden(name: &str) -> Vec<u8> {
    let all = golden::bytes();
    let (_, bytes) = all.iter().find(|(found, _)| *found == name).expect(name);
    bytes.clone()
}

/// Rules: HS-2.1, HS-2.2.
#[test]
fn every_message_has_its_golden_bytes_in_both_directions() {
    let golden = golden::bytes();
    let mut written = Vec::new();
    for (id, request) in golden::requests() {
        let packet = request.encode(id);
        assert_eq!(Request::decode(packet.bytes()), Ok((id, request.clone())));
        written.push((request.kind(), packet));
    }
    for (id, reply) in golden::replies() {
        let packet = reply.encode(id);
        assert_eq!(Reply::decode(packet.bytes()), Ok((id, reply.clone())));
        written.push((reply.kind(), packet));
    }
    assert_eq!(written.len(), golden.len());
    for ((kind, packet), (name, bytes)) in written.iter().zip(&golden) {
        assert_eq!(packet.bytes(), bytes, "{name}");
        let row = kinds().find(|row| row.name == *name).expect(name);
        assert_eq!(row.value, u32::from(*kind), "{name}");
    }
    let names: BTreeSet<_> = golden.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, kinds().map(|row| row.name).collect(), "every kind");
}

fn kinds() -> impl Iterator<Item = &'static spec::Row> {
    let table = spec::TABLES.iter().find(|table| table.prefix == "KIND_");
    table.expect("the kinds").rows.iter()
}

/// Rule: HS-2.1.
#[test]
fn the_bodies_of_the_specification_have_no_gaps() {
    for body in spec::BODIES {
        let sum: usize = body.fields.iter().map(|field| field.bytes).sum();
        assert_eq!(sum, body.bytes, "{}", body.name);
        let mut at = 0;
        for field in body.fields {
            let align = if field.kind == "text" { 1 } else { field.bytes };
            assert_eq!(at % align, 0, "{}: {}", body.name, field.name);
            at += field.bytes;
        }
    }
}

/// Rules: HS-1.1, HS-2.3.
#[test]
fn each_rule_of_the_header_has_its_error() {
    let list = golden("LIST");
    let broken = |at: usize, value: u8| {
        let mut packet = list.clone();
        packet[at] ^= value;
        Header::split(&packet).expect_err("broken")
    };
    let found = 0x5348_5956 ^ 0xff;
    assert_eq!(broken(0, 0xff), DecodeError::BadMagic { found });
    let found = 0x100;
    assert_eq!(
        broken(RESERVED + 1, 1),
        DecodeError::ReservedNotZero { found }
    );
    let (said, have) = (25, 24);
    assert_eq!(broken(LENGTH, 1), DecodeError::BadLength { said, have });
    for have in 0..BODY {
        let short = Header::split(&list[..have]);
        assert_eq!(short, Err(DecodeError::TooShort { have }));
    }
    let long = with_length([list.as_slice(), &[0; 4073]].concat());
    assert_eq!(long.len(), 4097);
    assert_eq!(Header::split(&long), Err(DecodeError::TooLong));
    assert!(Header::split(&with_length(long[..4096].to_vec())).is_ok());
}

/// Rule: HS-3.3.
#[test]
fn a_side_does_not_take_its_own_messages() {
    for (id, request) in golden::requests() {
        let kind = request.kind();
        let error = Reply::decode(request.encode(id).bytes());
        assert_eq!(error, Err(DecodeError::UnknownKind { kind }));
    }
    for (id, reply) in golden::replies() {
        let kind = reply.kind();
        let error = Request::decode(reply.encode(id).bytes());
        assert_eq!(error, Err(DecodeError::UnknownKind { kind }));
    }
}

/// A later minor version appends fields.
///
/// Rules: HS-2.4, HS-2.6.
#[test]
fn bytes_behind_the_known_fields_are_ignored() {
    for (name, bytes) in golden::bytes() {
        let longer = with_length([bytes.as_slice(), &[7; 9]].concat());
        match name {
            // The entries are the last bytes: what is new stands before them, and behind the fields of each.
            "FILES" | "STATUS_IS" => continue,
            _ if kinds().any(|row| row.name == name && row.value & 0x8000 == 0) => {
                assert_eq!(Request::decode(&longer), Request::decode(&bytes), "{name}");
            }
            _ => assert_eq!(Reply::decode(&longer), Reply::decode(&bytes), "{name}"),
        }
    }
    let files = golden("FILES");
    let (head, entries) = files.split_at(BODY + 16);
    let mut longer = [head, &[9; 5]].concat();
    for entry in entries.chunks(88) {
        longer.extend_from_slice(entry);
        longer.extend_from_slice(&[8; 8]);
    }
    longer[BODY + 12] = 96;
    let longer = with_length(longer);
    assert_eq!(Reply::decode(&longer), Reply::decode(&files));
}

/// Rule: HS-2.4.
#[test]
fn a_body_that_is_too_short_is_refused() {
    for (name, bytes) in golden::bytes() {
        let request = kinds().any(|row| row.name == name && row.value & 0x8000 == 0);
        for have in BODY..bytes.len() {
            let short = with_length(bytes[..have].to_vec());
            let error = if request {
                Request::decode(&short).expect_err(name)
            } else {
                Reply::decode(&short).expect_err(name)
            };
            let expected = matches!(
                error,
                DecodeError::BodyTooShort { .. } | DecodeError::BadEntries { .. }
            );
            assert!(expected, "{name} of {have} bytes: {error}");
        }
    }
}

/// Rule: HS-2.6.
#[test]
fn entries_that_do_not_fit_are_refused() {
    let files = golden("FILES");
    let bad = |count: u32, entry_bytes: u32| {
        let mut packet = files.clone();
        packet[BODY + 8..BODY + 12].copy_from_slice(&count.to_le_bytes());
        packet[BODY + 12..BODY + 16].copy_from_slice(&entry_bytes.to_le_bytes());
        Reply::decode(&packet)
    };
    for (count, entry_bytes) in [
        (3, 88),
        (2, 89),
        (2, 87),
        (1, 0),
        (u32::MAX, u32::MAX),
        (u32::MAX, 88),
        (1, u32::MAX),
    ] {
        let expected = DecodeError::BadEntries {
            name: "FILES",
            count,
            entry_bytes,
        };
        assert_eq!(bad(count, entry_bytes), Err(expected));
    }
    assert!(bad(2, 88).is_ok() && bad(1, 88).is_ok() && bad(0, 0).is_ok());
}

#[test]
fn the_longest_page_fits_a_message() {
    assert_eq!(
        (Page::<FileEntry>::MOST, Page::<PeerStatus>::MOST),
        (46, 24)
    );
    let page = |count| Page::new(vec![FileEntry::default(); count], 1);
    let packet = Reply::Files(page(46).expect("they fit")).encode(1);
    assert!(packet.bytes().len() <= 4096);
    assert!(Reply::decode(packet.bytes()).is_ok());
    assert_eq!(page(47).expect_err("too many").most, 46);
    let page = Page::new(vec![PeerStatus::default(); 24], 1);
    let packet = Reply::StatusIs(page.expect("they fit")).encode(1);
    assert!(packet.bytes().len() <= 4096);
}

/// Rule: HS-2.5.
#[test]
fn a_field_that_is_no_text_is_refused() {
    let hello = golden("HELLO");
    let with_name = |bytes: &[u8]| {
        let mut packet = hello.clone();
        packet[BODY + 8..].fill(0);
        packet[BODY + 8..BODY + 8 + bytes.len()].copy_from_slice(bytes);
        Request::decode(&packet)
    };
    let expected = DecodeError::BadText {
        name: "HELLO",
        field: "name",
    };
    // A line break, the C1 control NEL, DEL, a lone continuation byte, a text after the end.
    for bad in [b"a\nb".as_slice(), b"\xc2\x85", b"\x7f", b"\x80", b"a\0b"] {
        assert_eq!(with_name(bad), Err(expected), "{bad:?}");
    }
    assert!(with_name(&[b'x'; 64]).is_ok() && with_name(b"").is_ok());
    assert!(with_name("größe".as_bytes()).is_ok());
}

#[test]
fn a_text_is_shortened_between_characters() {
    let long = "ä".repeat(40);
    let (len, most) = (80, 64);
    assert_eq!(Name::new(&long), Err(TextError::TooLong { len, most }));
    assert_eq!(Name::shortened(&long).as_str(), "ä".repeat(32));
    assert_eq!(Name::shortened(&format!("x{long}")).as_str().len(), 63);
    assert_eq!(Name::new("a\0b"), Err(TextError::Control { at: 1 }));
    assert_eq!(Name::shortened("a\0b\u{85}").as_str(), "a?b?");
    assert!(Name::default().is_empty());
}

#[test]
fn every_code_has_a_number_a_name_and_an_explanation_that_fits() {
    let table = spec::TABLES.iter().find(|table| table.prefix == "CODE_");
    let rows = table.expect("the codes").rows;
    assert_eq!(rows.len(), Code::ALL.len());
    for (row, &code) in rows.iter().zip(Code::ALL) {
        assert_eq!((row.value, row.name), (code.raw(), code.name()));
        assert_eq!(Code::from_raw(row.value), code);
        assert_eq!(row.cells == "yes", code.cuts(), "{code}");
        assert!(code.explanation().len() <= 240, "{code}");
    }
    assert_eq!(Code::from_raw(99), Code::Other(99));
    assert_eq!(Code::from_raw(99).raw(), 99);
}

#[test]
fn the_kinds_of_answers_have_a_bit() {
    for (_, request) in golden::requests() {
        assert_eq!(request.kind() & 0x8000, 0);
        assert_eq!(request.reply_kind() & 0x8000, 0x8000);
    }
    assert_eq!(Request::from(List { cursor: 0 }).reply_kind(), kind::FILES);
    assert_eq!(golden("LIST")[KIND], 2);
}
