"""A training that diverges costs neither the comparison nor its report: it counts as it is, the
same call comes to its end again, and what was written can be read."""

import json
import math
import warnings
from functools import partial

import jsonschema
import matplotlib.pyplot as plt
import odd
import pytest
import torch
from tiny import grouped

import mnist_cmp as mc
from mnist_cmp import cli, comparison
from mnist_cmp.comparison import measure_test
from mnist_cmp.engines.evaluation import best_guesses
from mnist_cmp.report import report_page

FRAMES = [
    'to_frame',
    'runs_frame',
    'differences',
    'kbest',
    'costs',
    'class_errors',
    'agreement',
    'hard_frame',
    'leader_by_budget',
]


def compared(models, folder=None, data=None, **kwargs):
    how = dict(n_trials=1, seeds=2, search_epochs=1, epochs=6, workers=1) | kwargs
    space = how.pop('space', {'learning_rate': (0.01, 0.02), 'batch_size': (8, 10)})
    return mc.compare(models, data or odd.data_of(), space, store=folder, **grouped(**how))


@pytest.fixture(autouse=True)
def strict(free_costs):
    "A number that is none must not be met by chance: warnings are errors."
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield
    plt.close('all')


DIVERGING = {
    'all of one model': {'plain': odd.linear, 'odd': odd.Diverging},
    'all of all models': {'odd': odd.Diverging, 'odder': partial(odd.Diverging, 60)},
}


@pytest.mark.parametrize('models', DIVERGING.values(), ids=DIVERGING)
def test_a_comparison_with_diverged_trainings_is_finished_shown_and_loaded(models, tmp_path):
    found = compared(models, tmp_path / 'run')
    states = [run.history.state for run in found[list(models)[-1]].runs]
    assert states == ['diverged', 'diverged']
    assert [run.history.last.train_loss for run in found['odd'].runs] == [math.nan] * 2

    page = mc.write_report(found, tmp_path / 'run').read_text(encoding='utf-8')
    report = json.loads((tmp_path / 'run' / 'report.json').read_text())
    jsonschema.validate(report, mc.report_schema())
    loaded = mc.Comparison.load(tmp_path / 'run')
    assert loaded == found
    for each in found, loaded:
        for name in FRAMES:
            assert len(getattr(each, name)())
        for name in each.names:
            each.confusion(name)
            each.calibration(name)
            each.calibration_error(name)
        each._repr_html_()
        assert 'odd diverged in 2 of 2 trainings. ' in mc.verdict(each)
        assert len(mc.summary(each).splitlines()) == 3
    assert 'odd diverged in 2 of 2 trainings.' in page
    assert page.count('<img ') == len(list((tmp_path / 'run' / 'figures').glob('*.png')))
    assert report['contestants'][-1]['runs'][0]['health'] == ['diverged']

    # The same call again trains nothing and comes to the same end.
    again = compared(models, tmp_path / 'run', on_epoch=lambda h: pytest.fail('it trains again'))
    assert again.to_dict()['contestants'] == found.to_dict()['contestants']


def test_a_comparison_that_an_older_release_left_at_the_diverged_training_is_finished(
    tmp_path, monkeypatch
):
    models = DIVERGING['all of one model']

    def refuse(*args, **kwargs):
        raise ValueError('confidence holds nan, but all must be finite.')

    with monkeypatch.context() as old, pytest.raises(ValueError, match='confidence holds nan'):
        old.setattr('mnist_cmp.comparison.measure_test', refuse)
        compared(models, tmp_path / 'run')
    found = compared(models, tmp_path / 'run')
    assert found.health('odd') == [['diverged']] * 2
    whole = compared(models)
    for name in models:
        assert [run.test for run in found[name].runs] == [run.test for run in whole[name].runs]


def test_one_of_several_trainings_that_diverges_leaves_the_curves_of_the_others(tmp_path):
    found = compared(DIVERGING['all of one model'])
    short = found['odd'].runs[0]
    long = found['plain'].runs[0]
    assert len(short.history.epochs) < len(long.history.epochs) == 6
    mixed = mc.Comparison(**{f: getattr(found, f) for f in found.__dataclass_fields__})
    mixed.models = [found['plain'], found['odd']]
    mixed['odd'].runs[1] = type(short)(1, long.history, long.test)
    curves = [line.get_xdata().tolist() for line in mixed.plot().lines]
    assert curves[:2] == [[1, 2, 3, 4, 5, 6]] * 2  # plain: validation, training
    assert curves[2:4] == [[1, 2, 3, 4, 5, 6]] * 2  # odd: of the run that goes on
    assert curves[4] == [len(short.history.epochs)]  # the cross
    assert 'trainings of 6 epochs' in mc.verdict(mixed)
    assert 'odd diverged in 1 of 2 trainings (run 0). It counts' in mc.verdict(mixed)
    assert 'trained for 6 epochs' in report_page(mixed)


def test_the_answers_of_a_net_without_numbers_are_those_of_its_validation():
    data = odd.data_of(4)
    net = odd.linear(4)
    for weights in net.parameters():
        weights.data.fill_(math.nan)
    test = measure_test(net, data.test)
    assert test.accuracy == pytest.approx(mc.measure_accuracy(net, data.test))
    assert test.errors == {k: int((data.test.y >= k).sum()) for k in (1, 2, 3)}
    assert math.isnan(test.loss) and all(map(math.isnan, test.confidence))
    assert [count for count, *_ in test.bins] == [0] * 15
    # Some rows alone.
    logits = torch.tensor([[0.0, 1.0], [math.nan, 1.0], [math.nan] * 2, [1.0, -math.inf]])
    assert best_guesses(logits, 1)[:, 0].tolist() == logits.argmax(1).tolist() == [1, 0, 0, 0]


def test_an_infinite_loss_is_kept_and_read_as_no_number(tmp_path):
    data = odd.data_of()
    history = mc.train(
        odd.linear(),
        data.train,
        data.valid,
        mc.Recipe(learning_rate=0.01, batch_size=8, epochs=1),
        callbacks=mc.Callbacks(progress=False),
    )
    history.epochs[0].train_loss = math.inf
    net = odd.linear()
    training = mc.Retraining(0, history, {k: v * math.inf for k, v in net.state_dict().items()})
    first = comparison.tested(odd.linear, training, data.test, tmp_path / 'test.json')
    assert comparison.tested(odd.linear, training, data.test, tmp_path / 'test.json') == first
    assert math.isnan(first.history.last.train_loss) and math.isnan(first.test.loss)


def test_a_search_without_any_score_ends_at_once_with_the_ways_out(tmp_path):
    began = []
    models = {'odd': partial(odd.Diverging, 4), 'plain': odd.linear}
    for _ in range(2):
        with pytest.raises(ValueError) as told:
            compared(
                models, tmp_path / 'run', n_trials=2, on_trial=lambda t, r: began.append(r.model)
            )
        assert str(told.value) == (
            'No trial of odd ended with a score (2 tried, 2 diverged). Choose a space of smaller '
            'learning rates. Or compare the others without odd.'
        )
    # The next search was not begun, and what was tried is not tried again.
    assert began == ['odd'] * 2
    search = mc.SearchResult.load(tmp_path / 'run' / 'search' / 'odd')
    assert search.plot() and search.plot_best() and len(search.to_frame()) == 2
    assert search._repr_html_()


def test_few_scores_are_said(tmp_path):
    found = compared({'a': odd.linear, 'b': odd.linear}, n_trials=3)
    for trial in found['b'].search.trials[1:]:
        trial.history.state = 'diverged'
    assert 'Of 3 trials of b 1 ended with a score: it was tuned with that much less.' in mc.verdict(
        found
    )
    assert 'trials of a ' not in mc.verdict(found)
    report_page(found)


def test_the_command_ends_well_twice(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('mnist_cmp.cli.os.environ', {**cli.os.environ})
    warnings.simplefilter('default')
    (tmp_path / 'nets.py').write_text(
        f'import sys\nsys.path.append({str(odd.__file__.rpartition("/")[0])!r})\n'
        'import odd\ndef plain(): return odd.linear(10)\ndef wild(): return odd.Diverging(700, '
        '10)\n'
    )
    monkeypatch.chdir(tmp_path)
    call = [
        '--models',
        'nets:plain,nets:wild',
        '--n_trials',
        '1',
        '--search_epochs',
        '1',
        '--epochs',
        '6',
        '--seeds',
        '2',
        '--workers',
        '1',
        '--learning_rate',
        '0.01,0.02',
        '--batch_size',
        '8,10',
        '--out',
        'run',
    ]
    for new in (2, 0):  # the second time all is taken from the folder
        assert cli.main(call) == 0
        said = capsys.readouterr().out
        assert 'wild diverged in 2 of 2 trainings.' in said
        assert said.count('; it diverged') == new
        assert mc.Comparison.load('run').health('wild') == [['diverged']] * 2
