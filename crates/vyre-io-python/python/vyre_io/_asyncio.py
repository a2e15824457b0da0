"""Waiting for results in an asyncio program."""

import asyncio
import itertools
import weakref

from . import _native


class _Waiters:
    """The operations that the tasks of one event loop wait for.

    One descriptor says that some have ended, so that no thread and no timer waits for them.
    """

    def __init__(self, loop):
        # Not the loop itself: this would keep it for ever.
        self._ended = _native._Ended()
        self._numbers = itertools.count()
        self._waiting = {}
        loop.add_reader(self._ended.fileno(), self._look)

    async def wait_for(self, operation):
        number = next(self._numbers)
        waiter = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._ended.watch(operation, number)
            await waiter
        finally:
            del self._waiting[number]

    def _look(self):
        for number in self._ended.take():
            waiter = self._waiting.get(number)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)


_waiters = weakref.WeakKeyDictionary()


async def result_of(operation):
    """Returns the result of an operation, and gives it up if the task is cancelled."""
    if not operation.done() and not operation.cancelled():
        loop = asyncio.get_running_loop()
        waiters = _waiters.get(loop)
        if waiters is None:
            waiters = _waiters[loop] = _Waiters(loop)
        try:
            await waiters.wait_for(operation)
        except asyncio.CancelledError:
            operation.cancel()
            raise
    return operation.result(0)
