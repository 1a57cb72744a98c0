"""Each engine is a `Step`, and trains as the others do; whoever wants a graph or a population asks
for it by name."""

import warnings
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F

import mnist_cmp as mc
from mnist_cmp import training
from mnist_cmp.core.checks import Stopped
from mnist_cmp.engines import steps
from mnist_cmp.engines.autograd import AutogradStep, train_batches
from mnist_cmp.engines.compiled import CompiledStep, build_kernel, has_kernel
from mnist_cmp.engines.graphs import Again, GraphStep
from mnist_cmp.engines.onednn import OneDNNStep, has_onednn
from mnist_cmp.engines.step_protocol import Step
from mnist_cmp.engines.steps import ENGINES, choose_engine, make_step
from mnist_cmp.study import trainers

# Engine → a function that makes its step, and how far its losses may be from those of autograd,
# as a share: a replayed graph does the same operations, the others add in another order.
KINDS = {
    'autograd': (AutogradStep, 0.0),
    'cudagraph': (partial(GraphStep, recorder=Again()), 0.0),
    'onednn': (OneDNNStep, 1e-4),
    'compiled': (CompiledStep, 1e-4),
}
RULES = {
    'plain': {},
    'momentum': {'momentum': 0.9},
    'decay': {'momentum': 0.5, 'weight_decay': 0.01},
}


def tiny_mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 3))


def tiny_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(676, 3)
    )


def step_of(engine, make=tiny_mlp, seed=0, **rule):
    if engine == 'onednn' and not has_onednn():
        pytest.skip('this PyTorch has no oneDNN products')
    if engine == 'compiled' and not has_kernel():
        pytest.skip('there is no compiler here')
    return KINDS[engine][0](mc.initialise(make, seed=seed).train(), 0.05, **rule)


def losses_of(step, split, epochs=3):
    "Sum of losses and right answers of each epoch; the last batch is smaller."
    found = []
    for epoch in range(epochs):
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(epoch))
        loss, correct = step.train_epoch(split.x, split.y, order.split(12))
        found.append((loss.item(), correct.item()))
    step.close()
    return found


def test_the_table_has_each_engine():
    assert set(KINDS) == set(ENGINES) - {'auto'}


@pytest.mark.parametrize('engine', KINDS)
class TestEachEngine:
    def test_is_a_step(self, engine):
        step = step_of(engine)
        assert isinstance(step, Step)
        assert step.engine == engine
        assert list(step.params) == ['1.weight', '1.bias', '3.weight', '3.bias']
        assert step.velocity == {}

    def test_inherits_from_nobody(self, engine):
        assert type(step_of(engine)).__mro__[1:] == (object,)

    @pytest.mark.parametrize('rule', RULES)
    @pytest.mark.parametrize('make', [tiny_mlp, tiny_cnn])
    def test_trains_to_the_losses_of_autograd(self, engine, make, rule, data):
        ours = losses_of(step_of(engine, make, **RULES[rule]), data.train)
        theirs = losses_of(step_of('autograd', make, **RULES[rule]), data.train)
        assert theirs[-1][0] < theirs[0][0]
        tolerance = KINDS[engine][1]
        for (loss, right), (expected, expected_right) in zip(ours, theirs):
            assert abs(loss - expected) <= tolerance * expected
            assert right == expected_right

    def test_keeps_velocity_by_the_names_of_parameters(self, engine, data):
        step = step_of(engine, momentum=0.9)
        step(data.train.x[:8], data.train.y[:8])
        assert {name: v.shape for name, v in step.velocity.items()} == {
            name: p.shape for name, p in step.params.items()
        }

    def test_goes_on_from_a_checkpoints_velocity(self, engine, data):
        whole = step_of(engine, momentum=0.9)
        parts = step_of(engine, momentum=0.9)
        batches = torch.arange(40).split(12)
        whole.train_epoch(data.train.x, data.train.y, [*batches, *batches])
        parts.train_epoch(data.train.x, data.train.y, batches)
        kept = {name: v.clone().contiguous() for name, v in parts.velocity.items()}
        weights = {name: p.detach().clone().contiguous() for name, p in parts.params.items()}
        parts.close()
        resumed = step_of(engine, seed=1, momentum=0.9)
        for name, p in resumed.params.items():
            p.data.copy_(weights[name])
        resumed.velocity = kept
        resumed.train_epoch(data.train.x, data.train.y, batches)
        assert all(p.equal(whole.params[name]) for name, p in resumed.params.items())

    def test_an_epoch_is_its_steps(self, engine, data):
        epoch = step_of(engine)
        single = step_of(engine)
        batches = torch.arange(40).split(12)
        loss, correct = epoch.train_epoch(data.train.x, data.train.y, batches)
        expected, right = train_batches(single, data.train.x, data.train.y, batches)
        assert torch.allclose(loss, expected)
        assert correct == right
        assert all(p.equal(single.params[name]) for name, p in epoch.params.items())

    def test_a_yes_ends_the_epoch_before_the_next_step(self, engine, data):
        step = step_of(engine, momentum=0.9)
        once = step_of(engine, momentum=0.9)
        batches = torch.arange(40).split(12)
        answers = iter([False, True])
        with pytest.raises(Stopped):
            step.train_epoch(data.train.x, data.train.y, batches, lambda: next(answers))
        once.train_epoch(data.train.x, data.train.y, batches[:1])
        assert all(p.equal(once.params[name]) for name, p in step.params.items())

    def test_the_old_name_warns_at_its_caller(self, engine, data):
        batches = torch.arange(40).split(12)
        with pytest.warns(DeprecationWarning, match='Write train_epoch') as heard:
            old = step_of(engine).sweep(data.train.x, data.train.y, batches, ask=lambda: None)
        assert heard[0].filename == __file__
        new = step_of(engine).train_epoch(data.train.x, data.train.y, batches)
        assert old[0].equal(new[0])


# ---- a step of one's own


class SignStep:
    "Moves each weight by the sign of its gradient; inherits nothing and borrows nothing."

    engine = 'sign'

    def __init__(self, net):
        self.net = net
        self.params = dict(net.named_parameters())
        self.velocity = {}

    def __call__(self, x, y):
        logits = self.net(x / 255)
        loss = F.cross_entropy(logits, y)
        gradients = torch.autograd.grad(loss, list(self.params.values()))
        with torch.no_grad():
            for p, g in zip(self.params.values(), gradients):
                p.sub_(g.sign(), alpha=0.001)
        return loss.detach(), (logits.argmax(1) == y).sum()

    def train_epoch(self, x, y, batches, should_stop=None):
        return train_batches(self, x, y, batches, should_stop)

    def close(self):
        self.net.is_closed = True


def test_training_takes_any_step(data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, '_first_step', lambda net, *_: SignStep(net))

    def trained(epochs, **how):
        net = mc.initialise(tiny_mlp)
        how = dict(learning_rate=0.1, batch_size=12, progress=None) | how
        return mc.train(net, data.train, data.valid, epochs=epochs, **how), net

    history, net = trained(3)
    assert history.engine == 'sign'
    assert net.is_closed
    assert history.epochs[-1].train_loss < history.epochs[0].train_loss
    trained(1, checkpoint=tmp_path)
    resumed, other = trained(3, checkpoint=tmp_path)
    assert [e.train_loss for e in resumed.epochs] == [e.train_loss for e in history.epochs]
    assert all(p.equal(q) for p, q in zip(net.parameters(), other.parameters()))


# ---- who chooses


def on_gpu(net):
    "The net with weights that say that they are on a GPU, and hold no numbers."
    mode = FakeTensorMode()
    for part in net.modules():
        for name, p in part._parameters.items():
            empty = torch.empty_like(p, device='meta')
            part._parameters[name] = nn.Parameter(FakeTensor(mode, empty, torch.device('cuda:0')))
    return net


@pytest.fixture
def all_serve(monkeypatch):
    "As if a graph and a population could hold any net."
    monkeypatch.setattr(steps, 'why_no_graph', lambda net, shape: '')
    monkeypatch.setattr(trainers, 'why_no_population', lambda net, shape: '')


@pytest.mark.parametrize('make', [tiny_mlp, tiny_cnn, mc.MLP, mc.CNNClassifier])
@pytest.mark.parametrize('images', [0, 1e12])
def test_auto_on_a_gpu_is_autograd(all_serve, make, images):
    assert choose_engine(on_gpu(make()), images=images) == 'autograd'
    assert make_step(on_gpu(make()), 0.1).engine == 'autograd'


class SaysGPU(nn.Sequential):
    "A net that is on a GPU, in name only, as soon as it is taken somewhere."

    def to(self, device):
        assert device.type == 'cuda'
        return on_gpu(tiny_mlp())


@pytest.fixture
def on_a_gpu(all_serve, monkeypatch):
    "A study's trainer on a machine that says that it has a GPU."
    monkeypatch.setattr(trainers, 'device_of', lambda device: (torch.device('cuda'), 'a GPU'))
    monkeypatch.setattr(trainers.NetTrainer, 'fresh', lambda self, seed=0, config=None: SaysGPU())
    for engine in ('cudagraph', 'onednn'):  # which would allocate memory on the GPU, or refuse it
        named = SimpleNamespace(engine=engine)
        make = partial(lambda named, *_, **__: named, named)
        monkeypatch.setitem(steps._KINDS, engine, make)
    return trainers.NetTrainer(tiny_mlp, mc.Recipe(epochs=2), mc.Compute(threads=1))


def settled(trainer):
    return trainer.settled(images=1e12, plain=True).engine


def test_auto_of_a_study_on_a_gpu_is_autograd(on_a_gpu):
    assert settled(on_a_gpu) == 'autograd'


@pytest.mark.parametrize('engine', ['population', 'cudagraph'])
def test_graph_and_population_are_taken_by_their_names(on_a_gpu, engine):
    assert settled(on_a_gpu.with_engine(engine)) == engine


@pytest.mark.parametrize('engine', ['population', 'cudagraph', 'onednn', 'autograd'])
def test_a_study_goes_on_with_the_engine_that_it_was_begun_with(on_a_gpu, engine):
    assert settled(on_a_gpu.as_begun({'engine': engine})) == engine


def test_a_training_goes_on_with_the_engine_of_its_checkpoint(data, tmp_path, monkeypatch):
    def trained(epochs, folder=None, engine='auto'):
        recipe = mc.Recipe(learning_rate=0.1, batch_size=12, epochs=epochs)
        net = mc.initialise(tiny_mlp)
        compute = mc.Compute(engine=engine)
        return mc.train(net, data.train, recipe=recipe, compute=compute, checkpoint=folder)

    monkeypatch.setitem(steps._KINDS, 'cudagraph', partial(GraphStep, recorder=Again()))
    monkeypatch.setattr(steps, 'why_no_graph', lambda net, shape: '')  # as on a GPU
    assert trained(1, tmp_path, engine='cudagraph').engine == 'cudagraph'
    assert trained(1).engine != 'cudagraph'
    assert trained(2, tmp_path).engine == 'cudagraph'


def test_who_asks_for_a_graph_of_a_net_that_it_cannot_hold_is_told_why(on_a_gpu, monkeypatch):
    monkeypatch.setattr(steps, 'why_no_graph', lambda net, shape: 'it branches on a value')
    with pytest.raises(ValueError, match="it branches on a value. Take engine='auto'"):
        settled(on_a_gpu.with_engine('cudagraph'))


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_who_asks_for_a_graph_without_a_gpu_is_told_the_way_out(data):
    for ask in (
        lambda: choose_engine(tiny_mlp(), 'cudagraph'),
        lambda: make_step(tiny_mlp(), 0.1, engine='cudagraph'),
        lambda: mc.train(
            tiny_mlp(),
            data.train,
            recipe=mc.Recipe(learning_rate=0.1, batch_size=8, epochs=1),
            compute=mc.Compute(engine='cudagraph'),
        ),
    ):
        with pytest.raises(ValueError, match='cudagraph step.* CUDA device.* on cpu') as error:
            ask()
        assert "Take engine='auto', or device='cuda'" in str(error.value)


# ---- old names


def test_an_old_keyword_warns_at_its_caller(monkeypatch, tmp_path):
    monkeypatch.setenv('MNIST_CMP_KERNELS', str(tmp_path))

    def enough():
        raise InterruptedError

    for call in (
        lambda: build_kernel(check=enough),
        lambda: choose_engine(tiny_mlp(), 'compiled', check=enough),
    ):
        with (
            pytest.warns(DeprecationWarning, match='Write should_stop instead') as heard,
            pytest.raises(InterruptedError),
        ):
            call()
        assert heard[0].filename == __file__


def test_new_keywords_do_not_warn(data):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        net = mc.initialise(tiny_mlp)
        assert mc.measure(net, data.valid, should_stop=lambda: False) == mc.measure(net, data.valid)
        with pytest.raises(Stopped):
            mc.measure(net, data.valid, should_stop=lambda: True)
    with pytest.warns(DeprecationWarning):
        mc.measure(net, data.valid, check=lambda: None)
