"""No number that a comparison shows lies outside of what is possible: in its tables, its words,
its files, its page, and on the axes of its figures."""

import json
import math
import re
import warnings
from dataclasses import replace
from functools import partial

import jsonschema
import matplotlib.pyplot as plt
import numpy as np
import odd
import pytest
from tiny import grouped, known_costs

import mnist_cmp as mc
from mnist_cmp.evidence.differences import decimals, span
from mnist_cmp.evidence.figures import comparison_figures
from mnist_cmp.report import report_page

MODELS = {
    'plain': odd.linear,
    'dead': odd.Constant,
    'wild': partial(odd.Diverging, 30),
    'guess': odd.Guessing,
}
CASES = {
    'two seeds': dict(),
    'one seed': dict(seeds=1),
    'perfect nets': dict(models={'a': odd.linear, 'b': partial(odd.linear, 2)}, seeds=3, epochs=8),
    'equal dead nets': dict(models={'a': odd.Constant, 'b': odd.Constant}, rare=0.05, contrast=0),
    'nets without numbers': dict(
        models={'a': partial(odd.Diverging, 30), 'b': partial(odd.Diverging, 35)}
    ),
    'three test images': dict(test=3),
    'two test images': dict(test=2),
    'three classes': dict(
        classes=3, models={'a': partial(odd.linear, 3), 'b': partial(odd.Guessing, 3)}, seeds=3
    ),
    'seven seeds': dict(
        classes=3, models={'a': partial(odd.linear, 3), 'b': partial(odd.Falling, 20, 3)}, seeds=7
    ),
}


def compared(models=MODELS, seeds=2, epochs=4, **how):
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.filterwarnings('ignore', message='.*parameters')  # their sizes differ on purpose
        warnings.filterwarnings('ignore', message='.*the test split has no image')
        patch.setattr('mnist_cmp.comparison.measure_costs', known_costs)
        return mc.compare(
            models,
            odd.data_of(**how),
            {'learning_rate': (0.01, 0.02), 'batch_size': (8, 10)},
            n_trials=2,
            seeds=seeds,
            search_epochs=1,
            recipe=mc.Recipe(epochs=epochs),
            compute=mc.Compute(workers=1),
        )


@pytest.fixture(scope='module', params=CASES.values(), ids=CASES)
def found(request):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield compared(**request.param)
    plt.close('all')


@pytest.fixture(autouse=True)
def figures_closed():
    yield
    plt.close('all')


# Frames.

SHARE = (0, 1)
COUNT = (0, math.inf)
ANY = (-math.inf, math.inf)
RANGES = {  # the first pattern that fits a column's name says where its numbers lie
    'runs_frame': {
        'errors_': COUNT,
        '.*accuracy': SHARE,
        '.*loss': COUNT,
        'momentum': SHARE,
        '.*': COUNT,
    },
    'to_frame': {'.*accuracy|test error|sd': SHARE, '.*': COUNT},
    'differences': {'points': (-100, 100), 'better again$': SHARE, '.*': ANY},
    'kbest': {r'.* − .*points': (-100, 100), r'.*\(%\)': (0, 100), '.*': ANY},
    'costs': {'against': (-100, math.inf), '.*': COUNT},
    'class_errors': {'images': COUNT, '.*': SHARE},
    'agreement': {'.*': SHARE},
    'hard_frame': {'.*wrong in|image': COUNT, '.*confidence': SHARE, '.*': ANY},
}


def check_number(value, where, low, high):
    assert not math.isinf(value), where
    if math.isnan(value):
        return
    assert low <= value <= high, f'{where}: {value} is not from {low} to {high}'
    assert not (value == 0 and math.copysign(1, value) < 0), f'{where}: −0'
    assert value == 0 or abs(value) > 1e-10, f'{where}: {value} is a rounding error'


def check_span(text, where, low, high):
    "'1.00 to 2.00', in order and in range."
    ends = re.fullmatch(r'(−?[\d.]+)\s+to\s+(−?[\d.]+)', text)
    if not ends:
        return
    first, last = (float(end.replace('−', '-')) for end in ends.groups())
    assert low <= first <= last <= high, f'{where}: {text}'


def check_frame(frame, ranges, name):
    for column in frame.columns:
        low, high = next(ends for pattern, ends in ranges.items() if re.match(pattern, str(column)))
        for row, value in frame[column].items():
            where = f'{name}, {row}, {column}'
            if isinstance(value, str):
                limits = (
                    (0, 1) if 'again' in column else (0, 100) if '95 %' in column else (-100, 100)
                )
                check_span(value, where, *limits)
            elif value is not None:
                check_number(float(value), where, low, high)


@pytest.mark.parametrize('name', RANGES)
def test_tables(found, name):
    check_frame(getattr(found, name)(), RANGES[name], name)


def test_no_table_shows_more_guesses_than_say_something(found):
    n = len(found.classes)
    assert found.ks == ([1] if n == 2 else [1, 2])
    assert list(found.kbest().index) == found.ks
    assert list(found.best.runs[0].test.errors) == found.ks
    assert [tick for tick in found.plot_kbest().get_xticks()] == found.ks


def test_confusions_count_images(found):
    for c in found.models:
        counts = found.confusion(c.name).to_numpy()
        times = counts * len(c.runs)
        assert (counts >= 0).all() and not np.signbit(counts).any()
        assert abs(times - times.round()).max() < 1e-9
        assert counts.sum() == pytest.approx(found.sizes['test'])
        assert found.calibration(c.name).images.sum() <= len(c.runs) * found.sizes['test']
        check_frame(found.budget(c.name), {'.*': SHARE}, 'budget')
        check_frame(found.calibration(c.name), {'images': COUNT, '.*': SHARE}, 'calibration')


def test_differences(found):
    for a in found.names:
        for b in set(found.names) - {a}:
            d = found.difference(a, b)
            for low, high in filter(None, ((d.low, d.high), d.seeds, d.images)):
                assert -1 <= low <= d.estimate <= high <= 1
            assert all(0 < p <= 1 for p in d.mcnemar)
            assert d.fresh is None or 0 <= d.fresh.low <= d.fresh.estimate <= d.fresh.high <= 1
            assert sum(d.shares.values()) == pytest.approx(1) and min(d.shares.values()) >= 0
            assert d.wins + d.losses <= len(found[a].runs)


# Words.


def check_words(text):
    "Percentages, points, spans and shares of counts in a text for readers."
    assert not re.search(r'\b(nan|inf|NaN|None|Infinity)\b', text), re.search(
        r'.{40}\b(nan|inf|NaN|None)\b.{20}', text
    )
    assert not re.search(r'[-−]0(\.0+)?(?![\d.])', text), re.search(
        r'.{30}[-−]0(\.0+)?(?![\d.])', text
    )
    assert not re.search(r'\d[eE]-[1-9]\d', text), 'a rounding error'
    for number in re.findall(r'(?<![\d.])(\d+(?:\.\d+)?)\s%', text):
        assert 0 <= float(number) <= 100 or f'+{number} %' in text, f'{number} %'
    for first, last in re.findall(r'(−?[\d.]+)\s+to\s+(−?[\d.]+) points', text):
        assert -100 <= float(first.replace('−', '-')) <= float(last.replace('−', '-')) <= 100
    for part, whole in re.findall(r'(\d+) of (\d+)\b', text):
        assert 0 <= int(part) <= int(whole) and int(whole) > 0, f'{part} of {whole}'
    assert not re.search(r'\b1 (trials|epochs|trainings|seeds)\b', text)


def test_verdict_and_summary(found):
    check_words(mc.verdict(found))
    for line in mc.summary(found).splitlines()[1:]:
        assert 'nan' not in line.lower()
        for number in re.findall(r'(\d+\.\d\d)(?: ±|\s+\d+ )', line):
            assert 0 <= float(number) <= 100


def test_page(found):
    page = re.sub(r'base64,[\w+/=]+', '', report_page(found))
    text = re.sub(r'<[^>]+>', ' ', page.split('</style>')[1].split('Provenance</h2>')[0])
    check_words(text.split('Methods')[0].replace('learning rate', ''))
    cells = [cell.strip() for cell in re.findall(r'<td>([^<]*)</td>', page)]
    assert len(cells) > 20
    for cell in cells:
        assert cell not in ('nan', 'inf', '-0', '-0.00', 'None')
        check_span(cell, 'page', -100, 100)


def test_files(found, tmp_path):
    found.save(tmp_path)
    text = (tmp_path / 'report.json').read_text()
    jsonschema.validate(json.loads(text), mc.report_schema())
    assert not re.search(r'NaN|Infinity', text)

    def walk(part, path=''):
        if isinstance(part, dict):
            for key, value in part.items():
                walk(value, f'{path}/{key}')
        elif isinstance(part, list):
            for value in part:
                walk(value, path)
        elif isinstance(part, (int, float)) and not isinstance(part, bool):
            shares = 'accuracy', 'confidence'
            check_number(part, path, 0, 1 if path.endswith(shares) else math.inf)

    walk(json.loads(text))
    assert mc.Comparison.load(tmp_path) == found


# Figures.


def test_axes(found):
    "Marks on axes of percentages and points lie where there can be something."
    seen = 0
    for _, name, _, draw in comparison_figures(found):
        figure = draw()
        if figure is None or name.startswith('pictures'):
            continue
        figure.get_figure().canvas.draw()
        for ax in figure.get_figure().axes:
            for axis in ax.xaxis, ax.yaxis:
                label = axis.get_label_text()
                limits = (
                    (-100, 100) if '(points)' in label else (0, 100) if '(%)' in label else None
                )
                if limits is None:
                    continue
                low, high = sorted(axis.get_view_interval())
                marks = [mark for mark in axis.get_ticklocs() if low <= mark <= high]
                assert marks, f'{name}: no mark on {label}'
                assert limits[0] <= min(marks) and max(marks) <= limits[1], (
                    f'{name}: {label} {marks}'
                )
                seen += 1
        assert not re.search(
            r'nan|inf\b', ' '.join(t.get_text() for t in figure.get_figure().findobj(plt.Text))
        )
    assert seen > 5


# What is made up: cases that a training seldom gives.


@pytest.fixture(scope='module')
def pair():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        return compared(models={'a': odd.linear, 'b': odd.linear})


def with_wrong(comparison, *wrong):
    "A comparison whose models get these images wrong, a list for each run."

    def made(run, places):
        test = replace(
            run.test,
            wrong=places,
            predicted=[1 - comparison.labels[k] for k in places],
            errors={1: len(places)},
            confidence=[0.5] * len(places),
            accuracy=1 - len(places) / 100,
        )
        return replace(run, test=test)

    models = [
        replace(c, runs=[made(run, places) for run, places in zip(c.runs, several)])
        for c, several in zip(comparison.models, wrong)
    ]
    return replace(comparison, models=models)


def test_an_interval_wider_than_all_there_can_be_is_cut_and_said_to_tell_nothing(pair):
    wide = with_wrong(pair, [list(range(5)), list(range(95))], [list(range(40)), list(range(10))])
    d = wide.difference('a', 'b')
    assert (d.low, d.high, d.seeds, d.better) == (-1, 1, (-1, 1), None)
    assert (
        '−100.00 to 100.00 points, holds every difference there can be: '
        '2 trainings of each and 100 test images are too few to tell.' in mc.verdict(wide)
    )
    assert wide.differences()['seeds alone'].iloc[0] == '−100.00\xa0to\xa0100.00'
    low, high = wide.plot_differences().get_xlim()
    assert -105 <= low < high <= 105


def test_the_images_may_be_what_is_too_few():
    found = compared(models={'a': odd.linear, 'b': odd.Guessing}, seeds=1, test=2)
    ten = replace(found, models=[replace(c, runs=c.runs * 10) for c in found.models])
    wide = with_wrong(ten, [[0]] * 10, [[1]] * 10)
    d = wide.difference('a', 'b')
    assert (d.low, d.high, d.images, d.seeds) == (-1, 1, (-1, 1), (0, 0))
    assert '10 trainings of each and 2 test images are too few to tell.' in mc.verdict(wide)


@pytest.mark.parametrize('runs,wrong', [(3, 7), (10, 25), (10, 34)])
def test_equal_runs_have_no_spread(pair, runs, wrong):
    "The mean of equal fractions is not always one of them, that of equal counts is."
    several = replace(
        pair,
        sizes=pair.sizes | {'test': 297},
        labels=(pair.labels * 3)[:297],
        models=[replace(c, runs=c.runs[:1] * runs) for c in pair.models],
    )
    equal = with_wrong(several, [list(range(wrong))] * runs, [list(range(wrong + 9))] * runs)
    for c in equal.models:
        for run in c.runs:
            run.test.accuracy = 1 - len(run.test.wrong) / 297
    assert equal.to_frame()['sd over seeds'].tolist() == [0, 0]
    page = report_page(equal).split('</style>')[1]
    assert not re.search(r'\de-\d', re.sub(r'base64,[\w+/=]+', '', page))
    assert '>0.00 %<' in page


@pytest.mark.parametrize('noise', [3e-15, -3e-15, 1e-17])
def test_what_rounding_leaves_is_shown_as_nothing(noise):
    assert decimals(noise) == '0.00' and span(noise, 0.5) == '0.00\xa0to\xa050.00'


def test_mean_counts_are_exact_whatever_the_number_of_runs(pair):
    "3 × 1/3 taken off a count left 4.2e-14 of an image."
    runs = [pair['a'].runs[0]] * 3
    three = replace(pair, models=[replace(c, runs=runs) for c in pair.models])
    wrong = with_wrong(
        three, [[k for k, label in enumerate(pair.labels) if label == 1]] * 3, [[]] * 3
    )
    assert wrong.confusion('a').to_numpy().tolist() == [[50, 0], [50, 0]]


def test_a_report_of_an_older_release_with_as_many_guesses_as_classes(pair, tmp_path):
    for c in pair.models:
        for run in c.runs:
            run.test.errors[2] = 0
    try:
        pair.save(tmp_path)
    finally:
        for c in pair.models:
            for run in c.runs:
                del run.test.errors[2]
    older = mc.Comparison.load(tmp_path)
    assert list(older.best.runs[0].test.errors) == [1, 2]
    assert (older.ks, list(older.kbest().index)) == ([1], [1])
    assert [c for c in older.runs_frame() if 'errors' in c] == ['errors_1']
    assert 'k = 2' not in report_page(older)


def test_a_kept_test_of_an_older_release_goes_on_without_what_says_nothing(
    tmp_path, capsys, free_costs
):
    data = odd.data_of()
    how = grouped(n_trials=1, seeds=2, search_epochs=1, epochs=1, workers=1, store=tmp_path)
    box = {'batch_size': (8, 10)}
    models = {'a': odd.linear, 'b': partial(odd.linear, 2)}
    found = mc.compare(models, data, box, **how)
    from mnist_cmp.comparison import _write_kept

    for file in (tmp_path / 'tests').iterdir():
        kept = json.loads(file.read_text())
        kept['found']['errors']['2'] = 0
        _write_kept(file, kept['of'], kept['found'])
    again = mc.compare(models, data, box, **how)
    assert 'damaged' not in capsys.readouterr().err
    assert [run.test for c in again.models for run in c.runs] == [
        run.test for c in found.models for run in c.runs
    ]


def test_mcnemars_p_is_never_zero():
    assert 0 < mc.mcnemar_exact(0, 10_000) < 1e-300
    assert mc.mcnemar_exact(0, 0) == 1
