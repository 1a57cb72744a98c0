"How many seeds and examples a plan asks for, whatever the units, the groups and the numbers."

import math
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mnist_cmp.evidence.crossed import crossed_interval
from mnist_cmp.evidence.planning import Chances, chances_of, plan, power_at

variances = st.floats(1e-6, 100)
chances = st.builds(Chances, variances, variances, variances)


@given(chances, st.floats(0.05, 5), st.integers(-20, 20))
@settings(max_examples=30, deadline=None)
def test_units_change_nothing(c, difference, exponent):
    unit = 2.0**exponent
    other = Chances(c.seeds * unit**2, c.examples * unit**2, c.residual * unit**2)
    one = plan(c, difference, n_seeds=5, n_examples=100)
    scaled = plan(other, difference * unit, n_seeds=5, n_examples=100)
    assert one.examples == scaled.examples
    assert one.seeds_needed == scaled.seeds_needed
    assert one.sentence == scaled.sentence


@given(chances, st.floats(0.01, 0.5))
@settings(max_examples=30, deadline=None)
def test_more_seeds_ask_for_fewer_examples(c, difference):
    result = plan(c, difference, n_seeds=5, n_examples=100)
    needed = [math.inf if n is None else n for n in result.examples.values()]
    # with a handful of examples their few degrees of freedom may cost more than seeds bring
    assume(min(needed) > 20)
    assert needed == sorted(needed, reverse=True)
    assert result.least_examples is None or result.least_examples <= min(needed)
    larger = plan(c, 2 * difference, n_seeds=5, n_examples=100)
    for seeds, number in larger.examples.items():
        assert number is None or number <= (result.examples[seeds] or math.inf)


@given(chances, st.floats(0.05, 5), st.floats(0.5, 0.99), st.booleans())
@settings(max_examples=30, deadline=None)
def test_what_is_asked_for_has_the_power(c, difference, power, as_good):
    result = plan(c, difference, n_seeds=5, n_examples=100, power=power, as_good=as_good)
    for seeds, number in result.examples.items():
        if number is not None:
            assert power_at(c, difference, seeds, number, as_good=as_good) >= power
    if result.seeds_needed is not None:
        assert power_at(c, difference, result.seeds_needed, 100, as_good=as_good) >= power
        # seeds that are there are enough as well
        assert (result.seeds_needed <= 5) == (result.power_now >= power)


def test_groups_are_the_units():
    "Four copies of each example say no more than the one, and a plan counts groups."
    rng = np.random.default_rng(1)
    a = rng.normal(size=(6, 50)) + rng.normal(size=50)
    b = rng.normal(size=(6, 50))
    alone = chances_of(crossed_interval(a, b), 6)
    groups = np.repeat(np.arange(50), 4)
    copied = crossed_interval(np.repeat(a, 4, axis=1), np.repeat(b, 4, axis=1), groups=groups)
    grouped = chances_of(copied, 6)
    for name in ('seeds', 'examples', 'residual'):
        assert getattr(grouped, name) == pytest.approx(getattr(alone, name), rel=1e-9)
    plans = [plan(c, 0.5, n_seeds=6, n_examples=50, unit='group') for c in (alone, grouped)]
    assert plans[0].sentence == plans[1].sentence
    assert 'groups' in plans[0].sentence


def test_equals_are_shown_to_be_as_good_with_the_power_planned():
    c = Chances(0.5, 15.0, 20.0)
    margin = 1.0
    N = plan(c, margin, n_seeds=10, n_examples=100, as_good=True).examples[10]
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(1000):
        d = rng.normal(0, c.residual**0.5, (10, N))
        d += rng.normal(0, c.seeds**0.5, (10, 1)) + rng.normal(0, c.examples**0.5, N)
        interval = crossed_interval(d, np.zeros((10, N)))
        inside += -margin < interval.low and interval.high < margin
    assert 0.76 < inside / 1000 < 0.9


def test_a_plan_takes_no_time():
    start = time.process_time()
    plan(Chances(2e-6, 6e-3, 1e-2), 0.002, n_seeds=10, n_examples=10_000, binary=True)
    assert time.process_time() - start < 1


@pytest.mark.parametrize('difference', [0, -1, math.nan, math.inf, '0.5%', True, None])
def test_a_difference_has_to_be_named(difference):
    with pytest.raises(ValueError, match='difference is'):
        plan(Chances(1, 1, 1), difference, n_seeds=5, n_examples=10)


def test_unequal_numbers_of_trainings_are_planned_with_caution():
    rng = np.random.default_rng(2)
    a = rng.normal(size=(4, 1)) + rng.normal(size=(4, 60))
    b = rng.normal(size=(9, 1)) + rng.normal(size=(9, 60))
    interval = crossed_interval(a, b, paired=False)
    assert interval.method == 'unpaired'
    of_a = a.mean(1).var(ddof=1)
    of_b = b.mean(1).var(ddof=1)
    noise = interval.residual
    assert chances_of(interval, 9).seeds >= of_a + of_b - 9 * noise
