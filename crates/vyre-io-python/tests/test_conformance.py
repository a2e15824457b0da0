"""The cases of the conformance run of hosts, from Python: the outcomes are those of the hosts in Rust, C and C++.

The lines and their meanings are in crates/vyre-io-capi/tests/conformance/README.md. What this package cannot say is skipped
line by line, by a list of reasons, whose counts are checked: nothing else is.
"""

import collections
import errno
import os
import pathlib
import re
import tempfile
import time

import pytest

import vyre_io

SUITE = pathlib.Path(__file__).parents[2] / "vyre-io-capi/tests/conformance"
pytestmark = pytest.mark.skipif(not SUITE.exists(), reason="the cases are in the repository, not in the package")

# The ways to make a request of the package.
# The lines that are compared.
COMPARED = 164

WAYS = ["pread", "Read", "Reads", "registered"]


class Skip(Exception):
    """The package cannot say what a line says."""


# The lines that are not compared, by the reason.
SKIPPED = {
    "a read without `exact` says how much there was": 1,
    "there are no counters": 5,
    "a file of Python has no part of its own": 13,
    "memory of Python may always be read": 1,
    "files of Python may be synced": 2,
    "there is no prefetch": 2,
    "handles are numbers there": 7,
    "files are opened by path and mode, and memory is a slice": 14,
    "nothing is revoked": 12,
    "there is no state of a loop to see": 8,
    "a second end does nothing": 3,
    "there are no deadlines": 1,
    "a queue is an engine here, and of one kind": 22,
    "the loop asks for what it needs": 1,
}


def pattern(seed, count):
    return bytes((seed + 31 * i + i // 256) % 256 for i in range(count))


def checksum(data):
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 % (1 << 32)
    return f"{value:08x}"


class Host:
    """All that a case has. Each queue is an engine."""

    def __init__(self, case, transport, way):
        self.transport, self.way = transport, way
        # The case ends engines with operations that never end.
        gives_up = any(re.match(r"abort|remove \d 0$|revoke \w+ 0$", line) for line in case)
        self.drain = 0.0 if gives_up else 5.0
        self.open_files, self.feeds, self.buffers = {}, {}, {}
        self.handles, self.windows = {}, {}
        self.depths, self.engines, self.ended = [], [], set()
        self.current = 0
        self.files, self.memory = {}, {}
        self.requests, self.on, self.skipped = {}, {}, {}
        self.has_stopped = False

    def close(self):
        for engine in self.engines:
            engine.close()
        for file in self.files.values():
            file.close()
        for descriptor in [*self.open_files.values(), *self.feeds.values()]:
            os.close(descriptor)

    def do(self, line):
        """Does what a line says. Returns what is to be printed."""
        command, *words = line.split()
        return getattr(self, "do_" + command)(*words)

    # ---- Files and buffers ----

    def made(self, name, descriptor, count):
        os.pwrite(descriptor, pattern(1, int(count)), 0)
        self.open_files[name] = descriptor

    def do_file(self, name, count):
        with tempfile.TemporaryFile() as file:
            self.made(name, os.dup(file.fileno()), count)

    def do_memfd(self, name, count):
        self.made(name, os.memfd_create("case"), count)

    def do_open(self, name, file, mode):
        flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "append": os.O_RDWR | os.O_APPEND, "path": os.O_PATH}[mode]
        self.open_files[name] = os.open(f"/proc/self/fd/{self.open_files[file]}", flags)

    def do_dir(self, name):
        self.open_files[name] = os.open(tempfile.gettempdir(), os.O_RDONLY)

    def do_pipe(self, name):
        self.open_files[name], self.feeds[name] = os.pipe()

    def do_feed(self, name, count):
        os.write(self.feeds[name], pattern(2, int(count)))

    def do_buffer(self, name, count):
        self.buffers[name] = bytearray(int(count))

    def do_insert(self, name, file, rights, start, end):
        descriptor = self.open_files[file]
        path = f"/proc/self/fd/{descriptor}"
        modes = {"r": "r", "rc": "r", "s": "r", "w": "w", "rw": "r+", "rws": "r+"}
        self.handles[name] = (path, modes[rights], rights)
        if file in ("wo", "ro", "app", "path") or name == "x" or os.path.isdir(path):
            raise Skip("files are opened by path and mode, and memory is a slice")
        if (start, end) != ("0", "-"):
            self.handles[name] = Skip("a file of Python has no part of its own")
            raise self.handles[name]
        return f"insert {name} OK"

    def do_window(self, name, buffer, start, end, rights):
        memory = memoryview(self.buffers[buffer])
        start, end = int(start), len(memory) if end == "-" else int(end)
        if start > end or end > len(memory):
            raise Skip("files are opened by path and mode, and memory is a slice")
        part = memory[start:end]
        self.windows[name] = (part if "w" in rights else part.toreadonly(), rights)
        return f"window {name} OK"

    def do_populate(self, name):
        with open(self.handles[name][0], "rb") as file:
            file.read()
        return f"populate {name} OK"

    def do_fill(self, buffer, start, count, seed):
        start, count = int(start), int(count)
        self.buffers[buffer][start : start + count] = pattern(int(seed), count)

    def do_sum(self, buffer, start, count):
        for skip in self.skipped.values():
            # Its bytes are not there.
            raise skip
        start = int(start)
        return "sum " + checksum(self.buffers[buffer][start : start + int(count)])

    def do_filesum(self, name):
        with open(f"/proc/self/fd/{self.open_files[name]}", "rb") as file:
            data = file.read()
        return f"filesum {len(data)} {checksum(data)}"

    # ---- Engines ----

    def do_queue(self, kind, slots):
        if kind not in ("own", "bell"):
            self.depths.append(Skip("a queue is an engine here, and of one kind"))
            raise self.depths[-1]
        if self.engine(int(slots)) is None:
            return "queue BAD_SLOT_COUNT"
        self.depths.append(int(slots))
        self.current = len(self.depths) - 1
        return "queue OK"

    def engine(self, depth):
        """Returns an engine, or None if there is none of that depth."""
        try:
            return vyre_io.Engine(depth=depth, transport=self.transport, drain_timeout=self.drain)
        except ValueError as error:
            assert "depth" in str(error)
            return None

    def do_start(self, *options):
        for option, value in zip(options, options[1:]):
            if option == "drain":
                self.drain = int(value) / 1000
            if option == "entries":
                raise Skip("the loop asks for what it needs")
        for depth in self.depths:
            if isinstance(depth, Skip):
                raise depth
        self.engines = [self.engine(depth) for depth in self.depths]
        return "start OK"

    def do_add(self, kind, slots):
        if kind != "own":
            raise Skip("a queue is an engine here, and of one kind")
        self.engines.append(self.engine(int(slots)))
        self.current = len(self.engines) - 1
        return f"add OK {self.current}"

    def do_use(self, number):
        self.current = int(number)

    def do_remove(self, number, _):
        if number in self.ended:
            raise Skip("a second end does nothing")
        self.ended.add(number)
        self.engines[int(number)].close()
        return f"remove {number} OK"

    def do_stop(self):
        if not self.engines and self.depths:
            raise Skip("a queue is an engine here, and of one kind")
        if self.has_stopped:
            raise Skip("a second end does nothing")
        self.has_stopped = True
        for engine in self.engines:
            engine.close()
        return "stop OK"

    def do_abort(self):
        return self.do_stop().replace("stop", "abort")

    def do_until(self, _):
        time.sleep(0.05)

    def do_loopof(self, _):
        raise Skip("a queue is an engine here, and of one kind")

    def do_counters(self):
        raise Skip("there are no counters")

    def do_state(self, *_):
        raise Skip("there is no state of a loop to see")

    def do_revoke(self, name, within):
        self.handles[name] = Skip("nothing is revoked")
        if within == "0":
            # What is in flight would be cancelled.
            self.skipped.update({tag: self.handles[name] for tag, on in self.on.items() if on == name})
        raise self.handles[name]

    def do_revokebuffer(self, name, _):
        self.windows[name] = Skip("nothing is revoked")
        raise self.windows[name]

    # ---- Requests ----

    def do_submit(self, tag, operation, *words):
        try:
            self.requests[tag] = self.begin(operation, *words)
            self.on[tag] = words[0] if words else None
        except Skip as skip:
            self.skipped[tag] = skip

    def begin(self, operation, *words):
        """Begins a request. Returns functions that wait: the result is that of the last one."""
        if operation == "fence":
            # It ends after all that were submitted before.
            return [wait for before in self.requests.values() for wait in before] + [lambda: 0]
        if operation == "prefetch":
            raise Skip("there is no prefetch")
        file = self.file(words[0])
        is_durable = operation == "sync" or "durable" in words
        if is_durable and "s" not in self.handles[words[0]][2]:
            raise Skip("files of Python may be synced")
        if operation == "sync":
            synced = file.sync()
            return [lambda: synced.result(30)]
        offset, count, window, place, *options = words[1:]
        memory = self.window(window, operation, options)
        at, size = int(place), int(count)
        try:
            wait = self.transfer(operation, file, memory, int(offset), size, at)
        except (ValueError, BufferError) as error:
            # The host finds that when it looks at the request, and these before.
            assert re.search("not inside the buffer|read-only", str(error)), error
            result = -errno.ERANGE if isinstance(error, ValueError) else -errno.EACCES
            return [lambda: result]
        return [lambda: wait() and file.sync().result(30), wait] if is_durable else [wait]

    def file(self, name):
        if name.startswith("#"):
            raise Skip("handles are numbers there")
        handle = self.handles[name]
        if isinstance(handle, Skip):
            raise handle
        if not self.engines:
            raise Skip("a queue is an engine here, and of one kind")
        key = (name, self.current)
        if key not in self.files:
            path, mode, _ = handle
            self.files[key] = vyre_io.File(path, mode, engine=self.engines[self.current])
        return self.files[key]

    def window(self, name, operation, options):
        if name.startswith("#") or "flag8" in options:
            raise Skip("handles are numbers there")
        if "deadline" in options:
            raise Skip("there are no deadlines")
        if "exact" in options and operation == "read":
            raise Skip("a read without `exact` says how much there was")
        window = self.windows[name]
        if isinstance(window, Skip):
            raise window
        memory, rights = window
        if operation == "write" and "r" not in rights:
            raise Skip("memory of Python may always be read")
        return memory

    def transfer(self, operation, file, memory, offset, size, at):
        """Begins a read or write in one of the ways. Returns the function that waits for its result."""
        is_read = operation == "read"
        if is_read and not os.path.isdir(file.name):
            # So that engines read, where the file system forgets pages.
            self.forget(file.name)
        if self.way == "pread":
            begin = file.pread if is_read else file.pwrite
            future = begin(memory, offset, size, at=at)
            return lambda: future.result(30)
        if self.way == "registered":
            memory = self.registered(memory)
        if self.way == "Reads":
            kind = vyre_io.Reads if is_read else vyre_io.Writes
            request = kind(file, memory, [offset], size, at=[at])
        else:
            kind = vyre_io.Read if is_read else vyre_io.Write
            request = kind(file, memory, offset, size, at=at)
        batch = self.engines[self.current].submit([request])
        return lambda: batch.counts(30)[0]

    def registered(self, memory):
        key = (id(memory), self.current)
        if key not in self.memory:
            self.memory[key] = self.engines[self.current].register(memory)
        return self.memory[key]

    def forget(self, path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if os.path.isfile(path):
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)

    def do_await(self, tag):
        if tag in self.skipped:
            raise self.skipped[tag]
        try:
            *_, result = [wait() for wait in self.requests[tag]]
        except OSError as error:
            result = -error.errno
        return f"{tag} ok {result}" if result >= 0 else f"{tag} errno {-result}"


def cases():
    """Returns the lines of each case, and those of its transcript."""

    def parts(name):
        lines = [line for line in (SUITE / name).read_text().splitlines() if line and not line.startswith("#")]
        starts = [at for at, line in enumerate(lines) if line.startswith("case ")] + [len(lines)]
        return {lines[start]: lines[start + 1 : end] for start, end in zip(starts, starts[1:])}

    asked, expected = parts("cases.txt"), parts("expected.txt")
    assert asked.keys() == expected.keys()
    return [(name, lines, expected[name]) for name, lines in asked.items()]


def is_as(said, expected):
    # What follows the result is the handle, or are counters.
    return expected == said or said.endswith("OK") and expected.startswith(said + " ")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("transport", ["ring", "threads"])
def test_outcomes_are_those_of_other_hosts(transport, way):
    try:
        vyre_io.Engine(transport=transport, depth=1).close()
    except OSError as error:
        pytest.skip(f"no {transport}: {error}")
    compared, skipped = 0, collections.Counter()
    for name, lines, expected in cases():
        left = iter(expected)
        host = Host(lines, transport, way)
        for line in lines:
            try:
                said = host.do(line)
            except Skip as skip:
                skipped[str(skip)] += 1
                next(left)
                continue
            if said is not None:
                wanted = next(left)
                assert is_as(said, wanted), f"{name}, {line}: {said} instead of {wanted}"
                compared += 1
        assert list(left) == [], name
        host.close()
    assert (compared, dict(skipped)) == (COMPARED, SKIPPED)
