"Nets of any kind on data of any shape: the same bits again, and the fast steps where they serve."

from functools import partial

import pytest
import torch
import torch.nn as nn

import mnist_cmp as mc
from mnist_cmp.comparison import load_net, measure_test
from mnist_cmp.engines.autograd import AutogradStep, float_images
from mnist_cmp.engines.chains import recognise
from mnist_cmp.engines.compiled import CompiledStep, has_kernel, is_served
from mnist_cmp.engines.onednn import OneDNNStep, compare_errors, has_onednn
from mnist_cmp.engines.steps import choose_engine
from mnist_cmp.models import Scaled, Shape, initialise

N = 40


class Sequence(nn.Module):
    "A recurrent layer, and a linear one on its last state; examples are times × features."

    def __init__(self, kind, inputs, outputs):
        super().__init__()
        self.layer = kind(inputs[-1], 8, batch_first=True)
        self.last = nn.Linear(8, outputs)

    def forward(self, x):
        return self.last(self.layer(x)[0][:, -1])


class Attention(nn.Module):
    "A layer of a transformer, and a linear one on the mean over time."

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(inputs[-1], 2, 16, dropout=0.1, batch_first=True)
        self.last = nn.Linear(inputs[-1], outputs)

    def forward(self, x):
        return self.last(self.layer(x).mean(1))


def conv1d(inputs, outputs):
    return nn.Sequential(
        nn.Conv1d(inputs[0], 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(outputs)
    )


def normed(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs[0], 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, outputs),
    )


def dropping(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs[0], 16), nn.LayerNorm(16), nn.Dropout(0.3), nn.Linear(16, outputs)
    )


def reading(inputs, outputs):
    return nn.Sequential(nn.Embedding(30, 4), nn.Flatten(), nn.Linear(4 * inputs[0], outputs))


# name → what makes the net, the shape of an example, and whether it is of whole numbers
NETS = {
    'Conv1d, lazy': (conv1d, (3, 12), False),
    'RNN': (partial(Sequence, nn.RNN), (6, 5), False),
    'GRU': (partial(Sequence, nn.GRU), (6, 5), False),
    'LSTM': (partial(Sequence, nn.LSTM), (6, 5), False),
    'transformer': (Attention, (6, 4), False),
    'batch norm': (normed, (3, 9, 7), False),
    'layer norm and dropout': (dropping, (30,), False),
    'embedding': (reading, (12,), True),
    'mlp': (mc.MLP, (30,), False),
    'cnn': (partial(mc.CNNClassifier, 8), (3, 9, 8), False),
}


def split_of(inputs, whole=False, classes=3, name='train', task='classes', seed=0):
    "Made examples: what is larger on the whole has the higher label."
    chance = torch.Generator().manual_seed(seed)
    if whole:
        x = torch.randint(0, 30, (N, *inputs), generator=chance)
    else:
        x = torch.randn(N, *inputs, generator=chance)
    means = x.float().flatten(1).mean(1)
    if task == 'regression':
        return mc.Split(x, (means - means.mean()) / means.std(), name, ())
    y = means.argsort().argsort() * classes // N
    return mc.Split(x, y, name, tuple(f'class {k}' for k in range(classes)))


def trained(name, task='classes', epochs=3, engine='autograd', **more):
    "Losses and weights of a net of the table."
    make, inputs, whole = NETS[name]
    train = split_of(inputs, whole, task=task)
    net = initialise(make, seed=3, shape=train)
    compute = mc.Compute('cpu', threads=1, engine=engine)
    recipe = mc.Recipe(0.05, 7, epochs, momentum=0.9)
    history = mc.train(net, train, train, recipe, seed=5, compute=compute, **more)
    return [e.train_loss for e in history.epochs], net.state_dict(), history


def same(a, b):
    return a[0] == b[0] and all(w.equal(b[1][key]) for key, w in a[1].items())


@pytest.mark.parametrize('task', ['classes', 'regression'])
@pytest.mark.parametrize('name', NETS)
def test_the_same_seed_gives_the_same_bits(name, task):
    first = trained(name, task)
    assert same(first, trained(name, task))
    assert first[2].engine == 'autograd'
    if task == 'classes':
        assert first[0][-1] < first[0][0]  # it learns


@pytest.mark.parametrize('name', NETS)
def test_resumed_is_undisturbed(name, tmp_path):
    trained(name, epochs=1, checkpoint=tmp_path)
    first, weights, _ = trained(name, checkpoint=tmp_path)
    assert same((first, weights), trained(name))


@pytest.mark.parametrize('name', ['LSTM', 'transformer', 'batch norm', 'embedding'])
def test_workers_give_the_bits_of_this_process(name):
    make, inputs, whole = NETS[name]
    train = split_of(inputs, whole)
    runs = [
        mc.retrain(
            {'net': make},
            train,
            train,
            mc.Recipe(0.05, 7, 2),
            seeds=2,
            compute=mc.Compute('cpu', threads=1, workers=workers, engine='autograd'),
        )
        for workers in (1, 2)
    ]
    for here, there in zip(*runs, strict=True):
        assert here.history.last.train_loss == there.history.last.train_loss
        assert all(w.equal(there.weights[key]) for key, w in here.weights.items())


@pytest.mark.parametrize('shape', [(N,), (N, 1)])
def test_one_number_may_be_given_flat(shape):
    train = split_of((30,), task='regression')
    flat = nn.Sequential(nn.Linear(30, 1), nn.Flatten(0)) if shape == (N,) else nn.Linear(30, 1)
    assert flat(train.x).shape == shape
    assert mc.predict(flat, train).shape == (N,)
    history = mc.train(flat, train, train, mc.Recipe(0.05, 8, 20))
    assert history.last.valid_loss < 0.5  # of the mean alone it is 1
    assert mc.measure(flat, train).loss == pytest.approx(history.last.valid_loss)


def odd():
    return nn.Sequential(
        nn.Conv2d(4, 5, (3, 2), bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 17, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(17 * 3 * 16, 62),
    )


CHAINS = {
    'colour, 100 classes': (partial(mc.CNNClassifier, 20, 100, (3, 32, 32)), (3, 32, 32), 100),
    'small and grey': (partial(mc.CNNClassifier, 9, 10, (1, 8, 8)), (1, 8, 8), 10),
    'no square, 2 classes': (partial(mc.CNNClassifier, 9, 2, (3, 40, 9)), (3, 40, 9), 2),
    'vectors, 2 classes': (partial(mc.MLP, 20, 20, 2, (30,)), (30,), 2),
    'vectors, 62 classes': (partial(mc.MLP, 200, 300, 62, (5,)), (5,), 62),
    'sequences, flattened': (partial(mc.DeepMLP, 33, 4, 3, (12, 8)), (12, 8), 3),
    'four channels': (odd, (4, 8, 33), 62),
    'one layer': (partial(nn.Linear, 3000, 2), (3000,), 2),
}


@pytest.mark.parametrize('kind', ['floats', 'bytes'])
@pytest.mark.parametrize('step', [OneDNNStep, CompiledStep])
@pytest.mark.parametrize('name', CHAINS)
def test_fast_steps_are_right_for_any_shape(name, step, kind):
    if not (has_kernel() if step is CompiledStep else has_onednn()):
        pytest.skip('this machine has no such step')
    make, inputs, classes = CHAINS[name]
    chance = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(120, *inputs, generator=chance)
    if kind == 'bytes':
        x = torch.randint(0, 256, x.shape, generator=chance).to(torch.uint8)
    y = torch.randint(0, classes, (120,), generator=chance)
    steps = [AutogradStep, partial(step, input_shape=inputs)]
    errors = compare_errors(steps, make, x, y, [19] * 5 + [1], draws=5, learning_rate=0.01)
    for general, ours in errors.values():
        assert ours <= 3 * general + 1e-6


@pytest.mark.parametrize('name', CHAINS)
def test_chains_are_known_by_their_shape_alone(name):
    make, inputs, classes = CHAINS[name]
    stages = recognise(make(), inputs)
    assert is_served(stages) and stages[-1].made == (classes,)
    assert recognise(make(), (2, *inputs)) is None or len(inputs) == 1
    other = (*inputs[:-1], 2 * inputs[-1])
    assert recognise(make(), other) is None
    fast = 'onednn' if has_onednn() else 'autograd'
    assert choose_engine(make(), shape=Shape(inputs, classes)) == fast
    assert choose_engine(make(), shape=Shape(inputs, classes, 'regression')) == 'autograd'


@pytest.mark.parametrize('name', [name for name in NETS if name not in ('mlp', 'cnn')])
def test_what_is_no_chain_goes_by_the_general_step(name):
    make, inputs, whole = NETS[name]
    shape = Shape(inputs, 3, dtype=torch.int64 if whole else torch.float32)
    net = initialise(make, shape=shape)
    assert choose_engine(net, images=1e12, shape=shape) == 'autograd'
    with pytest.raises(ValueError, match="Take engine='auto'"):
        choose_engine(net, 'onednn', shape=shape)


@pytest.mark.parametrize(
    'x', [torch.arange(12).view(3, 1, 2, 2), torch.rand(3, 5), torch.rand(3, 1, 4), torch.rand(3)]
)
def test_what_is_no_image_is_fed_as_it_is(x):
    assert float_images(x) is x


def backbone(inputs, classes):
    "Features that were learnt elsewhere and stay, and a head that learns."
    chance = torch.Generator().manual_seed(9)
    net = nn.Sequential(
        nn.Conv2d(inputs[0], 6, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes)
    )
    with torch.no_grad():
        net[0].weight.copy_(torch.randn(net[0].weight.shape, generator=chance) / 9)
        net[0].bias.fill_(0.1)
    net[0].requires_grad_(False)
    return net


def test_a_frozen_backbone_keeps_its_weights(tmp_path):
    colour = (3, 32, 32)
    train = split_of(colour, classes=4)
    known = backbone(colour, 4)[0].state_dict()
    data = mc.Data(
        train, split_of(colour, name='valid', seed=1, classes=4),
        split_of(colour, name='test', seed=2, classes=4), 'made', train.classes, 1, 1,
    )  # fmt: skip
    result = mc.compare(
        {'frozen': backbone, 'mlp': partial(mc.MLP, 4, 4)},
        data,
        {'batch_size': (4, 16)},
        n_trials=2,
        seeds=2,
        compute=mc.Compute('cpu', workers=1),
    )
    result.save(tmp_path)
    model = result['frozen']
    assert model.init == "the model's own"
    assert model.trained == model.parameters - sum(w.numel() for w in known.values())
    heads = []
    for number in range(2):
        net = load_net(result, 'frozen', tmp_path, number, make=backbone)
        assert all(net[0].state_dict()[key].equal(w) for key, w in known.items())
        heads.append(net[3].weight)
        assert measure_test(net, data.test) == model.runs[number].test
    assert not heads[0].equal(heads[1])


def numbers_data():
    "A table with a number to tell, both far from standardised."
    chance = torch.Generator().manual_seed(0)
    x = 40 + 9 * torch.randn(160, 5, generator=chance)
    y = 1000 + 30 * x[:, 0] - 20 * x[:, 1]
    parts = x[:120].numpy(), y[:120].numpy(), x[120:].numpy(), y[120:].numpy()
    return mc.Data.from_arrays(*parts, scale='standard', task='regression')


def test_a_loaded_net_takes_and_gives_units(tmp_path):
    data = numbers_data()
    result = mc.compare(
        {'linear': lambda inputs, outputs: nn.Linear(*inputs, outputs), 'mlp': mc.MLP},
        data,
        n_trials=2,
        seeds=2,
        recipe=mc.Recipe(epochs=3),
        compute=mc.Compute('cpu', workers=1),
    )
    result.save(tmp_path)
    net = load_net(mc.Comparison.load(tmp_path), 'mlp', tmp_path)
    assert isinstance(net, Scaled)
    raw = torch.as_tensor(data.test.scaling.undo(data.test.x)).float()
    truth = data.test.in_units(data.test.y)
    given = net(raw).detach().reshape(-1)
    assert given.mean().item() == pytest.approx(truth.mean().item(), rel=0.1)
    assert measure_test(net, data.test).value == result['mlp'].runs[0].test.value
    inner = mc.predict(net, data.test)
    assert torch.allclose(data.test.in_units(inner), given, rtol=1e-4)


def test_searched_settings_are_those_of_the_files(tmp_path):
    table = split_of((30,))
    best = mc.Config(0.1, 8, width=24, depth=3)
    runs = mc.retrain(
        mc.DeepMLP, table, table, mc.Recipe(0.1, 8, 2), config=best, seeds=2, store=tmp_path
    )
    assert runs[0].weights['layers.0.weight'].shape == (24, 30)
    again = mc.retrain(
        mc.DeepMLP, table, table, mc.Recipe(0.1, 8, 2), config=best, seeds=2, store=tmp_path
    )
    assert [run.is_new for run in again] == [False, False]
    with pytest.raises(mc.LedgerError, match='settings was'):
        mc.retrain(
            mc.DeepMLP,
            table,
            table,
            mc.Recipe(0.1, 8, 2),
            config=best._replace(width=25),
            seeds=2,
            store=tmp_path,
        )


class Clamped(nn.Module):
    "A net that works on what it is given in place."

    def __init__(self, inputs, classes):
        super().__init__()
        self.last = nn.Linear(inputs[0], classes)

    def forward(self, x):
        return self.last(x.clamp_(-0.4, 0.4))


def linear(inputs, classes):
    return nn.Linear(inputs[0], classes)


def compared(models, data):
    return mc.compare(
        models,
        data,
        {'learning_rate': (0.1, 0.5), 'batch_size': 16},
        n_trials=2,
        seeds=2,
        search_epochs=1,
        recipe=mc.Recipe(epochs=2),
        compute=mc.Compute(workers=1),
        callbacks=mc.Callbacks(progress=False),
    )


def test_a_net_that_changes_its_input_leaves_the_data_alone():
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=chance)
    data = mc.Data.from_arrays(x, (x[:, 0] + x[:, 1] > 0).long())
    before = [split.x.clone() for split in data.splits]
    first = compared([Clamped, linear], data)
    assert all(split.x.equal(x) for split, x in zip(data.splits, before, strict=True))
    second = compared([linear, Clamped], data)
    for name in 'linear', 'Clamped':
        assert first[name].wrong == second[name].wrong


def embedded(inputs, classes):
    return nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(4 * inputs[0], classes))


def averaged(inputs, classes):
    return nn.Sequential(nn.EmbeddingBag(100, 4), nn.Linear(4, classes))


def test_a_token_beyond_the_embedding_is_met_before_any_work():
    chance = torch.Generator().manual_seed(0)
    x = torch.randint(0, 50, (120, 7), generator=chance)
    y = torch.arange(120) % 3
    x_test = torch.randint(0, 50, (30, 7), generator=chance)
    x_test[4, 2] = 77
    data = mc.Data.from_arrays(x, y, x_test, y[:30])
    words = r'embedded: the test examples hold whole numbers from \d+ to 77: IndexError'
    with pytest.raises(ValueError, match=words):
        compared([embedded, averaged], data)
