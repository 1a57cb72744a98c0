"""Measure `mc.judge` on predictions: `python benchmarks/judge.py [rounds]`.

Each measurement is a fresh process, so that imports count; from its first line to the verdict, or
to the report. What is measured runs in turn (A, B, C, A, B, C …), and medians count. A process
that verdicts alone has loaded no package that a verdict does not need, which is looked at. Results
go to `nbs/results/bench_judge.json`, with what they ought to be; exit 1 where one is missed. Linux
and macOS only.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MPLBACKEND', 'agg')

from mnist_cmp.core.files import write_json
from mnist_cmp.core.system import machine

RESULTS = Path('nbs/results')
HEAVY = ['torch', 'pandas', 'scipy.stats', 'sklearn', 'matplotlib.pyplot']

# Labels or probabilities of models that err on the same examples more often than by chance.
MAKE = """
import sys
import numpy as np

folder, models, trainings, examples, kind = sys.argv[1:]
rng = np.random.default_rng(0)
y = rng.integers(10, size=int(examples))
hard = rng.beta(0.1, 1, size=len(y))
arrays = {}
for k in range(int(models)):
    wrong = rng.random((int(trainings), len(y))) < (0.5 + 0.05 * k) * hard
    labels = (y + wrong * rng.integers(1, 10, size=wrong.shape)) % 10
    if kind == 'labels':
        arrays[f'model_{k}'] = labels
    else:
        exp = np.exp(rng.normal(size=(*labels.shape, 10)) + 4 * (labels[..., None] == range(10)))
        arrays[f'model_{k}'] = exp / exp.sum(-1, keepdims=True)
np.savez(f'{folder}/predictions.npz', **arrays)
np.save(f'{folder}/y.npy', y)
"""

# The clock starts before NumPy is imported; reading arrays from the disk counts as well.
CHILD = """
import time

start = time.perf_counter()
import json
import resource
import sys

import numpy as np

folder, source, metric, report, heavy = json.loads(sys.argv[1])
y = np.load(f'{folder}/y.npy')
answers = f'{folder}/predictions.npz'
if source == 'arrays':
    with np.load(answers) as file:
        answers = {name: file[name] for name in file.files}
import mnist_cmp as mc

result = mc.judge(answers, y, metric=metric)
text = str(result.verdict())
seconds = {'verdict': time.perf_counter() - start}
loaded = [name for name in heavy if name in sys.modules]
assert not loaded, f'a verdict loads {loaded}'
if report:
    result.report(f'{folder}/report')
    seconds['report'] = time.perf_counter() - start
    assert 'torch' not in sys.modules, 'a report loads torch'
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak_mb = peak / (2**20 if sys.platform == 'darwin' else 2**10)
print(json.dumps({'seconds': seconds, 'peak_mb': peak_mb, 'text': text}))
"""

# name → models, trainings, examples, kind
SIZES = {
    'small': (3, 10, 10_000, 'labels'),
    'probabilities': (3, 10, 10_000, 'probabilities'),
    'million': (2, 5, 1_000_000, 'labels'),
}
# name → size, source, metric, with a report?
PARTS = {
    'arrays': ('small', 'arrays', 'error', False),
    'report': ('small', 'arrays', 'error', True),
    'log loss': ('probabilities', 'arrays', 'log_loss', False),
    'a million, arrays': ('million', 'arrays', 'error', False),
    'a million, npz': ('million', 'npz', 'error', False),
}
# name → what is measured → what it stays below, s or MB
TARGETS = {
    'arrays': {'verdict': 1.5},
    'report': {'report': 6},
    'a million, arrays': {'verdict': 10, 'peak_mb': 2000},
    'a million, npz': {'verdict': 10, 'peak_mb': 2000},
}


def in_a_process(code, *words):
    "What code prints in a fresh process; raises `RuntimeError` with what went wrong."
    done = subprocess.run([sys.executable, '-c', code, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'A measured process ended by {done.returncode}:\n{done.stderr}')
    return done.stdout


def measure(part, folder):
    "One part once: seconds until its verdict and report, and its peak of memory in MB."
    size, source, metric, report = PARTS[part]
    given = json.dumps([f'{folder}/{size}', source, metric, report, HEAVY])
    found = json.loads(in_a_process(CHILD, given))
    return found.pop('seconds') | found


def median_of(rounds):
    "Medians of what was measured in several rounds, and the slowest verdict."
    medians = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    return medians | {'slowest_verdict': max(r['verdict'] for r in rounds)}


def missed(results):
    "Sentences: which targets were missed."
    for part, targets in TARGETS.items():
        for name, target in targets.items():
            if results[part][name] >= target:
                yield f'{part}: {name} is {results[part][name]:.4g}, but ought to be below {target}'


def main(rounds=5):
    found = {part: [] for part in PARTS}
    with tempfile.TemporaryDirectory() as folder:
        for size, words in SIZES.items():
            os.mkdir(f'{folder}/{size}')
            in_a_process(MAKE, f'{folder}/{size}', *map(str, words))
        for _ in range(int(rounds)):
            for part, runs in found.items():
                runs.append(measure(part, folder))
                print(part, {k: v for k, v in runs[-1].items() if k != 'text'}, flush=True)
    for part, runs in found.items():
        texts = {run.pop('text') for run in runs}
        assert len(texts) == 1, f'{part}: the same predictions, but different verdicts: {texts}'
    results = {part: median_of(runs) for part, runs in found.items()}
    misses = list(missed(results))
    print(*misses, sep='\n')
    write_json(
        RESULTS / 'bench_judge.json',
        {
            'machine': machine(),
            'rounds': int(rounds),
            'targets': TARGETS,
            'missed': misses,
            'sizes': SIZES,
            'results': results,
        },
    )
    return bool(misses)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
