"Recipes in searches, retrainings and comparisons, and what files say of them."

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn as nn

import mnist_cmp as mc
from mnist_cmp.core.ledger import Ledger
from mnist_cmp.core.records import History
from mnist_cmp.engines.evaluation import read_weights, write_weights
from mnist_cmp.engines.onednn import has_onednn
from mnist_cmp.engines.recipes import optimizers
from mnist_cmp.training import train

COMPUTE = mc.Compute(device='cpu', threads=1, workers=1)
QUIET = mc.Callbacks(progress=False)
MODERN = mc.Recipe(
    epochs=3, optimizer='adamw', schedule='cosine', warmup=1, average=0.9, keep='best'
)
SPACE = {'learning_rate': (0.001, 0.02), 'batch_size': (8, 16)}


def small_data():
    "Stripes: the class is the row that is bright."
    chance = np.random.default_rng(0)
    y = np.arange(90) % 3
    x = chance.integers(0, 120, (90, 1, 6, 6)).astype(np.uint8)
    x[np.arange(90), 0, y] += 100
    return mc.Data.from_arrays(x[:60], y[:60], x[60:], y[60:], name='stripes')


DATA = small_data()


def narrow(inputs, classes, width=4):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, classes)
    )


def wide(inputs, classes):
    return narrow(inputs, classes, 8)


def tuned(store=None, recipe=MODERN, space=SPACE, **kwargs):
    return mc.tune(
        {'narrow': narrow},
        DATA.train,
        DATA.valid,
        space,
        n_trials=2,
        recipe=recipe,
        store=store,
        compute=COMPUTE,
        callbacks=kwargs.pop('callbacks', QUIET),
        **kwargs,
    )


def times_off(result):
    "The trials without what a clock decides."
    return [
        replace(t.history, epochs=[replace(e, seconds=0.0) for e in t.history.epochs])
        for t in result.trials
    ]


def test_a_search_keeps_and_tells_its_recipe(tmp_path):
    result = tuned(tmp_path)
    for trial in result.trials:
        words = trial.history.recipe
        assert words['optimizer'][0] == 'adamw'
        assert words['optimizer'][1]['weight_decay'] == 0.01  # PyTorch's default, recorded
        assert (words['schedule'], words['epochs'], words['keep']) == ('cosine', 3, 'best')
        assert trial.history.engine == 'autograd'
        assert trial.accuracy == trial.history.best.valid_accuracy
    trained = []
    again = tuned(tmp_path, callbacks=replace(QUIET, on_epoch=trained.append))
    assert trained == []
    assert again.trials == result.trials
    assert mc.SearchResult.load(tmp_path).trials == result.trials


@pytest.mark.parametrize(
    'other', [{'optimizer': 'nadam'}, {'schedule': None}, {'clip': 1.0}, {'keep': 'last'}]
)
def test_a_search_of_another_recipe_does_not_go_on(other, tmp_path):
    tuned(tmp_path)
    with pytest.raises(mc.LedgerError, match='what of the recipe goes beyond plain SGD was'):
        tuned(tmp_path, replace(MODERN, **other))


def test_a_search_of_plain_sgd_is_what_it_was(tmp_path):
    tuned(tmp_path, mc.Recipe(epochs=1))
    with mc.Ledger.read(tmp_path) as ledger:
        assert 'recipe' not in ledger.identity
        keys = [key for (key,) in ledger.connection.execute('SELECT key FROM study')]
    assert not [key for key in keys if key.startswith('recipe')]


def test_trainings_that_ended_early_are_finished(tmp_path):
    patient = mc.Recipe(epochs=30, optimizer='adam', patience=1)
    result = tuned(tmp_path, patient)
    assert all(t.history.state == 'finished' for t in result.trials)
    assert all(t.history.saved == 30 - len(t.history.epochs) for t in result.trials)
    assert any(t.history.saved for t in result.trials)
    trained = []
    tuned(tmp_path, patient, callbacks=replace(QUIET, on_epoch=trained.append))
    assert trained == []


def test_workers_train_the_same(tmp_path):
    here = tuned(recipe=replace(MODERN, augment=mc.random_shift(1)))
    there = mc.tune(
        {'narrow': narrow},
        DATA.train,
        DATA.valid,
        SPACE,
        n_trials=2,
        recipe=replace(MODERN, augment=mc.random_shift(1)),
        compute=replace(COMPUTE, workers=2),
        callbacks=QUIET,
    )
    assert times_off(there) == times_off(here)


def test_what_an_optimizer_has_not_is_refused_before_any_work(tmp_path):
    begun = []
    callbacks = replace(QUIET, on_epoch=begun.append)
    for space in (SPACE | {'momentum': (0.5, 0.9)}, SPACE | {'momentum': 0.9}):
        with pytest.raises(ValueError, match='AdamW has no such setting'):
            tuned(tmp_path, space=space, callbacks=callbacks)
    with pytest.raises(ValueError, match="Did you mean 'adam"):
        tuned(tmp_path, mc.Recipe(epochs=1, optimizer='adamv'), callbacks=callbacks)
    assert begun == []
    assert not (tmp_path / 'study.sqlite').exists()


def test_a_searched_weight_decay_of_0_is_none():
    result = tuned(
        space=SPACE | {'weight_decay': [0.0, 0.2, 0.5]}, recipe=replace(MODERN, warmup=0)
    )
    used = {
        t.config.weight_decay: t.history.recipe['optimizer'][1]['weight_decay']
        for t in result.trials
    }
    assert used == {asked: asked for asked in used}
    assert 0.0 in used


def decay(history):
    "The weight decay that an optimizer had."
    return history.recipe['optimizer'][1]['weight_decay']


def test_a_weight_decay_of_0_that_is_not_searched_is_none():
    recipe = mc.Recipe(epochs=1, optimizer='adamw')
    for name in ('weight_decay', 'recipe__weight_decay'):
        result = tuned(space=SPACE | {name: 0.0}, recipe=recipe)
        assert [decay(t.history) for t in result.trials] == [0.0, 0.0]
    usual = tuned(recipe=recipe)  # neither says anything of it
    assert [decay(t.history) for t in usual.trials] == [0.01, 0.01]
    fixed = replace(recipe, weight_decay=0.0)
    assert [decay(t.history) for t in tuned(recipe=fixed).trials] == [0.0, 0.0]


def test_a_config_with_a_weight_decay_of_0_is_trained_so(tmp_path):
    recipe = mc.Recipe(epochs=1, optimizer='adamw')
    result = tuned(tmp_path / 'search', recipe, SPACE | {'weight_decay': [0.0, 0.2, 0.5]})
    loaded = mc.SearchResult.load(tmp_path / 'search')
    configs = [t.config for t in [*result.trials, *loaded.trials] if t.config.weight_decay == 0]
    configs.append(mc.Config(0.01, 8, weight_decay=0.0))
    assert len(configs) == 3
    ask = dict(seeds=1, compute=COMPUTE, callbacks=QUIET)
    for config in configs:
        (net,) = mc.retrain(narrow, DATA.train, DATA.valid, recipe, config=config, **ask)
        assert decay(net.history) == 0.0
        (net,) = mc.retrain(narrow, DATA.train, DATA.valid, recipe.at(config), **ask)
        assert decay(net.history) == 0.0
    unsaid = tuned(recipe=recipe).best.config
    (net,) = mc.retrain(narrow, DATA.train, DATA.valid, recipe, config=unsaid, **ask)
    assert decay(net.history) == 0.01


def test_a_comparison_trains_without_weight_decay_where_its_space_says_so(free_costs, tmp_path):
    ask = dict(n_trials=1, seeds=1, search_epochs=1, compute=COMPUTE, callbacks=QUIET)
    result = mc.compare(
        {'narrow': narrow, 'wide': wide},
        DATA,
        SPACE | {'weight_decay': 0.0},
        recipe=mc.Recipe(epochs=1, optimizer='adamw'),
        store=tmp_path,
        **ask,
    )
    found = [decay(h) for m in result.models for h in (m.runs[0].training, m.search.best.history)]
    assert found == [0.0] * 4


@pytest.mark.parametrize(
    'name, value',
    [
        ('keep', 'best'),
        ('patience', 2),
        ('schedule', ('ReduceLROnPlateau', {'patience': 0})),
    ],
)
def test_test_images_choose_no_epoch(name, value):
    begun = []
    ask = dict(n_trials=1, seeds=1, search_epochs=1, compute=COMPUTE, protocol='2019')
    ask |= dict(callbacks=replace(QUIET, on_epoch=begun.append))
    nets = {'narrow': narrow, 'wide': wide}
    usual = None if name != 'keep' else 'last'
    message = f"{name} is .* under protocol '2019' .* Take protocol='holdout'"
    for space, more in ((SPACE, {name: value}), (SPACE | {name: [usual, value]}, {})):
        with pytest.raises(ValueError, match=message):
            mc.compare(nets, DATA, space, recipe=mc.Recipe(epochs=2, **more), **ask)
    assert begun == []


# It moves matrices alone; older releases of PyTorch have none.
MUON = [
    ({'optimizer': 'muon'}, {}, 'optimizer is Muon, which does not take the weights of'),
    ({}, {'optimizer': ['sgd', 'muon']}, 'optimizer is Muon, which does not take the weights of'),
]
MUON = MUON if 'muon' in optimizers() else []


def doubled(x, y, generator):
    return x.double()


def share_of_wrong(outputs, y):
    return (outputs.argmax(1) != y).float().mean()


@pytest.mark.parametrize(
    'recipe, space, message',
    [
        *MUON,
        ({'augment': doubled}, {}, 'augment gives x as torch.float64'),
        ({'loss': share_of_wrong}, {}, 'without a gradient'),
        (
            {'schedule': ('OneCycleLR', {'max_lr': 0.1, 'total_steps': 2})},
            {},
            'fails after epoch 3 of 3',
        ),
    ],
)
def test_what_can_not_be_trained_by_is_refused_before_any_work(recipe, space, message, tmp_path):
    begun = []
    callbacks = replace(QUIET, on_epoch=begun.append)
    recipe = mc.Recipe(epochs=3, **recipe)
    with pytest.raises(ValueError, match=message):
        tuned(tmp_path / 'search', recipe, SPACE | space, callbacks=callbacks)
    ask = dict(n_trials=2, seeds=1, search_epochs=3, compute=COMPUTE, callbacks=callbacks)
    spaces = {'narrow': SPACE, 'wide': SPACE | space} if space else SPACE
    with pytest.raises(ValueError, match=message):
        mc.compare({'narrow': narrow, 'wide': wide}, DATA, spaces, recipe=recipe, **ask)
    assert begun == []


def test_a_population_refuses_a_choice_before_any_work():
    begun = []
    compute = replace(COMPUTE, engine='population')
    with pytest.raises(ValueError, match="its recipe has clip, .* Take engine='auto'"):
        mc.tune(
            mc.MLP,
            DATA.train,
            DATA.valid,
            SPACE | {'clip': [1.0, None]},
            n_trials=2,
            recipe=mc.Recipe(epochs=1),
            compute=compute,
            callbacks=replace(QUIET, on_epoch=lambda *args: begun.append(args)),
        )
    assert begun == []


def test_trying_changes_no_result():
    recipe = mc.Recipe(0.02, 8, 2, clip=1e9)
    own = replace(recipe, loss=nn.CrossEntropyLoss(), augment=lambda x, y, generator: x)
    chance = []
    nets = []
    for each in (recipe, own):
        nets.append(trained(each)[0])
        chance.append(torch.get_rng_state())
    assert torch.equal(*chance)
    assert all(p.equal(q) for p, q in zip(*(net.parameters() for net in nets), strict=True))


def test_a_plain_space_with_a_momentum_of_0_is_what_it_was(tmp_path):
    space = SPACE | {'momentum': 0.0, 'weight_decay': 0.0}
    first = tuned(tmp_path, mc.Recipe(epochs=1), space)
    assert [t.history.recipe for t in first.trials] == [{}, {}]
    with Ledger.read(tmp_path) as ledger:
        assert 'recipe' not in ledger.identity
    assert times_off(first) == times_off(tuned(recipe=mc.Recipe(epochs=1)))


def test_an_engine_that_does_not_serve_is_refused():
    compute = replace(COMPUTE, engine='onednn')
    with pytest.raises(ValueError, match='its recipe goes beyond SGD'):
        mc.tune(narrow, DATA.train, DATA.valid, SPACE, n_trials=1, recipe=MODERN, compute=compute)


def test_a_population_refuses_what_it_cannot_do():
    compute = replace(COMPUTE, engine='population')
    for more in ({'patience': 2}, {'keep': 'best'}, {'optimizer': 'adam'}):
        recipe = mc.Recipe(epochs=2, **more)
        with pytest.raises(ValueError, match='a population knows SGD with momentum'):
            mc.tune(mc.MLP, DATA.train, DATA.valid, SPACE, recipe=recipe, compute=compute)


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 3))


def trained(recipe, engine='autograd', **kwargs):
    net = linear()
    compute = replace(COMPUTE, engine=engine)
    history = train(net, DATA.train, DATA.valid, recipe, compute=compute, callbacks=QUIET, **kwargs)
    return net, history


ENGINES = ['autograd', *(['onednn'] if has_onednn() else [])]


@pytest.mark.parametrize('engine', ENGINES)
def test_every_engine_keeps_the_best_and_ends_early(engine, tmp_path):
    recipe = mc.Recipe(0.5, 8, 12, keep='best', patience=4)
    net, history = trained(recipe, engine, snapshots=True)
    assert history.engine == engine
    best = history.snapshots[history.best.epoch]
    assert all(w.equal(best[name]) for name, w in net.state_dict().items())
    assert len(history.epochs) == min(12, history.best.epoch + 4)
    net_again, _ = trained(replace(recipe, epochs=12), engine, checkpoint=tmp_path)
    resumed, _ = trained(recipe, engine, checkpoint=tmp_path)  # nothing is left to do
    for other in (net_again, resumed):
        assert all(w.equal(best[name]) for name, w in other.state_dict().items())


def test_a_checkpoint_of_before_goes_on(tmp_path):
    "It has format 1, and says nothing of recipes and further settings."
    recipe = mc.Recipe(0.1, 8, 3, momentum=0.9)
    whole, _ = trained(recipe)
    trained(replace(recipe, epochs=1), checkpoint=tmp_path)
    file = tmp_path / 'last.safetensors'
    weights, meta = read_weights(file)
    assert meta['format'] == 'mnist_cmp checkpoint 1'
    for part in ('identity', 'history'):
        known = json.loads(meta[part])
        assert (known.pop('recipe', {}), known.pop('settings', {})) == ({}, {})
        meta[part] = json.dumps(known)
    write_weights(file, weights, meta)
    net, history = trained(recipe, checkpoint=tmp_path)
    assert len(history.epochs) == 3
    assert all(w.equal(whole.state_dict()[name]) for name, w in net.state_dict().items())


def test_a_history_of_before_is_read():
    _, history = trained(mc.Recipe(0.1, 8, 1))
    known = history.to_dict()
    assert known.pop('recipe', {}) == {}
    assert History.from_dict(known) == history


def test_a_comparison_tells_how_nets_were_trained(free_costs, tmp_path):
    result = mc.compare(
        {'narrow': narrow, 'wide': wide},
        DATA,
        SPACE,
        n_trials=1,
        seeds=2,
        search_epochs=2,
        recipe=replace(MODERN, epochs=4, patience=1),
        store=tmp_path,
        compute=COMPUTE,
        callbacks=QUIET,
    )
    for model in result.models:
        for run in model.runs:
            assert run.training.recipe['optimizer'][0] == 'adamw'
            assert run.training.engine == 'autograd'
    page = (tmp_path / 'report.html').read_text() if (tmp_path / 'report.html').exists() else ''
    told = result._repr_html_() + page
    assert 'trained by AdamW' in told
    assert 'cosine schedule after 1 epoch of warm-up' in told


def test_each_model_may_have_its_own_recipe(free_costs):
    recipes = {
        'narrow': mc.Recipe(optimizer='adamw', keep='best'),
        'wide': mc.Recipe(epochs=2, momentum=0.5, init='glorot'),
    }
    data = replace(DATA, epochs=2)
    ask = dict(n_trials=1, seeds=1, search_epochs=1, compute=COMPUTE, callbacks=QUIET)
    result = mc.compare({'narrow': narrow, 'wide': wide}, data, SPACE, recipe=recipes, **ask)
    histories = {m.name: m.runs[0].training for m in result.models}
    assert [len(h.epochs) for h in histories.values()] == [2, 2]
    assert histories['narrow'].recipe['optimizer'][0] == 'adamw'
    assert (histories['wide'].recipe, histories['wide'].momentum) == ({}, 0.5)
    told = result._repr_html_()
    assert 'narrow by AdamW' in told
    assert 'wide by SGD (momentum 0.5)' in told
    for wrong, message in (
        (recipes | {'wide': mc.Recipe(epochs=3)}, 'must be one number: the models are compared'),
        ({'narrow': mc.Recipe()}, 'one for each of narrow, wide'),
        (recipes | {'wide': mc.Recipe(optimizer='adamm')}, "Did you mean 'adam'"),
    ):
        with pytest.raises(ValueError, match=message):
            mc.compare({'narrow': narrow, 'wide': wide}, data, SPACE, recipe=wrong, **ask)
