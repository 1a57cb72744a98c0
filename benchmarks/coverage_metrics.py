"""Do the intervals of each metric hold the truth as often as they say? `python
benchmarks/coverage_metrics.py`.

Two models answer the same examples, some trainings each, in worlds whose truth is known: seeds
differ in skill, examples in difficulty, which the models share in part. For each metric the
interval of the difference, and that of the first model alone. F1 once more by the bootstrap, and by
percentiles of Owen's. The results go to `nbs/results/coverage_metrics.json`;
`nbs/evidence/metrics.ipynb` shows them. `python benchmarks/coverage_metrics.py 10` makes a tenth of
the comparisons and only prints.
"""

import itertools
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import pandas as pd

from mnist_cmp.core.files import write_json
from mnist_cmp.core.system import available_cores
from mnist_cmp.evidence.crossed import crossed_interval, expected_interval
from mnist_cmp.evidence.metrics import Metric, bootstrap_difference, get_metric

# seed_sd: skill of a training; sharpness: what the logits are multiplied by
WORLDS = {
    'steady seeds': dict(seed_sd=0.1, sharpness=1),
    'seeds differ': dict(seed_sd=0.5, sharpness=1),
    'overconfident': dict(seed_sd=0.2, sharpness=4),
}
SKILLS = {'equal': (2.0, 2.0), 'apart': (2.0, 2.6)}
CELLS = (
    ('steady seeds', 'apart'),
    ('seeds differ', 'equal'),
    ('overconfident', 'equal'),
)
SEEDS = 3, 5, 10
EXAMPLES = 100, 300, 2000
ROUNDS = 4
COMPARISONS = 250  # in a cell and round
BY_BOOTSTRAP = 50  # comparisons in a round, in the cells that follow
BOOTSTRAP_CELLS = ('steady seeds', 'apart'), ('seeds differ', 'equal')
DRAWS = 200  # of a bootstrap
SHARED = 0.5  # of the examples' difficulty between models
DIFFICULTY = 1.2
SHARES = {3: (0.5, 0.3, 0.2), 2: (0.7, 0.3)}
THRESHOLD = 0.4
OF_THREE = 'error', 'top2_error', 'log_loss', 'brier', 'balanced_error', 'auroc', 'f1_macro'
OF_TWO = 'auroc', 'sensitivity', 'specificity', 'f1'
OF_NUMBERS = 'squared_error', 'absolute_error'


def classified(rng, n_classes, seeds, n, skills, seed_sd, sharpness):
    "The truth, and of each model probabilities, seeds×examples×classes."
    y = rng.choice(n_classes, n, p=SHARES[n_classes])
    common = rng.standard_normal((n, n_classes))
    answers = []
    for skill in skills:
        own = rng.standard_normal((n, n_classes))
        hard = DIFFICULTY * (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own)
        logits = hard + rng.standard_normal((seeds, n, n_classes))
        logits[:, np.arange(n), y] += skill + seed_sd * rng.standard_normal((seeds, 1))
        powers = np.exp(sharpness * (logits - logits.max(2, keepdims=True)))
        answers.append(powers / powers.sum(2, keepdims=True))
    return y, answers


def estimated(rng, seeds, n, skills, seed_sd, sharpness):
    "The truth, and each model's numbers, seeds×examples; the errors of examples have heavy tails."
    y = rng.standard_normal(n)
    common = rng.standard_t(5, n)
    answers = []
    for skill in skills:
        own = rng.standard_t(5, n)
        error = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own
        noise = rng.standard_normal((seeds, n)) + seed_sd * rng.standard_normal((seeds, 1))
        answers.append(y + (error + noise) / skill)
    return y, answers


def kinds(rng, seeds, n, skills, world):
    "Name → metric, truth and answers of both models."
    three, of_three = classified(rng, 3, seeds, n, skills, **world)
    if world['sharpness'] > 1:  # which matters to these alone
        return {name: (get_metric(name), three, of_three) for name in ('log_loss', 'brier')}
    result = {}
    for name in OF_THREE:
        title = 'auroc, one against rest' if name == 'auroc' else name
        result[title] = get_metric(name), three, of_three
    two, of_two = classified(rng, 2, seeds, n, skills, **world)
    scores = [p[:, :, 1] for p in of_two]
    for name in OF_TWO:
        metric = get_metric(name)
        result[name] = metric if name == 'auroc' else metric.at(THRESHOLD), two, scores
    numbers, of_numbers = estimated(rng, seeds, n, skills, **world)
    for name in OF_NUMBERS:
        result[name] = get_metric(name), numbers, of_numbers
    return result


def truths(skills, world, fewer):
    "Name → the expected loss of each model: the mean over many seeds, each on many examples."
    rng = np.random.default_rng([2027, int(100 * world['seed_sd'])])
    sums = {}
    for _ in range(max(400 // fewer, 100)):
        for name, (metric, y, models) in kinds(rng, 1, 5000, skills, world).items():
            losses = [metric.as_loss(metric.of_runs(y, answers)[0]) for answers in models]
            sums.setdefault(name, []).append(losses)
    return {name: np.mean(losses, axis=0) for name, losses in sums.items()}


def intervals(metric, y, models):
    "Limits of the difference, and of the first model's loss."
    first, second = (metric.values(y, answers) for answers in models)
    both = crossed_interval(first.values, second.values, strata=first.strata)
    one = expected_interval(first.values, strata=first.strata, bounds=metric.loss_bounds)
    return (both.low, both.high), (one.low, one.high)


def simulate(job):
    "In one cell and round: for each metric, how often its intervals held the truth."
    world, pair, seeds, n, number, truth, fewer = job
    rng = np.random.default_rng([2028, *number])
    limits = {name: [] for name in truth}
    for _ in range(COMPARISONS // fewer):
        for name, asked in kinds(rng, seeds, n, SKILLS[pair], WORLDS[world]).items():
            with suppress(ValueError):  # of a class with too few examples
                limits[name].append(intervals(*asked))
    rows = []
    for name, of_metric in limits.items():
        first, second = truth[name]
        found = np.array(of_metric)
        expected = np.array([0.0 if pair == 'equal' else first - second, first])
        held = ((found[..., 0] <= expected) & (expected <= found[..., 1])).sum(0)
        rows.append(
            dict(
                metric=name,
                world=world,
                pair=pair,
                seeds=seeds,
                examples=n,
                comparisons=len(found),
                refused=COMPARISONS // fewer - len(found),
                coverage=int(held[0]),
                coverage_one=int(held[1]),
                width=float(np.diff(found[:, 0]).sum()),
            )
        )
    return rows


def f1(y, labels):
    return 2 * np.count_nonzero(y & labels) / max(y.sum() + labels.sum(), 1)


def owen(rng, y, models):
    "Percentiles of the difference of F1 over draws of the examples and of the seeds."
    n = len(y)
    S = len(models[0])
    weights = rng.multinomial(n, np.full(n, 1 / n), DRAWS).astype(float)
    of_seeds = rng.multinomial(S, np.full(S, 1 / S), DRAWS) / S
    losses = []
    for labels in models:
        hits = weights @ (labels & y).T
        losses.append(1 - 2 * hits / (weights @ labels.T + (weights @ y)[:, None]))
    return np.quantile(((losses[0] - losses[1]) * of_seeds).sum(1), [0.025, 0.975])


def simulate_bootstrap(job):
    "The same for F1: by its influence, by the bootstrap of an own function, by Owen's percentiles."
    world, pair, seeds, n, number, truth, fewer = job
    rng = np.random.default_rng([2029, *number])
    own = Metric(f1, greater_is_better=True)
    limits = []
    for _ in range(max(BY_BOOTSTRAP // fewer, 2)):
        y, models = classified(rng, 2, seeds, n, SKILLS[pair], **WORLDS[world])
        labels = [(p[:, :, 1] >= THRESHOLD).astype(int) for p in models]
        drawn = bootstrap_difference(own, y, *labels, n_boot=DRAWS)
        influence, _ = intervals(get_metric('f1'), y, labels)
        limits.append((influence, (drawn.low, drawn.high), owen(rng, y, labels)))
    found = np.array(limits)
    expected = truth['f1'][0] - truth['f1'][1] if pair == 'apart' else 0.0
    held = ((found[..., 0] <= expected) & (expected <= found[..., 1])).sum(0)
    widths = np.diff(found)[..., 0].sum(0)
    names = 'influence', 'bootstrap', 'percentiles'
    return [
        dict(
            interval=name,
            world=world,
            pair=pair,
            seeds=seeds,
            examples=n,
            comparisons=len(found),
            coverage=int(coverage),
            width=float(width),
        )
        for name, coverage, width in zip(names, held, widths)
    ]


def pooled(rows):
    "Rows of several rounds, added up; coverage and width become means."
    table = pd.DataFrame(rows)
    cell = [name for name in table if table[name].dtype.kind not in 'if']
    table = table.groupby([*cell, 'seeds', 'examples'], sort=False).sum().reset_index()
    for name in table.columns.intersection(['coverage', 'coverage_one', 'width']):
        table[name] = table[name] / table.comparisons
    return table.to_dict('records')


def main(fewer=1):
    start = time.perf_counter()
    metrics = []
    bootstrap = []
    with ProcessPoolExecutor(available_cores()) as pool:
        known = pool.map(
            truths,
            [SKILLS[pair] for _, pair in CELLS],
            [WORLDS[world] for world, _ in CELLS],
            [fewer] * len(CELLS),
        )
        truth = dict(zip(CELLS, known))
        for number in range(1 if fewer > 1 else ROUNDS):
            cells = itertools.product(
                sorted(EXAMPLES, reverse=True), sorted(SEEDS, reverse=True), CELLS
            )
            jobs = [
                (world, pair, seeds, n, (number, place), truth[world, pair], fewer)
                for place, (n, seeds, (world, pair)) in enumerate(cells)
            ]
            small = [job for job in jobs if job[:2] in BOOTSTRAP_CELLS and job[3] <= 300]
            of_bootstrap = pool.map(simulate_bootstrap, small)
            for rows in pool.map(simulate, jobs):
                metrics.extend(rows)
            for rows in of_bootstrap:
                bootstrap.extend(rows)
            minutes = (time.perf_counter() - start) / 60
            print(f'{number + 1} rounds, {minutes:.1f} minutes', flush=True)
            results = dict(metrics=pooled(metrics), bootstrap=pooled(bootstrap), minutes=minutes)
            if fewer == 1:
                write_json('nbs/results/coverage_metrics.json', results)
    table = pd.DataFrame(results['metrics'])
    with pd.option_context('display.width', 200, 'display.max_rows', None):
        print(table.groupby(['metric', 'seeds', 'examples']).coverage.min().unstack().round(3))
        print(table.groupby(['metric', 'seeds', 'examples']).coverage_one.min().unstack().round(3))
        print(pd.DataFrame(results['bootstrap']).round(3))


if __name__ == '__main__':
    main(*map(int, sys.argv[1:2]))
