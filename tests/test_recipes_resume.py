"A training that was stopped and goes on is the one that was never stopped, for every recipe."

import itertools
import pickle
from dataclasses import replace

import pytest
import torch
import torch.nn as nn

import mnist_cmp as mc
from mnist_cmp.engines.recipes import optimizers
from mnist_cmp.training import train

EPOCHS = 3
COMPUTE = mc.Compute(device='cpu', threads=1)
QUIET = mc.Callbacks(progress=False)


def images(n, seed):
    "Noise with a bright row that tells the class."
    chance = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = torch.randint(0, 120, (n, 1, 6, 6), dtype=torch.uint8, generator=chance)
    x[torch.arange(n), 0, y] += 100
    return x, y


TRAIN = mc.Split(*images(26, 0), 'train', ('a', 'b', 'c'))
VALID = mc.Split(*images(13, 1), 'valid', ('a', 'b', 'c'))


def small_net():
    "A net with chance in its layers, and with buffers."
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(48, 3),
    )


# What goes beside optimizer and schedule. With patience 1 some of the trainings end early.
EXTRAS = {
    'none': {},
    'augment': {'augment': [mc.random_shift(1), mc.random_erasing(2)], 'label_smoothing': 0.1},
    'average': {'average': 0.9},
    'keep best': {'keep': 'best'},
    'patience': {'patience': 1},
    'clip': {'clip': 0.5},
    'all': {
        'augment': mc.random_flip(),
        'average': 0.9,
        'keep': 'best',
        'patience': 2,
        'clip': 0.5,
    },
}
SCHEDULES = {
    'constant': {},
    'warmup': {'warmup': 1},
    'cosine': {'schedule': 'cosine', 'warmup': 0.3},
    'linear': {'schedule': 'linear'},
    'one_cycle': {'schedule': 'one_cycle'},
    'MultiStepLR': {'schedule': ('MultiStepLR', {'milestones': [1, 2], 'gamma': 0.5})},
    'restarts': {'schedule': ('CosineAnnealingWarmRestarts', {'T_0': 2})},
    'plateau': {'schedule': ('ReduceLROnPlateau', {'patience': 0, 'threshold': 0.5})},
}
# Muon moves matrices alone, and so does not serve this net.
OPTIMIZERS = {name: {'optimizer': name} for name in optimizers() if name != 'muon'}
OPTIMIZERS |= {
    'sgd momentum': {'momentum': 0.9, 'weight_decay': 1e-3},
    'sgd nesterov': {'momentum': 0.9, 'nesterov': True},
    'rmsprop centered': {'optimizer': ('rmsprop', {'centered': True}), 'momentum': 0.5},
    'adamw amsgrad': {'optimizer': ('adamw', {'amsgrad': True, 'betas': (0.8, 0.9)})},
}
USUAL = ('constant', 'cosine', 'one_cycle', 'MultiStepLR', 'plateau')
TABLE = [
    *((o, s, 'all') for o, s in itertools.product(OPTIMIZERS, USUAL)),
    *((o, 'cosine', e) for o, e in itertools.product(OPTIMIZERS, EXTRAS) if e != 'all'),
    *(('adamw', s, e) for s, e in itertools.product(SCHEDULES, EXTRAS)),
    *(('sgd', s, e) for s, e in itertools.product(SCHEDULES, EXTRAS)),
    *(('sgd momentum', 'constant', e) for e in EXTRAS if e != 'all'),
]
TABLE = list(dict.fromkeys(TABLE))


def recipe_of(optimizer, schedule, extra):
    more = OPTIMIZERS[optimizer] | SCHEDULES[schedule] | EXTRAS[extra]
    return mc.Recipe(0.02, 8, EPOCHS, **more)


class Stop:
    "Says yes at the nth question after the epochs that are to be whole."

    def __init__(self, epochs, questions, whole=0):
        self.epochs = epochs
        self.questions = questions
        self.whole = whole  # epochs that were done before

    def note(self, history):
        self.whole = len(history.epochs)

    def __call__(self):
        if self.whole < self.epochs:
            return False
        self.questions -= 1
        return self.questions < 0


def trained(recipe, folder=None, stop=None, make=small_net, parts=(TRAIN, VALID)):
    net = make()
    callbacks = QUIET if stop is None else replace(QUIET, should_stop=stop, on_epoch=stop.note)
    history = train(
        net, *parts, recipe, seed=3, compute=COMPUTE, callbacks=callbacks, checkpoint=folder
    )
    return net, history


def state(net):
    return {name: w.numpy().tobytes() for name, w in net.state_dict().items()}


def told(history):
    "A history but for its times."
    epochs = [replace(e, seconds=0.0) for e in history.epochs]
    return replace(history, epochs=epochs)


@pytest.fixture(autouse=True)
def asked_each_time(monkeypatch):
    "Steps here are too short for a limit on how often is asked."
    monkeypatch.setattr('mnist_cmp.training._BETWEEN', 0.0)


@pytest.mark.parametrize('optimizer, schedule, extra', TABLE)
def test_resumed_is_undisturbed(optimizer, schedule, extra, tmp_path):
    recipe = recipe_of(optimizer, schedule, extra)
    whole, history = trained(recipe)
    # After the first epoch, then in the middle of the second, then after it.
    for epochs, questions, before in ((1, 0, 0), (1, 2, 1), (2, 0, 1)):
        if epochs >= len(history.epochs):
            continue
        net, half = trained(recipe, tmp_path, Stop(epochs, questions, before))
        assert (half.state, len(half.epochs)) == ('stopped', epochs)
    net, again = trained(recipe, tmp_path)
    assert told(again) == told(history)
    assert state(net) == state(whole)
    net, finished = trained(recipe, tmp_path)  # nothing is left to do
    assert told(finished) == told(history)
    assert state(net) == state(whole)


def test_the_table_has_trainings_of_every_kind():
    "Some end early, in some the best epoch is not the last."
    histories = [trained(recipe_of(*row))[1] for row in TABLE if row[2] in ('patience', 'all')]
    assert any(h.saved for h in histories)
    assert any(not h.saved for h in histories)
    assert any(h.best is not h.last for h in histories)
    assert {h.state for h in histories} == {'finished'}


def test_stopped_in_an_epoch_gives_what_is_kept_of_those_before(tmp_path):
    recipe = mc.Recipe(0.02, 8, EPOCHS, optimizer='adam', average=0.9)
    stop = Stop(1, 2)
    net, half = trained(recipe, tmp_path, stop)
    after_one, _ = trained(replace(recipe, epochs=1))
    assert half.state == 'stopped'
    assert state(net) == state(after_one)


def test_a_schedule_is_of_all_its_epochs(tmp_path):
    recipe = mc.Recipe(0.02, 8, 2, schedule='cosine')
    trained(recipe, tmp_path)
    with pytest.raises(ValueError, match='recipe was .*2.* and is .*3'):
        trained(replace(recipe, epochs=3), tmp_path)


def test_without_a_schedule_epochs_may_be_added(tmp_path):
    recipe = mc.Recipe(0.02, 8, 3, optimizer='nadam', average=0.9, keep='best')
    whole, history = trained(recipe)
    trained(replace(recipe, epochs=1), tmp_path)
    net, again = trained(recipe, tmp_path)
    assert (state(net), told(again)) == (state(whole), told(history))


@pytest.mark.parametrize(
    'other',
    [
        {'optimizer': 'adam'},
        {'weight_decay': 0.02},
        {'optimizer': ('adamw', {'eps': 1e-7})},
        {'clip': 1.0},
        {'augment': mc.random_shift(1)},
        {'keep': 'best'},
        {'loss': nn.CrossEntropyLoss()},
    ],
)
def test_another_recipe_does_not_go_on(other, tmp_path):
    recipe = mc.Recipe(0.02, 8, 2, optimizer='adamw')
    trained(recipe, tmp_path)
    with pytest.raises(ValueError, match='The training in .* is another one: .*(recipe|decay)'):
        trained(replace(recipe, **other), tmp_path)


class Noise:
    "An augmentation of one's own, known by its class and its size."

    def __init__(self, size):
        self.size = size
        self._calls = 0

    def __call__(self, x, y, generator):
        self._calls += 1
        return x + self.size * torch.randn(x.shape, generator=generator)


def weighted(*weights):
    return nn.CrossEntropyLoss(weight=torch.tensor(weights))


def scaled(factor):
    return lambda outputs, y: factor * nn.functional.cross_entropy(outputs, y)


PAIRS = {
    'loss': (weighted(1.0, 1.0, 1.0), weighted(1.0, 1.0, 9.0)),
    'loss of a closure': tuple(map(scaled, (1.0, 9.0))),
    'augment': (Noise(0.1), Noise(5.0)),
    'augment by a lambda': (lambda x, y, generator: x, lambda x, y, generator: 2 * x),
}


@pytest.mark.parametrize('what', PAIRS)
def test_other_objects_do_not_go_on(what, tmp_path):
    "Their names are the same, their code or their settings are not."
    name = what.partition(' ')[0]
    first, second = (mc.Recipe(0.02, 8, 2, **{name: value}) for value in PAIRS[what])
    assert first.words != second.words
    trained(first, tmp_path / 'training')
    words = f'{name} of the recipe is another one: its code or settings changed'
    with pytest.raises(ValueError, match=words):
        trained(second, tmp_path / 'training')
    searched(first, tmp_path / 'search')
    with pytest.raises(ValueError, match=words):
        searched(second, tmp_path / 'search')


def searched(recipe, folder, workers=1):
    return mc.tune(
        small_net,
        TRAIN,
        VALID,
        {'learning_rate': 0.02, 'batch_size': (8, 13)},
        n_trials=2,
        recipe=mc.Recipe(epochs=2, loss=recipe.loss, augment=recipe.augment),
        store=folder,
        compute=replace(COMPUTE, workers=workers),
        callbacks=QUIET,
    )


def test_the_same_objects_made_anew_go_on(tmp_path):
    recipe = mc.Recipe(loss=weighted(1.0, 1.0, 9.0), augment=Noise(0.1))
    first = searched(recipe, tmp_path)
    again = searched(mc.Recipe(loss=weighted(1.0, 1.0, 9.0), augment=Noise(0.1)), tmp_path)
    assert again == first
    assert first.trials[0].history.recipe['digests'].keys() == {'loss', 'augment'}


def test_objects_have_their_digest_in_other_processes_too(tmp_path):
    one = searched(mc.Recipe(augment=PAIRS['augment by a lambda'][1]), tmp_path / '1')
    two = searched(mc.Recipe(augment=PAIRS['augment by a lambda'][1]), tmp_path / '2', workers=2)
    assert [t.history.recipe for t in one.trials] == [t.history.recipe for t in two.trials]


def test_what_was_begun_without_digests_goes_on(tmp_path, monkeypatch):
    recipe = mc.Recipe(loss=weighted(1.0, 1.0, 9.0))
    with monkeypatch.context() as patched:
        patched.setattr(mc.Recipe, 'digests', property(lambda self: {}))
        first = searched(recipe, tmp_path)
        assert 'digests' not in first.trials[0].history.recipe
    assert [t.loss for t in searched(recipe, tmp_path).trials] == [t.loss for t in first.trials]


def test_numbers_go_on_too(tmp_path):
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=chance)
    y = x[:, :1] - x[:, 1:2] ** 2
    parts = mc.Split(x[:30], y[:30], 'train', ()), mc.Split(x[30:], y[30:], 'valid', ())

    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))

    recipe = mc.Recipe(0.02, 8, EPOCHS, optimizer='adam', loss='huber', keep='best', average=0.9)
    whole, history = trained(recipe, make=make, parts=parts)
    assert [e.train_accuracy for e in history.epochs] == [None] * EPOCHS
    assert [e.valid_accuracy for e in history.epochs] == [None] * EPOCHS
    trained(recipe, tmp_path, Stop(1, 1), make, parts)
    net, again = trained(recipe, tmp_path, make=make, parts=parts)
    assert (state(net), told(again)) == (state(whole), told(history))


def test_recipes_travel():
    recipe = recipe_of('adamw amsgrad', 'cosine', 'augment')
    assert pickle.loads(pickle.dumps(recipe)) == recipe  # noqa: S301 (our own)


def test_a_damaged_state_is_named(tmp_path):
    from mnist_cmp.engines.evaluation import read_weights, write_weights

    recipe = mc.Recipe(0.02, 8, 2, optimizer='adam')
    trained(replace(recipe, epochs=1), tmp_path)
    file = tmp_path / 'last.safetensors'
    weights, meta = read_weights(file)
    for change in (lambda w: w.pop('state of the step'), lambda w: w['state of the step'].zero_()):
        changed = {name: w.clone() for name, w in weights.items()}
        change(changed)
        write_weights(file, changed, meta)
        with pytest.raises(ValueError, match='damaged: the state of its step'):
            trained(recipe, tmp_path)


def test_a_plain_recipe_does_not_go_on_from_another(tmp_path):
    trained(mc.Recipe(0.02, 8, 2, optimizer='adam'), tmp_path)
    with pytest.raises(ValueError, match='is another one: .*recipe was'):
        trained(mc.Recipe(0.02, 8, 2), tmp_path)
