"Searches of settings of any name, end to end on the digits: each model's, by folds, at an edge."

import dataclasses
import functools
import json

import jsonschema
import numpy as np
import pytest
import torch.nn as nn

import mnist_cmp as mc
from mnist_cmp.core.files import json_text
from mnist_cmp.core.ledger import Ledger, LedgerError
from mnist_cmp.core.points import sobol_points
from mnist_cmp.report import report_page, summary

QUIET = mc.Callbacks(progress=False)
ALONE = mc.Compute(workers=1, engine='autograd')


def flat(inputs, classes, width=8, dropout=0.0):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, width),
        nn.Dropout(dropout),
        nn.ReLU(),
        nn.Linear(width, classes),
    )


def plain(inputs, classes, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.Tanh(), nn.Linear(width, classes))


def fussy(momentum=0.5):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


@pytest.fixture(scope='module')
def digits():
    data = mc.load_data('digits')
    return mc.Data(data.train[:240], data.valid[:120], data.test[:120], 'digits', data.classes)


def tuned(data, make=flat, **kwargs):
    settings = dict(n_trials=3, recipe=mc.Recipe(epochs=2), compute=ALONE, callbacks=QUIET)
    return mc.tune(make, data.train, data.valid, **(settings | kwargs))


def compared(data, folder=None, **kwargs):
    settings = dict(
        n_trials=2,
        seeds=2,
        search_epochs=1,
        recipe=mc.Recipe(epochs=2),
        store=folder,
        compute=ALONE,
        callbacks=QUIET,
    )
    return mc.compare({'flat': flat, 'plain': plain}, data, **(settings | kwargs))


def numbers(trials):
    return [(t.number, t.config.values, t.history.seed, t.accuracy, t.loss) for t in trials]


def test_a_searched_width_is_trained_and_tested(digits, tmp_path):
    sides = {'width': [6, 12], 'dropout': (0.0, 0.4), 'learning_rate': mc.loguniform(0.05, 0.5)}
    found = compared(
        digits, tmp_path / 'run', space=sides, recipe=mc.Recipe(batch_size=16, epochs=2)
    )
    assert list(found['flat'].tuning.space.sides) == ['learning_rate', 'width', 'dropout']
    assert list(found['plain'].tuning.space.sides) == ['learning_rate', 'width']
    for name in 'flat', 'plain':
        best = found[name].tuning.best.config
        assert all(run.history.config == best for run in found[name].runs)
        shape = found.weights[name][0]['1.weight'].shape
        assert tuple(shape) == (best.width, 784)
        assert found[name].parameters == 784 * best.width + best.width + 10 * best.width + 10
    mc.write_report(found, tmp_path / 'run')
    report = json.loads((tmp_path / 'run' / 'report.json').read_text())
    jsonschema.validate(report, mc.report_schema())
    again = mc.Comparison.load(tmp_path / 'run')
    assert numbers(again['flat'].tuning.trials) == numbers(found['flat'].tuning.trials)
    assert again['flat'].tuning.space == found['flat'].tuning.space
    assert 'width 6 or 12' in (tmp_path / 'run' / 'report.html').read_text()


def test_the_same_call_goes_on_and_another_space_is_another_search(digits, tmp_path):
    go = functools.partial(
        tuned, digits, store=tmp_path, space={'width': [6, 12], 'clip': (0.5, 1.0)}
    )
    seen = []
    stopping = mc.Callbacks(
        progress=False, on_epoch=seen.append, should_stop=lambda: len(seen) >= 3
    )
    part = go(callbacks=stopping)
    assert not part.done
    assert seen[-1].config.width in (6, 12)
    whole = go()
    assert numbers(whole.trials) == numbers(
        tuned(digits, space=whole.space.replaced(start=1030)).trials
    )
    assert numbers(go(n_trials=2).trials) == numbers(whole.trials[:2])
    with Ledger.read(tmp_path) as ledger:
        kept = {n: row[0].config for n, row in ledger.histories().items()}
    assert kept == {t.number: t.config for t in whole.trials}
    assert numbers(mc.SearchResult.load(tmp_path).trials) == numbers(whole.trials)
    with pytest.raises(LedgerError, match='further settings was'):
        go(space={'width': [6, 14], 'clip': (0.5, 1.0)})


def test_two_processes_give_the_same(digits):
    space = {'width': (4, 12), 'optimizer': ['sgd', 'adam']}
    one = tuned(digits, space=space)
    two = tuned(digits, space=space, compute=mc.Compute(workers=2, engine='autograd'))
    assert numbers(one.trials) == numbers(two.trials)
    assert len({t.config.optimizer for t in one.trials}) == 2


def test_each_model_may_have_a_space_of_its_own(digits):
    spaces = {'flat': mc.Space(dropout=(0.0, 0.4)), 'plain': {'width': [4, 8], 'batch_size': 8}}
    found = compared(digits, space=spaces)
    assert [len(found[name].tuning.trials) for name in spaces] == [2, 2]
    assert list(found['flat'].tuning.space.sides) == ['learning_rate', 'batch_size', 'dropout']
    assert found['plain'].tuning.space.fixed == {'batch_size': 8}
    best = {name: found[name].tuning.best.config for name in spaces}
    frame = found.to_frame()
    assert list(frame)[3:6] == ['batch size', 'dropout', 'width']
    assert frame.width.tolist() == [None, str(best['plain'].width)]
    assert frame.dropout.tolist() == [f'{best["flat"].dropout:.4g}', None]
    assert f'plain: width {best["plain"].width}' in summary(found)
    assert 'The settings of the best trials:' in report_page(found)
    for name in spaces:
        model = found[name]
        assert [t.config for t in model.tuning.trials] == sobol_points(model.tuning.space, n=2)
    assert (found.costs()['search (s)'] > 0).all()


def test_the_work_of_a_search_counts_each_net_of_it(digits):
    found = compared(digits, space={'flat': {'width': [4, 8]}, 'plain': {'width': 8}})
    work = 0
    for trial in found['flat'].tuning.trials:
        net = mc.initialise(functools.partial(flat, **trial.config.of_model), shape=digits)
        work += mc.flops(net).training * len(trial.history.epochs) * len(digits.train)
    assert {t.config.width for t in found['flat'].tuning.trials} == {4, 8}
    assert found['flat'].search_flops == work
    assert found['plain'].search_flops == 2 * found['plain'].training_flops * len(digits.train)
    shown = [m.search_flops / 1e9 for m in found.models]
    assert found.costs()['search (GFLOP)'].tolist() == pytest.approx(shown)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'space': {'widht': [1, 2]}}, 'Did you mean width?'),
        (
            {'space': {'width': (-4, 4)}},
            'width of the space can be -4, with which flat makes no net',
        ),
        ({'space': {'width': ['6', 12]}}, "width of the space can be '6'"),
        ({'space': {'momentum': (0, 0.9)}, 'make': fussy}, 'Write model__momentum or recipe__'),
        ({'space': {'optimizer': ['sgd', 'adamx']}}, 'adamx'),
        ({'space': {'optimizer': ['sgd', 'adamw'], 'momentum': (0.1, 0.9)}}, 'recipe refuses'),
        ({'space': {'clip': (-1.0, 1.0)}}, 'clip of the space can be -1.0, which the recipe'),
        ({'space': {'flat': {'width': [6, 8]}, 'other': {}}}, "a space for 'other'"),
    ],
)
def test_a_wrong_setting_is_refused_before_any_training(digits, kwargs, message):
    seen = []
    callbacks = mc.Callbacks(progress=False, on_epoch=seen.append)
    with pytest.raises(ValueError, match=message):
        tuned(digits, callbacks=callbacks, **kwargs)
    assert seen == []


def test_a_setting_of_both_goes_to_whom_the_name_says(digits):
    result = tuned(digits, fussy, space={'model__momentum': (0.0, 0.5), 'recipe__momentum': 0.9})
    for trial in result.trials:
        assert trial.history.momentum == trial.config.momentum == 0.9
        assert 0 <= trial.config.of_model['momentum'] <= 0.5


def test_folds_need_no_validation_images_and_their_mean_decides(digits, tmp_path):
    without = mc.Data(digits.train, None, digits.test, 'digits', digits.classes)
    with pytest.raises(ValueError, match=r'tuning=Tuning\(cv=5\)'):
        compared(without)
    by_folds = mc.Tuning(cv=3)
    found = compared(without, tmp_path, tuning=by_folds)
    again = compared(without, tmp_path, tuning=by_folds)
    for name in 'flat', 'plain':
        search = found[name].tuning
        assert (search.cv, search.trainings, search.scored_on) == (3, 6, '3 folds of train')
        assert numbers(again[name].tuning.trials) == numbers(search.trials)
        assert [r.test.errors for r in again[name].runs] == [
            r.test.errors for r in found[name].runs
        ]
    assert found.sizes['train'] == len(digits.train)
    assert any('no validation images' in text for text in found.remarks)
    page = report_page(found)
    assert 'settings chosen by cross-validation within the training part' in page
    assert 'Expected best cross-validated accuracy' in page
    assert 'that were made, by cross-validation, with a band' in page
    jsonschema.validate(
        json.loads(json_text({'format': 'mnist_cmp report 4'} | found.to_dict())),
        mc.report_schema(),
    )


@pytest.mark.parametrize('patience', [None, 1])
def test_accuracies_over_folds_are_those_of_the_weights_kept(digits, patience):
    recipe = mc.Recipe(epochs=5, keep='best', patience=patience)
    sides = {'learning_rate': (0.5, 3.0), 'batch_size': 16}
    how = dict(recipe=recipe, space=sides, n_trials=4, tuning=mc.Tuning(cv=3))
    # the mean over the folds of the error rate of each one's kept weights
    error = mc.Metric(lambda y, answers: float((y != answers).mean()), greater_is_better=False)
    found = tuned(digits, metric=error, **how)
    assert [1 - t.score for t in found.trials] == pytest.approx([t.accuracy for t in found.trials])
    assert len({t.accuracy for t in found.trials}) > 1


def test_a_fold_that_was_cut_off_goes_on(digits, tmp_path):
    go = functools.partial(tuned, digits, tuning=mc.Tuning(cv=2), metric='log_loss', n_trials=2)
    whole = go()
    seen = []
    for stop in 1, 3, 6:
        callbacks = mc.Callbacks(
            progress=False, on_epoch=seen.append, should_stop=lambda stop=stop: len(seen) >= stop
        )
        go(store=tmp_path, callbacks=callbacks)
    rest = go(store=tmp_path, callbacks=mc.Callbacks(progress=False, on_epoch=seen.append))
    assert len(seen) == 2 * 2 * 2  # trials, folds, epochs: none was trained twice
    assert numbers(rest.trials) == numbers(whole.trials)
    assert [t.score for t in rest.trials] == [t.score for t in whole.trials]
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.lock', 'study.sqlite']


def test_groups_are_in_one_fold(digits):
    from dataclasses import replace

    import torch

    from mnist_cmp.study.folds import fold_numbers

    groups = torch.arange(240) // 8
    parts = fold_numbers(replace(digits.train, groups=groups), 3, seed=0)
    assert all(len(set(parts[groups == g])) == 1 for g in range(30))
    assert np.bincount(parts).tolist() == [80, 80, 80]


def test_a_winner_at_an_edge_widens_that_side_for_all(digits, tmp_path):
    sides = mc.Space(learning_rate=(1e-4, 1e-3), batch_size=16, start=1045)
    go = functools.partial(compared, digits, tmp_path, space=sides, tuning=mc.Tuning(extend=True))
    found = go()
    for name in 'flat', 'plain':
        search = found[name].tuning
        assert search.extended_from.learning_rate == (1e-4, 1e-3)
        assert search.space.learning_rate == pytest.approx((1e-4, 1.9e-3))
        assert (search.asked, search.n_trials) == (2, 4)
        assert [t.number for t in search.trials] == [1045, 1046, 1047, 1048]
        assert [t.config for t in search.trials[2:]] == sobol_points(search.space, 1047, 2)
    again = go()
    assert numbers(again['flat'].tuning.trials) == numbers(found['flat'].tuning.trials)
    found.save(tmp_path)
    loaded = mc.Comparison.load(tmp_path)
    assert loaded['plain'].tuning == found['plain'].tuning
    with pytest.raises(LedgerError, match='extended of flat was True and is False'):
        compared(digits, tmp_path, space=sides)


def shallow(inputs, classes, depth=1):
    "A net of few layers."
    if depth > 2:
        raise ValueError('too deep for these data')
    return flat(inputs, classes, 4 * depth)


def shallow_too(inputs, classes, depth=1):
    return shallow(inputs, classes, depth)


def test_an_end_that_the_model_refuses_stays_where_it_is(digits, tmp_path, capsys):
    told = []
    callbacks = mc.Callbacks(on_trial=lambda trial, result: told.append(trial.number))
    sides = {'depth': (1, 2), 'learning_rate': 0.1, 'batch_size': 16}
    go = functools.partial(
        tuned, digits, shallow, space=sides, store=tmp_path, tuning=mc.Tuning(extend=True)
    )
    found = go(callbacks=callbacks)
    assert (found.done, found.asked, len(told), found.space.sides) == (
        True,
        3,
        3,
        {'depth': (1, 2)},
    )
    assert go(callbacks=callbacks) == found
    assert len(told) == 3
    said = capsys.readouterr().err
    assert 'end of depth stays where it is for shallow: depth of the space can be 3' in said
    assert 'too deep for these data' in said
    both = mc.compare(
        {'a': shallow, 'b': shallow_too},
        digits,
        sides,
        n_trials=2,
        seeds=1,
        search_epochs=1,
        recipe=mc.Recipe(epochs=1),
        tuning=mc.Tuning(extend=True),
        compute=ALONE,
        callbacks=QUIET,
    )
    assert [both[name].tuning.space.sides for name in 'ab'] == [{'depth': (1, 2)}] * 2


def test_an_end_that_the_recipe_refuses_stays_where_it_is(digits, capsys):
    sides = {'warmup': (1.5, 1.98), 'learning_rate': 0.1, 'batch_size': 16, 'start': 1002}
    how = dict(tuning=mc.Tuning(extend=True), callbacks=mc.Callbacks())
    found = tuned(digits, space=sides, n_trials=1, **how)
    assert (found.asked, found.space.sides['warmup']) == (1, (1.5, 1.98))
    assert 'The upper end of warmup stays where it is for flat: ' in capsys.readouterr().err


def endless(outputs, y):
    return nn.functional.cross_entropy(outputs, y) * float('inf')


def test_a_search_without_a_winner_is_not_extended(digits):
    recipe = mc.Recipe(epochs=1, loss=endless)
    found = tuned(digits, n_trials=2, recipe=recipe, tuning=mc.Tuning(extend=True))
    assert [t.history.state for t in found.trials] == ['diverged'] * 2


@pytest.mark.parametrize('cv', [None, 2])
def test_an_extended_search_is_read_as_a_whole(digits, tmp_path, cv):
    sides = mc.Space(learning_rate=(1e-4, 1e-3), batch_size=16, start=1045)
    how = mc.Tuning(extend=True, cv=cv)
    found = tuned(digits, space=sides, store=tmp_path, n_trials=2, tuning=how)
    assert found.extended_from is not None
    assert mc.SearchResult.load(tmp_path) == dataclasses.replace(found, start=1045)
    (further,) = tmp_path.glob('extended_*')
    assert [t.number for t in mc.SearchResult.load(further).trials] == [1047, 1048]


def test_a_store_says_what_its_best_trial_is_chosen_by(digits, tmp_path):
    "Another choice goes on with the same trials."
    found = {}
    for select in ('loss', 'metric', 'loss'):
        how = mc.Tuning(select=select)
        found[select] = tuned(digits, store=tmp_path, tuning=how)
        loaded = mc.SearchResult.load(tmp_path)
        assert (loaded.select, loaded.best.number) == (select, found[select].best.number)
        assert loaded == dataclasses.replace(found[select], start=loaded.start)
    assert found['loss'].trials == found['metric'].trials


def test_the_best_is_that_of_lowest_loss_on_request(digits):
    by_metric = tuned(digits, n_trials=6)
    by_loss = tuned(digits, n_trials=6, tuning=mc.Tuning(select='loss'))
    assert numbers(by_metric.trials) == numbers(by_loss.trials)
    assert by_loss.best.loss == min(t.loss for t in by_loss.trials)
    assert by_metric.best.accuracy == max(t.accuracy for t in by_metric.trials)
    again = mc.SearchResult.from_dict(json.loads(json_text(by_loss.to_dict())))
    assert (again.select, again.best.number) == ('loss', by_loss.best.number)
