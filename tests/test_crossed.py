"""Crossed intervals: the order of things changes no digit, other code finds the same numbers, the
truth is held as often as promised, and large tables are quick."""

import itertools
import math
import subprocess
import sys
import time
import tracemalloc
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mnist_cmp.evidence.crossed import (
    WORLDS,
    collapse_limit,
    crossed_interval,
    expected_interval,
)
from mnist_cmp.evidence.intervals import (
    binned_error,
    bonett_price_interval,
    calibration_bins,
    clopper_pearson,
    error_interval,
    mcnemar_exact,
    paired_t,
    prob_better,
    wilson_interval,
)


def same(x, y):
    "Are two intervals the same to the last digit? NaN is as NaN."
    return repr(astuple(x)) == repr(astuple(y))


@st.composite
def tables(draw):
    "Two tables of losses, what to call them by, and a source of chance."
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n = draw(st.integers(4, 40))
    S = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    if draw(st.booleans()):
        S = S[0], S[0]
    kind = draw(st.sampled_from(['errors', 'rare errors', 'losses', 'long tails', 'far from 0']))
    pair = []
    for trainings in S:
        values = rng.standard_normal((trainings, n)) + rng.standard_normal(n)
        if kind == 'errors':
            values = values > 0.5
        elif kind == 'rare errors':
            values = values > 2.5
        elif kind == 'long tails':
            values = np.exp(3 * values)
        elif kind == 'far from 0':
            values = values + 1e6
        pair.append(values)
    parts = draw(st.sampled_from(['none', 'groups', 'strata']))
    given = {}
    if parts == 'groups':
        given['groups'] = rng.integers(0, max(n // 3, 1), n)
    if parts == 'strata':
        given['strata'] = rng.permutation(np.arange(n) % max(n // 4, 1))
    given['paired'] = draw(st.booleans())
    return (*pair, given, rng)


@settings(max_examples=150, deadline=None)
@given(tables())
def test_order_of_examples_and_trainings_changes_no_digit(drawn):
    a, b, given, rng = drawn
    first = crossed_interval(a, b, **given)
    examples = rng.permutation(a.shape[1])
    moved = {k: v[examples] if k in ('groups', 'strata') else v for k, v in given.items()}
    assert same(crossed_interval(a[:, examples], b[:, examples], **moved), first)
    ours = rng.permutation(len(a))
    theirs = ours if len(a) == len(b) else rng.permutation(len(b))
    assert same(crossed_interval(a[ours], b[theirs], **given), first)
    parts = {k: v for k, v in given.items() if k != 'paired'}
    moved.pop('paired')
    assert same(expected_interval(a[ours][:, examples], **moved), expected_interval(a, **parts))


@settings(max_examples=150, deadline=None)
@given(tables())
def test_order_of_models_turns_the_interval(drawn):
    a, b, given, _ = drawn
    there = crossed_interval(a, b, **given)
    back = crossed_interval(b, a, **given)
    assert (back.estimate, back.low, back.high) == (-there.estimate, -there.high, -there.low)
    assert (back.variance, back.df) == (there.variance, there.df)


@settings(max_examples=100, deadline=None)
@given(tables())
def test_names_and_types_change_no_digit(drawn):
    a, b, given, rng = drawn
    first = crossed_interval(a, b, **given)
    named = dict(given)
    for part in ('groups', 'strata'):
        if part in given:
            names = rng.permutation(given[part].max() + 1)
            named[part] = [f'name {names[code]}' for code in given[part]]
    assert same(crossed_interval(a, b, **named), first)
    assert same(crossed_interval(np.asfortranarray(a), b[:, ::-1][:, ::-1], **given), first)
    assert same(crossed_interval(a.tolist(), b.tolist(), **given), first)
    if a.dtype == bool:
        whole = crossed_interval(a.astype(np.int8), b.astype(np.float32), binary=True, **given)
        assert same(whole, first)
    else:
        short = a.astype(np.float32), b.astype(np.float32)
        wide = [x.astype(float) for x in short]
        assert same(crossed_interval(*short, **given), crossed_interval(*wide, **given))


@settings(max_examples=100, deadline=None)
@given(tables())
def test_an_interval_is_in_order(drawn):
    a, b, given, _ = drawn
    result = crossed_interval(a, b, **given)
    assert result.low <= result.estimate <= result.high
    assert result.df >= 1 and result.variance >= 0
    wider = crossed_interval(a, b, 0.999, **given)
    assert wider.low <= result.low and result.high <= wider.high
    one = expected_interval(a, groups=given.get('groups'), strata=given.get('strata'))
    assert one.low <= one.estimate <= one.high
    if a.dtype == bool:
        assert 0 <= one.low < one.high <= 1


@settings(max_examples=50, deadline=None)
@given(tables(), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_a_shift_moves_and_a_scale_stretches(drawn, shift, scale):
    a, b, given, _ = drawn
    first = crossed_interval(a * 1.0, b * 1.0, **given)
    size = max(np.abs(a).max(), np.abs(b).max(), abs(shift))
    moved = crossed_interval(a + shift, b + shift, **given)
    assert moved.estimate == pytest.approx(first.estimate, abs=1e-11 * size)
    stretched = crossed_interval(scale * a, scale * b, **given)
    assert stretched.estimate == pytest.approx(scale * first.estimate, abs=1e-11 * size * scale)
    if first.variance > 1e-20 * size**2:
        assert stretched.variance == pytest.approx(scale**2 * first.variance, rel=1e-6)
        assert stretched.df == pytest.approx(first.df, rel=1e-5)


def test_it_does_not_matter_which_image_one_error_is_at():
    "The interval of before had two different degrees of freedom here, by the image."
    none = np.zeros((2, 100), bool)
    found = set()
    for i in range(100):
        one = none.copy()
        one[0, i] = True
        found.add(crossed_interval(none, one).df)
    assert len(found) == 1


def plain_interval(d, level):
    "The formula for one table, in six lines of NumPy."
    S, N = d.shape
    rest = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    v_e = (rest**2).sum() / ((S - 1) * (N - 1)) / (S * N)
    v_r = d.mean(1).var(ddof=1) / S
    v_c = d.mean(0).var(ddof=1) / N
    variance = max(v_r + v_c - v_e, v_r, v_c)
    df = max(variance**2 / (v_r**2 / (S - 1) + v_c**2 / (N - 1)), 1)
    return stats.t.interval(level, df, d.mean(), math.sqrt(variance))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 8), st.integers(2, 60))
def test_formula(seed, S, N):
    rng = np.random.default_rng(seed)
    a = rng.exponential(size=(S, N)) + rng.normal(size=(S, 1)) * rng.exponential()
    b = rng.exponential(size=(S, N)) + rng.normal(size=N)
    for level in (0.9, 0.95, 1 - 0.05 / 528):
        result = crossed_interval(a, b, level)
        assert [result.low, result.high] == pytest.approx(plain_interval(a - b, level), rel=1e-9)
        one = expected_interval(a, level)
        assert [one.low, one.high] == pytest.approx(plain_interval(a, level), rel=1e-9)


def test_form_by_number_of_trainings():
    "Pairs from four on; with fewer, or unequal or unpaired ones, each model's own spread."
    rng = np.random.default_rng(23)
    a = rng.random((6, 50)) < 0.2
    b = rng.random((6, 50)) < 0.3
    for S, form in {1: 'one training', 2: 'unpaired', 3: 'unpaired', 4: 'paired'}.items():
        assert crossed_interval(a[:S], b[:S]).method == form
    assert crossed_interval(a, b, paired=False).method == 'unpaired'
    assert crossed_interval(a, b[:5]).method == 'unpaired'
    assert crossed_interval(a, b[:1]).method == 'one training'


def test_many_trainings_are_no_more_examples():
    "The effective number of examples is never above that of the examples."
    wrong = np.random.default_rng(24).random((20, 50)) < 0.2
    result = expected_interval(wrong)
    limits = clopper_pearson(50 * wrong.mean(), 50)
    assert [result.low, result.high] == pytest.approx(limits, abs=1e-12)


# What coverage a world must have at least and at most in 400 comparisons: three Monte Carlo errors
# beside 95 %, and room for intervals that are too wide at few errors
SHORT = {
    ('typical', 0.1, 0.08): (0.917, 0.99),
    ('very stable errors', 0.02, 0.01): (0.917, 0.995),
    ('unsteady training', 0.09, 0.09): (0.917, 0.99),
    ('heavy tails', 0.1, 0.08): (0.917, 0.99),
    ('seeds dominate', 0.1, 0.08): (0.917, 0.99),
}


def held(world, error_a, error_b, seeds, interval):
    "In how many of 400 comparisons an interval holds the difference of the true errors."
    rng = np.random.default_rng(19)
    count = 0
    for _ in range(400):
        a, b = WORLDS[world].simulate(rng, error_a, error_b, seeds, 300)
        result = interval(a, b)
        count += result.low <= error_a - error_b <= result.high
    return count / 400


@pytest.mark.parametrize('seeds', [3, 5])
@pytest.mark.parametrize('cell', SHORT, ids='{0[0]} {0[1]} {0[2]}'.format)
def test_coverage(cell, seeds):
    least, most = SHORT[cell]
    assert least <= held(*cell, seeds, crossed_interval) <= most


def test_coverage_is_seen_to_fail():
    "Intervals that leave out the examples, or the seeds, fall far below the bounds above."

    def seeds_alone(a, b):
        return paired_t(a.mean(1), b.mean(1))

    def examples_alone(a, b):
        return crossed_interval(a[:1], b[:1])

    assert held('typical', 0.1, 0.08, 5, seeds_alone) < 0.8
    assert held('seeds dominate', 0.1, 0.08, 5, examples_alone) < 0.8


def test_expected_error_is_held():
    "The interval of one model's expected error, where trainings vary much and where they do not."
    for world, error in itertools.product(['typical', 'seeds dominate'], [0.01, 0.09]):
        rng = np.random.default_rng(20)
        count = 0
        for _ in range(400):
            wrong, _ = WORLDS[world].simulate(rng, error, error, 5, 300)
            result = expected_interval(wrong)
            count += result.low <= error <= result.high
        assert count / 400 >= 0.917


shares = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
levels = st.sampled_from([0.5, 0.8, 0.95, 0.999, 0.9999])


@settings(deadline=None)
@given(shares, levels)
def test_intervals_of_shares_are_those_of_scipy(share, level):
    k, n = share
    exact = stats.beta.ppf((1 - level) / 2, k, n - k + 1) if k else 0.0
    upper = stats.beta.isf((1 - level) / 2, k + 1, n - k) if k < n else 1.0
    assert clopper_pearson(k, n, level) == pytest.approx((exact, upper), abs=1e-12)
    wilson = stats.binomtest(k, n).proportion_ci(level, 'wilson')
    assert wilson_interval(k, n, level) == pytest.approx(tuple(wilson), abs=1e-12)
    ours = wilson if min(k, n - k) >= 30 else (exact, upper)
    assert error_interval(k, n, level) == pytest.approx(tuple(ours), abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 10**6), levels)
def test_intervals_of_two_nets_are_those_of_scipy(a, b, more, level):
    p = stats.binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar_exact(a, b) == pytest.approx(p, rel=1e-9, abs=1e-300)
    n = a + b + more + 2
    share = (a - b) / n
    half = stats.norm.isf((1 - level) / 2) * math.sqrt(((a + b + 2) / n - share**2) / n)
    theirs = max(share - half, -1), min(share + half, 1)
    assert (
        bonett_price_interval(a, b, max(n - 2, 1), level) == pytest.approx(theirs, abs=1e-12)
        or n == 2
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=2, max_size=12), st.integers(0, 99), levels)
def test_paired_t_is_that_of_scipy(errors, seed, level):
    a = np.array(errors) / 1000
    b = np.random.default_rng(seed).integers(0, 1000, len(a)) / 1000
    if np.ptp(a - b) < 1e-9:
        return
    test = stats.ttest_1samp(a - b, 0)
    theirs = (a - b).mean(), *test.confidence_interval(level), test.pvalue
    assert paired_t(a, b, level) == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@given(st.integers(1, 60), st.data())
def test_collapse_limit_is_that_of_scipy(n, data):
    k = data.draw(st.integers(0, n))
    theirs = stats.binomtest(k, n, alternative='less').proportion_ci(0.95).high
    assert collapse_limit(n, n_collapsed=k) == pytest.approx(theirs, abs=1e-9)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(0, 99))
def test_share_of_seeds_won_turns(a, seed):
    b = np.random.default_rng(seed).integers(0, 4, len(a))
    there = prob_better(a, b)
    back = prob_better(b, a)
    assert there.low <= there.estimate <= there.high
    assert [back.low, back.estimate, back.high] == pytest.approx(
        [1 - there.high, 1 - there.estimate, 1 - there.low], abs=1e-9
    )


def test_floor_is_what_labels_drawn_from_the_confidences_give():
    rng = np.random.default_rng(21)
    for n, bins in ((300, 15), (300, 5), (5000, 15)):
        sure = rng.beta(8, 1, n)
        floor = binned_error(calibration_bins(sure, np.ones(n, bool), bins)).floor
        drawn = []
        for _ in range(400):
            drawn.append(binned_error(calibration_bins(sure, rng.random(n) < sure, bins)).error)
        assert floor == pytest.approx(np.mean(drawn), rel=0.06)


@pytest.mark.parametrize('kind', ['bool', 'float32', 'float64'])
def test_a_million_examples(kind):
    "Quick, and with little memory beside the tables themselves."
    rng = np.random.default_rng(22)
    wrong = rng.random((2, 5, 1_000_000), dtype=np.float32) < 0.1
    a, b = wrong.astype(kind)
    start = time.process_time()
    crossed_interval(a, b)
    seconds = time.process_time() - start
    tracemalloc.start()
    crossed_interval(a, b)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 2
    # 40 MB would be one copy of a table as float64
    assert peak < 2 * 40e6 + 1e6


def test_verdict_path_loads_no_scipy_stats():
    code = """
import numpy as np, sys
from mnist_cmp.evidence import crossed, intervals
a = np.eye(5, 40, dtype=bool)
crossed.crossed_interval(a, ~a)
crossed.crossed_interval(a[:1], ~a[:1])
crossed.expected_interval(a)
crossed.collapse_limit(5)
intervals.error_interval(3, 100)
intervals.wilson_interval(3, 100)
intervals.mcnemar_exact(3, 5)
intervals.bonett_price_interval(3, 5, 100)
intervals.paired_t([0.1, 0.2], [0.3, 0.1])
intervals.prob_better([0.1, 0.2], [0.3, 0.1])
intervals.crossed_difference(a, ~a)
intervals.binned_error([(10, 0.9, 0.8)])
print([name for name in ('scipy.stats', 'pandas', 'matplotlib', 'torch') if name in sys.modules])
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ('[]', 0), done.stderr
