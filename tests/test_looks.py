"Planned looks: any plan spends what it may, and whole comparisons keep to it."

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from mnist_cmp.evidence.crossed import crossed_interval
from mnist_cmp.evidence.intervals import simulate_errors
from mnist_cmp.evidence.looks import SPENT, Looks, first_crossing, nominal_levels

RESULTS = Path(__file__).resolve().parent.parent / 'nbs' / 'results' / 'looks.json'
plans = st.sets(st.integers(3, 60), min_size=2, max_size=6).map(sorted).map(tuple)


def crossed_by_look(looks, z):
    "Probability that the walk has crossed by each look, on a grid of equal steps."
    times = np.array(looks) / looks[-1]
    places = np.zeros(1)
    weights = np.ones(1)
    total = [0.0]
    before = 0.0
    for time, limit in zip(times, z):
        edge = limit * math.sqrt(time)
        sd = math.sqrt(time - before)
        out = stats.norm.sf((edge - places) / sd) + stats.norm.cdf((-edge - places) / sd)
        total.append(total[-1] + weights @ out)
        to = np.linspace(-edge, edge, 1001)
        density = np.exp(-(((to[:, None] - places) / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi))
        weights = (density @ weights) * integrate.simpson(np.eye(1001), x=to)
        places = to
        before = time
    return np.array(total[1:])


@given(plans, st.integers(1, 50))
@settings(max_examples=15, deadline=None)
def test_a_plan_spends_what_the_rule_allows(looks, pairs):
    alpha = 0.05 / pairs
    z = stats.norm.isf(np.array(nominal_levels(looks, alpha)) / 2)
    spent = alpha * (np.array(looks) / looks[-1]) ** 3
    assert crossed_by_look(looks, z) == pytest.approx(spent, rel=1e-5, abs=1e-12)


@given(plans, st.integers(1, 50))
@settings(max_examples=15, deadline=None)
def test_a_look_alone_has_more_than_it_adds_and_less_than_all_so_far(looks, pairs):
    levels = Looks(looks, pairs).levels
    assert list(levels) == list(looks)
    spent = SPENT * 0.05 / pairs * (np.array(looks) / looks[-1]) ** 3
    alone = 1 - np.array(list(levels.values()))
    assert (alone >= np.diff(spent, prepend=0) - 1e-12).all()
    assert (alone <= spent + 1e-9).all()
    more = Looks(looks, pairs + 1).levels
    assert all(more[look] >= level for look, level in levels.items())


def test_the_least_and_the_most_that_can_be_planned():
    for looks in ((3, 1000), tuple(range(3, 60)), (999, 1000)):
        levels = Looks(looks, 45).levels
        assert list(levels) == list(looks)
        assert all(0.95 < level <= 1 - 1e-9 for level in levels.values())
        # the interval takes each of them
        d = np.random.default_rng(1).normal(size=(3, 9))
        assert crossed_interval(d, d * 0, levels[looks[0]]).high < math.inf


def test_successive_t_intervals_cross_no_more_than_allowed():
    "Where seeds alone vary: 200,000 walks, the worst of the worlds."
    rng = np.random.default_rng(1)
    x = rng.standard_normal((200_000, 20), dtype=np.float32)
    for pairs in (1, 10):
        crossed = np.zeros(len(x), bool)
        for look, level in Looks(n_pairs=pairs).levels.items():
            first = x[:, :look]
            t = first.mean(1) / (first.std(1, ddof=1) / math.sqrt(look))
            crossed |= np.abs(t) > special.stdtrit(look - 1, 0.5 + level / 2)
        error = pairs * math.sqrt(0.05 / pairs / len(x))
        assert 0.04 < pairs * crossed.mean() < 0.052 + 2 * error


def test_whole_comparisons_of_equals():
    "A short form of benchmarks/looks.py: 0/1 errors, the interval of the verdict."
    rng = np.random.default_rng(2)
    repeats = 1500
    levels = Looks().levels
    wrong = 0
    uncorrected = 0
    for _ in range(repeats):
        a, b = simulate_errors(rng, 0.2, 0.2, 20, 150, difficulty=1, seed_sd=0.5)
        at_levels = []
        at_95 = []
        for look, level in levels.items():
            interval = crossed_interval(a[:look], b[:look], level)
            at_levels.append((interval.low, interval.high))
            interval = crossed_interval(a[:look], b[:look], 0.95)
            at_95.append((interval.low, interval.high))
        wrong += first_crossing(at_levels) is not None
        uncorrected += first_crossing(at_95) is not None
    assert wrong / repeats < 0.05 + 2 * math.sqrt(0.05 * 0.95 / repeats)
    assert uncorrected / repeats > 0.08


def test_a_large_difference_ends_it_at_the_first_look():
    rng = np.random.default_rng(3)
    a, b = simulate_errors(rng, 0.2, 0.05, 20, 1000)
    interval = crossed_interval(a[:5], b[:5], Looks().level(5))
    assert first_crossing([(interval.low, interval.high)]) == 0


def test_the_stored_simulation_is_whole():
    results = json.loads(RESULTS.read_text(encoding='utf-8'))
    for row in results['false_verdicts']:
        for pairs in (1, 3, 10):
            assert row[f'pairs_{pairs}'] <= 0.055, row
    assert {row['examples'] for row in results['false_verdicts']} == {300, 2000}


@pytest.mark.parametrize('looks', [None, 5, '5,7', [], [5], [7, 5], [5, 5], [2, 4], [5, 1001]])
def test_what_is_no_plan(looks):
    with pytest.raises(ValueError, match='looks is'):
        Looks(looks)


@pytest.mark.parametrize('alpha', [0, 1, math.nan, '5%'])
def test_what_is_no_alpha(alpha):
    with pytest.raises(ValueError, match='alpha is'):
        Looks(alpha=alpha)
