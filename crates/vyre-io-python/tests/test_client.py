"""Clients of a server of files. The server here is written from docs/handshake.md and ABI.md alone, in Python."""

import fcntl
import mmap
import os
import socket
import struct
import threading
import time

import pytest

from vyre_io.client import Client

PAGE = 4096
REFUSED = 0x80FF
ALL = (1 << 64) - 1


def text(string, size=64):
    return string.encode().ljust(size, b"\0")


def memfd(size):
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return descriptor, mmap.mmap(descriptor, size)


class Server:
    """Serves one client at a time, one file, and the requests of one queue.

    The words are stored as the interpreter stores integers: whole, and in order on the processors of these tests.
    """

    def __init__(self, path, file, rights=3):
        self.file, self.rights = file, rights
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.bind(str(path))
        self.listening.listen()
        self.connection = None
        self.queue = None
        self.buffers = {}
        self.served = 0
        self.names = []
        self.stopped = threading.Event()
        self.serving = threading.Event()
        self.serving.set()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.loop = threading.Thread(target=self.serve_queue, daemon=True)
        self.loop.start()

    def run(self):
        try:
            self.connection, _ = self.listening.accept()
        except OSError:
            return
        while packet := self.receive():
            magic, kind, reserved, length, number = struct.unpack_from("<4sHHII", packet)
            assert (magic, reserved, length) == (b"VYHS", 0, len(packet))
            answer, body, descriptors = self.answer(kind, packet[16:])
            message = struct.pack("<4sHHII", b"VYHS", answer, 0, 16 + len(body), number) + body
            socket.send_fds(self.connection, [message], descriptors)
            for descriptor in descriptors:
                os.close(descriptor)

    def receive(self):
        try:
            return self.connection.recv(PAGE)
        except (AttributeError, OSError):
            return b""

    def answer(self, kind, body):
        if kind == 1:
            self.names.append(body[8:].rstrip(b"\0").decode())
            limits = (7, 4, 64, 4, 4, 1 << 30, 1000, ALL, ALL, 0xFFFFFFFF, 1)
            return 0x8001, struct.pack("<HHIQIIIIQQQQII", 1, 0, 0, *limits), []
        if kind == 2:
            entry = struct.pack("<QQII", 0, ALL, self.rights, 1) + text("data")
            return 0x8002, struct.pack("<QII", 0, 1, 88) + entry, []
        if kind == 3:
            slots, features = struct.unpack_from("<II", body)
            descriptor, self.queue = self.make_queue(slots, features)
            return 0x8003, struct.pack("<IIQIHH", 1, slots, PAGE + 64 * slots, features, 1, 2), [descriptor]
        if kind == 4:
            size, _ = struct.unpack_from("<QI", body)
            descriptor, self.buffers[9] = memfd(size)
            return 0x8004, struct.pack("<QI", size, 9), [descriptor]
        if kind == 5:
            queue, rights = struct.unpack_from("<II", body)
            assert queue == 1 and rights == 0
            if body[8:] != text("data"):
                return REFUSED, struct.pack("<IHH", 6, 1, 0) + text("no such file here", 240), []
            size = os.fstat(self.file).st_size
            return 0x8005, struct.pack("<IIQQQI", 5, self.rights, 0, ALL, size, 1), []
        if kind in (6, 10):
            return 0x8006, b"", []
        return REFUSED, struct.pack("<IHH", 4, 1, 0) + text("unknown", 240), []

    def make_queue(self, slots, features):
        descriptor, memory = memfd(PAGE + 64 * slots)
        # Without wake-ups: this host wakes nobody.
        struct.pack_into("<6I", memory, 8, 1, 2, 64, slots, PAGE, 0)
        struct.pack_into("<I", memory, 64, 1)
        memory[:8] = b"VYREIOQ\0"
        return descriptor, memory

    def serve_queue(self):
        beat = 0
        while not self.stopped.is_set():
            if self.queue is not None:
                beat += 1
                struct.pack_into("<I", self.queue, 68, beat)
                words = memoryview(self.queue).cast("I")
                for at in range(PAGE // 4, len(words), 16):
                    if words[at + 6] == 1 and self.serving.is_set():
                        self.serve_slot(words, at)
                words.release()
            time.sleep(0.0005)

    def serve_slot(self, words, at):
        op, source, destination, low, high, count = words[at : at + 6]
        place = words[at + 8] | words[at + 9] << 32
        offset = low | high << 32
        status = 0x10
        try:
            if op == 1 and (source, destination) == (5, 9):
                data = os.pread(self.file, count, offset)
                self.buffers[9][place : place + len(data)] = data
                words[at + 5] = len(data)
            elif op == 2 and (source, destination) == (9, 5) and self.rights & 2:
                words[at + 5] = os.pwrite(self.file, self.buffers[9][place : place + count], offset)
            elif op == 4 and destination == 5:
                os.fsync(self.file)
                words[at + 5] = 0
            else:
                words[at + 5], status = 13, 0x11
        except OSError as error:
            words[at + 5], status = error.errno, 0x11
        self.served += 1
        words[at + 6] = status

    def kill(self):
        """Does to the client what the kernel does when the process dies."""
        self.stopped.set()
        self.loop.join()
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self.listening.close()


@pytest.fixture
def serve(tmp_path):
    """Starts a server of a file of 3 MB, and returns it and the path of its socket."""
    path = tmp_path / "data"
    path.write_bytes(b"".join(at.to_bytes(4, "little") for at in range(750_000)))
    servers = []

    def start(rights=3):
        descriptor = os.open(path, os.O_RDWR)
        where = tmp_path / f"socket{len(servers)}"
        servers.append((Server(where, descriptor, rights), descriptor))
        return servers[-1][0], where

    yield start
    for server, descriptor in servers:
        server.kill()
        os.close(descriptor)


def test_reads_and_writes_reach_the_file(serve, tmp_path):
    server, where = serve()
    data = (tmp_path / "data").read_bytes()
    with Client(where, name="pytest") as client:
        assert server.names == ["pytest"]
        assert client.files() == [{"name": "data", "start": 0, "end": None, "rights": "rw", "alignment": 1}]
        assert client.limits["operations_per_second"] == 1000 and client.limits["bytes_per_second"] is None
        file = client.open("data")
        assert (file.name, file.size, file.rights, file.alignment) == ("data", len(data), "rw", 1)
        # More than the parts that are in flight at a time, and not a multiple of one.
        whole = file.pread(len(data) + 10)
        assert whole == data
        assert file.pread(10, len(data) - 3) == data[-3:] and file.pread(1, len(data)) == b""
        assert file.pread(0) == b""
        buffer = bytearray(5000)
        assert file.pread_into(buffer, 1234) == 5000 and buffer == data[1234:6234]
        assert file.pread_into(memoryview(buffer)[:7], len(data) - 2) == 2 and buffer[:2] == data[-2:]
        assert file.pwrite(b"x" * 600_000, 1) == 600_000
        file.sync()
        assert file.pread(600_002) == data[:1] + b"x" * 600_000 + data[600_001:600_002]
        assert not client.host_gone and not client.closed
        file.close()
    assert client.closed
    with pytest.raises(ValueError):
        client.files()
    assert (tmp_path / "data").read_bytes()[1:4] == b"xxx"


def test_what_is_refused_has_its_exception(serve, tmp_path):
    _, where = serve(rights=1)
    with pytest.raises(FileNotFoundError):
        Client(tmp_path / "nobody")
    with pytest.raises(ValueError):
        Client(where, name="a\nb")
    with Client(where) as client:
        with pytest.raises(FileNotFoundError, match="NO_SUCH_FILE: no such file here"):
            client.open("secrets")
        file = client.open("data")
        assert file.rights == "r"
        with pytest.raises(PermissionError):
            file.pwrite(b"x")
        with pytest.raises(BufferError):
            file.pread_into(b"read-only")
        assert file.pread(4, 4) == b"\1\0\0\0", "the client goes on"


def test_a_killed_server_ends_a_wait(serve):
    server, where = serve()
    client = Client(where, timeout=60)
    file = client.open("data")
    server.serving.clear()
    killer = threading.Timer(0.2, server.kill)
    killer.start()
    began = time.monotonic()
    with pytest.raises(ConnectionResetError, match="host gone"):
        file.pread(100)
    assert time.monotonic() - began < 30, "it ended with the server"
    assert client.host_gone
    with pytest.raises(ConnectionResetError):
        file.pread(100)
    client.close()
    killer.join()


def test_an_outcome_that_does_not_come_is_given_up_and_its_part_is_not_used_again(serve):
    server, where = serve()
    with Client(where, timeout=0.1) as client:
        file = client.open("data")
        server.serving.clear()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                file.pread(100)
        assert server.served == 0
        server.serving.set()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                assert file.pread(8, 4) == b"\1\0\0\0\2\0\0\0"
                break
            except TimeoutError:
                continue
        assert server.served == 2, "the first read's outcome was waited for"


def test_threads_take_turns(serve):
    _, where = serve()
    with Client(where) as client:
        file = client.open("data")
        wrong = []

        def read(first):
            for at in range(first, first + 40):
                if file.pread(4, 4 * at) != at.to_bytes(4, "little"):
                    wrong.append(at)

        threads = [threading.Thread(target=read, args=(1000 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_child_of_a_fork_has_no_client(serve):
    _, where = serve()
    with Client(where) as client:
        file = client.open("data")
        if (child := os.fork()) == 0:
            try:
                file.pread(1)
            except RuntimeError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert file.pread(4, 4) == b"\1\0\0\0"
