"""Interruptions that let work end well."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Context in which the first SIGINT or SIGTERM is only noted, so that no work is left half done.

    The second one acts as it would without this. Outside of the main thread, which alone gets signals, nothing changes.

    Yields:
        list of int. Empty until a signal comes, then with its number.
    """
    noted = []
    # All are known before the first is replaced: a signal may come between.
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT) if in_main_thread}

    def restore(*signal_and_frame):
        noted.extend(signal_and_frame[:1])
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, restore)
    try:
        yield noted
    finally:
        restore()
