"""Does this checkout give the numbers of an earlier commit? `python tools/same_as.py COMMIT`.

Both run the same jobs on this machine: trainings of each built-in model with each engine, searches,
trainings with several seeds, comparisons with their reports. Then the earlier commit begins a
comparison and is killed, and this checkout finishes it. Weights, numbers and reports must be equal
to the last bit, but for what a clock or the machine's load decides. `--python` names the Python of
another environment for the earlier commit; without it, both run in this one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What a clock, the commit or the place decides, wherever it stands in a report.
VOLATILE = {
    'seconds',
    'wall_seconds',
    'commit',
    'code',
    'trained_on',
    'machine',
    'cost',
    'costs',
    'worker',
}

JOBS = r"""
import hashlib, json, os, sys, warnings
from dataclasses import asdict
from functools import partial
import torch
import mnist_cmp as mc
from mnist_cmp.models import initialise

job, folder = sys.argv[1], sys.argv[2]
warnings.simplefilter('ignore')
data = mc.load_data('digits')
few = data.train[:300], data.valid[:120]


is_new = hasattr(mc, 'Recipe')   # settings travel as objects
warnings.simplefilter('ignore')


def said(**flat):
    "Keywords of a call, as this commit takes them."
    if not is_new:
        return flat
    from dataclasses import fields
    for name, cls in dict(recipe=mc.Recipe, compute=mc.Compute, callbacks=mc.Callbacks).items():
        values = {f.name: flat.pop(f.name) for f in fields(cls) if f.name in flat}
        if values:
            flat[name] = cls(**values)
    return flat


def digest(weights):
    h = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        h.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return h.hexdigest()


def numbers(history):
    kept = ('train_loss', 'train_accuracy', 'valid_loss', 'valid_accuracy', 'end_train_accuracy')
    return [[getattr(epoch, name) for name in kept] for epoch in history.epochs]


def trained(model, engine, **settings):
    net = initialise(mc.get_model(model), seed=3)
    how = dict(batch_size=16, epochs=2, seed=5, engine=engine, learning_rate=.05, threads=1)
    history = mc.train(net, *few, **said(**how | settings))
    return [numbers(history), digest(net.state_dict()), history.engine]


def trainings():
    found = {}
    for model in ('mlp', 'cnn', 'deep_mlp'):
        for engine in ('autograd', 'onednn', 'compiled', 'auto'):
            found[f'{model} {engine}'] = trained(model, engine)
            found[f'{model} {engine} momentum'] = trained(model, engine, momentum=.9, weight_decay=1e-4)
        found[f'{model} two threads'] = trained(model, 'auto', threads=2)
    return found


def searches():
    found = {}
    for engine in ('autograd', 'onednn', 'compiled', 'population', 'auto'):
        for workers in (1, 2):
            how = dict(engine=engine, workers=workers, epochs=2, seed=2)
            small = partial(mc.CNNClassifier, 4)
            if is_new:
                result = mc.tune(small, *few, n_trials=3, **said(**how))
                runs = mc.retrain(small, *few, seeds=2, **said(learning_rate=.1, batch_size=16, **how))
            else:
                result = mc.search(small, *few, n=3, **how)
                runs = mc.retrain(small, *few, mc.Point(.1, 16), seeds=2, **how)
            settings = ('learning_rate', 'batch_size', 'momentum', 'weight_decay')
            found[f'{engine} {workers}'] = [
                [[*(getattr(trial.history, name) for name in settings), trial.loss, trial.accuracy]
                 for trial in result.trials],
                [[numbers(run.history), digest(run.weights)] for run in runs]]
    return found


def compared(store=None, on_epoch=None, **how):
    models = {'mlp': partial(mc.MLP, 16, 16), 'cnn': partial(mc.CNNClassifier, 4), 'deep': 'deep_mlp'}
    usual = dict(seeds=3, search_epochs=1, epochs=2, workers=1, on_epoch=on_epoch)
    usual |= {'n_trials' if is_new else 'points': 3}
    space = how.pop('space', None)
    return mc.compare(models, data, space, store=store, **said(**usual | how))


def comparisons():
    found = {}
    for name, how in {'holdout': {}, '2019': {'protocol': '2019'}, 'box': {'space': {'log': True}}}.items():
        result = compared(**how)
        found[name] = [result.to_dict(), mc.verdict(result),
                       {name: [digest(w) for w in ws] for name, ws in result.weights.items()}]
    return found


def whole():
    result = compared()
    return [result.to_dict(), mc.verdict(result)]


def begun():
    seen = []

    def die(history):
        seen.append(history)
        if len(seen) == 13:   # among the trainings of the first model
            os._exit(9)
    compared(folder, die)


def finished():
    result = compared(folder)
    return [result.to_dict(), mc.verdict(result)]


found = globals()[job]()
with open(sys.argv[3], 'w') as file:
    json.dump(found, file)
"""


def run_job(python, tree, job, folder, expected=0):
    "What a job gives in a tree; raises `SystemExit` if it fails."
    out = Path(folder) / f'{job}.json'
    env = os.environ | {'PYTHONPATH': str(tree), 'OMP_NUM_THREADS': '1', 'MNIST_CMP_QUIET': '1'}
    done = subprocess.run(
        [python, '-c', JOBS, job, f'{folder}/store', str(out)],
        env=env,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != expected:
        sys.exit(f'{job} of {tree} ended with {done.returncode}:\n{done.stdout[-3000:]}')
    return stable(json.loads(out.read_text())) if expected == 0 else None


def stable(value):
    "Without what may differ."
    if isinstance(value, dict):
        return {key: stable(part) for key, part in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [stable(part) for part in value]
    return value


def differences(before, now, path=''):
    "A line for each place where two results differ."
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before.keys() | now.keys():
            if key in before and key in now:
                yield from differences(before[key], now[key], f'{path}/{key}')
            else:
                yield f'{path}/{key} is {"new" if key in now else "gone"}'
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (a, b) in enumerate(zip(before, now)):
            yield from differences(a, b, f'{path}/{i}')
    elif before != now:
        yield f'{path}: {str(before)[:80]} → {str(now)[:80]}'


def report(job, lines, allowed):
    "Print how a job went; the number of differences that count."
    lines = [line for line in lines if not any(line.startswith(path) for path in allowed)]
    print(f'{"same" if not lines else "OTHER":6} {job}', flush=True)
    for line in sorted(lines)[:20]:
        print(f'       {line}', flush=True)
    return len(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('commit', help='the earlier commit')
    parser.add_argument('--python', default=sys.executable, help='its Python (default: this one)')
    parser.add_argument(
        '--new',
        action='append',
        default=[],
        metavar='PATH',
        help='a place in the results that may differ, as a line of the output begins',
    )
    args = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / 'before'
        subprocess.run(
            ['git', 'worktree', 'add', '--detach', '-f', str(tree), args.commit],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for job in ('trainings', 'searches', 'comparisons'):
                made = []
                for python, root in ((args.python, tree), (sys.executable, ROOT)):
                    with tempfile.TemporaryDirectory() as place:
                        made.append(run_job(python, root, job, place))
                faults += report(job, differences(*made), args.new)
            with tempfile.TemporaryDirectory() as place:
                before = run_job(args.python, tree, 'whole', place)
                run_job(args.python, tree, 'begun', place, expected=9)
                now = run_job(sys.executable, ROOT, 'finished', place)
            faults += report('begun before, finished now', differences(before, now), args.new)
        finally:
            subprocess.run(
                ['git', 'worktree', 'remove', '--force', str(tree)], cwd=ROOT, check=True
            )
    sys.exit(bool(faults))


if __name__ == '__main__':
    main()
