"""Buffers of GPUs: with a stand-in for the driver, whose memory of a GPU is the host's, and on a GPU where there is one."""

import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

import vyre_io
from conftest import needs_gpu

DRIVER = pathlib.Path(__file__).parents[2] / "vyre-ioq-cuda" / "tests" / "driver" / "cuda.c"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """Runs a program in an interpreter of its own, which finds the stand-in first."""
    if not DRIVER.exists() or shutil.which("cc") is None:
        pytest.skip("there is no C compiler, or no source of the stand-in")
    home = tmp_path_factory.mktemp("driver")
    flags = ["-std=c11", "-O1", "-D_GNU_SOURCE", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", home / "libcuda.so.1", DRIVER], check=True)
    shutil.copy(home / "libcuda.so.1", home / "libcuda.so")
    return {**os.environ, "LD_LIBRARY_PATH": str(home), "FAKE_CUDA_LENT": "1"}


COMMON = """
import gc, os, sys, weakref
import numpy as np
import vyre_io

class OnGpu:
    def __init__(self, array, read_only=False, strides=None):
        self.array, self.read_only, self.strides = array, read_only, strides

    @property
    def __cuda_array_interface__(self):
        address = self.array.__array_interface__["data"][0]
        return {"version": 3, "shape": self.array.shape, "typestr": self.array.dtype.str, "data": (address, self.read_only),
                "strides": self.strides, "stream": None}

path = sys.argv[1]
contents = open(path, "rb").read()
"""


def test_every_byte_is_read_and_written(path, python, stand_in):
    program = COMMON + """
with vyre_io.File(path) as file:
    for size, offset, at in [(len(contents), 0, 0), (1000, 77, 5), (1, 0, 3), (0, 9, 0), (40 << 20, 0, 0), (100, len(contents) - 7, 0)]:
        array = np.full(at + size + 9, 0xEE, dtype=np.uint8)
        count = file.pread(OnGpu(array), offset, size, at=at).result(20)
        assert count == max(0, min(size, len(contents) - offset)), (size, count)
        assert bytes(array[at : at + count]) == contents[offset : offset + count]
        assert (array[:at] == 0xEE).all() and (array[at + count :] == 0xEE).all()
with vyre_io.File(path + ".copy", "w+") as file:
    array = np.frombuffer(contents, dtype=np.uint8).copy()
    assert file.pwrite(OnGpu(array)).result(20) == len(contents)
    assert file.pwrite(OnGpu(array, read_only=True), 3, 100, at=200).result(20) == 100
written = open(path + ".copy", "rb").read()
assert written == contents[:3] + contents[200:300] + contents[103:]
print("done")
"""
    assert python(program, path, env=stand_in) == "done\n"


def test_what_is_no_buffer_of_a_gpu_is_refused(path, python, stand_in):
    program = COMMON + """
def refused(kind, *arguments, mode="pread", **options):
    try:
        getattr(file, mode)(*arguments, **options)
    except kind as error:
        return str(error)
    raise AssertionError(f"not refused: {arguments} {options}")

with vyre_io.File(path, "r+") as file:
    array = np.zeros((10, 10), dtype=np.float32)
    assert "read-only" in refused(BufferError, OnGpu(array, read_only=True))
    assert "contiguous" in refused(BufferError, OnGpu(array, strides=(4, 40)))
    file.pread(OnGpu(array, strides=(40, 4))).result(20)
    assert "inside" in refused(ValueError, OnGpu(array), 0, 401)
    assert "inside" in refused(ValueError, OnGpu(array), 0, None, at=401)
    refused(TypeError, object())
    future = file.pread(OnGpu(array), 2**63)
    try:
        future.result(20)
        raise AssertionError("no file is that long")
    except OSError as error:
        assert error.errno == 22 and error.filename == path
with vyre_io.File(path) as file:
    try:
        file.pwrite(OnGpu(array)).result(20)
        raise AssertionError("it is open for reading")
    except OSError as error:
        assert error.errno == 9 and error.filename == path
print("done")
"""
    assert python(program, path, env=stand_in) == "done\n"


def test_a_batch_has_buffers_of_both_kinds(path, python, stand_in):
    program = COMMON + """
import asyncio
parts = [np.zeros(1000, dtype=np.uint8) for _ in range(64)]
with vyre_io.Engine(depth=8) as engine, vyre_io.File(path) as file:
    reads = [vyre_io.Read(file, OnGpu(part) if at % 2 else part, 1000 * at) for at, part in enumerate(parts)]
    assert engine.submit(reads).result(20) == [1000] * 64
    assert b"".join(map(bytes, parts)) == contents[:64000]
    async def read():
        array = np.zeros(500, dtype=np.uint8)
        assert await file.pread(OnGpu(array), 50) == 500
        return bytes(array)
    async def all():
        return await asyncio.gather(*(read() for _ in range(20)))
    assert set(asyncio.run(all())) == {contents[50:550]}
print("done")
"""
    assert python(program, path, env=stand_in) == "done\n"


def test_a_buffer_is_kept_until_its_operation_has_ended_and_then_given_back(path, python, stand_in):
    program = COMMON + """
import time
with vyre_io.File(path) as file:
    kept = []
    for turn in range(500):
        buffer = OnGpu(np.zeros(100_000, dtype=np.uint8))
        kept.append(weakref.ref(buffer))
        future = file.pread(buffer, turn)
        if turn % 2:
            future.cancel()
        del buffer, future
    until = time.monotonic() + 20
    while any(ref() is not None for ref in kept):
        assert time.monotonic() < until, sum(ref() is not None for ref in kept)
        file.pread(bytearray(1)).result()
        gc.collect()
        time.sleep(0.001)
# The interpreter ends with operations in flight.
file = vyre_io.File(path)
futures = [file.pread(OnGpu(np.zeros(100_000, dtype=np.uint8))) for _ in range(50)]
print("done")
"""
    assert python(program, path, env=stand_in) == "done\n"


def test_a_fork_has_none_of_the_threads(path, python, stand_in):
    program = COMMON + """
with vyre_io.File(path) as file:
    array = np.zeros(1000, dtype=np.uint8)
    assert file.pread(OnGpu(array)).result(20) == 1000
    child = os.fork()
    if child == 0:
        array[:] = 0
        assert file.pread(OnGpu(array), 5).result(20) == 1000
        os._exit(0 if bytes(array) == contents[5:1005] else 1)
    assert os.waitpid(child, 0)[1] == 0
print("done")
"""
    assert python(program, path, env=stand_in) == "done\n"


def test_an_array_of_the_host_comes_by_dlpack(path):
    class OnlyDlpack:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    array = np.zeros((4, 250), dtype=np.float32)
    with vyre_io.File(path, "r+") as file:
        assert file.pread(OnlyDlpack(array), 8).result() == 4000
        assert array.tobytes() == path.read_bytes()[8:4008]
        with pytest.raises(BufferError, match="contiguous"):
            file.pread(OnlyDlpack(array.T))
        read_only = np.zeros(10)
        read_only.flags.writeable = False
        with pytest.raises(BufferError, match="read-only"):
            file.pread(OnlyDlpack(read_only))
        assert file.pwrite(OnlyDlpack(array), 100).result() == 4000
    assert path.read_bytes()[100:4100] == array.tobytes()


@needs_gpu
@pytest.mark.parametrize("size", [1, 4096, 1_000_003, 50 << 20])
def test_a_gpu_reads_and_writes(tmp_path, size):
    torch = pytest.importorskip("torch")
    contents = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    source = tmp_path / "source"
    contents.tofile(source)
    tensor = torch.zeros(size + 3, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    with vyre_io.File(source) as file, vyre_io.File(tmp_path / "copy", "w+") as copy:
        assert file.pread(tensor, 0, size, at=3).result() == size
        assert np.array_equal(tensor.cpu().numpy(), np.concatenate([np.zeros(3, np.uint8), contents]))
        assert copy.pwrite(tensor, 5, size, at=3).result() == size
    assert np.array_equal(np.fromfile(tmp_path / "copy", dtype=np.uint8)[5:], contents)
    cupy = pytest.importorskip("cupy")
    array = cupy.zeros(size, cupy.uint8)
    cupy.cuda.get_current_stream().synchronize()
    with vyre_io.File(source) as file:
        assert file.pread(array).result() == size
    assert np.array_equal(array.get(), contents)


@needs_gpu
def test_rows_are_gathered_to_a_gpu(tmp_path):
    torch = pytest.importorskip("torch")
    table = np.arange(1000 * 64, dtype=np.float32).reshape(1000, 64)
    table.tofile(tmp_path / "table")
    ids = torch.randint(1000, (5000,))
    with vyre_io.File(tmp_path / "table") as file:
        rows = vyre_io.gather(file, ids, 256, device="cuda")
        assert rows.device.type == "cuda" and np.array_equal(rows.cpu().numpy().view(np.float32), table[ids.numpy()])
        out = torch.empty(5000, 64, device="cuda")
        assert vyre_io.gather(file, ids.cuda(), 256, out, device="cuda") is out
        assert np.array_equal(out.cpu().numpy(), table[ids.numpy()])
        with pytest.raises(IndexError):
            vyre_io.gather(file, [1000], 256, device="cuda")
        with pytest.raises(ValueError, match="out"):
            vyre_io.gather(file, ids, 256, torch.empty(5000, 64), device="cuda")
