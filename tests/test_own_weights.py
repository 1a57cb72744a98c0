"What a model's maker makes is what is trained: its values, its frozen layers, its own rule."

import json
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import mnist_cmp as mc
from mnist_cmp.comparison import Stopped
from mnist_cmp.engines.chains import recognise
from mnist_cmp.engines.graphs import Again, GraphStep
from mnist_cmp.engines.steps import ENGINES, choose_engine, make_step
from mnist_cmp.models import begin, glorot_of_all, missed_text
from mnist_cmp.report import _methods

KNOWN = torch.rand(8, 784, generator=torch.Generator().manual_seed(1)) / 30


def finetuned():
    "Features that were learnt elsewhere, frozen, and a new head."
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        net[1].weight.copy_(KNOWN)
        net[1].bias.fill_(0.5)
    net[1].requires_grad_(False)
    return net


def scratch():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 3))


class Orthogonal(nn.Module):
    "A model with a rule of its own."

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 3)
        nn.init.orthogonal_(self.fc.weight)
        nn.init.constant_(self.fc.bias, -2.0)

    def forward(self, x):
        return self.fc(x.flatten(1))


class Mixed(nn.Module):
    "Layers that Glorot's rule reaches, and one that it does not."

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(28, 6, batch_first=True)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.lstm(x[:, 0])[0][:, -1])


def he(layer):
    if isinstance(layer, nn.Linear):
        nn.init.kaiming_normal_(layer.weight)


def test_the_makers_values_are_what_is_trained():
    net = mc.initialise(Orthogonal, seed=4)
    assert (net.fc.bias == -2).all()
    assert torch.allclose(net.fc.weight @ net.fc.weight.T, torch.eye(3), atol=1e-5)
    assert mc.initialise(finetuned)[1].weight.equal(KNOWN)
    assert not mc.initialise(Orthogonal, seed=5).fc.weight.equal(net.fc.weight)
    assert mc.initialise(Orthogonal, seed=4).fc.weight.equal(net.fc.weight)


class Heir(mc.MLP):
    "A subclass is its author's own."


@pytest.mark.parametrize(
    'make, is_glorot',
    [
        (mc.MLP, True),
        (mc.get_model('cnn'), True),
        (mc.get_model('mnist_cmp.models:DeepMLP'), True),
        (partial(mc.MLP, 4, 4), True),
        (Heir, False),
        (lambda: mc.MLP(4, 4), False),
    ],
)
def test_glorots_rule_is_that_of_the_built_in_models(make, is_glorot):
    biases = [p for p in mc.initialise(make).parameters() if p.ndim == 1]
    assert all((p == 0).all() for p in biases) == is_glorot


FROZEN_STEPS = ['autograd', 'auto']


@pytest.mark.parametrize(
    'sgd', [{}, {'momentum': 0.9, 'weight_decay': 0.01}], ids=['plain', 'momentum']
)
@pytest.mark.parametrize('engine', ENGINES)
def test_frozen_layers_stay_in_each_engine(data, engine, sgd):
    assert recognise(finetuned()) is None
    net = mc.initialise(finetuned, seed=3)
    head = net[3].weight.detach().clone()
    recipe = mc.Recipe(0.1, 8, 2, **sgd)
    compute = mc.Compute(engine=engine)
    if engine in FROZEN_STEPS:
        mc.train(net, data.train, data.valid, recipe, compute=compute)
        assert not net[3].weight.equal(head)
    else:  # a step that can't leave them alone does not begin
        with pytest.raises((ValueError, OSError)):
            mc.train(net, data.train, data.valid, recipe, compute=compute)
    assert net[1].weight.equal(KNOWN)
    assert (net[1].bias == 0.5).all()


def test_frozen_layers_stay_in_a_graph(data):
    net = mc.initialise(finetuned)
    head = net[3].weight.detach().clone()
    step = GraphStep(net.train(), 0.1, 0.9, 0.01, recorder=Again())
    step.sweep(data.train.x, data.train.y, [torch.arange(8), torch.arange(8, 16)])
    assert net[1].weight.equal(KNOWN)
    assert not net[3].weight.equal(head)


def test_frozen_layers_stay_in_a_population(data):
    nets = [mc.initialise(finetuned, seed=seed) for seed in range(2)]
    recipes = [mc.Recipe(0.1, 8, 2, 0.9, 0.01), mc.Recipe(0.2, 16, 2)]
    mc.train_population(
        nets, data.train, recipes=recipes, seeds=[0, 1], callbacks=mc.Callbacks(progress=False)
    )
    alone = mc.initialise(finetuned, seed=1)
    mc.train(
        alone,
        data.train,
        recipe=mc.Recipe(learning_rate=0.2, batch_size=16, epochs=2),
        seed=1,
        callbacks=mc.Callbacks(progress=False),
    )
    for net in nets:
        assert net[1].weight.equal(KNOWN)
        assert (net[1].bias == 0.5).all()
    assert torch.allclose(nets[1][3].weight, alone[3].weight, atol=1e-5)


def test_a_step_that_serves_chains_refuses_a_frozen_one():
    assert choose_engine(finetuned()) == 'autograd'
    with pytest.raises(ValueError):
        make_step(finetuned(), 0.1, engine='onednn')


@pytest.mark.parametrize('init', [None, 'glorot', 'as_made', he])
def test_a_comparison_leaves_frozen_layers_alone(compare_in, tmp_path, init):
    found = compare_in(tmp_path, models={'finetuned': finetuned, 'scratch': scratch}, init=init)
    for weights in found.weights['finetuned']:
        assert weights['1.weight'].equal(KNOWN)
        assert (weights['1.bias'] == 0.5).all()
    starts = {w['1.weight'].norm().item() for w in found.weights['scratch']}
    assert len(starts) == 2


def losses(found):
    return [[run.history.last.train_loss for run in c.runs] for c in found.models]


def test_a_rule_for_all_or_for_each(compare_in, tmp_path):
    models = {'a': scratch, 'b': partial(mc.MLP, 8, 3, classes=3)}
    own = compare_in(tmp_path / 'own', models=models)
    same = compare_in(tmp_path / 'same', models=models, init={'a': 'as_made'})
    each = compare_in(tmp_path / 'each', models=models, init={'a': 'glorot', 'b': he})
    assert losses(own) == losses(same)
    assert [c.init for c in own.models] == ["the model's own", 'Glorot & Bengio (2010)']
    assert [c.init for c in each.models] == ['Glorot & Bengio (2010)', 'he']
    assert losses(each)[0] != losses(own)[0]
    assert losses(each)[1] != losses(own)[1]
    assert "First weights: a: the model's own; b: Glorot & Bengio (2010)." in _methods(own)


def test_the_result_does_not_depend_on_processes(compare_in, tmp_path):
    models = {'finetuned': finetuned, 'orthogonal': Orthogonal}
    assert losses(compare_in(tmp_path / '1', models=models)) == losses(
        compare_in(tmp_path / '2', models=models, workers=2)
    )


@pytest.mark.parametrize(
    'init, said',
    [
        ({'c': 'glorot'}, "init is 'c', but must be one of 'one', 'two'"),
        ('he', "init is 'he', but must be 'glorot', 'as_made' or 'pkg.module:name'"),
        ('no_such_module:he', "init is 'no_such_module:he', but No module named"),
        (3, 'init is 3'),
    ],
)
def test_an_odd_rule_is_refused_first(compare_in, tmp_path, init, said):
    with pytest.raises((ValueError, TypeError), match=said):
        compare_in(tmp_path, init=init, on_trial=lambda *trial: pytest.fail('a trial'))


def test_layers_that_a_rule_does_not_reach_are_named_at_the_callers_line(data):
    def tune(init=None):
        return mc.tune(
            Mixed,
            data.train,
            data.valid,
            mc.Space(batch_size=(8, 16)),
            n_trials=1,
            recipe=mc.Recipe(epochs=1, init=init),
            compute=mc.Compute(workers=1),
        )

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        tune()
        tune(init='as_made')
        assert not heard
        tune(init='glorot')
        mc.initialise(Mixed, 'glorot')
    assert len(heard) == 2
    for each in heard:
        assert str(each.message).startswith('init is glorot, which does not reach lstm (LSTM)')
        assert each.filename == __file__
    assert missed_text(begin(Mixed, mc.norm_init), mc.norm_init).startswith(
        'init is norm_init, which'
    )
    assert begin(Mixed, 'glorot').rule == (
        'Glorot & Bengio (2010) for Linear, with LSTM as the model makes them'
    )


@pytest.mark.parametrize(
    'of',
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
    ],
)
def test_a_parametrised_layer_is_reached_or_left_whole(of):
    "The layer has the new weights, or all of its old ones; never a mixture of both."

    def make():
        return nn.Sequential(nn.Flatten(), of(nn.Linear(784, 3, bias=False)))

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        given = mc.initialise(make, 'glorot').eval()[1].weight
    made = mc.initialise(make).eval()[1].weight
    is_reached = not torch.allclose(given, made, atol=1e-6)
    assert is_reached == (of is parametrizations.weight_norm)
    assert len(heard) == (not is_reached)
    if is_reached:
        assert given.abs().max() <= (6 / 787) ** 0.5 * 1.0001


def begun_before(compare_in, folder, **kwargs):
    "A comparison as release 0.1.0 began it: Glorot's values for all; stopped after a search."
    trials = []
    with pytest.raises(Stopped):
        compare_in(
            folder,
            init=glorot_of_all,
            on_trial=lambda *trial: trials.append(trial),
            should_stop=lambda: len(trials) >= 1,
            **kwargs,
        )


def test_a_begun_comparison_goes_on_with_its_rule(compare_in, tmp_path, capfd):
    models = {'finetuned': finetuned, 'mlp': partial(mc.MLP, 8, 3, classes=3)}
    begun_before(compare_in, tmp_path / 'store', models=models)
    capfd.readouterr()
    found = compare_in(tmp_path / 'store', models=models)
    said = capfd.readouterr().err
    assert said.count("was begun with Glorot's values, and goes on with them") == 1
    assert 'finetuned: the study in' in said
    whole = compare_in(tmp_path / 'whole', models=models, init=glorot_of_all)
    assert losses(found) == losses(whole)
    assert found.models[0].init == 'Glorot & Bengio (2010)'
    assert not found.weights['finetuned'][0]['1.weight'].equal(KNOWN)  # as it was done then
    assert losses(compare_in(tmp_path / 'store', models=models, init='glorot')) == losses(whole)


def test_another_rule_than_the_begun_one_is_refused(compare_in, tmp_path):
    begun_before(compare_in, tmp_path)
    with pytest.raises(mc.LedgerError, match="init is as_made, but the study of one .* Glorot's"):
        compare_in(tmp_path, init='as_made')


def test_a_rule_that_is_a_function_has_to_be_passed_again(search_in, tmp_path):
    first = search_in(tmp_path, init=he)
    with pytest.raises(mc.LedgerError, match='begun with the initialiser he. Pass it as init'):
        search_in(tmp_path)
    assert [t.accuracy for t in search_in(tmp_path, init=he).trials] == [
        t.accuracy for t in first.trials
    ]


def test_a_report_without_the_word_is_one_of_glorots(compare_in, tmp_path):
    found = compare_in(tmp_path / 'store')
    found.save(tmp_path / 'old')
    file = tmp_path / 'old' / 'report.json'
    report = json.loads(file.read_text())
    for model in report['contestants']:
        assert model.pop('init') == "the model's own"
    file.write_text(json.dumps(report))
    old = mc.Comparison.load(tmp_path / 'old')
    assert 'First weights: Glorot & Bengio (2010) for Linear and Conv2d, other' in _methods(old)
    file.write_text(
        json.dumps(
            report | {'contestants': [model | {'init': 3} for model in report['contestants']]}
        )
    )
    with pytest.raises(ValueError, match=r'contestants\[0\].init'):
        mc.Comparison.load(tmp_path / 'old')
