"""Queues for kernels. Those of a GPU are tested where there is one, with CuPy."""

import importlib.util
import os
import pathlib

import pytest

import vyre_io
from conftest import gpu, needs_gpu

EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "cupy_reads.py"


@pytest.fixture
def example():
    pytest.importorskip("cupy")
    if not EXAMPLE.exists():
        pytest.skip("the examples are not here")
    spec = importlib.util.spec_from_file_location("cupy_reads", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_headers_are_whole():
    names = os.listdir(vyre_io.include())
    assert {"vyre_ioq.cuh", "vyre_view.cuh", "vyre_windows.cuh"} <= set(names)
    for name in names:
        text = pathlib.Path(vyre_io.include(), name).read_text()
        for line in text.splitlines():
            if line.startswith('#include "'):
                assert line.split('"')[1] in names, (name, line)


def test_settings_that_no_queue_has_are_refused(path):
    with vyre_io.File(path) as file:
        for settings in [{"buffer_bytes": 0}, {"buffer_bytes": 1, "slots": 0}, {"buffer_bytes": 1, "slots": 4097}]:
            with pytest.raises(ValueError, match="slots"):
                vyre_io.CudaQueue([file], **settings)
        with pytest.raises(ValueError, match="wait"):
            vyre_io.CudaQueue([file], buffer_bytes=1, wait="sleep")
    with pytest.raises(ValueError, match="closed"):
        vyre_io.CudaQueue([file], buffer_bytes=1)
    with pytest.raises(TypeError):
        vyre_io.CudaQueue([path], buffer_bytes=1)


@pytest.mark.skipif(gpu(), reason="there is a GPU")
def test_without_a_gpu_the_error_says_so(path):
    with vyre_io.File(path) as file, pytest.raises(OSError, match="CUDA"):
        vyre_io.CudaQueue([file], buffer_bytes=4096)


@needs_gpu
def test_a_kernel_reads_a_file_by_itself(path, example):
    words = path.read_bytes()
    words += bytes(-len(words) % 4)
    expected = sum(memoryview(words).cast("I"))
    for _ in range(3):
        assert example.sum_file(path) == expected


@needs_gpu
def test_a_closed_queue_has_no_addresses(path):
    with vyre_io.File(path) as file:
        queue = vyre_io.CudaQueue([file, file], buffer_bytes=4096)
        assert len(set(queue.files)) == 2 and queue.buffer_bytes == 4096
        assert queue.address and queue.buffer_address
        queue.close()
        queue.close()
        assert queue.closed
        for name in ["address", "files", "buffer_address", "buffer_handle", "buffer_bytes"]:
            with pytest.raises(ValueError, match="closed"):
                getattr(queue, name)


@needs_gpu
def test_queues_can_be_made_often(path):
    with vyre_io.File(path) as file:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            with vyre_io.CudaQueue([file], buffer_bytes=1 << 20, wait="adaptive"):
                pass
        assert len(os.listdir("/proc/self/fd")) <= before + 20
