"""Files as arrays. Those of a GPU are tested where there is one."""

import errno
import gc
import time

import numpy as np
import pytest

import vyre_io
from conftest import gpu, needs_gpu


@pytest.fixture
def floats(tmp_path):
    """A file of 64 Ki numbers, each of which is its index."""
    path = tmp_path / "floats"
    numbers = np.arange(1 << 16, dtype=np.float32)
    numbers.tofile(path)
    return path, numbers


def test_a_host_view_is_an_array_that_cannot_be_written(floats):
    path, numbers = floats
    view = vyre_io.host_view(path, np.float32, (100, 64), 4 * 77)
    assert (view.shape, view.dtype, view.nbytes, view.offset, view.pinned_bytes) == ((100, 64), "float32", 25_600, 308, 0)
    array = np.from_dlpack(view)
    assert np.array_equal(array, numbers[77 : 77 + 6400].reshape(100, 64))
    assert not array.flags.writeable
    # What others write to the file shows, and the array outlives the view.
    with vyre_io.File(path, "r+") as file:
        file.pwrite(np.float32([-1]), 308).result()
    assert array[0, 0] == -1 and view.check() == "current"
    view.close()
    assert view.closed
    with pytest.raises(ValueError, match="closed"):
        view.__dlpack__()
    del view
    gc.collect()
    assert array[99, 63] == numbers[77 + 6399]


def test_a_view_says_that_the_file_became_shorter(floats):
    path, _ = floats
    view = vyre_io.host_view(path, "uint8", [100])
    with open(path, "r+b") as file:
        file.truncate(99)
    assert view.check() == "shorter"


@pytest.mark.parametrize("make", [vyre_io.host_view, vyre_io.cuda_view])
def test_parts_that_cannot_be_arrays_are_refused(floats, make, tmp_path):
    path, numbers = floats
    with pytest.raises(ValueError, match="multiple of the 4 bytes"):
        make(path, "float32", [3], 2)
    with pytest.raises(TypeError, match="no type of elements"):
        make(path, "float33", [3])
    for shape in [[0], [-1], [1 << 40, 1 << 40]]:
        with pytest.raises(ValueError, match="shape"):
            make(path, "float32", shape)
    with pytest.raises(FileNotFoundError) as caught:
        make(tmp_path / "none", "uint8", [1])
    assert caught.value.filename == str(tmp_path / "none")


def test_a_part_past_the_end_is_refused(floats):
    path, numbers = floats
    for shape, offset in [([len(numbers) + 1], 0), ([1], 4 * len(numbers)), ([1], 1 << 40)]:
        with pytest.raises(ValueError, match="end of the file"):
            vyre_io.host_view(path, "float32", shape, offset)
        with pytest.raises(ValueError, match="end of the file"):
            vyre_io.cuda_view(path, "float32", shape, offset + 1, copy=True)


def test_a_part_of_a_view_shares_its_pages(floats):
    path, numbers = floats
    view = vyre_io.host_view(path, "uint8", [4096], 4096)
    part = view.part_of("float32", [2, 3], 8)
    assert part.offset == 4104
    assert np.array_equal(np.from_dlpack(part).ravel(), numbers[1026:1032])
    for dtype, shape, at in [("float32", [1], 2), ("uint8", [4097], 0), ("uint8", [1], 4096), ("uint8", [0], 0)]:
        with pytest.raises(ValueError, match="not inside|aligned|no elements"):
            view.part_of(dtype, shape, at)


def test_capsules_that_nobody_takes_are_freed(floats):
    path, _ = floats
    view = vyre_io.host_view(path, "uint8", [4096])
    with open("/proc/self/maps") as maps:
        before = maps.read().count(str(path))
    assert before == 1
    for version in [None, (1, 0)]:
        capsule = view.__dlpack__(max_version=version)
        assert ("versioned" in repr(capsule)) == (version is not None)
    view.close()
    del capsule
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with open("/proc/self/maps") as maps:
            if str(path) not in maps.read():
                return
        time.sleep(0.01)
    pytest.fail("the mapping stays")


def test_dlpack_is_asked_for_what_it_cannot_do(floats):
    path, _ = floats
    view = vyre_io.host_view(path, "float32", [8])
    assert view.__dlpack_device__() == (1, 0)
    for wrong in [{"copy": True}, {"dl_device": (2, 0)}]:
        with pytest.raises(BufferError):
            view.__dlpack__(**wrong)
    with pytest.raises(AttributeError):
        view.__cuda_array_interface__


def test_operations_of_torch_do_not_write_to_a_file_tensor(floats):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from vyre_io.torch import FileTensor

    path, numbers = floats
    tensor = FileTensor(torch.from_dlpack(vyre_io.host_view(path, torch.float32, (256, 256))))
    rows = torch.tensor([3, 200])
    expected = torch.from_numpy(numbers.reshape(256, 256).copy())
    assert torch.equal(tensor[rows], expected[rows]) and type(tensor[rows]) is torch.Tensor
    assert type(tensor + 1) is torch.Tensor and tensor.clone().add_(1)[0, 0] == 1
    assert torch.equal(tensor @ torch.eye(256), expected)
    parts = [tensor[3:5], tensor.view(-1), tensor.t(), tensor.reshape(64, 1024), *tensor.split(128)]
    assert all(type(part) is FileTensor for part in parts)
    writes = [
        lambda: tensor.add_(1),
        lambda: tensor.__setitem__(0, 1),
        lambda: tensor.index_fill_(0, rows, 1),
        lambda: torch.add(expected, 1, out=tensor),
        lambda: torch._foreach_add_([tensor], 1),
        *(part.zero_ for part in parts),
    ]
    for write in writes:
        with pytest.raises(RuntimeError, match="a tensor that is a file"):
            write()
        with pytest.raises(RuntimeError, match="a tensor that is a file"), torch.inference_mode():
            write()
    assert torch.equal(torch.from_numpy(np.fromfile(path, np.float32)).view(256, 256), expected)


def test_without_a_gpu_the_reason_is_said(floats):
    if gpu():
        pytest.skip("there is a GPU")
    path, _ = floats
    with pytest.raises(OSError, match="CUDA driver"):
        vyre_io.cuda_view(path, "uint8", [1])
    # An offset that a view cannot have is one of a copy.
    with pytest.raises(OSError, match="CUDA driver"):
        vyre_io.cuda_view(path, "float32", [1], 3, copy=True)


@needs_gpu
@pytest.mark.parametrize("name", ["float32", "bfloat16", "uint8", "float8_e4m3fn", "int64"])
def test_a_view_is_a_tensor_of_the_gpu(tmp_path, name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    path = tmp_path / "numbers"
    bytes_ = np.random.default_rng(1).integers(256, size=1 << 20, dtype=np.uint8)
    bytes_.tofile(path)
    dtype = getattr(torch, name)
    count = (bytes_.size - 4096) // dtype.itemsize
    view = vyre_io.cuda_view(path, dtype, (count // 64, 64), 4096)
    tensor = torch.from_dlpack(view)
    assert tensor.is_cuda and tensor.dtype == dtype and tensor.shape == (count // 64, 64)
    found = tensor.view(torch.uint8).cpu().numpy().ravel()
    assert np.array_equal(found, bytes_[4096:])
    if name in ("float32", "uint8", "int64"):
        assert torch.as_tensor(view, device="cuda").data_ptr() == tensor.data_ptr()
    assert vyre_io.pinned_bytes() >= view.pinned_bytes >= bytes_.size - 4096
    with vyre_io.File(path, "r+") as file:
        file.pwrite(bytes(4096), 4096).result()
    assert not tensor.view(torch.uint8).ravel()[:4096].any()
    assert view.check() == "current"
    with open(path, "r+b") as file:
        file.truncate(5000)
    assert view.check() == "shorter"
    view.close()
    del view, tensor
    gc.collect()
    deadline = time.monotonic() + 10
    while vyre_io.pinned_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert vyre_io.pinned_bytes() == 0


@needs_gpu
def test_a_copy_begins_anywhere_and_is_its_owners(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    path = tmp_path / "numbers"
    path.write_bytes(b"xyz" + np.arange(5000, dtype=np.float64).tobytes())
    view = vyre_io.cuda_view(path, "float64", [4990], 3 + 80, copy=True)
    tensor = torch.from_dlpack(view)
    assert tensor.tolist() == list(range(10, 5000))
    assert view.pinned_bytes == 0
    tensor.zero_()
    path.write_bytes(bytes(100))
    assert not tensor.any() and view.check() == "current"


@needs_gpu
def test_the_limit_of_pinned_bytes_is_kept(floats):
    path, numbers = floats
    view = vyre_io.cuda_view(path, "float32", [1024])
    vyre_io.set_pin_limit(1 << 16)
    with pytest.raises(OSError, match="limit"):
        vyre_io.cuda_view(path, "float32", [len(numbers)])
    vyre_io.set_pin_limit(1 << 34)
    view.close()
    vyre_io.cuda_view(path, "float32", [len(numbers)]).close()


@needs_gpu
def test_cupy_and_triton_take_a_view(floats):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    path, numbers = floats
    array = cupy.from_dlpack(vyre_io.cuda_view(path, "float32", (1024, 64)))
    ids = cupy.array([5, 1000, 7])
    assert np.array_equal(cupy.asnumpy(array[ids]), numbers.reshape(1024, 64)[[5, 1000, 7]])
    assert float(cupy.asarray(vyre_io.cuda_view(path, "float32", [10])).sum()) == 45


@needs_gpu
def test_safetensors_are_loaded_and_viewed_on_the_gpu(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    path = tmp_path / "model.safetensors"
    tensors = {
        "half": torch.rand(300, 7).to(torch.bfloat16),
        "bytes": torch.arange(13, dtype=torch.uint8),
        "double": torch.rand(5, dtype=torch.float64),
        "none": torch.empty(0, 3),
        "one": torch.tensor(3.5),
    }
    safetensors.save_file(tensors, path)
    for lazy in [False, True]:
        loaded = vyre_io.load_safetensors(path, "cuda", lazy=lazy)
        assert loaded.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert loaded[name].is_cuda and torch.equal(loaded[name].cpu(), tensor), name
    with pytest.raises(RuntimeError, match="a tensor that is a file"):
        loaded["half"].add_(1)


@pytest.mark.parametrize("make", [vyre_io.host_view, vyre_io.cuda_view])
def test_offsets_that_no_file_has_are_refused(floats, make):
    path, _ = floats
    for offset in [2**63 - 4, 2**63, 2**64 - 4]:
        with pytest.raises(ValueError, match="past the end"):
            make(path, "float32", [1], offset)
    view = vyre_io.host_view(path, "uint8", [8])
    for at in [8, 2**63, 2**64 - 1]:
        with pytest.raises(ValueError, match="part"):
            view.part_of("uint8", [1], at)


@pytest.mark.skipif(gpu(), reason="there is a GPU")
def test_without_a_gpu_the_error_names_the_file_and_says_so(floats):
    path, _ = floats
    with pytest.raises(OSError, match="CUDA") as caught:
        vyre_io.cuda_view(path, "float32", [4])
    assert caught.value.errno == errno.ENODEV and caught.value.filename == str(path)
