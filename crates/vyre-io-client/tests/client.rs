//! The client against a server with a loop, and against servers that are dead, slow or hostile.

mod common;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, accept, bind, listen, socket};
use vyre_io_client::ioq::Errno;
use vyre_io_client::protocol::{
    Buffer, BufferIs, Code, Done, Limits, QueueIs, Refused, Reply, ReplyError, Request as Message,
    Session, rights,
};
use vyre_io_client::{Client, ClientError, Features, MemoryError, Request, WaitError};

use common::{FILE, contents, pair, receive, send, serve};

/// More than any test takes.
const LONG: Duration = Duration::from_secs(60);

fn client() -> (common::Server, Client) {
    let (server, socket) = serve(Limits::default());
    let client = Client::from_socket(socket, "test").expect("it is welcome");
    (server, client)
}

#[test]
fn a_client_reads_a_file_through_its_queue() {
    let (server, mut client) = client();
    assert_eq!(client.welcome().peer, 7);
    let files = client.files().expect("two pages");
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].name.as_str(), files[0].end), (FILE, 16_384));

    let queue = client.queue(8, Features::WAKE).expect("a queue");
    assert!(queue.device().features().contains(Features::WAKE));
    let buffer = client.buffer(&queue, 5000).expect("a buffer");
    assert_eq!(buffer.memory().len(), 5000);
    let file = client.open(&queue, FILE, 0).expect("a file");
    assert_eq!((file.answer().rights, file.answer().length), (1, 16_384));
    let mut read = Vec::new();
    while read.len() < 16_384 {
        let request = Request::read(file.handle(), read.len() as u64, 5000);
        let request = request.into_buffer(buffer.handle(), 0);
        let ticket = queue.device().submit(request).expect("a free slot");
        let outcome = queue.wait(ticket, LONG).expect("an outcome");
        let mut part = vec![0; outcome.bytes().unwrap_or(0) as usize];
        assert!(!part.is_empty(), "{outcome:?} after {} bytes", read.len());
        buffer.memory().read_at(0, &mut part).expect("inside");
        read.extend_from_slice(&part);
        if 16_384 - read.len() < 5000 {
            break;
        }
    }
    assert_eq!(read, contents()[..read.len()]);

    client.close_file(&file).expect("it is ours");
    let request = Request::read(file.handle(), 0, 1).into_buffer(buffer.handle(), 0);
    let ticket = queue.device().submit(request).expect("a free slot");
    let outcome = queue.wait(ticket, LONG).expect("an outcome");
    assert_eq!(outcome.result, Err(Errno::EBADF), "given back");
    client.close_buffer(&buffer).expect("it is ours");
    assert_eq!(client.status().expect("a page")[0].queues, 1);
    client.close_queue(&queue).expect("it is ours");
    assert!(queue.is_host_gone(), "the queue's header says so");
    client.goodbye().expect("in order");
    let session = server.join();
    let left = (session.queues(), session.buffers(), session.open_files());
    assert_eq!((left, session.refusals()), ((0, 0, 0), 0));
}

/// Rule: HS-5.7.
#[test]
fn a_refusal_says_why_and_the_connection_goes_on() {
    let (_server, mut client) = client();
    let queue = client.queue(4, Features::empty()).expect("a queue");
    let why = |error: ClientError| error.refusal().expect("a refusal");
    let refused = client.open(&queue, "secrets", 0).expect_err("no such file");
    assert!(refused.to_string().contains("NO_SUCH_FILE"), "{refused}");
    let refused = client.open(&queue, FILE, rights::WRITE);
    assert_eq!(why(refused.expect_err("read only")), Code::NotPermitted);
    let refused = client.buffer(&queue, 1 << 40).expect_err("too many bytes");
    assert_eq!(why(refused), Code::TooManyBufferBytes);
    let refused = client.queue(0, Features::empty()).expect_err("no slots");
    assert_eq!(why(refused), Code::BadSlots);
    assert!(matches!(
        client.open(&queue, "a\nb", 0),
        Err(ClientError::Name(_))
    ));
    assert_eq!(client.files().expect("it goes on").len(), 1);
}

#[test]
fn a_queue_of_another_connection_is_not_taken() {
    let ((_one, mut first), (_other, mut second)) = (client(), client());
    let queue = first.queue(1, Features::empty()).expect("a queue");
    assert!(matches!(
        second.buffer(&queue, 1),
        Err(ClientError::Foreign)
    ));
    assert!(matches!(
        second.close_queue(&queue),
        Err(ClientError::Foreign)
    ));
}

/// Rules: HS-5.6, SEC-19.
#[test]
fn a_handle_is_of_no_use_in_another_queue() {
    let (_server, mut client) = client();
    let [one, other] = [0; 2].map(|_| client.queue(1, Features::empty()).expect("a queue"));
    let buffers = [&one, &other].map(|queue| client.buffer(queue, 100).expect("a buffer"));
    let file = client.open(&one, FILE, 0).expect("a file");
    let read = |queue: &vyre_io_client::ClientQueue, buffer: &vyre_io_client::SharedBuffer| {
        let request = Request::read(file.handle(), 0, 100).into_buffer(buffer.handle(), 0);
        let ticket = queue.device().submit(request).expect("a free slot");
        queue.wait(ticket, LONG).expect("an outcome").result
    };
    assert_eq!(read(&one, &buffers[0]), Ok(100));
    assert_eq!(read(&one, &buffers[1]), Err(Errno::EBADF));
    assert_eq!(read(&other, &buffers[1]), Err(Errno::EBADF));
}

#[test]
fn nobody_at_the_path_is_an_error_that_names_it() {
    let error = Client::connect("/nonexistent/vyre.sock").expect_err("nobody is there");
    assert!(
        error.to_string().contains("/nonexistent/vyre.sock"),
        "{error}"
    );
    assert!(matches!(error, ClientError::Connect { .. }));
}

#[test]
fn a_client_connects_by_a_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let listening = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket");
    bind(&listening, &SocketAddrUnix::new(&path).expect("short")).expect("a free path");
    listen(&listening, 4).expect("it listens");
    let server = std::thread::spawn(move || {
        let ours = accept(&listening).expect("a client");
        let mut session = Session::new(Limits::default());
        let _call = session.receive(&receive(&ours).expect("HELLO"), false);
        send(&ours, session.welcome(9, 0, 0).bytes(), &[]);
    });
    let client = Client::connect(&path).expect("it is welcome");
    assert_eq!(client.welcome().peer, 9);
    server.join().expect("the server");
}

/// A server that greets, and answers the next request as it is told. It keeps the socket until the end of the test.
fn answering(
    answer: impl FnOnce(u32, BorrowedFd<'_>) + Send + 'static,
) -> (std::thread::JoinHandle<OwnedFd>, Client) {
    let (ours, theirs) = pair();
    let thread = std::thread::spawn(move || {
        let mut session = Session::new(Limits::default());
        let _call = session.receive(&receive(&ours).expect("HELLO"), false);
        send(&ours, session.welcome(1, 0, 0).bytes(), &[]);
        let packet = receive(&ours).expect("a request");
        let (id, _) = Message::decode(&packet).expect("a request");
        answer(id, ours.as_fd());
        ours
    });
    let client = Client::from_socket(theirs, "test").expect("it is welcome");
    (thread, client)
}

fn memfd(bytes: u64, seals: SealFlags) -> OwnedFd {
    let memfd = memfd_create("test", MemfdFlags::ALLOW_SEALING).expect("a memfd");
    ftruncate(&memfd, bytes).expect("its length");
    fcntl_add_seals(&memfd, seals).expect("its seals");
    memfd
}

fn queue_is(id: u32) -> Vec<u8> {
    let answer = QueueIs {
        queue: 1,
        slots: 4,
        bytes: 4096 + 256,
        features: 0,
        abi_major: 1,
        abi_minor: 0,
    };
    Reply::from(answer).encode(id).bytes().to_vec()
}

/// Rules: SEC-16, HS-5.1, HS-5.2, HS-8.2.
#[test]
fn memory_of_a_hostile_server_is_not_mapped_or_holds_no_queue() {
    let ask = |memfd: OwnedFd| {
        let (server, mut client) = answering(move |id, socket| {
            send(socket, &queue_is(id), &[memfd.as_fd()]);
        });
        let error = client.queue(4, Features::empty()).expect_err("refused");
        server.join().expect("the server");
        error
    };
    let error = ask(memfd(8192, SealFlags::GROW));
    assert!(
        matches!(error, ClientError::Memory(MemoryError::CanShrink)),
        "{error}"
    );
    let error = ask(memfd(4096, SealFlags::SHRINK));
    assert!(
        matches!(error, ClientError::Memory(MemoryError::WrongLength { .. })),
        "{error}"
    );
    let error = ask(memfd(8192, SealFlags::SHRINK));
    assert!(matches!(error, ClientError::Attach(_)), "no magic: {error}");
}

/// Rules: HS-1.2, HS-4.2.
#[test]
fn an_answer_out_of_step_breaks_the_connection() {
    let (server, mut client) = answering(|id, socket| {
        send(socket, &Reply::from(Done {}).encode(id).bytes()[..15], &[]);
    });
    assert!(matches!(
        client.files(),
        Err(ClientError::Protocol(ReplyError::Malformed(_)))
    ));
    assert!(matches!(client.files(), Err(ClientError::Broken)));
    server.join().expect("the server");
    // Descriptors where none belong, and more of them than there is room for.
    for count in [1, 8] {
        let (server, mut client) = answering(move |id, socket| {
            let fds = vec![socket; count];
            send(socket, Reply::from(Done {}).encode(id).bytes(), &fds);
        });
        assert!(
            matches!(client.files(), Err(ClientError::Protocol(_))),
            "{count}"
        );
        server.join().expect("the server");
    }
}

#[test]
fn a_server_that_cuts_the_client_off_is_heard() {
    let (ours, theirs) = pair();
    let note = Reply::from(Refused::because(Code::TooManyClients)).encode(0);
    send(&ours, note.bytes(), &[]);
    drop(ours);
    let error = Client::from_socket(theirs, "test").expect_err("not welcome");
    assert_eq!(error.refusal(), Some(Code::TooManyClients));
    let (ours, theirs) = pair();
    drop(ours);
    let error = Client::from_socket(theirs, "test").expect_err("nobody is there");
    assert!(matches!(error, ClientError::HostGone), "{error}");
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let (server, mut client) = answering(|_, _| {});
    let limit = Duration::from_millis(20);
    client.set_answer_limit(limit).expect("a limit");
    let error = client.files().expect_err("no answer");
    assert!(
        matches!(error, ClientError::TimedOut { limit: told } if told == limit),
        "{error}"
    );
    assert!(
        matches!(client.files(), Err(ClientError::Broken)),
        "its answer may still come"
    );
    server.join().expect("the server");
}

/// A server that makes a queue and serves nothing, as one does that was killed.
fn dead_queue() -> (OwnedFd, Client, vyre_io_client::ClientQueue) {
    let layout = vyre_io_client::ioq::QueueLayout::with_slots(4);
    let (host, memfd) = vyre_ioloop::shared_queue(layout).expect("memory");
    // The host end is not dropped, which would change nothing, but never runs.
    std::mem::forget(host);
    let (server, mut client) = answering(move |id, socket| {
        send(socket, &queue_is(id), &[memfd.as_fd()]);
    });
    let queue = client.queue(4, Features::empty()).expect("a queue");
    (server.join().expect("the server"), client, queue)
}

/// Rule: HS-7.1.
#[test]
fn a_wait_ends_when_the_server_is_killed() {
    let (server, client, queue) = dead_queue();
    let ticket = queue.device().submit(Request::fence()).expect("a slot");
    let short = Duration::from_millis(120);
    let error = queue.wait(ticket, short).expect_err("nobody serves");
    assert!(
        matches!(error, WaitError::TimedOut { limit, .. } if limit == short),
        "{error}"
    );
    assert!(!queue.is_host_gone() && !client.is_host_gone());
    let ticket = error.into_ticket();
    // What a kill does to the socket. The header of the queue stays as it is.
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(server);
    });
    let started = Instant::now();
    let error = queue.wait(ticket, LONG).expect_err("nobody serves");
    assert!(matches!(error, WaitError::HostGone(_)), "{error}");
    assert!(started.elapsed() < LONG / 2, "it ended with the server");
    assert!(queue.is_host_gone() && client.is_host_gone());
    killer.join().expect("the killer");
}

/// Rule: HS-5.3.
#[test]
fn buffer_bytes_that_were_not_asked_for_are_refused() {
    let memory = memfd(8192, SealFlags::SHRINK);
    let (ours, theirs) = pair();
    let (_server, mut client) = {
        let thread = std::thread::spawn(move || {
            let mut session = Session::new(Limits::default());
            let _call = session.receive(&receive(&ours).expect("HELLO"), false);
            send(&ours, session.welcome(1, 0, 0).bytes(), &[]);
            let layout = vyre_io_client::ioq::QueueLayout::with_slots(4);
            let (_host, queue) = vyre_ioloop::shared_queue(layout).expect("memory");
            let (id, _) = Message::decode(&receive(&ours).expect("QUEUE")).expect("QUEUE");
            send(&ours, &queue_is(id), &[queue.as_fd()]);
            let (id, asked) = Message::decode(&receive(&ours).expect("BUFFER")).expect("BUFFER");
            assert_eq!(
                asked,
                Buffer {
                    bytes: 100,
                    queue: 1
                }
                .into()
            );
            let answer = BufferIs {
                bytes: 8192,
                handle: 1,
            };
            send(
                &ours,
                Reply::from(answer).encode(id).bytes(),
                &[memory.as_fd()],
            );
            ours
        });
        (
            thread,
            Client::from_socket(theirs, "test").expect("welcome"),
        )
    };
    let queue = client.queue(4, Features::empty()).expect("a queue");
    let error = client.buffer(&queue, 100).expect_err("other bytes");
    assert!(
        matches!(error, ClientError::Protocol(ReplyError::Impossible { .. })),
        "{error}"
    );
}
