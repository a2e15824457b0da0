"""Waiting for results in an asyncio program."""

import asyncio
import weakref

# Seconds between two looks at the results that tasks wait for: at first none, then more.
_FIRST = 50e-6
_LONGEST = 1e-3


class _Poller:
    """Looks for the results that the tasks of one event loop wait for."""

    def __init__(self, loop):
        self._loop = loop
        self._waiting = []
        self._delay = 0.0
        self._is_scheduled = False

    def add(self, operation):
        waiter = self._loop.create_future()
        self._waiting.append((operation, waiter))
        self._delay = 0.0
        self._schedule()
        return waiter

    def _schedule(self):
        if self._is_scheduled or not self._waiting:
            return
        self._is_scheduled = True
        if self._delay < _FIRST:
            self._loop.call_soon(self._look)
        else:
            self._loop.call_later(self._delay, self._look)
        self._delay = min(max(self._delay * 1.5, 1e-6), _LONGEST)

    def _look(self):
        self._is_scheduled = False
        left = []
        for operation, waiter in self._waiting:
            if waiter.done():
                continue
            try:
                is_done = operation.done()
            except BaseException as error:
                waiter.set_exception(error)
                continue
            if is_done or operation.cancelled():
                waiter.set_result(None)
                self._delay = 0.0
            else:
                left.append((operation, waiter))
        self._waiting = left
        self._schedule()


_pollers = weakref.WeakKeyDictionary()


async def result_of(operation):
    """Returns the result of an operation, and gives it up if the task is cancelled."""
    if not operation.done() and not operation.cancelled():
        loop = asyncio.get_running_loop()
        poller = _pollers.get(loop)
        if poller is None:
            poller = _pollers[loop] = _Poller(loop)
        try:
            await poller.add(operation)
        except asyncio.CancelledError:
            operation.cancel()
            raise
    return operation.result(0)
