//! The server's side of a connection, and the client's, one packet after the other.

mod golden;

use vyre_io_client::protocol::{
    Buffer, BufferIs, Call, CloseBuffer, CloseFile, CloseQueue, Code, Conversation, Done, Event,
    FileIs, Goodbye, Hello, Limits, List, Name, Open, Page, Queue, QueueIs, Refused, Reply,
    ReplyError, Request, Session, Status, feature,
};

fn limits() -> Limits {
    Limits {
        queues: 2,
        slots: 64,
        buffers: 2,
        open_files: 2,
        buffer_bytes: 3 * 4096,
        ..Limits::default()
    }
}

fn hello() -> Request {
    Hello {
        major: 1,
        ..Hello::default()
    }
    .into()
}

/// A session whose client was welcomed.
fn open() -> Session {
    let mut session = Session::new(limits());
    let event = session.receive(hello().encode(1).bytes(), false);
    assert!(matches!(event, Event::Call(Call::Hello(_))), "{event:?}");
    session.welcome(1, 0, 0);
    assert!(session.is_open());
    session
}

fn ask(session: &mut Session, request: impl Into<Request>) -> Event {
    session.receive(request.into().encode(5).bytes(), false)
}

/// Asks for something that the session must pass on.
fn call(session: &mut Session, request: impl Into<Request>) -> Call {
    match ask(session, request) {
        Event::Call(call) => call,
        other => panic!("{other:?}"),
    }
}

/// Asks for something that the session must refuse without an end.
fn refused(session: &mut Session, request: impl Into<Request>) -> Code {
    match ask(session, request) {
        Event::Answer(packet, refused) => {
            let (id, reply) = Reply::decode(packet.bytes()).expect("a message");
            assert_eq!((id, reply), (5, Reply::Refused(refused)));
            refused.cause()
        }
        other => panic!("{other:?}"),
    }
}

fn cut(event: Event) -> (u32, Code) {
    let Event::Cut(packet, refused) = event else {
        panic!("{event:?}");
    };
    let (id, reply) = Reply::decode(packet.bytes()).expect("a message");
    assert_eq!(reply, Reply::Refused(refused));
    assert!(refused.cause().cuts());
    (id, refused.cause())
}

fn queue(session: &mut Session, slots: u32) -> u32 {
    let asked = Queue { slots, features: 0 };
    let Call::Queue { queue, .. } = call(session, asked) else {
        panic!("another call");
    };
    let answer = QueueIs {
        queue,
        slots,
        bytes: 4096 + 64 * u64::from(slots),
        abi_major: 1,
        ..QueueIs::default()
    };
    session.answer(&answer.into());
    queue
}

fn buffer(session: &mut Session, queue: u32, bytes: u64, handle: u32) {
    call(session, Buffer { bytes, queue });
    session.answer(&BufferIs { bytes, handle }.into());
}

fn file(session: &mut Session, queue: u32, handle: u32) {
    let open = Open {
        queue,
        ..Open::default()
    };
    call(session, open);
    let answer = FileIs {
        handle,
        alignment: 1,
        ..FileIs::default()
    };
    session.answer(&answer.into());
}

/// Rule: HS-3.1.
#[test]
fn another_major_version_is_refused_with_ours_whatever_else_it_says() {
    for body in [&[2, 0][..], &[0, 0, 0, 0], &[2, 0, 1, 0, 0xff, 0xff, 0xff]] {
        let mut session = Session::new(limits());
        let mut packet = golden::bytes()[0].1[..16].to_vec();
        packet.extend_from_slice(body);
        packet[8] = packet.len() as u8;
        let Event::Cut(packet, refused) = session.receive(&packet, false) else {
            panic!("{body:?}");
        };
        let expected = (Code::Version, 1, 0);
        let found = (refused.cause(), refused.major, refused.minor);
        assert_eq!(found, expected);
        assert_eq!(packet.bytes()[12], 1, "the number of the request");
        assert!(session.is_ended());
    }
}

/// Rules: HS-4.4, HS-4.6.
#[test]
fn hello_comes_first_and_once() {
    for request in golden::requests().into_iter().skip(1) {
        let mut session = Session::new(limits());
        let event = session.receive(request.1.encode(3).bytes(), false);
        assert_eq!(cut(event), (3, Code::OutOfOrder));
    }
    let mut session = open();
    assert_eq!(cut(ask(&mut session, hello())), (5, Code::OutOfOrder));
    let mut session = Session::new(limits());
    call(&mut session, hello());
    assert_eq!(cut(ask(&mut session, hello())), (5, Code::OutOfOrder));
    assert_eq!(cut(ask(&mut session, hello())), (5, Code::OutOfOrder));
}

/// Rules: HS-1.3, HS-3.3, HS-4.1, HS-4.5.
#[test]
fn what_is_no_message_cuts_the_client_off_with_its_number_if_it_has_one() {
    let list = Request::from(List { cursor: 0 }).encode(9).bytes().to_vec();
    let mut reserved = list.clone();
    reserved[7] = 1;
    let mut reply = list.clone();
    reply[5] = 0x80;
    let mut magic = list.clone();
    magic[0] = 0;
    let unnumbered = Request::from(List { cursor: 0 }).encode(0);
    let cases: &[(&[u8], bool, u32)] = &[
        (&reserved, false, 9),
        (&reply, false, 9),
        (&list[..20], false, 9),
        (&list, true, 9),
        (&list[..15], false, 0),
        (&magic, false, 0),
        (&[], false, 0),
        (unnumbered.bytes(), false, 0),
    ];
    for &(packet, strange, id) in cases {
        let mut session = open();
        let event = session.receive(packet, strange);
        assert_eq!(cut(event), (id, Code::Malformed), "{packet:?}");
        assert!(session.is_ended() && session.refusals() == 1);
        let after = session.receive(&list, false);
        assert_eq!(cut(after).1, Code::OutOfOrder, "nothing follows");
    }
}

/// Rule: HS-3.3.
#[test]
fn a_request_of_a_later_version_is_refused_and_no_more() {
    let mut session = open();
    let mut later = Request::from(List { cursor: 0 }).encode(5).bytes().to_vec();
    later[4..6].copy_from_slice(&[0xff, 0x7f]);
    let Event::Answer(_, refused) = session.receive(&later, false) else {
        panic!("cut off");
    };
    assert_eq!(refused.cause(), Code::UnknownRequest);
    call(&mut session, List { cursor: 0 });
}

/// Rule: HS-4.3.
#[test]
fn one_request_is_served_at_a_time() {
    let mut session = open();
    call(&mut session, List { cursor: 0 });
    assert_eq!(refused(&mut session, Status { cursor: 0 }), Code::Busy);
    let page = Page::new(Vec::new(), 0).expect("empty");
    let answer = session.answer(&Reply::Files(page));
    assert!(matches!(
        Reply::decode(answer.bytes()),
        Ok((5, Reply::Files(_)))
    ));
    call(&mut session, Status { cursor: 0 });
}

/// Rules: HS-5.5, HS-5.8.
#[test]
fn queues_are_limited_and_their_numbers_are_never_used_again() {
    let mut session = open();
    for slots in [0, 65, u32::MAX] {
        let asked = Queue { slots, features: 0 };
        assert_eq!(refused(&mut session, asked), Code::BadSlots);
    }
    let (first, second) = (queue(&mut session, 1), queue(&mut session, 64));
    assert_ne!(first, second);
    let asked = Queue {
        slots: 1,
        features: 0,
    };
    assert_eq!(refused(&mut session, asked), Code::TooManyQueues);
    call(&mut session, CloseQueue { queue: first });
    session.answer(&Done {}.into());
    assert_eq!(session.queues(), 1);
    let third = queue(&mut session, 2);
    assert!(![first, second].contains(&third));
    assert_eq!(
        refused(&mut session, CloseQueue { queue: first }),
        Code::NoSuchQueue
    );
    assert_eq!(
        refused(&mut session, CloseQueue { queue: 0 }),
        Code::NoSuchQueue
    );
}

/// Rule: HS-5.8.
#[test]
fn buffers_are_limited_in_number_and_in_whole_pages() {
    let mut session = open();
    let none = Buffer { bytes: 1, queue: 1 };
    assert_eq!(refused(&mut session, none), Code::NoSuchQueue);
    let queue = queue(&mut session, 1);
    let empty = Buffer { bytes: 0, queue };
    assert_eq!(refused(&mut session, empty), Code::BadBytes);
    for bytes in [3 * 4096 + 1, u64::MAX, u64::MAX - 4096] {
        let asked = Buffer { bytes, queue };
        assert_eq!(refused(&mut session, asked), Code::TooManyBufferBytes);
    }
    buffer(&mut session, queue, 1, 10);
    assert_eq!((session.buffers(), session.buffer_bytes()), (1, 4096));
    let most = Buffer {
        bytes: 2 * 4096 + 1,
        queue,
    };
    assert_eq!(refused(&mut session, most), Code::TooManyBufferBytes);
    buffer(&mut session, queue, 2 * 4096, 11);
    let more = Buffer { bytes: 1, queue };
    assert_eq!(refused(&mut session, more), Code::TooManyBuffers);
    let close = CloseBuffer { queue, handle: 11 };
    call(&mut session, close);
    session.refuse(Refused::because(Code::StillInUse));
    assert_eq!(session.buffers(), 2, "it was not given back");
    call(&mut session, close);
    session.answer(&Done {}.into());
    assert_eq!((session.buffers(), session.buffer_bytes()), (1, 4096));
    assert_eq!(refused(&mut session, close), Code::NoSuchHandle);
    let other = CloseFile { queue, handle: 10 };
    assert_eq!(refused(&mut session, other), Code::NoSuchHandle, "a buffer");
}

/// Rules: HS-5.5, HS-5.8.
#[test]
fn handles_are_bound_to_their_queue_and_go_with_it() {
    let mut session = open();
    let (one, two) = (queue(&mut session, 1), queue(&mut session, 1));
    file(&mut session, one, 10);
    file(&mut session, two, 11);
    buffer(&mut session, one, 5000, 10);
    let open = Open {
        queue: one,
        ..Open::default()
    };
    assert_eq!(refused(&mut session, open), Code::TooManyFiles);
    for (queue, handle) in [(two, 10), (one, 11), (one, 12)] {
        let close = CloseFile { queue, handle };
        assert_eq!(refused(&mut session, close), Code::NoSuchHandle);
    }
    call(&mut session, CloseQueue { queue: one });
    session.answer(&Done {}.into());
    let left = (session.queues(), session.open_files(), session.buffers());
    assert_eq!(left, (1, 1, 0));
    assert_eq!(session.buffer_bytes(), 0);
    let close = CloseFile {
        queue: two,
        handle: 11,
    };
    call(&mut session, close);
    session.answer(&Done {}.into());
    assert_eq!(session.open_files(), 0);
}

#[test]
fn an_answer_that_does_not_fit_is_a_fault_of_the_server() {
    let mut session = open();
    call(&mut session, List { cursor: 0 });
    let answer = session.answer(&Done {}.into());
    let Ok((5, Reply::Refused(refused))) = Reply::decode(answer.bytes()) else {
        panic!("it was sent");
    };
    assert_eq!(refused.cause(), Code::Internal);
    call(&mut session, List { cursor: 0 });
}

/// Rules: HS-4.6, HS-4.7.
#[test]
fn goodbye_ends_the_session() {
    let mut session = open();
    call(&mut session, Goodbye {});
    session.answer(&Done {}.into());
    assert!(session.is_ended() && !session.is_open());
    let mut session = open();
    let note = session.note(Code::ShuttingDown);
    assert!(session.is_ended());
    let mut client = Conversation::new();
    client.ask(List { cursor: 0 }.into());
    let error = client.receive(note.bytes(), 0).expect_err("cut off");
    assert!(matches!(error, ReplyError::CutOff(why) if why.cause() == Code::ShuttingDown));
}

/// A client that has asked for something, and the number of its request.
fn asked(request: impl Into<Request>) -> (Conversation, u32) {
    let mut client = Conversation::new();
    client.hello(Name::default());
    let packet = client.ask(request.into());
    (client, u32::from(packet.bytes()[12]))
}

/// Rules: HS-1.2, HS-4.2, HS-5.2.
#[test]
fn a_client_takes_the_answer_to_its_request_and_no_other() {
    let queue_is = |slots, bytes, major| QueueIs {
        queue: 1,
        slots,
        bytes,
        features: 0,
        abi_major: major,
        abi_minor: 9,
    };
    let queue = Queue {
        slots: 4,
        features: 0,
    };
    let judge = |reply: Reply, add: u32, descriptors| {
        let (mut client, id) = asked(queue);
        client.receive(reply.encode(id + add).bytes(), descriptors)
    };
    let good = Reply::from(queue_is(4, 4096 + 256, 1));
    assert_eq!(judge(good.clone(), 0, 1), Ok(good.clone()));
    let error = judge(good.clone(), 1, 1);
    assert!(matches!(error, Err(ReplyError::WrongNumber { .. })));
    for descriptors in [0, 2] {
        let error = judge(good.clone(), 0, descriptors);
        assert!(matches!(error, Err(ReplyError::Descriptors { .. })));
    }
    let error = judge(Done {}.into(), 0, 0);
    assert!(matches!(error, Err(ReplyError::WrongKind { .. })));
    let error = judge(queue_is(4, 4096 + 256, 2).into(), 0, 1);
    assert!(matches!(error, Err(ReplyError::MajorVersion { .. })));
    for (slots, bytes) in [(5, 8192), (0, 8192), (4, 4096 + 255), (4, u64::MAX)] {
        let error = judge(queue_is(slots, bytes, 1).into(), 0, 1);
        assert!(
            matches!(error, Err(ReplyError::Impossible { .. })),
            "{slots} {bytes}"
        );
    }
    let error = judge(Refused::because(Code::BadSlots).into(), 0, 0);
    assert!(matches!(error, Err(ReplyError::Refused(why)) if why.cause() == Code::BadSlots));
    let error = Conversation::new().receive(good.encode(0).bytes(), 1);
    assert_eq!(error, Err(ReplyError::Unasked));
}

/// Rule: HS-5.4.
#[test]
fn a_client_refuses_files_and_pages_that_cannot_be() {
    let good = FileIs {
        handle: 1,
        rights: 1,
        start: 10,
        end: 20,
        length: 10,
        alignment: 512,
    };
    let judge = |rights, file: FileIs| {
        let open = Open {
            rights,
            ..Open::default()
        };
        let (mut client, id) = asked(open);
        client
            .receive(Reply::from(file).encode(id).bytes(), 0)
            .is_ok()
    };
    assert!(judge(0, good) && judge(1, good) && !judge(3, good));
    let bad = [
        FileIs { start: 21, ..good },
        FileIs { length: 11, ..good },
        FileIs {
            alignment: 0,
            ..good
        },
        FileIs {
            alignment: 3,
            ..good
        },
    ];
    assert!(bad.iter().all(|&file| !judge(0, file)));
    let page = |cursor, next| {
        let (mut client, id) = asked(List { cursor });
        let page = Reply::Files(Page::new(Vec::new(), next).expect("empty"));
        client.receive(page.encode(id).bytes(), 0).is_ok()
    };
    assert!(page(0, 0) && page(0, 1) && page(7, 9) && page(7, 0));
    assert!(!page(7, 7) && !page(7, 6), "a list that has no end");
}

/// Rule: HS-3.2.
#[test]
fn both_sides_understand_each_other() {
    let (mut client, mut server) = (Conversation::new(), Session::new(limits()));
    let packet = client.hello(Name::new("me").expect("short"));
    let Event::Call(Call::Hello(hello)) = server.receive(packet.bytes(), false) else {
        panic!("no call");
    };
    assert_eq!(hello.name.as_str(), "me");
    let answer = server.welcome(3, 9, feature::STATUS | 0x80);
    let reply = client.receive(answer.bytes(), 0).expect("welcome");
    let Reply::Welcome(welcome) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!((welcome.peer, welcome.files), (3, 9));
    assert_eq!(welcome.features, feature::STATUS, "only known features");
    assert_eq!((welcome.slots, welcome.buffer_bytes), (64, 3 * 4096));
}

/// Rule: HS-3.2.
#[test]
fn another_minor_version_and_unknown_features_are_ignored() {
    let mut session = Session::new(limits());
    let later = Hello {
        major: 1,
        minor: 77,
        features: u32::MAX,
        ..Hello::default()
    };
    call(&mut session, later);
    session.welcome(1, 0, 0);
    let asked = Queue {
        slots: 1,
        features: u32::MAX,
    };
    call(&mut session, asked);
}

/// Rules: HS-4.1, HS-4.2.
#[test]
fn a_client_numbers_its_requests_from_1() {
    let mut client = Conversation::new();
    for number in 1..4 {
        let packet = client.ask(List { cursor: 0 }.into());
        assert_eq!(
            packet.bytes()[12..],
            [number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }
}

/// Rule: HS-3.4.
#[test]
fn a_code_of_a_later_version_is_a_refusal() {
    let (mut client, id) = asked(List { cursor: 0 });
    let later = Refused {
        code: 999,
        ..Refused::default()
    };
    let error = client.receive(Reply::from(later).encode(id).bytes(), 0);
    assert!(matches!(error, Err(ReplyError::Refused(why)) if why.cause() == Code::Other(999)));
}

/// Rule: HS-4.6.
#[test]
fn a_refused_hello_ends_the_session_for_both_sides() {
    let (mut client, mut server) = (Conversation::new(), Session::new(limits()));
    let packet = client.hello(Name::default());
    let _call = server.receive(packet.bytes(), false);
    let answer = server.refuse(Refused::because(Code::NotPermitted));
    assert!(server.is_ended());
    let error = client.receive(answer.bytes(), 0).expect_err("refused");
    assert!(matches!(error, ReplyError::CutOff(why) if why.cause() == Code::NotPermitted));
    let next = Request::from(List { cursor: 0 }).encode(2);
    assert_eq!(cut(server.receive(next.bytes(), false)).1, Code::OutOfOrder);
}
