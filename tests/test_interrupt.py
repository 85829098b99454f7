"""Interruptions: the first is noted, the second acts, and all is as before afterwards."""

import signal
import subprocess
import sys
import threading

import pytest

from keras_regpose.interrupt import noted_signals

# In a process of its own: what other tests loaded may have left handlers of its own, or none, for the signal.
TWO_SIGNALS = """
import signal, sys
from keras_regpose.interrupt import noted_signals

number = signal.Signals(int(sys.argv[1]))
signal.signal(number, signal.default_int_handler)
with noted_signals() as noted:
    assert not noted
    signal.raise_signal(number)
    assert noted == [number]
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        print("it acted")
assert noted == [number] and signal.getsignal(number) is signal.default_int_handler
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_and_the_second_acts(number):
    command = [sys.executable, "-c", TWO_SIGNALS, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "it acted\n"), done.stderr


def test_without_a_signal_handlers_are_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with noted_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_get_no_signals_and_no_error():
    seen = []

    def work():
        with noted_signals() as noted:
            seen.append(noted)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[]]
