"""Learning rates against the reference's recorded schedule."""

import pytest

from keras_regpose.training import WarmupCosine, WarmupSteps


def test_warmup_equals_the_reference():
    schedule = WarmupSteps(1e-3, drops=(), warmup=500)
    expected = {0: 1e-6, 1: 3.002e-6, 250: 5.01501e-4, 498: 9.97998e-4, 499: 1e-3, 5000: 1e-3}
    for step, rate in expected.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-4)


def test_steps_divide_by_ten():
    schedule = WarmupSteps(1e-3, drops=(170, 200), warmup=10)
    assert [float(schedule(step)) for step in (169, 170, 199, 200)] == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5])


def test_cosine_starts_small_peaks_and_ends_at_zero():
    schedule = WarmupCosine(1.0, steps=110, warmup=10)
    assert [float(schedule(step)) for step in (0, 9, 60, 110)] == pytest.approx([0.1, 1.0, 0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize("schedule", [WarmupSteps(1e-3, (5,), 2), WarmupCosine(1e-3, 10, 2)])
def test_schedules_are_rebuilt_from_their_config(schedule):
    copy = type(schedule).from_config(schedule.get_config())
    assert [float(copy(step)) for step in range(12)] == [float(schedule(step)) for step in range(12)]
