"""Forks, workers, and ends of the interpreter."""

import gc
import multiprocessing
import os
import resource

import pytest

import vyre_io


def read_words(file, count):
    buffer = bytearray(count)
    assert file.pread(buffer).result() == count
    return bytes(buffer)


def in_child(work):
    """Runs a function in a fork, and returns whether it returned True."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_works_in_a_fork_and_the_rest_raises(path, uncached):
    words = path.read_bytes()
    engine = vyre_io.Engine(depth=4)
    with vyre_io.File(path) as file, vyre_io.File(path, engine=engine) as other:
        uncached(path)
        assert read_words(file, 200_000) == words[:200_000]
        uncached(path)
        memory = engine.register(bytearray(100))
        pending = other.pread(bytearray(200_000))

        def work():
            uncached(path)
            assert read_words(file, 200_000) == words[:200_000]
            for use in [
                lambda: other.pwrite(b"x"),
                lambda: engine.submit([vyre_io.Read(other, bytearray(100_000))]),
                lambda: engine.transport,
                engine.close,
                lambda: engine.register(bytearray(8)),
                lambda: other.pread(memory),
                # It may have been done at the fork.
                lambda: pending.done() and 1 / 0,
                lambda: pending.result() and 1 / 0,
            ]:
                try:
                    use()
                except RuntimeError as error:
                    assert "forked" in str(error)
                except ZeroDivisionError:
                    pass
                else:
                    return False
            return True

        assert in_child(work)
        assert pending.result() == 200_000
        assert read_words(file, 100_000) == words[:100_000]
        memory.close()
    engine.close()


def test_views_raise_in_a_fork(path):
    view = vyre_io.host_view(path, "uint8", [100])

    def work():
        for use in [view.check, view.__dlpack__, lambda: view.part_of("uint8", [1], 0)]:
            try:
                use()
            except RuntimeError as error:
                assert "forked" in str(error)
            else:
                return False
        return vyre_io.host_view(path, "uint8", [100]).check() == "current"

    assert in_child(work)
    assert view.check() == "current"


def test_a_fork_beside_operations_in_flight_harms_neither(path, uncached):
    words = path.read_bytes()
    with vyre_io.File(path) as file:
        for _ in range(20):
            uncached(path)
            buffers = [bytearray(100_000) for _ in range(10)]
            futures = [file.pread(buffer) for buffer in buffers]

            def work():
                # What the child has of the parent's operations is dropped.
                futures.clear()
                gc.collect()
                return read_words(file, 150_000) == words[:150_000]

            assert in_child(work)
            assert [future.result() for future in futures] == [100_000] * 10
            assert all(buffer == words[:100_000] for buffer in buffers)


def worker(file):
    return read_words(file, 100_000)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_read_the_file(path, method):
    with vyre_io.File(path) as file:
        read_words(file, 10)
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(worker, [file] * 4) == [path.read_bytes()[:100_000]] * 4


IN_FLIGHT = """
import os, sys, vyre_io
path = sys.argv[1]
pipe, = [sys.argv[2]]
os.mkfifo(pipe)
writer = os.open(pipe, os.O_RDWR)
engine = vyre_io.Engine(depth=4, drain_timeout=0.2)
waiting = [vyre_io.File(pipe, engine=engine).pread(bytearray(100_000)) for _ in range(9)]
file = vyre_io.File(path, "r+")
written = file.pwrite(b"at the exit")
big = [file.pread(bytearray(1 << 20)) for _ in range(50)]
print("end")
"""


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "del engine, file, big; import gc; gc.collect()"])
def test_the_interpreter_ends_with_operations_in_flight(python, path, tmp_path, end):
    assert python(IN_FLIGHT + end, path, tmp_path / "pipe") == "end\n"
    assert path.read_bytes().startswith(b"at the exit")


def test_ctrl_c_in_a_batch_ends_the_program_in_order(path, tmp_path):
    program = (
        "import os, sys, signal, threading, vyre_io\n"
        "os.mkfifo(sys.argv[1]); writer = os.open(sys.argv[1], os.O_RDWR)\n"
        "engine = vyre_io.Engine(depth=4, drain_timeout=0.1)\n"
        "file = vyre_io.File(sys.argv[1], engine=engine)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "engine.submit([vyre_io.Read(file, bytearray(100_000)) for _ in range(10)]).result()\n"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "pipe")], capture_output=True, text=True, timeout=60
    )
    assert "KeyboardInterrupt" in done.stderr and done.returncode in (1, 130, -2), done


def test_more_files_than_the_loop_has_room_for(path):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4400
    if limit[1] != resource.RLIM_INFINITY and limit[1] < 3 * wanted:
        pytest.skip(f"the limit of descriptors is {limit[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (3 * wanted, limit[1]))
    try:
        files = [vyre_io.File(path, "r+") for _ in range(wanted)]
        for file in files:
            assert file.pwrite(b"word").result() == 4
        for file in files:
            file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_the_doctor_reports_the_transport(tmp_path):
    import subprocess
    import sys

    command = [sys.executable, "-m", "vyre_io", "doctor", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "engine " in done.stdout and "read back" in done.stdout
    done = subprocess.run([*command, "/proc"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "/proc: FAILED" in done.stdout
