//! Properties of all messages, and of all bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use vyre_io_client::protocol::{
    Buffer, BufferIs, CloseBuffer, CloseFile, CloseQueue, Conversation, Event, FileEntry, FileIs,
    Hello, Limits, List, Name, Open, Page, PeerStatus, Queue, QueueIs, RefusalText, Refused, Reply,
    Request, Session, Status, Welcome,
};

fn name() -> impl Strategy<Value = Name> {
    "\\PC{0,70}".prop_map(|text| Name::shortened(&text))
}

fn request() -> impl Strategy<Value = Request> {
    let hello = (any::<(u16, u16, u32)>(), name());
    let hello = hello.prop_map(|((major, minor, features), name)| Hello {
        major,
        minor,
        features,
        name,
    });
    let open = (any::<(u32, u32)>(), name());
    let open = open.prop_map(|((queue, rights), name)| Open {
        queue,
        rights,
        name,
    });
    prop_oneof![
        hello.prop_map(Into::into),
        open.prop_map(Into::into),
        any::<u64>().prop_map(|cursor| List { cursor }.into()),
        any::<u64>().prop_map(|cursor| Status { cursor }.into()),
        any::<(u32, u32)>().prop_map(|(slots, features)| Queue { slots, features }.into()),
        any::<(u64, u32)>().prop_map(|(bytes, queue)| Buffer { bytes, queue }.into()),
        any::<(u32, u32)>().prop_map(|(queue, handle)| CloseFile { queue, handle }.into()),
        any::<(u32, u32)>().prop_map(|(queue, handle)| CloseBuffer { queue, handle }.into()),
        any::<u32>().prop_map(|queue| CloseQueue { queue }.into()),
    ]
}

fn welcome() -> impl Strategy<Value = Welcome> {
    any::<([u16; 2], [u32; 7], [u64; 5])>().prop_map(|(versions, words, wide)| Welcome {
        major: versions[0],
        minor: versions[1],
        features: words[0],
        peer: wide[0],
        queues: words[1],
        slots: words[2],
        buffers: words[3],
        open_files: words[4],
        buffer_bytes: wide[1],
        operations_per_second: wide[2],
        bytes_per_second: wide[3],
        bytes_in_flight: wide[4],
        operations_in_flight: words[5],
        files: words[6],
    })
}

fn entry() -> impl Strategy<Value = FileEntry> {
    let entry = (any::<([u64; 2], [u32; 2])>(), name());
    entry.prop_map(|(([start, end], [rights, alignment]), name)| FileEntry {
        start,
        end,
        rights,
        alignment,
        name,
    })
}

fn peer() -> impl Strategy<Value = PeerStatus> {
    let peer = (any::<([u64; 10], [u32; 6])>(), name());
    peer.prop_map(|((wide, words), name)| PeerStatus {
        peer: wide[0],
        connected_ms: wide[1],
        buffer_bytes: wide[2],
        claimed: wide[3],
        succeeded: wide[4],
        failed: wide[5],
        bytes_read: wide[6],
        bytes_written: wide[7],
        device_faults: wide[8],
        refusals: wide[9],
        pid: words[0],
        uid: words[1],
        queues: words[2],
        buffers: words[3],
        open_files: words[4],
        leaving: words[5],
        name,
    })
}

fn reply() -> impl Strategy<Value = Reply> {
    let page = |(next, entries)| Reply::Files(Page::new(entries, next).expect("at most 46"));
    let peers = |(next, entries)| Reply::StatusIs(Page::new(entries, next).expect("at most 24"));
    let queue = |(queue, slots, bytes, features, abi_major, abi_minor)| QueueIs {
        queue,
        slots,
        bytes,
        features,
        abi_major,
        abi_minor,
    };
    let file = |(handle, rights, start, end, length, alignment)| FileIs {
        handle,
        rights,
        start,
        end,
        length,
        alignment,
    };
    let refused = (any::<(u32, u16, u16)>(), "\\PC{0,250}");
    let refused = refused.prop_map(|((code, major, minor), text)| Refused {
        code,
        major,
        minor,
        text: RefusalText::shortened(&text),
    });
    prop_oneof![
        welcome().prop_map(Into::into),
        (any::<u64>(), vec(entry(), 0..=46)).prop_map(page),
        (any::<u64>(), vec(peer(), 0..=24)).prop_map(peers),
        any::<(u32, u32, u64, u32, u16, u16)>().prop_map(move |all| queue(all).into()),
        any::<(u64, u32)>().prop_map(|(bytes, handle)| BufferIs { bytes, handle }.into()),
        any::<(u32, u32, u64, u64, u64, u32)>().prop_map(move |all| file(all).into()),
        refused.prop_map(Into::into),
    ]
}

/// Bytes that are likely to be taken for a message.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    (
        any::<u8>(),
        any::<bool>(),
        0u32..4,
        vec(any::<u8>(), 0..300),
    )
        .prop_map(|(kind, answer, id, body)| {
            let mut packet = b"VYHS".to_vec();
            packet.extend_from_slice(&[kind % 12, if answer { 0x80 } else { 0 }, 0, 0]);
            packet.extend_from_slice(&(16 + body.len() as u32).to_le_bytes());
            packet.extend_from_slice(&id.to_le_bytes());
            packet.extend_from_slice(&body);
            packet
        })
}

proptest! {
    #[test]
    fn requests_survive_the_way(id in any::<u32>(), request in request()) {
        let packet = request.encode(id);
        prop_assert!(packet.bytes().len() <= 4096);
        prop_assert_eq!(Request::decode(packet.bytes()), Ok((id, request)));
    }

    #[test]
    fn replies_survive_the_way(id in any::<u32>(), reply in reply()) {
        let packet = reply.encode(id);
        prop_assert!(packet.bytes().len() <= 4096);
        prop_assert_eq!(Reply::decode(packet.bytes()), Ok((id, reply)));
    }

    /// A message that was decoded says all that the known fields said.
    #[test]
    fn no_bytes_make_either_side_panic(packet in prop_oneof![vec(any::<u8>(), 0..5000), nearly()]) {
        if let Ok((id, request)) = Request::decode(&packet) {
            let again = request.encode(id);
            prop_assert!(again.bytes().len() <= packet.len());
            prop_assert_eq!(Request::decode(again.bytes()), Ok((id, request)));
        }
        if let Ok((id, reply)) = Reply::decode(&packet) {
            let again = reply.encode(id);
            prop_assert_eq!(Reply::decode(again.bytes()), Ok((id, reply)));
        }
        let mut session = Session::new(Limits::default());
        match session.receive(&packet, false) {
            Event::Call(_) => prop_assert!(!session.is_ended()),
            Event::Answer(..) => prop_assert!(false, "a greeting is accepted or ends"),
            Event::Cut(..) => prop_assert!(session.is_ended()),
        }
        let mut client = Conversation::new();
        client.hello(Name::default());
        let _ = client.receive(&packet, 0);
    }
}
