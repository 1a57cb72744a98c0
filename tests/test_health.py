"""A training that did not go well is said to be one, before anything is said of its model; one
that went well is not."""

import json
import re
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import matplotlib.pyplot as plt
import numpy as np
import odd
import pytest
from tiny import grouped, known_costs

import mnist_cmp as mc
from mnist_cmp.evidence.health import STATES, Ground, states_of
from mnist_cmp.report import report_page

RESULTS = Path(__file__).parent.parent / 'nbs' / 'results'

WORDS = {
    'one_answer': 'answered one class throughout in 3 of 3 trainings.',
    'at_chance': 'was no better than one constant answer, as far as 100 test images tell, in 3 of '
    '3 trainings.',
    'fell': 'ended in a fall, far below its best epoch in 3 of 3 trainings.',
}


def compared(models, data=None, **kwargs):
    how = dict(n_trials=1, seeds=3, search_epochs=1, epochs=6, workers=1) | kwargs
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*parameters')  # their sizes differ on purpose
        return mc.compare(
            models,
            data or odd.data_of(),
            {'learning_rate': (0.01, 0.02), 'batch_size': (10, 12)},
            **grouped(**how),
        )


@pytest.fixture(autouse=True)
def no_costs(free_costs):
    yield
    plt.close('all')


@pytest.fixture(scope='module')
def found():
    "A net that goes well, and three that do not, three trainings of each."
    models = {
        'good': odd.linear,
        'constant': odd.Constant,
        'guessing': odd.Guessing,
        'falling': partial(odd.Falling, 60),
    }
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mnist_cmp.comparison.measure_costs', known_costs)
        comparison = compared(models, on_run=lambda name, run: seen.append((name, *run.health)))
    comparison.seen = seen
    return comparison


def test_each_way_of_not_going_well_is_told(found):
    assert found.health('good') == [[]] * 3
    assert found.health('constant') == [['one_answer']] * 3
    assert found.health('guessing') == [['at_chance']] * 3
    assert all('fell' in states for states in found.health('falling'))


def test_it_is_told_at_once(found):
    "To `on_run`, when the net has been tested."
    assert found.seen == [(name, *states) for name in found.names for states in found.health(name)]


def test_it_is_said_before_the_verdict(found):
    lines = mc.verdict(found).splitlines()
    for line, (name, words) in zip(
        lines, {'constant': WORDS['one_answer'], 'guessing': WORDS['at_chance']}.items()
    ):
        assert line == (
            f'{name} {words} They count as they are, so what follows does not say '
            f'whether {name} is better or worse than another model.'
        )
    assert lines[2].startswith('falling ') and WORDS['fell'] in lines[2]
    assert all(' good ' in line or line.startswith('good makes') for line in lines[3:6])
    judged = [line for line in lines if line.startswith('good makes')]
    assert len(judged) >= 2
    assert all('which does not make it the better model' in line for line in judged)
    assert 'is the better one' not in mc.verdict(found)


def test_it_is_said_above_the_verdict_of_the_report_and_in_its_table(found):
    page = report_page(found)
    head = page.split('<nav>')[0]
    assert (
        head.index('class="unwell"')
        < head.index(WORDS['one_answer'])
        < head.index('class="verdict"')
    )
    rows = (
        re.search(r'Trainings that did not go well:</p>(.*?)</table>', page).group(1).count('<tr>')
    )
    assert rows == 1 + 9


def test_it_is_in_the_numbers(found, tmp_path):
    mc.write_report(found, tmp_path)
    report = json.loads((tmp_path / 'report.json').read_text())
    jsonschema.validate(report, mc.report_schema())
    runs = {c['name']: [run['health'] for run in c['runs']] for c in report['contestants']}
    assert runs == {name: found.health(name) for name in found.names}
    assert report['trained_on'] == [60, 60]
    assert 'one_answer' in (tmp_path / 'runs.csv').read_text()
    assert set(found.runs_frame().loc['good'].health) == {'well'}
    assert mc.Comparison.load(tmp_path) == found


def test_the_schema_knows_the_states():
    health = mc.report_schema()['$defs']['Run']['properties']['health']
    assert health['items']['enum'] == list(STATES)


def test_what_a_file_says_of_health_is_not_taken_and_older_ones_have_none(found, tmp_path):
    found.save(tmp_path)
    report = json.loads((tmp_path / 'report.json').read_text())
    for model in report['contestants']:
        for run in model['runs']:
            run['health'] = []
    (tmp_path / 'report.json').write_text(json.dumps(report))
    assert mc.Comparison.load(tmp_path).models[1].runs[0].health == ['one_answer']
    report.pop('trained_on')
    for model in report['contestants']:
        for run in model['runs']:
            run.pop('health')
    (tmp_path / 'report.json').write_text(json.dumps(report))
    older = mc.Comparison.load(tmp_path)
    assert [older.health(name) for name in older.names] == [
        found.health(name) for name in found.names
    ]
    older.save(tmp_path / 'again')
    again = json.loads((tmp_path / 'again' / 'report.json').read_text())
    jsonschema.validate(again, mc.report_schema())
    assert again['contestants'][1]['runs'][0]['health'] == ['one_answer']
    report['trained_on'] = [60, 'many']
    (tmp_path / 'report.json').write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r'trained_on\[1\]'):
        mc.Comparison.load(tmp_path)


def test_runs_that_did_not_go_well_are_crossed_out(found):
    crosses = [line for line in found.plot_runs().lines if line.get_marker() == 'x']
    assert sum(len(line.get_xdata()) for line in crosses) == 9
    assert {round(x) for line in crosses for x in line.get_xdata()} == {1, 2, 3}


def test_two_nets_that_answer_the_majority_are_not_called_identical():
    data = odd.data_of(rare=0.05, contrast=0)
    said = mc.verdict(compared({'majority': odd.Constant, 'mlp': partial(odd.Constant)}, data))
    assert (
        'gave the same answer to every test image in each pair of trainings (5.00 % of 100 wrong): '
        in said
    )
    assert 'both answered one class throughout' in said
    assert 'identical' not in said
    assert said.startswith(
        'majority answered one class throughout in 3 of 3 trainings. They count as they are, so '
        'what follows does not say which model is better.'
    )


def test_one_training_is_spoken_of_as_one():
    said = mc.verdict(compared({'good': odd.linear, 'dead': odd.Constant}, seeds=1))
    assert said.startswith(
        'dead answered one class throughout in its only training. It counts as it is, so'
    )


# What goes well.


@pytest.mark.parametrize('name, runs', [('digits', 15), ('fair_comparison', 30)])
def test_nothing_is_said_of_the_comparisons_of_the_documentation(name, runs):
    comparison = mc.Comparison.load(RESULTS / name)
    assert sum(len(c.runs) for c in comparison.models) == runs
    assert not [
        states for model in comparison.names for states in comparison.health(model) if states
    ]
    assert mc.verdict(comparison).splitlines()[0].startswith(("Can't tell", 'cnn makes'))


def test_nothing_is_said_of_the_experiment_of_2019():
    experiment = json.loads((RESULTS / 'the_2019_experiment.json').read_text())
    seen = 0
    for part in experiment.values():
        if not isinstance(part['result'], dict) or 'test' not in part['result']:
            continue
        run = part['result']
        test = SimpleNamespace(
            **run['test'] | {'errors': {int(k): n for k, n in run['test']['errors'].items()}}
        )
        history = mc.History.from_dict(run['history'])
        assert states_of(history, test, Ground(10, 10_000, 10_000)) == []
        seen += 1
    assert seen >= 2


# The limits.


def training(accuracies, losses=None):
    losses = losses or [1 / k for k, _ in enumerate(accuracies, 1)]
    epochs = [
        mc.Epoch(k, loss, a, 1.0, loss, a) for k, (a, loss) in enumerate(zip(accuracies, losses), 1)
    ]
    return mc.History(0.1, 8, 0, 'autograd', 1, 'cpu', 'made up', epochs)


def answers(wrong):
    return SimpleNamespace(loss=1.0, errors={1: wrong}, wrong=[], predicted=[])


@pytest.mark.parametrize(
    'wrong, fell', [(169, False), (300, False), (500, False), (2300, True), (5300, True)]
)
def test_the_falls_of_convolutional_nets_are_told_from_their_usual_ends(wrong, fell):
    history = training([0.9, 0.97, 0.98, 0.985, 1 - wrong / 10_000])
    assert states_of(history, answers(wrong), Ground(10, 10_000, 10_000)) == ['fell'] * fell


def test_few_validation_images_make_no_fall():
    history = training([0.5, 23 / 24, 1.0, 22 / 24])
    assert states_of(history, answers(2), Ground(3, 24, 24)) == []
    history = training([0.5, 23 / 24, 1.0, 8 / 24])
    assert states_of(history, answers(16), Ground(3, 24, 24)) == ['at_chance', 'fell']


@pytest.mark.parametrize('classes, n', [(10, 300), (10, 10_000), (2, 200), (100, 1000)])
def test_guesses_are_at_chance_and_honest_nets_are_not(classes, n):
    chance = np.random.default_rng(classes)
    ground = Ground(classes, n, n)
    history = training([0.2, 0.3, 0.35])

    def share_at_chance(accuracy):
        rights = chance.binomial(n, accuracy, 2000)
        states = [
            states_of(history, answers(int(n - right)), ground) for right in set(rights.tolist())
        ]
        flagged = {
            right
            for right, several in zip(set(rights.tolist()), states)
            if several == ['at_chance']
        }
        return np.mean([right in flagged for right in rights])

    assert share_at_chance(1 / classes) >= 0.985
    assert share_at_chance(1 / classes + 10 * np.sqrt((1 - 1 / classes) / classes / n)) <= 0.001
    # An honest net on a hard problem of many classes.
    if classes > 2:
        assert share_at_chance(0.4) == 0


@pytest.mark.parametrize('first', [0.99, 0.7])
def test_a_net_that_learnt_in_its_first_epoch_did_learn(first):
    history = training([first, first - 0.01, first], [0.1, 0.1, 0.1])
    assert states_of(history, answers(round(300 * (1 - first))), Ground(10, 300, 300)) == []
    history = training([0.3, 0.29, 0.3], [2.0, 2.0, 2.0])
    assert states_of(history, answers(210), Ground(10, 300, 300)) == ['never_learnt']


def test_all_is_told_against_the_usual_class_of_the_training_images():
    """A net honest at 55 % is not at chance because another class than the usual one fills the
    test images."""
    labels = np.repeat([0, 1, 2, 3], [10, 120, 35, 35])
    history = training([0.3, 0.5, 0.55])
    half = answers(90)
    assert states_of(history, half, Ground(4, 200, 200, labels, 0)) == []
    assert states_of(history, half, Ground(4, 200, 200, labels, 1)) == ['at_chance']
