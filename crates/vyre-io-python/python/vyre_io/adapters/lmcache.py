"""Objects of LMCache in files of a directory: a class for its L2 adapter `native_plugin`.

LMCache takes it by its configuration, in which `adapter_params` are the arguments of the class:

    {"type": "native_plugin", "module_path": "vyre_io.adapters.lmcache", "class_name": "FileConnector",
     "adapter_params": {"directory": "/mnt/nvme/kv", "workers": 4}}

Nothing of LMCache is imported here.
"""

import contextlib
import itertools
import os
import queue
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Literal

from .. import Engine, File, Read, Write
from ._names import file_name, remove_abandoned, temporary_name

__all__ = ["FileConnector"]

# The keys that a worker takes at once: enough for a drive to have work, and few descriptors.
_PART = 16


class FileConnector:
    """One file for each key, and batches that threads perform while the caller goes on.

    A file holds the bytes of one object and nothing else. It is renamed to its name when it is whole, so a reader finds
    all of an object or none of it, also beside other processes with the same directory. Objects are a cache: none is made
    durable, and one whose file has another size than the caller's memory counts as missing.

    Each of the `workers` has a thread and an engine with `depth` operations in flight. A batch's memory must stay as it is
    until its completion was drained. All methods may be called from any thread; in a fork, they raise RuntimeError.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        workers: int = 4,
        depth: int = 32,
        transport: Literal["auto", "ring", "threads"] = "auto",
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}, and must be at least 1")
        path = os.path.abspath(directory)
        os.makedirs(path, exist_ok=True)
        remove_abandoned(path)
        self._state = _State(path, workers, {"depth": depth, "transport": transport})
        self._end = weakref.finalize(self, self._state.close)

    def event_fd(self) -> int:
        """Returns an eventfd that is readable while there are completions. close() closes it."""
        self._state.check()
        return self._state.event_fd

    def submit_batch_get(self, keys: Sequence[str], buffers: Sequence[Any]) -> int:
        """Begins to fill each buffer with the object of its key. Returns the number of the batch."""
        return self._state.submit(_get, keys, _views(keys, buffers, will_write=True))

    def submit_batch_set(self, keys: Sequence[str], buffers: Sequence[Any]) -> int:
        """Begins to store the bytes of each buffer as the object of its key. Returns the number of the batch."""
        return self._state.submit(_set, keys, _views(keys, buffers, will_write=False))

    def submit_batch_exists(self, keys: Sequence[str]) -> int:
        """Begins to look for the objects of keys. Returns the number of the batch."""
        return self._state.submit(_exists, keys, None)

    def submit_batch_delete(self, keys: Sequence[str]) -> int:
        """Begins to delete the objects of keys. Returns the number of the batch."""
        return self._state.submit(_delete, keys, None)

    def drain_completions(self) -> list[tuple[int, bool, str, list[bool]]]:
        """Returns the batches that have ended since the last call, without waiting.

        Of each: its number; whether all went well; what went wrong first; and by key, whether it was read, stored, found,
        or, for a deletion, whether it is gone. Nothing to find or to delete is no failure. Nothing to read is one.
        """
        return self._state.drain()

    def close(self) -> None:
        """Waits for what is being performed, gives up what is not, and ends the threads. Does nothing the second time."""
        self._end()


class _Batch:
    """A batch, and what is known of its end."""

    __slots__ = ("number", "left", "results", "error")

    def __init__(self, number, count):
        self.number = number
        self.left = count
        self.results = [False] * count
        self.error = None


class _State:
    """The threads of a connector, apart from it so that they do not keep it alive."""

    def __init__(self, directory, workers, settings):
        self.directory = directory
        self._process = os.getpid()
        self._numbers = itertools.count(1)
        self._parts = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._ended = []
        self._is_closed = False
        with contextlib.ExitStack() as undo:
            self._engines = [undo.enter_context(Engine(**settings)) for _ in range(workers)]
            self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, self.event_fd)
            self._threads = [
                threading.Thread(target=self._work, args=(engine,), name="vyre-lmcache", daemon=True)
                for engine in self._engines
            ]
            undo.callback(self._end_threads)
            for thread in self._threads:
                thread.start()
            undo.pop_all()

    def check(self):
        if os.getpid() != self._process:
            raise RuntimeError("this process was forked from that of the connector: make another one")
        if self._is_closed:
            raise RuntimeError("the connector is closed")

    def submit(self, operation, keys, views):
        self.check()
        keys = [os.path.join(self.directory, file_name(key)) for key in keys]
        batch = _Batch(next(self._numbers), len(keys))
        # Under the lock, so that a closed connector is given nothing that nobody would end.
        with self._lock:
            self.check()
            for first in range(0, len(keys), _PART):
                part = slice(first, first + _PART)
                self._parts.put((batch, first, operation, keys[part], views and views[part]))
            if not keys:
                self._announce(batch)
        return batch.number

    def drain(self):
        # Under the lock, so that the descriptor is still that of the connector.
        with self._lock:
            self.check()
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.event_fd)
            ended, self._ended = self._ended, []
        return [(batch.number, batch.error is None, batch.error or "", batch.results) for batch in ended]

    def close(self):
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._parts.get_nowait()
        self._put_ends()
        try:
            # Ends, after a while, also what a drive does not give back.
            for engine in self._engines:
                engine.close()
        finally:
            self._join()
            with self._lock:
                os.close(self.event_fd)

    def _put_ends(self):
        for _ in self._threads:
            self._parts.put(None)

    def _end_threads(self):
        self._put_ends()
        self._join()

    def _join(self):
        for thread in self._threads:
            # The collector of garbage may close the connector in one of them, and not all may have been started.
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()

    def _work(self, engine):
        while (part := self._parts.get()) is not None:
            batch, first, operation, keys, views = part
            try:
                outcomes = operation(engine, keys, views)
            except Exception as error:
                outcomes = [error] * len(keys)
            # The caller's memory is no longer used before the caller is told.
            del part, views
            with self._lock:
                for at, outcome in enumerate(outcomes, first):
                    if isinstance(outcome, Exception):
                        batch.error = batch.error or f"{type(outcome).__name__}: {outcome}"
                    else:
                        batch.results[at] = outcome
                batch.left -= len(outcomes)
                if batch.left == 0:
                    self._announce(batch)
            del batch, outcomes

    def _announce(self, batch):
        """Reports the end of a batch. The lock is held."""
        self._ended.append(batch)
        if not self._is_closed:
            os.eventfd_write(self.event_fd, 1)


def _views(keys, buffers, *, will_write):
    if len(keys) != len(buffers):
        raise ValueError(f"there are {len(keys)} keys and {len(buffers)} buffers: give one for each")
    views = [memoryview(buffer) for buffer in buffers]
    for key, view in zip(keys, views):
        if not view.contiguous or (will_write and view.readonly):
            raise BufferError(f"the buffer for {key!r} is not contiguous, or is read-only: give one that is")
    return views


def _set(engine, paths, views):
    """Stores objects. Returns True or an exception for each."""
    outcomes, files, writes = [None] * len(paths), [], []
    try:
        for at, (path, view) in enumerate(zip(paths, views)):
            new = os.path.join(os.path.dirname(path), temporary_name(next(_temporaries)))
            try:
                file = File(new, "x", engine=engine)
            except OSError as error:
                outcomes[at] = error
                continue
            files.append((at, file, new))
            writes.append(Write(file, view))
        for (at, file, new), written in zip(files, engine.submit(writes).outcomes()):
            try:
                _write_rest(file, views[at], written)
                os.replace(new, paths[at])
                outcomes[at] = True
            except OSError as error:
                outcomes[at] = error
    finally:
        for at, file, new in files:
            file.close()
            if outcomes[at] is not True:
                with contextlib.suppress(OSError):
                    os.unlink(new)
    return outcomes


_temporaries = itertools.count()


def _write_rest(file, view, written):
    """Writes what a short write left, whose reason the next one tells. Raises that."""
    if isinstance(written, Exception):
        raise written
    while written < view.nbytes:
        more = file.pwrite(view, written, at=written).result()
        if more == 0:
            raise OSError(f"{file.name}: only {written} of {view.nbytes} bytes could be written")
        written += more


def _get(engine, paths, views):
    """Reads objects. Returns True or an exception for each."""
    outcomes, files, reads = [None] * len(paths), [], []
    try:
        for at, (path, view) in enumerate(zip(paths, views)):
            try:
                file = File(path, engine=engine)
                files.append((at, file))
                if (size := file.size()) != view.nbytes:
                    raise ValueError(f"{path} has {size} bytes, and the buffer {view.nbytes}")
                reads.append((at, Read(file, view)))
            except (OSError, ValueError) as error:
                outcomes[at] = error
        counts = engine.submit([read for _, read in reads]).outcomes()
        for (at, _), count in zip(reads, counts):
            if count == views[at].nbytes:
                outcomes[at] = True
            elif isinstance(count, Exception):
                outcomes[at] = count
            else:
                outcomes[at] = ValueError(f"{paths[at]} became shorter: it has {count} bytes")
    finally:
        for _, file in files:
            file.close()
    return outcomes


def _exists(_engine, paths, _views):
    """Looks for objects. Returns True, False or an exception for each."""
    return [_tried(os.stat, path) for path in paths]


def _delete(_engine, paths, _views):
    """Deletes objects. Returns True or an exception for each."""
    outcomes = [_tried(os.unlink, path) for path in paths]
    # What is missing is gone.
    return [outcome or True for outcome in outcomes]


def _tried(call, path):
    try:
        call(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error
    return True
