"Metrics against scikit-learn and plain loops, on odd answers, in any order; their names and texts."

import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from sklearn import metrics as sk

from mnist_cmp.core.files import read_json
from mnist_cmp.evidence.crossed import crossed_interval
from mnist_cmp.evidence.metrics import (
    ALIASES,
    METRICS,
    Metric,
    alias_note,
    bootstrap_difference,
    bootstrap_interval,
    get_metric,
    metrics_frame,
    parse_margin,
    probability_fault,
)

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / 'mnist_cmp_hypothesis')
ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(set(METRICS) - {'top5_error'}) + ['top2_error']
STATE = np.random.default_rng(0)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def asked(name, rng, n=60, seeds=4, n_classes=3, digits=1):
    "A metric, truth and answers that it takes, with ties."
    metric = get_metric(name)
    if metric.needs in ('numbers', 'losses'):
        y = rng.normal(size=n).round(digits)
        return metric, y, rng.normal(size=(seeds, n)).round(digits)
    is_binary = name in ('sensitivity', 'specificity', 'f1')
    n_classes = 2 if is_binary else n_classes
    y = rng.permutation(np.arange(n) % n_classes)
    logits = rng.normal(size=(seeds, n, n_classes)).round(digits)
    logits[:, np.arange(n), y] += 1
    if metric.needs == 'labels':
        return metric, y, logits.argmax(2)
    return metric, y, softmax(logits)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('seed', range(3))
def test_reference(name, seed):
    "Each agrees with an implementation that is not ours."
    metric, y, answers = asked(name, np.random.default_rng(seed))
    references = {
        'error': sk.zero_one_loss,
        'top2_error': lambda y, p: 1 - sk.top_k_accuracy_score(y, p, k=2),
        'log_loss': sk.log_loss,
        'brier': lambda y, p: sk.brier_score_loss(y, p, scale_by_half=False),
        'balanced_error': lambda y, p: 1 - sk.balanced_accuracy_score(y, p),
        'auroc': lambda y, p: sk.roc_auc_score(y, p, multi_class='ovr'),
        'sensitivity': sk.recall_score,
        'specificity': lambda y, p: sk.recall_score(y, p, pos_label=0),
        'f1': sk.f1_score,
        'f1_macro': lambda y, p: sk.f1_score(y, p, average='macro'),
        'squared_error': sk.mean_squared_error,
        'absolute_error': sk.mean_absolute_error,
        'loss': lambda y, p: p.mean(),
    }
    if name == 'top2_error':  # scikit-learn breaks ties by the last class
        answers = answers + 1e-6 * np.arange(3)[::-1]
    for answer, value in zip(answers, metric.of_runs(y, answers)):
        assert value == pytest.approx(references[name](y, answer), abs=1e-9)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(name=st.sampled_from(NAMES), seed=st.integers(0, 10**6), n=st.integers(6, 40))
def test_orders(name, seed, n):
    "Neither the order of examples nor that of seeds changes a digit."
    rng = np.random.default_rng(seed)
    metric, y, answers = asked(name, rng, n)
    examples = rng.permutation(n)
    seeds = rng.permutation(len(answers))
    one = metric.values(y, answers)
    other = metric.values(y[examples], answers[seeds][:, examples])
    kept = examples if one.used is None else np.searchsorted(one.used, examples[other.used])
    np.testing.assert_array_equal(one.values[seeds][:, kept], other.values)
    np.testing.assert_array_equal(one.of_runs()[seeds], other.of_runs())
    flat = one.without_strata()
    np.testing.assert_array_equal(flat.values[seeds][:, kept], other.without_strata().values)
    against = one.values[::-1]
    a = crossed_interval(one.values, against, strata=one.strata)
    b = crossed_interval(other.values, against[seeds][:, kept], strata=other.strata)
    assert a == b


@pytest.mark.parametrize('name', ['error', 'auroc', 'f1', 'absolute_error'])
@pytest.mark.parametrize('grouped', [False, True])
@pytest.mark.parametrize('seeds', [1, 3, 4])
def test_bootstrap_orders(name, grouped, seeds):
    rng = np.random.default_rng(3)
    metric, y, a = asked(name, rng, seeds=seeds, digits=2)
    b = asked(name, rng, seeds=seeds, digits=2)[2]
    groups = np.arange(60) // 5 if grouped else None
    order = rng.permutation(60)
    one = bootstrap_difference(metric, y, a, b, groups=groups, n_boot=100)
    other = bootstrap_difference(
        metric,
        y[order],
        b[::-1][:, order],
        a[::-1][:, order],
        groups=None if groups is None else 100 - groups[order],
        n_boot=100,
    )
    assert (one.low, one.high, one.df) == (-other.high, -other.low, other.df)


@pytest.mark.parametrize('name', NAMES)
def test_dtypes(name):
    "Storage changes no digit where it holds the same numbers."
    metric, y, answers = asked(name, np.random.default_rng(4))
    if answers.dtype.kind == 'f':
        answers = answers.astype(np.float32)
        others = [answers.astype(float), np.asfortranarray(answers), answers[:, ::1]]
        if metric.needs == 'probabilities':
            assert probability_fault(answers) == ''
    else:
        others = [answers.astype(np.uint8), answers.astype(np.int16), np.asfortranarray(answers)]
    for other in others:
        np.testing.assert_array_equal(
            metric.values(y, answers).values, metric.values(y, other).values
        )


@pytest.mark.parametrize('name', NAMES)
def test_all_right_and_all_wrong(name):
    metric = get_metric(name)
    y = np.arange(12) % 3
    positive = {}
    if name in ('sensitivity', 'specificity', 'f1'):
        positive = {'positive': 1}
    right = np.eye(3)[y]
    wrong = np.eye(3)[(y + 1) % 3]
    if metric.needs == 'labels':
        right = right.argmax(1)
        wrong = wrong.argmax(1)
    elif metric.needs in ('numbers', 'losses'):
        right = y.astype(float)
        wrong = right + 1
        if metric.needs == 'losses':
            right = 0 * right
    best = 1 if metric.greater_is_better else 0
    assert metric.of_run(y, right, **positive) == best
    if name == 'top2_error':
        assert metric.of_run(y, wrong) in (1 / 3, 2 / 3)  # of two zeros the first is second
    elif metric.bounds[1] == 1 and name not in ('auroc', 'specificity'):
        assert metric.of_run(y, wrong, **positive) == 1 - best
    losses = metric.values(y, [right] * 4, **positive)
    interval = crossed_interval(losses.values, losses.values, strata=losses.strata)
    assert interval.estimate == 0


def test_constant_scores():
    y = np.arange(12) % 3
    constant = np.full((2, 12, 3), 1 / 3)
    assert get_metric('auroc').of_runs(y, constant).tolist() == [0.5, 0.5]
    assert get_metric('error').of_runs(y, constant).tolist() == [2 / 3, 2 / 3]
    assert get_metric('log_loss').of_run(y, constant[0]) == pytest.approx(np.log(3), abs=1e-9)
    assert get_metric('brier').of_run(y, constant[0]) == pytest.approx(2 / 3, abs=1e-9)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('name', NAMES)
def test_no_numbers_are_refused(name, bad):
    "One among scores of an answer; or an answer of NaN alone, where none may lack."
    metric, y, answers = asked(name, np.random.default_rng(5))
    if metric.needs == 'labels':
        answers = np.eye(3)[answers][:, :, : y.max() + 1]
    one = answers.astype(float)
    one[(1, 3, 0)[: one.ndim]] = bad
    with pytest.raises(ValueError, match='finite numbers, and no NaN'):
        metric.values(y, one)
    if not metric.counts_failed:
        answers[1, 3] = np.nan
        with pytest.raises(ValueError, match='what a missing answer costs is unknown'):
            metric.values(y, answers)


LABEL_METRICS = ['error', 'balanced_error', 'sensitivity', 'specificity', 'f1', 'f1_macro']


@pytest.mark.parametrize('name', LABEL_METRICS)
@pytest.mark.parametrize('n_classes', [2, 3])
def test_missing_answers_are_wrong(name, n_classes):
    "A label of −1 or a row of NaN counts like a wrong answer, against either side."
    rng = np.random.default_rng(12)
    metric = get_metric(name)
    is_one = name in ('sensitivity', 'specificity', 'f1')
    options = {'positive': 1} if is_one else {}
    y = np.arange(30) % n_classes
    labels = rng.integers(n_classes, size=(2, 30))
    gone = rng.random((2, 30)) < 0.3
    # the wrong answer of two classes; of more, for one of them against the rest, the other side
    wrong = np.where(y == 1, 0, 1) if n_classes == 2 or is_one else (y + 1) % n_classes
    expected = metric.of_runs(y, np.where(gone, wrong, labels), n_classes, **options)
    missing = metric.of_runs(y, np.where(gone, -1, labels), n_classes, **options)
    if name == 'f1_macro' and n_classes == 3:  # no class gets the false positives
        assert (missing >= expected).all()
        for run, value in zip(np.where(gone, -1, labels), missing):
            found = sk.f1_score(y, run, labels=[0, 1, 2], average='macro')
            assert value == pytest.approx(found, abs=1e-9)
    else:
        np.testing.assert_allclose(missing, expected, atol=1e-12)
    scores = np.eye(n_classes)[labels]
    scores[gone] = np.nan
    if name not in ('sensitivity', 'specificity'):
        np.testing.assert_array_equal(metric.of_runs(y, scores, **options), missing)
    elif n_classes == 2:
        np.testing.assert_array_equal(metric.at(0.5).of_runs(y, scores, **options), missing)


def test_missing_answers_of_top_k():
    y = np.arange(12) % 4
    scores = np.eye(4)[None, y]
    scores[0, 3] = np.nan
    values = get_metric('top2_error').values(y, scores)
    assert np.flatnonzero(values.values[0]).tolist() == [3]
    assert values.remarks == ()


@pytest.mark.parametrize('name', ['log_loss', 'brier'])
def test_probabilities_are_never_made(name):
    y = np.arange(12) % 3
    logits = STATE.normal(size=(2, 12, 3))
    for scores in (logits, 2 * softmax(logits), softmax(logits) * 0.99, np.eye(3)[None, y] * 1.01):
        with pytest.raises(ValueError, match='needs probabilities, but the scores are none'):
            get_metric(name).values(y, scores)
    get_metric(name).values(y, softmax(logits).astype(np.float16))


def pair_loop(scores, is_positive):
    "DeLong's components, over all pairs."
    wins = np.zeros((is_positive.sum(), (~is_positive).sum()))
    for i, high in enumerate(scores[is_positive]):
        for j, low in enumerate(scores[~is_positive]):
            wins[i, j] = (high > low) + 0.5 * (high == low)
    return wins.mean(1), wins.mean(0)


@pytest.mark.parametrize('seed', range(5))
def test_delong(seed):
    "The variance of a difference of AUROCs, of one training each, is DeLong's."
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(50) % 4 == 0)
    a = (y + rng.normal(size=50)).round(1)
    b = (y + rng.normal(size=50)).round(1)
    expected = 0.0
    for of_a, of_b in zip(pair_loop(a, y), pair_loop(b, y)):
        expected += np.var(of_a - of_b, ddof=1) / len(of_a)
    auroc = get_metric('auroc')
    first, second = (auroc.values(y.astype(int), scores[None]) for scores in (a, b))
    interval = crossed_interval(first.values, second.values, strata=first.strata)
    assert interval.variance == pytest.approx(expected, abs=1e-12)
    flat = crossed_interval(first.without_strata().values, second.without_strata().values)
    assert flat.variance == pytest.approx(expected, abs=1e-12)


def test_one_against_rest_by_a_loop():
    "The influence of each example, class by class, by DeLong's components."
    rng = np.random.default_rng(6)
    metric, y, answers = asked('auroc', rng, n=40)
    N = len(y)
    expected = np.zeros(N)
    for k in range(3):
        is_positive = y == k
        own, rest = pair_loop(answers[0][:, k], is_positive)
        n = int(is_positive.sum())
        for part, values, size in ((is_positive, own, n), (~is_positive, rest, N - n)):
            unbiased = np.sqrt(size / (size - 1) * (N - 1) / N)
            expected[part] += (values.mean() + unbiased * N / size * (values - values.mean())) / 3
    found = 1 - metric.values(y, answers[:1]).values[0]
    assert np.abs(found - expected).max() < 1e-12


def test_groups_of_one_are_no_groups():
    metric, y, a = asked('balanced_error', np.random.default_rng(7))
    b = asked('balanced_error', np.random.default_rng(8))[2]
    first, second = (metric.values(y, p) for p in (a, b))
    by_strata = crossed_interval(first.values, second.values, binary=False, strata=y)
    flat = [part.without_strata().values for part in (first, second)]
    by_groups = crossed_interval(*flat, groups=np.arange(60))
    assert by_groups.estimate == pytest.approx(by_strata.estimate, abs=1e-12)
    assert by_groups.examples == pytest.approx(by_strata.examples, abs=1e-12)
    assert by_groups.seeds == pytest.approx(by_strata.seeds, abs=1e-12)
    assert by_groups.residual == pytest.approx(by_strata.residual, abs=1e-12)


def test_ten_thousand_classes():
    K = 10_000
    y = np.repeat(np.arange(K), 2)
    labels = np.roll(y, 1)[None]
    start = time.perf_counter()
    for name in ('error', 'balanced_error', 'f1_macro'):
        assert get_metric(name).of_run(y, labels[0], K) == 0.5
    assert time.perf_counter() - start < 20
    few = np.arange(0, K, 500).repeat(2)  # 20 classes of them in the test
    scores = np.zeros((1, len(few), K), dtype=np.float32)
    scores[0, np.arange(len(few)), few] = 1
    values = get_metric('auroc').values(few, scores)
    assert values.of_runs().tolist() == [0.0]
    assert values.remarks[0].startswith('9980 of 10000 classes are without examples')
    assert get_metric('top5_error').of_run(few, scores[0]) == 0


def test_strangers_names_are_made_printable():
    with pytest.raises(ValueError, match=r'but dog\\x1b has one') as error:
        get_metric('balanced_error').of_run([0, 0, 1], [0, 0, 1], classes=['cat', 'dog\x1b'])
    assert '\x1b' not in str(error.value)


def test_one_class_only():
    for scores in (np.array([[0.1, 0.2]]), softmax(STATE.normal(size=(1, 2, 2)))):
        with pytest.raises(ValueError, match='AUROC needs examples of two classes'):
            get_metric('auroc').values([1, 1], scores)
    with pytest.raises(ValueError, match='but all are of class b'):
        get_metric('auroc').values([1, 1], np.zeros((1, 2, 3)), classes=['a', 'b', 'c'])
    assert get_metric('balanced_error').of_run([1, 1], [1, 0]) == 0.5
    assert get_metric('f1_macro').of_run([1, 1], [1, 1]) == 1


def test_own_functions_fail_in_words():
    def breaks(y, p):
        raise KeyError('a\x1b')

    def gives_text(y, p):
        return 'high'

    for function, words in (
        (breaks, r"failed with KeyError: 'a\\x1b'"),
        (gives_text, 'gave nan, but must give a finite number'),
        (lambda y, p: np.nan, 'gave nan'),
        (lambda y: 1, 'failed with TypeError'),
    ):
        with pytest.raises(ValueError, match=words):
            bootstrap_interval(Metric(function, True), [0, 1], [[0, 1]], n_boot=100)


def test_own_scores_as_scikit_learns():
    "Of two classes it gets scores of the positive one, of more a row each."
    rng = np.random.default_rng(9)
    y = np.arange(40) % 2
    p = softmax(rng.normal(size=(3, 40, 2)))
    average = Metric(sk.average_precision_score, greater_is_better=True, needs='scores')
    for answer, value in zip(p, average.of_runs(y, p)):
        assert value == sk.average_precision_score(y, answer[:, 1])
    swapped = average.of_runs(y, p, classes=['b', 'a'], positive='b')
    assert swapped[0] == sk.average_precision_score(1 - y, p[0][:, 0])
    three = softmax(rng.normal(size=(3, 40, 3)))
    log_loss = Metric(sk.log_loss, greater_is_better=False, needs='probabilities')
    found = bootstrap_interval(log_loss, np.arange(40) % 3, three, n_boot=100)
    assert found.estimate == pytest.approx(
        get_metric('log_loss').of_runs(np.arange(40) % 3, three).mean(), abs=1e-12
    )
    assert found.low < found.estimate < found.high


def test_bootstrap_variance_is_that_of_the_formula():
    "By draws, of F1, against its influence."
    rng = np.random.default_rng(10)
    y = (rng.random(200) < 0.4).astype(int)
    a = np.where(rng.random((5, 200)) < 0.2, 1 - y, y)
    b = np.where(rng.random((5, 200)) < 0.3, 1 - y, y)
    f1 = get_metric('f1')
    exact = crossed_interval(f1.values(y, a).values, f1.values(y, b).values)
    own = Metric(sk.f1_score, greater_is_better=True)
    drawn = bootstrap_difference(own, y, a, b, n_boot=500)
    assert drawn.estimate == pytest.approx(exact.estimate, abs=1e-12)
    assert drawn.seeds == pytest.approx(exact.seeds, abs=1e-12)
    assert drawn.examples == pytest.approx(exact.examples, rel=0.25)
    assert drawn.high - drawn.low == pytest.approx(exact.high - exact.low, rel=0.12)


def test_scikit_learns_names():
    "An alias of each of its scorers that mean one of ours, and no other meaning."
    for name in sk.get_scorer_names():
        if name in ALIASES:
            assert get_metric(name).name == ALIASES[name]
    for name in ('accuracy', 'neg_log_loss', 'roc_auc', 'roc_auc_ovr', 'balanced_accuracy'):
        assert name in ALIASES
    for name in ALIASES:
        note = alias_note(name)
        assert bool(note) == (
            'accuracy' in name or name.startswith('neg_') or name == 'brier_score_loss'
        )


def test_texts_of_all():
    "Each is read in a sentence, in both directions."
    for name, metric in METRICS.items():
        better = metric.comparison_text(-0.25)
        worse = metric.comparison_text(0.25)
        assert better != worse
        assert ('points' in better) == metric.is_rate
        assert ('higher' in better) == (metric.greater_is_better and 'fewer' not in better)
        assert not {'a auroc', 'a F1', 'a error', 'an log'} & {better[4:10]}
        assert metric.text(0.5) == ('50.00 %' if metric.is_rate else '0.500'), name
    assert get_metric('auroc').comparison_text(-0.012) == 'has an AUROC higher by 0.012'
    assert get_metric('f1').comparison_text(0.012) == 'has an F1 lower by 0.012'
    assert get_metric('error').span_text(-0.001, 0.0042) == '−0.10\u00a0to\u00a00.42\u00a0points'


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(text=st.one_of(st.text(max_size=12), st.from_regex(r'[-+0-9.e% pointsinf]{1,9}')))
def test_margins_are_a_number_or_refused(text):
    for metric in ('error', 'log_loss', 'auroc'):
        try:
            margin = parse_margin(text, metric)
        except ValueError as e:
            assert str(e).startswith('margin is ')
        else:
            assert 0 < margin < np.inf


def test_table_of_all():
    frame = metrics_frame()
    assert [*frame.index] == [*METRICS]
    assert frame.loc['error', "scikit-learn's names"].startswith('accuracy')


def test_light():
    "Neither SciPy's statistics nor pandas nor scikit-learn is loaded."
    code = (
        'import sys, json, numpy as np\n'
        'from mnist_cmp.evidence.metrics import get_metric, bootstrap_interval\n'
        'y = np.arange(20) % 2\n'
        'get_metric("auroc").values(y, np.arange(40.0).reshape(2, 20))\n'
        'bootstrap_interval("f1", y, [y, y], n_boot=100)\n'
        'heavy = "torch pandas scipy.stats sklearn matplotlib.pyplot".split()\n'
        'print(json.dumps([name for name in heavy if name in sys.modules]))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def simulated(rng, n, seeds):
    "The truth and scores of two equal models, with chance of seeds and examples."
    y = (rng.random(n) < 0.3).astype(int)
    common = rng.normal(size=n)
    scores = []
    for _ in range(2):
        skill = 1.5 + 0.4 * rng.normal(size=(seeds, 1))
        hard = common + rng.normal(size=n)
        scores.append(skill * y + hard + rng.normal(size=(seeds, n)))
    return y, scores


@pytest.mark.parametrize('name, is_at', [('auroc', False), ('f1', True), ('sensitivity', True)])
def test_coverage(name, is_at):
    "A short form of benchmarks/coverage_metrics.py."
    rng = np.random.default_rng(11)
    metric = get_metric(name).at(1.5) if is_at else get_metric(name)
    held = []
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(400):
            y, (a, b) = simulated(rng, 200, 5)
            first, second = (metric.values(y, p) for p in (a, b))
            interval = crossed_interval(first.values, second.values, strata=first.strata)
            held.append(interval.low <= 0 <= interval.high)
    assert 0.92 <= np.mean(held) <= 0.985  # two errors of chance below 94 %, three above 95


def test_coverage_that_is_shown():
    "What the notebook shows is of all metrics, and enough comparisons."
    results = read_json(ROOT / 'nbs' / 'results' / 'coverage_metrics.json')
    names = {row['metric'].partition(',')[0] for row in results['metrics']}
    assert {name for name in METRICS if name not in ('loss', 'top5_error')} <= names
    assert min(row['comparisons'] + row['refused'] for row in results['metrics']) >= 1000
