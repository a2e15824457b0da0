"""Files of the format safetensors, on the CPU."""

import json

import numpy as np
import pytest

import vyre_io


def write(path, header, data=b""):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def described(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    header = {
        "__metadata__": {"made": "here"},
        "matrix": described("F32", [2, 3], 0, 24),
        "odd": described("I16", [2], 25, 29),
        "none": described("F64", [0, 4], 29, 29),
        "scalar": described("U8", [], 24, 25),
    }
    data = np.arange(6, dtype=np.float32).tobytes() + b"\x07" + np.int16([-5, 6]).tobytes()
    write(path, header, data)
    return path


def test_arrays_are_those_of_the_file(model):
    arrays = vyre_io.load_safetensors(model, framework="np")
    assert list(arrays) == ["matrix", "odd", "none", "scalar"]
    assert np.array_equal(arrays["matrix"], np.arange(6, dtype=np.float32).reshape(2, 3))
    assert arrays["odd"].tolist() == [-5, 6] and arrays["none"].shape == (0, 4) and arrays["scalar"] == 7


def test_tensors_are_those_of_the_file_and_writes_stay_in_the_process(model):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    before = model.read_bytes()
    tensors = vyre_io.load_safetensors(model)
    assert torch.equal(tensors["matrix"], torch.arange(6.0).view(2, 3))
    assert tensors["odd"].tolist() == [-5, 6] and tensors["none"].shape == (0, 4) and tensors["scalar"] == 7
    tensors["matrix"].add_(1)
    assert model.read_bytes() == before


def test_all_types_are_those_of_safetensors(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    names = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 float8_e4m3fn float8_e5m2".split()
    raw = torch.randint(0, 2, (64,), dtype=torch.uint8)
    tensors = {name: raw.view(getattr(torch, name)).clone() for name in names}
    library.save_file(tensors, tmp_path / "all")
    loaded = vyre_io.load_safetensors(tmp_path / "all")
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name].view(torch.uint8), tensor.view(torch.uint8)), name
    with pytest.raises(TypeError, match="BF16"):
        vyre_io.load_safetensors(tmp_path / "all", framework="np")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        b"\xff",
        {"a": 1},
        {"a": described("F32", [2], 0, 7)},
        {"a": described("F32", [2], 0, 8)},
        {"a": described("F31", [1], 0, 4)},
        {"a": described("U8", [-1], 4, 3)},
        {"a": described("U8", [1], -1, 0)},
        {"a": described("U8", [True], 0, 1)},
        {"a": described("U8", [1 << 70], 0, 1 << 70)},
        {"a": {"dtype": "U8", "shape": [1]}},
    ],
)
def test_files_that_are_wrong_are_refused(tmp_path, header):
    path = tmp_path / "wrong"
    write(path, header, bytes(7))
    with pytest.raises(ValueError, match="no safetensors file|described wrongly"):
        vyre_io.load_safetensors(path, framework="np")


def test_files_that_are_too_short_are_refused(tmp_path):
    path = tmp_path / "short"
    for content in [b"", b"1234567", (1 << 40).to_bytes(8, "little") + b"{}"]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="no safetensors file"):
            vyre_io.load_safetensors(path)
    with pytest.raises(FileNotFoundError):
        vyre_io.load_safetensors(tmp_path / "none")


def test_arguments_are_checked(model):
    with pytest.raises(ValueError, match="framework"):
        vyre_io.load_safetensors(model, framework="tf")
    for device in ["tpu", "cuda:x", "cpu:1"]:
        with pytest.raises(ValueError, match="device"):
            vyre_io.load_safetensors(model, device)
    with pytest.raises(ValueError, match="NumPy"):
        vyre_io.load_safetensors(model, "cuda", framework="np")
