"""What a comparison and a search hold, in plain types, to be held against what was written down
when the runs of `tests/fixtures` were made; and the machine that they were made on."""

import hashlib
import json
import math
import sys
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import fixture_nets
import torch

import mnist_cmp as mc
from mnist_cmp.core import system
from mnist_cmp.evidence.verdict import verdict
from mnist_cmp.report import summary

FIXTURES = Path(__file__).parent / 'fixtures'
FIRST = Path(__file__).parents[1] / 'nbs' / 'fixtures' / 'run_0.1.0'  # of release 0.1.0
MODELS = ['fixture_nets:shallow', 'fixture_nets:deep']
# A study goes on only on the kind of machine that began it: these name one that there is not,
# and who goes on with them says that this is it.
MACHINE = 'Linux x86_64, a made-up processor, 2 cores, torch 2.13.0'


def on_machine(monkeypatch, text=MACHINE):
    "Have every module of the package take this for the machine that it runs on."
    machine = system.machine
    for name, module in list(sys.modules.items()):
        if name.split('.')[0] == 'mnist_cmp' and vars(module).get('machine') is machine:
            monkeypatch.setattr(module, 'machine', lambda: text)


def rounding():
    """A word for how PyTorch rounds on this processor, by a training of its own: where it is that
    of `golden.json`, the trainings have the bits that they have there."""
    generator = torch.Generator().manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(49, 8), torch.nn.Linear(8, 10))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    sgd = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.5)
    for size in (16, 23, 32, 48, 300) * 4:
        x = torch.rand(size, 49, generator=generator)
        loss = torch.nn.functional.cross_entropy(net(x), torch.arange(size) % 10)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    bits = b''.join(parameter.detach().numpy().tobytes() for parameter in net.parameters())
    return hashlib.sha256(bits).hexdigest()[:16]


def search(store, **callbacks):
    "The search of `half_search`: 4 trials of 3 epochs."
    data = mc.load_data('digits')
    space = mc.Space(learning_rate=(0.05, 0.5), batch_size=(16, 48), momentum=(0.0, 0.5), log=True)
    return mc.tune(
        {'deep': fixture_nets.deep},
        data.train,
        data.valid,
        space,
        n_trials=4,
        recipe=mc.Recipe(epochs=3),
        store=store,
        compute=mc.Compute(workers=1, engine='autograd'),
        callbacks=mc.Callbacks(**callbacks),
    )


def retrain(store, seeds=3, **callbacks):
    "The trainings of `half_retraining`: 3 of 4 epochs."
    data = mc.load_data('digits')
    return mc.retrain(
        {'deep': fixture_nets.deep},
        data.train,
        data.valid,
        mc.Recipe(learning_rate=0.2, batch_size=32, momentum=0.5, epochs=4),
        seeds=seeds,
        store=store,
        compute=mc.Compute(workers=1, engine='autograd'),
        callbacks=mc.Callbacks(**callbacks),
    )


def search_numbers(result):
    "Each trial of a search, and which is the best."
    trials = []
    for trial in result.trials:
        history = trial.history
        trials.append(
            {
                'place': trial.number,
                'state': history.state,
                'learning_rate': history.learning_rate,
                'batch_size': history.batch_size,
                'seed': history.seed,
                'epochs': [epoch_numbers(epoch) for epoch in history.epochs],
                'error': trial.error,
            }
        )
    return {
        'model': result.model,
        'n': result.n_trials,
        'epochs': result.epochs,
        'scored_on': result.scored_on,
        'best': result.best.number,
        'trials': trials,
    }


def epoch_numbers(epoch):
    return {
        'train_loss': epoch.train_loss,
        'valid_loss': epoch.valid_loss,
        'valid_accuracy': epoch.valid_accuracy,
    }


def retraining_numbers(retraining):
    "One training with the chosen settings; its weights by their absolute sums."
    return {
        'number': retraining.number,
        'state': retraining.history.state,
        'seed': retraining.history.seed,
        'epochs': [epoch_numbers(epoch) for epoch in retraining.history.epochs],
        'weights': {name: w.double().abs().sum().item() for name, w in retraining.weights.items()},
    }


def run_numbers(run):
    "One training of a model and its test."
    test = run.test
    return {
        'number': run.number,
        'seed': run.history.seed,
        'epochs': [epoch_numbers(epoch) for epoch in run.history.epochs],
        'loss': test.loss,
        'accuracy': test.accuracy,
        'errors': {str(k): n for k, n in test.errors.items()},
        'wrong': test.wrong,
        'predicted': test.predicted,
        'confidence': test.confidence,
        'bins': test.bins,
        'health': run.health,
    }


def cost_numbers(cost):
    "What a model costs, as far as the runs could know."
    return {key: value for key, value in asdict(cost).items() if key != 'training_seconds'}


def model_numbers(model):
    "A model of a comparison, how it was tuned and trained, and what came of it."
    return {
        'name': model.name,
        'maker': model.maker,
        'parameters': model.parameters,
        'depth': model.depth,
        'flops': [model.forward_flops, model.training_flops],
        'init': model.init,
        'trained': model.trained,
        'same_start': model.same_start,
        'cost': model.cost and cost_numbers(model.cost),
        'code': model.code and asdict(model.code),
        'error': model.error,
        'wrong': model.wrong,
        'search': search_numbers(model.search),
        'runs': [run_numbers(run) for run in model.runs],
    }


def worked_out(comparison):
    "What is computed of the records: differences, and the sentences that say them."
    differences = []
    for a, b in combinations(comparison.names, 2):
        differences.append(asdict(comparison.difference(a, b)))
    return {
        'differences': differences,
        'verdict': verdict(comparison).splitlines(),
        'summary': summary(comparison).splitlines(),
    }


def numbers(comparison):
    "All that a comparison holds and says, by way of JSON."
    recorded = {
        'dataset': comparison.dataset,
        'protocol': comparison.protocol,
        'sizes': comparison.sizes,
        'fingerprints': comparison.fingerprints,
        'classes': list(comparison.classes),
        'seed': comparison.seed,
        'seconds': comparison.seconds,
        'machine': comparison.machine,
        'versions': comparison.versions,
        'commit': comparison.commit,
        'trained_on': comparison.trained_on,
        'remarks': comparison.remarks,
        'models': [model_numbers(model) for model in comparison.models],
    }
    return as_json({'recorded': recorded, 'worked_out': worked_out(comparison)})


def as_json(value):
    "Plain types, as they are after they were written as JSON: None for what is not finite."
    if isinstance(value, dict):
        return {str(key): as_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(json.dumps(value))


def differing(was, now, rel=0.0, place=''):
    """Where two values of plain types differ, as texts; numbers differ by more than the share
    `rel` of the larger one."""
    if isinstance(was, dict) and isinstance(now, dict) and was.keys() == now.keys():
        pairs = [(key, was[key], now[key]) for key in was]
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = [(number, *both) for number, both in enumerate(zip(was, now))]
    elif isinstance(was, float) and isinstance(now, float):
        return [] if math.isclose(was, now, rel_tol=rel) else [f'{place}: {was} and {now}']
    else:
        return [] if was == now and type(was) is type(now) else [f'{place}: {was!r} and {now!r}']
    return [text for key, a, b in pairs for text in differing(a, b, rel, f'{place}/{key}')]
