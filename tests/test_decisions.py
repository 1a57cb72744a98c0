"What an interval allows to say, whatever the interval, the order of the models and their names."

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_cmp.evidence.decisions import MIN_SEEDS, RULES, cheaper, decide, failing

limits = st.floats(-1, 1).filter(math.isfinite)
intervals = st.tuples(limits, limits).map(sorted).filter(lambda pair: pair[0] < pair[1])
margins = st.one_of(st.none(), st.floats(1e-6, 2))


@given(intervals, margins, st.integers(1, 40))
def test_the_order_of_the_models_changes_nothing(interval, margin, n_seeds):
    low, high = interval
    one = decide('A', 'B', low, high, margin=margin, n_seeds=n_seeds)
    other = decide('B', 'A', -high, -low, margin=margin, n_seeds=n_seeds)
    assert one.better == other.better
    assert one.equivalent == other.equivalent
    for model in 'AB':
        assert one.outcomes(model) == other.outcomes(model)
    for rule in RULES[: 2 if margin is None else 3]:
        assert one.fails(rule, 'A') == other.fails(rule, 'A')


@given(intervals, st.floats(1e-6, 2), st.floats(1, 10))
def test_a_wider_margin_takes_nothing_back(interval, margin, times):
    narrow = decide('A', 'B', *interval, margin=margin, n_seeds=5)
    wide = decide('A', 'B', *interval, margin=margin * times, n_seeds=5)
    assert set(narrow.not_worse) <= set(wide.not_worse)
    assert narrow.better == wide.better


@given(intervals, st.floats(0, 1), st.floats(0, 1), st.floats(1e-6, 2))
def test_a_wider_interval_says_no_more(interval, below, above, margin):
    low, high = interval
    narrow = decide('A', 'B', low, high, margin=margin, n_seeds=5)
    wide = decide('A', 'B', low - below, high + above, margin=margin, n_seeds=5)
    assert wide.better in (None, narrow.better)
    assert set(wide.not_worse) <= set(narrow.not_worse)


@given(intervals, margins, st.integers(1, MIN_SEEDS - 1))
def test_few_trainings_say_nothing_of_models(interval, margin, n_seeds):
    decision = decide('A', 'B', *interval, margin=margin, n_seeds=n_seeds)
    assert decision.outcomes('A') == decision.outcomes('B') == ["can't tell"]
    assert decision.fails('not-better', 'A')
    assert not decision.fails('worse', 'A')
    assert not margin or decision.fails('not-as-good', 'A')


# both ends below 0: the first model makes fewer errors
below_0 = st.tuples(st.floats(-2, -1e-3), st.floats(1e-3, 1)).map(lambda p: (p[0], p[0] * p[1]))


@given(below_0, st.floats(1e-6, 2))
def test_who_is_better_is_as_good_for_the_gate(interval, margin):
    decision = decide('new', 'old', *interval, margin=margin, n_seeds=5)
    assert decision.better == 'new'
    assert failing([decision], 'not-as-good', 'old') == []
    assert failing([decision], 'not-as-good', 'new') == ([] if decision.equivalent else ['old'])


def test_numbers_of_any_type_are_limits():
    decision = decide('A', 'B', np.float32(0.25), np.float64(1), n_seeds=np.int64(5))
    assert decision.better == 'B'
    assert type(decision.margin) is type(None)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(n_seeds=0), 'n_seeds is 0'),
        (dict(n_seeds=2.5), 'n_seeds is 2.5'),
        (dict(n_seeds=5, margin=-1), 'margin is -1'),
        (dict(n_seeds=5, margin=math.nan), 'margin is nan'),
        (dict(n_seeds=5, margin=True), 'margin is True'),
        (dict(n_seeds=5, n_groups=0), 'n_groups is 0'),
        (dict(n_seeds=5, margin_interval=(1, 0)), 'margin_interval is 1'),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        decide('A', 'B', -1, 1, **arguments)


costs = st.dictionaries(
    st.sampled_from(['seconds', 'parameters', 'forward_flops', 'euros']),
    st.one_of(st.none(), st.just(math.nan), st.floats(0, 1e12)),
)


@given(costs, costs)
def test_costs_name_the_same_model_in_either_order(a, b):
    one = cheaper({'A': a, 'B': b})
    other = cheaper({'B': b, 'A': a})
    assert one.model == other.model
    assert bool(one.sentence) == bool(other.sentence)
    if one.model is not None:
        # nothing is said to be saved that the other one has less of
        mine, theirs = (a, b) if one.model == 'A' else (b, a)
        for name in set(mine) & set(theirs):
            pair = mine[name], theirs[name]
            if all(cost is not None and cost > 0 for cost in pair):
                assert mine[name] <= theirs[name] / 0.94


def test_names_that_would_write_on_the_terminal_are_escaped():
    strange = 'a\x1b[31m'
    decision = decide(strange, 'B', 1, 2, margin=3, n_seeds=5)
    assert '\x1b' not in decision.in_words()
    assert '\x1b' not in decide(strange, 'B', -9, 9, n_seeds=5).in_words()
    sentence = cheaper({strange: {'\x1b': 1}, 'B': {'\x1b': 3}}).sentence
    assert '\x1b' not in sentence
    assert 'cheaper' in sentence
