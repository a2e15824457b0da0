"""Code that the tests share."""

import ctypes
import fcntl
import os
import subprocess
import sys
import time

import pytest

import vyre_io


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="run many more rounds in test_flat.py")


@pytest.fixture
def path(tmp_path):
    """A file of 1 MiB and 5 bytes, each word of which says where it is."""
    path = tmp_path / "words"
    size = (1 << 20) + 5
    words = b"".join(at.to_bytes(8, "little") for at in range(0, size, 8))
    path.write_bytes(words[:size])
    return path


@pytest.fixture
def uncached():
    """Has a file's pages leave memory, so that the engine reads it."""

    def drop(path):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    return drop


@pytest.fixture(params=["ring", "threads"])
def engine(request):
    """An engine on each transport that there is."""
    try:
        engine = vyre_io.Engine(transport=request.param, depth=8)
    except OSError as error:
        pytest.skip(f"no {request.param}: {error}")
    with engine:
        yield engine


@pytest.fixture
def pipe(tmp_path, engine):
    """A file of an engine, whose reads wait until bytes are written to the pipe behind it."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
    with vyre_io.File(path, engine=engine) as file:
        yield file, writer
        # What still waits for bytes ends.
        os.write(writer, bytes(200_000))
        time.sleep(0.05)
    os.close(writer)


@pytest.fixture
def python():
    """Runs a program in an interpreter of its own, which must succeed, and returns what it printed."""

    def run(program, *arguments, **options):
        command = [sys.executable, "-X", "faulthandler", "-c", program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Error" not in done.stderr, done.stderr
        return done.stdout

    return run


def gpu():
    """Returns whether there is a GPU of CUDA."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


needs_gpu = pytest.mark.skipif(not gpu(), reason="there is no GPU")
