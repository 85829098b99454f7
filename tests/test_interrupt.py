"""Interruptions: the first is noted, the second acts, and all is as before afterwards."""

import signal
import threading

import pytest

from keras_regpose.interrupt import noted_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_and_the_second_acts(number):
    before = signal.signal(number, signal.default_int_handler)
    try:
        with noted_signals() as noted:
            assert not noted
            signal.raise_signal(number)
            assert noted == [number]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert noted == [number] and signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


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
