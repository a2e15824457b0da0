"""The class for LMCache: by its interface, and, if LMCache is installed, by LMCache."""

import asyncio
import gc
import importlib.util
import os
import random
import resource
import select
import threading
import time
import weakref

import pytest

from vyre_io.adapters import _names
from vyre_io.adapters.lmcache import FileConnector


@pytest.fixture(params=["ring", "threads"])
def connector(request, tmp_path):
    try:
        connector = FileConnector(tmp_path / "kv", workers=2, depth=4, transport=request.param)
    except OSError as error:
        pytest.skip(f"no {request.param}: {error}")
    yield connector
    connector.close()


def completions(connector, *numbers):
    """Waits for batches by the descriptor, as LMCache does, and returns their completions."""
    found = {}
    while not found.keys() >= set(numbers):
        ready, _, _ = select.select([connector.event_fd()], [], [], 10)
        assert ready, f"{numbers} have not ended, but {found}"
        for number, *rest in connector.drain_completions():
            assert number not in found
            found[number] = rest
    return [found[number] for number in numbers]


def get(connector, keys, sizes):
    buffers = [bytearray(size) for size in sizes]
    return *completions(connector, connector.submit_batch_get(keys, buffers))[0], buffers


def stored(connector, objects):
    return completions(connector, connector.submit_batch_set(list(objects), list(objects.values())))[0]


SIZES = [0, 1, 4096, 100_000, 3 << 20]


def test_objects_come_back(connector):
    # More than a worker takes at once, and than operations that an engine has in flight.
    objects = {f"meta/model@{at:08x}@0@{at:x}": random.randbytes(SIZES[at % 5]) for at in range(40)}
    assert stored(connector, objects) == [True, "", [True] * 40]
    assert get(connector, list(objects), map(len, objects.values())) == (
        True,
        "",
        [True] * 40,
        list(objects.values()),
    )
    keys = [*objects, "other"]
    exists = completions(connector, connector.submit_batch_exists(keys))[0]
    assert exists == [True, "", [True] * 40 + [False]]
    assert stored(connector, {keys[3]: b"new"})[0]
    assert get(connector, [keys[3]], [3])[3] == [b"new"]


def test_missing_objects_are_told_by_key(connector):
    stored(connector, {"a": b"aaaa", "c": b"cccc"})
    ok, error, results, buffers = get(connector, ["a", "b", "c"], [4, 4, 4])
    assert (ok, results) == (False, [True, False, True]) and "FileNotFoundError" in error and "b.kv" in error
    assert buffers == [b"aaaa", bytes(4), b"cccc"]


@pytest.mark.parametrize("size", [0, 99_999, 100_001])
def test_a_file_of_another_size_is_no_object(connector, tmp_path, size):
    stored(connector, {"a": b"a" * 100_000, "b": b"b" * 100_000})
    os.truncate(tmp_path / "kv" / "a.kv", size)
    ok, error, results, buffers = get(connector, ["a", "b"], [100_000, 100_000])
    assert (ok, results) == (False, [False, True]) and f"{size} bytes" in error
    assert buffers == [bytes(100_000), b"b" * 100_000]


def test_deleted_objects_are_gone(connector):
    stored(connector, {"a": b"a", "b": b"b"})
    assert completions(connector, connector.submit_batch_delete(["a", "x"]))[0] == [True, "", [True, True]]
    assert completions(connector, connector.submit_batch_exists(["a", "b", "x"]))[0][2] == [False, True, False]


def test_errors_are_told_and_leave_nothing(connector, tmp_path):
    home = tmp_path / "kv"
    (home / "taken.kv").mkdir()
    (home / "taken.kv" / "file").touch()
    ok, error, results = stored(connector, {"taken": b"x", "free": b"y"})
    assert (ok, results) == (False, [False, True]) and "taken" in error
    ok, error, results = completions(connector, connector.submit_batch_delete(["taken"]))[0]
    assert (ok, results) == (False, [False]) and "taken" in error
    ok, error, results, _ = get(connector, ["taken"], [1])
    assert (ok, results) == (False, [False])
    assert sorted(os.listdir(home)) == ["free.kv", "taken.kv"]


def test_a_limit_on_files_fails_the_keys_that_exceed_it(connector, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
    try:
        ok, error, results = stored(connector, {"small": bytes(100_000), "large": bytes(200_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (ok, results) == (False, [True, False]) and "File too large" in error
    assert os.listdir(tmp_path / "kv") == ["small.kv"]


def test_what_cannot_begin_raises(connector):
    with pytest.raises(ValueError, match="2 keys and 1 buffers"):
        connector.submit_batch_get(["a", "b"], [bytearray(1)])
    with pytest.raises(BufferError):
        connector.submit_batch_get(["a"], [b"read-only"])
    with pytest.raises(BufferError):
        connector.submit_batch_set(["a"], [memoryview(bytes(10))[::2]])
    with pytest.raises(TypeError):
        connector.submit_batch_set(["a"], [None])
    for submit in [connector.submit_batch_exists, connector.submit_batch_delete]:
        assert completions(connector, submit([]))[0] == [True, "", []]
    assert connector.drain_completions() == []


def test_readers_beside_writers_find_whole_objects(connector):
    """Threads store, read and delete the same keys: a reader finds one of the objects, whole, or none."""
    keys = [f"key{at}" for at in range(4)]
    size = 300_000
    rounds = 25
    pending, found = {}, []
    lock = threading.Lock()

    def work(seed):
        chance = random.Random(seed)
        for _ in range(rounds):
            batch = chance.sample(keys, 3)
            kind = chance.choice(["get", "get", "set", "delete"])
            with lock:
                if kind == "get":
                    buffers = [bytearray(size) for _ in batch]
                    number = connector.submit_batch_get(batch, buffers)
                elif kind == "set":
                    buffers = [bytes([chance.randrange(1, 256)]) * size for _ in batch]
                    number = connector.submit_batch_set(batch, buffers)
                else:
                    buffers = None
                    number = connector.submit_batch_delete(batch)
                pending[number] = kind, buffers

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    ended = 0
    deadline = time.monotonic() + 60
    while ended < 4 * rounds:
        assert time.monotonic() < deadline
        select.select([connector.event_fd()], [], [], 1)
        for number, ok, error, results in connector.drain_completions():
            ended += 1
            with lock:
                kind, buffers = pending.pop(number)
            if kind != "get":
                assert ok, error
                continue
            for result, buffer in zip(results, buffers):
                if result:
                    found.append(buffer[0])
                    assert buffer[0] != 0 and buffer.count(buffer[0]) == size
    for thread in threads:
        thread.join()
    assert found and not pending


def test_all_keys_have_names_of_their_own(tmp_path):
    keys = ["a", "A", "a/b", "a%2Fb", "a@b", "..", ".", "", "a.kv", "a\0b", "a b", "日本", "1-1-1.new", "x" * 255]
    keys += ["x" * 300, "x" * 301, "/" * 90, "/" * 91, "\udc80", "\udc80" * 90]
    names = [_names.file_name(key) for key in keys]
    assert len(set(names)) == len(keys) and max(map(len, names)) <= 255
    for name in names:
        assert not name.endswith(".new")
        (tmp_path / name).touch(exist_ok=False)


def test_only_old_temporary_files_are_removed(tmp_path):
    for name, age in [("1-2-3.new", 7200), ("4-5-6.new", 60), ("key.kv", 7200)]:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    FileConnector(tmp_path, workers=1).close()
    assert sorted(os.listdir(tmp_path)) == ["4-5-6.new", "key.kv"]


def test_connectors_leave_nothing_behind(tmp_path):
    def used():
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    with pytest.raises(ValueError):
        FileConnector(tmp_path, workers=0)
    with pytest.raises(NotADirectoryError):
        FileConnector("/dev/null/kv")
    with pytest.raises(ValueError):
        FileConnector(tmp_path, depth=0)
    before = None
    for _ in range(4):
        connector = FileConnector(tmp_path, workers=3)
        stored(connector, {"a": b"a"})
        get(connector, ["a", "b"], [1, 1])
        connector.close()
        connector.close()
        with pytest.raises(RuntimeError, match="closed"):
            connector.submit_batch_exists(["a"])
        with pytest.raises(RuntimeError, match="closed"):
            connector.drain_completions()
        # One that is forgotten ends, too.
        forgotten = FileConnector(tmp_path)
        forgotten.submit_batch_set(["b"], [bytes(1 << 20)])
        gone = weakref.ref(forgotten)
        del forgotten
        gc.collect()
        assert gone() is None
        # The first round makes what the process keeps.
        before = before or used()
    assert used() == before


def test_close_gives_up_what_has_not_begun(tmp_path):
    connector = FileConnector(tmp_path, workers=1)
    for at in range(50):
        connector.submit_batch_set([f"{at}-{key}" for key in range(16)], [bytes(1 << 18)] * 16)
    connector.close()
    names = os.listdir(tmp_path)
    assert all(name.endswith(".kv") for name in names) and len(names) < 50 * 16


def test_a_fork_is_told(connector):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for use in [connector.event_fd, connector.drain_completions, lambda: connector.submit_batch_exists(["a"])]:
                try:
                    use()
                except RuntimeError as error:
                    code = 0 if "forked" in str(error) else 2
            connector.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stored(connector, {"a": b"a"})[0]


def test_the_interpreter_ends_with_batches_in_flight(python, tmp_path):
    program = (
        "import sys\nfrom vyre_io.adapters.lmcache import FileConnector\n"
        "connector = FileConnector(sys.argv[1])\n"
        "for at in range(20): connector.submit_batch_set([f'{at}-{key}' for key in range(16)], [bytes(1 << 18)] * 16)\n"
        "print('end')"
    )
    assert python(program, tmp_path) == "end\n"
    assert all(name.endswith(".kv") for name in os.listdir(tmp_path))


needs_lmcache = pytest.mark.skipif(importlib.util.find_spec("lmcache") is None, reason="LMCache is not installed")


@pytest.fixture
def adapter(tmp_path):
    """LMCache's own adapter, made from a configuration as it documents it."""
    from lmcache.v1.distributed.l2_adapters import create_l2_adapter
    from lmcache.v1.distributed.l2_adapters.config import get_l2_adapter_config_class

    params = {"directory": str(tmp_path / "kv"), "workers": 2}
    config = {"module_path": "vyre_io.adapters.lmcache", "class_name": "FileConnector", "adapter_params": params}
    adapter = create_l2_adapter(get_l2_adapter_config_class("native_plugin").from_dict({**config, "max_capacity_gb": 1}))
    yield adapter
    adapter.close()


def lmcache_objects(fill):
    import torch
    from lmcache.v1.memory_management import MemoryFormat, MemoryObjMetadata, TensorMemoryObj

    made = []
    for value in fill:
        raw = torch.full((64 * 1024,), value, dtype=torch.uint8)
        metadata = MemoryObjMetadata(
            shape=torch.Size([2, 16, 1024]),
            dtype=torch.bfloat16,
            address=0,
            phy_size=raw.numel(),
            ref_count=1,
            pin_count=0,
            fmt=MemoryFormat.KV_2LTD,
        )
        made.append(TensorMemoryObj(raw, metadata, None))
    return made


def lmcache_keys(*numbers):
    from lmcache.v1.distributed.api import ObjectKey

    return [
        ObjectKey(chunk_hash=number.to_bytes(32, "big"), model_name="meta-llama/Llama-3.1-8B", kv_rank=1)
        for number in numbers
    ]


def poll(fd):
    assert select.select([fd], [], [], 10)[0]
    os.eventfd_read(fd)


@needs_lmcache
def test_lmcache_stores_looks_up_loads_and_deletes(adapter):
    keys, objects = lmcache_keys(1, 2, 3), lmcache_objects([1, 2, 3])
    task = adapter.submit_store_task(keys, objects)
    poll(adapter.get_store_event_fd())
    stored = adapter.pop_completed_store_tasks()[task]
    assert stored.is_successful() and adapter.get_usage().total_bytes_used == 3 * 64 * 1024

    asked = lmcache_keys(1, 9, 3)
    task = adapter.submit_lookup_and_lock_task(asked, {})
    poll(adapter.get_lookup_and_lock_event_fd())
    found = adapter.query_lookup_and_lock_result(task)
    assert [found.test(at) for at in range(3)] == [True, False, True]

    loaded = lmcache_objects([0, 0, 0])
    task = adapter.submit_load_task(asked, loaded)
    poll(adapter.get_load_event_fd())
    bitmap = adapter.query_load_result(task)
    assert [bitmap.test(at) for at in range(3)] == [True, False, True]
    assert [bytes(loaded[at].byte_array[:2]) for at in range(3)] == [b"\1\1", b"\0\0", b"\3\3"]
    adapter.submit_unlock(asked)

    adapter.delete(keys)
    assert adapter.get_usage().total_bytes_used == 0
    task = adapter.submit_lookup_and_lock_task(keys, {})
    poll(adapter.get_lookup_and_lock_event_fd())
    found = adapter.query_lookup_and_lock_result(task)
    assert not any(found.test(at) for at in range(3))


@needs_lmcache
def test_lmcache_awaits_it_in_a_loop(tmp_path):
    from lmcache.v1.storage_backend.native_clients.connector_client_base import ConnectorClientBase

    async def main():
        client = ConnectorClientBase(FileConnector(tmp_path))
        await client.set("a", memoryview(b"bytes"))
        assert await client.batch_exists(["a", "b"]) == [True, False]
        read = bytearray(5)
        await client.get("a", memoryview(read))
        assert read == b"bytes"
        with pytest.raises(RuntimeError, match="FileNotFoundError"):
            await client.get("b", memoryview(read))
        client.close()

    asyncio.run(main())
