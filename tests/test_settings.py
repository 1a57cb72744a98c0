"""Settings travel as objects: few arguments, each default and range in one place, and what was an
argument of its own until 0.1.0 still works, with a warning that says what to write."""

import argparse
import inspect
import subprocess
import sys
import warnings
from dataclasses import MISSING, fields
from functools import partial

import pytest
from tiny import grouped, known_costs, one, two

import mnist_cmp as mc
from mnist_cmp import cli, comparison, search
from mnist_cmp.core import points, records, settings
from mnist_cmp.core.settings import Effort, describe
from mnist_cmp.engines import steps
from mnist_cmp.models import initialise
from mnist_cmp.ui.run_state import check_settings

MOST = {
    mc.train: 10,
    mc.tune: 12,
    mc.retrain: 10,
    mc.train_population: 10,
    mc.measure_cost: 10,
    mc.latency: 10,
    mc.match_params: 10,
    mc.compare: 17,
}


@pytest.mark.parametrize('function', MOST, ids=lambda f: f.__name__)
def test_arguments_are_few_and_all_of_them_named(function):
    parameters = inspect.signature(function).parameters.values()
    assert len(parameters) <= MOST[function]
    assert not [p for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def test_no_field_of_an_object_is_an_argument_of_its_own():
    for function in mc.train, mc.tune, mc.retrain, mc.compare:
        arguments = inspect.signature(function).parameters
        for cls in mc.Recipe, mc.Compute, mc.Callbacks:
            assert not {f.name for f in fields(cls)} & set(arguments)


# ---- old names


@pytest.fixture
def small(data):
    return data.train, data.valid


@pytest.fixture(autouse=True)
def no_costs(monkeypatch):
    monkeypatch.setattr(comparison, 'measure_costs', known_costs)


def warned(call):
    "What a call gives, and the warnings of old names on the way, which name this file."
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        found = call()
    mine = [w for w in heard if w.category is DeprecationWarning]
    assert {w.filename for w in mine} <= {__file__, cli.__file__}
    return found, [str(w.message) for w in mine]


def numbers(history):
    return [
        (e.train_loss, e.train_accuracy, e.valid_loss, e.valid_accuracy) for e in history.epochs
    ]


def trained(small, *args, **kwargs):
    net = initialise(one, seed=3)
    history = mc.train(net, *small, *args, **kwargs)
    return numbers(history), [p.tolist() for p in net.parameters()], history.engine


TRAINED = dict(learning_rate=0.1, batch_size=8, epochs=2)


@pytest.mark.parametrize(
    'old',
    [
        dict(momentum=0.5),
        dict(weight_decay=0.01),
        dict(device='cpu'),
        dict(threads=1),
        dict(engine='autograd'),
        dict(progress=None),
        dict(progress='mine'),
    ],
    ids=str,
)
def test_a_training_with_old_names_is_the_same(small, old):
    before, said = warned(lambda: trained(small, **TRAINED, **old))
    new = {'progress': old['progress'] is not None} if 'progress' in old else old
    now, nothing = warned(lambda: trained(small, **grouped(**TRAINED, **new)))
    assert before == now
    assert nothing == []
    for name in (*TRAINED, *old):
        assert any(name in text and '=' in text for text in said)


def test_old_callbacks_of_a_training_are_called(small):
    heard = []
    (epochs, *_), _ = warned(lambda: trained(small, **TRAINED, on_epoch=heard.append))
    assert (len(heard), len(epochs)) == (2, 2)
    old = dict(on_epoch=heard.append, should_stop=lambda: True)
    (epochs, *_), said = warned(lambda: trained(small, **TRAINED, **old))
    assert (len(heard), epochs) == (2, [])
    assert 'callbacks=Callbacks(on_epoch=…, should_stop=…)' in said[-1]


def searched(small, make, space, **kwargs):
    found = mc.tune(make, *small, space, **kwargs)
    return (
        found.model,
        found.start,
        found.space,
        [(t.number, numbers(t.history)) for t in found.trials],
    )


def test_a_search_with_old_names_is_the_same(small):
    sides = dict(batch_size=(8, 16), log=True)
    old = dict(
        n=2, epochs=1, start=7, name='mine', init='glorot', workers=1, progress=False, seed=3
    )
    before, said = warned(lambda: searched(small, one, mc.Space(**sides), **old))
    new = grouped(n_trials=2, epochs=1, init='glorot', workers=1, progress=False, seed=3)
    space = mc.Space(**sides, start=7)
    assert before == searched(small, {'mine': one}, space, **new)
    assert before == searched(small, {'mine': one}, sides | {'start': 7}, **new)
    for name in 'n of tune', 'epochs, init of tune', 'start', 'name', 'workers', 'progress':
        assert any(text.startswith(name) for text in said), name


def test_the_room_search_can_still_be_called(small):
    old = dict(box=mc.Space(batch_size=(8, 16)), n=1, epochs=1, workers=1)
    found, said = warned(lambda: mc.search(one, *small, **old))
    assert said[0] == 'search will go with the next release. Write tune instead.'
    assert any('box of tune' in text and 'space=' in text for text in said)
    assert len(found.trials) == 1


def test_a_retraining_with_old_names_is_the_same(small):
    def retrained(*args, **kwargs):
        return [
            (numbers(run.history), [w.tolist() for w in run.weights.values()])
            for run in mc.retrain(*args, **kwargs)
        ]

    config = mc.Config(0.1, 8, 0.5)
    old = dict(seeds=2, epochs=1, workers=1)
    new = dict(seeds=2, compute=mc.Compute(workers=1))
    now = retrained(one, *small, mc.Recipe(epochs=1).at(config), **new)
    by_position, said = warned(lambda: retrained(one, *small, config, **old))
    by_name, also = warned(lambda: retrained(one, *small, point=config, **old))
    assert by_position == by_name == now
    for texts in said, also:
        assert any('recipe=Recipe(…).at(config)' in text for text in texts)


def test_a_population_with_old_names_is_the_same(small):
    def histories(**kwargs):
        nets = [initialise(one, seed=s) for s in range(2)]
        return [numbers(h) for h in mc.train_population(nets, *small, seeds=(0, 1), **kwargs)]

    configs = [mc.Config(0.1, 8), mc.Config(0.05, 16, 0.5)]
    old, said = warned(lambda: histories(points=configs, epochs=2, threads=1, progress=None))
    new = histories(
        recipes=[mc.Recipe(epochs=2).at(config) for config in configs],
        compute=mc.Compute(threads=1),
        callbacks=mc.Callbacks(progress=False),
    )
    assert old == new
    assert len(said) == 3


def test_a_comparison_with_old_names_is_the_same(data, tmp_path):
    def compared(**kwargs):
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='.*parameters')
            found = mc.compare({'one': one, 'two': two}, data, **kwargs)
        return [
            (c.search.start, c.search.space, c.init, [numbers(r.history) for r in c.runs])
            for c in found.models
        ]

    heard = []
    old = dict(points=1, seeds=2, search_epochs=1, epochs=2, start=9, workers=1, engine='autograd')
    old |= dict(box={'batch_size': (8, 16)}, init={'two': 'glorot'}, progress=False)
    before, said = warned(lambda: compared(**old, on_run=lambda *run: heard.append(run)))
    now = compared(
        space={'batch_size': (8, 16), 'start': 9},
        n_trials=1,
        seeds=2,
        search_epochs=1,
        recipe=mc.Recipe(epochs=2, init={'two': 'glorot'}),
        compute=mc.Compute(workers=1, engine='autograd'),
        callbacks=mc.Callbacks(progress=False),
    )
    assert before == now
    assert len(heard) == 4
    assert any(text.startswith('points of compare') for text in said)


def test_old_classes_and_attributes(small):
    for module in mc, records, points:
        found, said = warned(lambda module=module: module.Box)
        assert found is mc.Space
        assert said == ['Box will go with the next release. Write Space instead.']
    found, said = warned(lambda: search.Box)
    assert found is mc.Space
    assert said == ['mnist_cmp.search.Box is now mnist_cmp.core.records.Space.']
    for room in mc, records, points:
        assert warned(lambda room=room: room.Point)[0] is mc.Config
    assert warned(lambda: search.search)[0] is mc.tune
    space = mc.Space(batch_size=(8, 16))
    result = mc.tune(one, *small, space, n_trials=1, recipe=mc.Recipe(epochs=1))
    found, said = warned(lambda: (result.box, result.best.point, result.space.point(0.5, 0.5)))
    assert found == (result.space, result.best.config, result.space.config(0.5, 0.5))
    assert len(said) == 3
    found, said = warned(lambda: (result.n, result.best.index))
    assert found == (result.n_trials, result.best.number) == (1, 1030)
    assert said == [
        'n of a SearchResult will go with the next release. Write n_trials instead.',
        'index of a Trial will go with the next release. Write number instead.',
    ]
    with pytest.raises(AttributeError, match='no attribute'):
        records.Boxes  # noqa: B018


def test_unknown_names_are_refused_with_the_nearest(small):
    with pytest.raises(
        TypeError, match=r"'learning_rat'. Did you mean recipe=Recipe\(learning_rate"
    ):
        mc.train(initialise(one), *small, learning_rat=0.1)
    with pytest.raises(TypeError, match="'n_trails'. Did you mean n_trials"):
        mc.compare(n_trails=3)
    with pytest.raises(TypeError, match='epochs beside recipe. Say it there'):
        mc.compare(recipe=mc.Recipe(init='glorot'), epochs=3)


# ---- each default stands once


def test_arguments_have_the_defaults_of_the_objects():
    for function in mc.tune, mc.retrain, mc.compare:
        for name, parameter in inspect.signature(function).parameters.items():
            if name in {f.name for f in fields(Effort)}:
                assert parameter.default == getattr(Effort, name), (function.__name__, name)


def test_the_commands_defaults_are_those_of_the_objects(monkeypatch):
    args = cli._parser().parse_args([])
    assert cli._effort(args) == {f.name: f.default for f in fields(Effort)}
    assert cli._space(args) == {}
    for cls, names in (
        (mc.Recipe, ['epochs', 'init']),
        (mc.Compute, ['threads', 'workers', 'engine']),
    ):
        for name in names:
            assert getattr(args, name) == getattr(cls, name), name


def test_another_default_is_that_of_the_command(monkeypatch):
    "Whoever changes a default changes it in one place."
    parsed = cli._parser().parse_args([]).seeds
    field = next(f for f in fields(Effort) if f.name == 'seeds')
    monkeypatch.setattr(field, 'default', parsed + 1)
    assert cli._parser().parse_args([]).seeds == parsed + 1
    assert f'(default: {parsed + 1})' in cli._parser().format_help()


def test_options_have_the_ranges_and_words_of_the_fields():
    actions = {a.option_strings[-1].lstrip('-'): a for a in cli._parser()._actions}
    for cls, names in (
        (Effort, [f.name for f in fields(Effort)]),
        (mc.Compute, ['workers', 'threads']),
    ):
        told = describe(cls)
        for name in names:
            first = told[name].text.replace('≥', 'at least')
            assert actions[name].help.startswith(first), name
            if told[name].limits.get('kind') is int:
                low = told[name].limits['low']
                assert actions[name].type(str(low)) == low
                with pytest.raises(argparse.ArgumentTypeError, match=f'(at least|from) {low}'):
                    actions[name].type(str(low - 1))
    assert actions['engine'].choices == list(settings.ENGINES)


def test_an_old_option_works_is_not_shown_and_warns():
    args, said = warned(lambda: cli._parser().parse_args(['--points', '3']))
    assert args.n_trials == 3
    assert said == ['--points will go with the next release. Write --n_trials instead.']
    assert '--points' not in cli._parser().format_help()


def test_the_panels_defaults_are_those_of_the_objects():
    usual = check_settings({})
    assert {f.name: usual[f.name] for f in fields(Effort) if f.name != 'search_epochs'} == {
        f.name: f.default for f in fields(Effort) if f.name != 'search_epochs'
    }
    digits = mc.load_data('digits')
    assert (usual['search_epochs'], usual['epochs']) == (digits.search_epochs, digits.epochs)
    assert tuple(usual['learning_rate']) == mc.Space().learning_rate
    assert tuple(usual['batch_size']) == mc.Space().batch_size


def test_a_panel_file_of_the_release_before_is_read():
    assert check_settings({'points': 3})['n_trials'] == 3


def test_there_are_the_engines_that_are_named():
    assert settings.ENGINES == (*steps.ENGINES, 'population')


def test_no_field_with_a_range_lacks_words():
    for cls in mc.Recipe, mc.Compute, Effort:
        for f in fields(cls):
            assert f.default is not MISSING
            assert describe(cls)[f.name].text != f.name


# ---- what can't be so

WRONG = {
    'learning_rate is 0, but must be': partial(mc.Recipe, learning_rate=0),
    'learning_rate is inf, but must be a finite number': partial(mc.Recipe, float('inf')),
    'batch_size is 0, but must be a whole number': partial(mc.Recipe, batch_size=0),
    'batch_size is True, but must be a whole number': partial(mc.Recipe, batch_size=True),
    'epochs is 0, but must be a whole number of at least 1': partial(mc.Recipe, epochs=0),
    'momentum is 1, but must be a finite number from 0 to 0.9999': partial(mc.Recipe, momentum=1),
    'weight_decay is -1, but must be': partial(mc.Recipe, weight_decay=-1),
    'threads is 0, but must be a whole number': partial(mc.Compute, threads=0),
    'workers is 0, but must be a whole number of at least 1': partial(mc.Compute, workers=0),
    "engine is 'fast', but must be one of": partial(mc.Compute, engine='fast'),
    'start is -1, but must be a whole number': partial(mc.Space, start=-1),
}


@pytest.mark.parametrize('words', WRONG)
def test_wrong_values_are_refused_as_ever(words):
    with pytest.raises(ValueError, match=words):
        WRONG[words]()


def no_work(*args):
    raise AssertionError('work has begun')


def test_wrong_calls_are_refused_before_work(data, small):
    watch = mc.Callbacks(on_trial=no_work, on_epoch=no_work, on_run=no_work)
    compare = partial(mc.compare, {'one': one, 'two': two}, data, callbacks=watch)
    for words, wrong in {
        'n_trials is 0': dict(n_trials=0),
        'seeds is 0': dict(seeds=0),
        'search_epochs is 0': dict(search_epochs=0),
        "protocol is '2018', but must be one of": dict(protocol='2018'),
        'learning_rate of the recipe is 0.1': dict(
            recipe=mc.Recipe(0.1), space={'learning_rate': (0.1, 0.2)}
        ),
        'momentum of the recipe is 0.9': dict(
            recipe=mc.Recipe(momentum=0.9), space={'momentum': (0, 0.9)}
        ),
        "space has the setting 'lr', but neither": dict(space={'lr': (0.01, 0.1)}),
    }.items():
        with pytest.raises(ValueError, match=words):
            compare(**wrong)
    with pytest.raises(TypeError, match='compute is 3, but must be a Compute'):
        compare(compute=3)
    with pytest.raises(ValueError, match='epochs is None'):
        mc.tune(one, *small, {'batch_size': (8, 16)}, callbacks=watch)
    with pytest.raises(
        ValueError, match='batch_size is 41, but must be a whole number from 1 to 40'
    ):
        mc.retrain(one, *small, mc.Recipe(0.1, 41, 1), callbacks=watch)
    with pytest.raises(ValueError, match='init of the recipe'):
        mc.train(initialise(one), *small, mc.Recipe(0.1, 8, 1, init='glorot'), callbacks=watch)


def test_settings_need_no_torch():
    code = 'import sys, mnist_cmp.core.settings; assert "torch" not in sys.modules'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
