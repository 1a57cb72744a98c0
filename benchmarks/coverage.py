"""Do the intervals of `mnist_cmp.evidence.intervals` hold the truth as often as they say? `python
benchmarks/coverage.py`.

Thousands of comparisons are simulated in worlds whose truth is known: the difference of two
models' expected errors over fresh seeds and fresh test images. The results go to
`nbs/results/coverage.json`; `nbs/evidence/intervals.ipynb` shows them. `python benchmarks/coverage.py
100` makes a hundredth of the comparisons and only prints.
"""

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import pandas as pd
from scipy import stats

from mnist_cmp.core.files import write_json
from mnist_cmp.core.system import available_cores
from mnist_cmp.evidence.intervals import (
    bonett_price_interval,
    crossed_difference,
    error_interval,
    expected_best,
    paired_t,
    prob_better,
    simulate_errors,
    wilson_interval,
)

# difficulty: how stable errors are from seed to seed; shared: of it between models; seed_sd: skill
# of a training
WORLDS = {
    'typical': dict(difficulty=3, shared=0.5, seed_sd=0.05),
    'very stable errors': dict(difficulty=8, shared=0.5, seed_sd=0.05),
    'models much alike': dict(difficulty=3, shared=0.9, seed_sd=0.05),
    'twins': dict(difficulty=3, shared=1, seed_sd=0.05),
    'unsteady training': dict(difficulty=3, shared=0.5, seed_sd=0.4),
}
ERRORS = (0.015, 0.015), (0.09, 0.09), (0.02, 0.01), (0.1, 0.08)
SIZES = {300: (5, 8000), 500: (10, 8000), 10_000: (10, 4000)}  # images → seeds, comparisons


def simulate(job):
    """How often three intervals hold the difference of the true errors, in one world, and their
    mean widths."""
    number, world, images, (error_a, error_b), fewer = job
    seeds, comparisons = SIZES[images]
    rng = np.random.default_rng([2024, number])
    truth = error_a - error_b
    comparisons = comparisons // fewer
    limits = np.empty((comparisons, 3, 2))
    for row in limits:
        a, b = simulate_errors(rng, error_a, error_b, seeds, images, **WORLDS[world])
        crossed = crossed_difference(a, b)
        paired = paired_t(a.mean(1), b.mean(1))
        one = bonett_price_interval(
            np.count_nonzero(a[0] & ~b[0]), np.count_nonzero(b[0] & ~a[0]), images
        )
        row[:] = (crossed.low, crossed.high), (paired.low, paired.high), one
    held = ((limits[..., 0] <= truth) & (truth <= limits[..., 1])).mean(0)
    names = 'crossed', 'paired_t', 'bonett_price'
    return dict(
        world=world,
        images=images,
        seeds=seeds,
        error_a=error_a,
        error_b=error_b,
        comparisons=comparisons,
        **dict(zip(names, held)),
        widths=dict(zip(names, np.diff(limits)[..., 0].mean(0))),
    )


def fractions(job):
    """Coverage of two intervals for a fraction, exactly, for true errors from 0.0003 to 0.5: its
    least, and where it is low."""
    images, interval = job
    low, high = np.transpose([interval(k, images) for k in range(images + 1)])
    # where coverage jumps
    edges = np.concatenate([np.nextafter(limits, to) for limits in (low, high) for to in (0, 1)])
    even = np.geomspace(0.0003, 0.5, 20_001)

    # of the counts from the first whose interval reaches up to p to the last whose begins below it
    def coverage(p):
        first = np.searchsorted(high, p)
        last = np.searchsorted(low, p, 'right') - 1
        return stats.binom.cdf(last, images, p) - stats.binom.cdf(first - 1, images, p)

    p = np.unique(np.concatenate([edges[(edges >= 0.0003) & (edges <= 0.5)], even]))
    found = coverage(p)
    low_at = coverage(even) < 0.935
    return dict(
        interval=interval.__name__,
        images=images,
        least=found.min(),
        least_at=p[found.argmin()],
        mean=coverage(even).mean(),
        below_935=low_at.mean(),
        largest_p_below_935=max(p[found < 0.935], default=None),
    )


def fresh_training(seeds, apart, repeats):
    """How often `prob_better` holds the truth, for runs whose errors are normal and `apart`
    standard deviations apart."""
    rng = np.random.default_rng([2025, seeds, int(10 * apart)])
    truth = stats.norm.cdf(apart / np.sqrt(2))
    found = (
        prob_better(rng.normal(size=seeds), rng.normal(apart, size=seeds)) for _ in range(repeats)
    )
    return dict(
        seeds=seeds,
        truth=truth,
        repeats=repeats,
        coverage=np.mean([p.low <= truth <= p.high for p in found]),
    )


def tuning_curve(trials, power, repeats):
    """How often the band of `expected_best` holds the whole curve, for scores with distribution
    function x**power."""
    rng = np.random.default_rng([2026, trials, int(10 * power)])
    n = np.arange(1, trials + 1)
    truth = n * power / (n * power + 1)
    held = []
    unbiased = []
    for _ in range(repeats):
        curve = expected_best(rng.random(trials) ** (1 / power))
        held.append(((curve.low <= truth) & (truth <= curve.high)).all())
        unbiased.append(curve.expected)
    return dict(
        trials=trials,
        power=power,
        repeats=repeats,
        coverage=np.mean(held),
        largest_bias=np.abs(np.mean(unbiased, axis=0) - truth).max(),
    )


def main(fewer=1):
    start = time.perf_counter()
    jobs = [
        (world, images, errors, fewer) for images in SIZES for errors in ERRORS for world in WORLDS
    ]
    sizes = [
        (images, interval)
        for images in (300, 500, 1000, 10_000)
        for interval in (wilson_interval, error_interval)
    ]
    with ProcessPoolExecutor(available_cores()) as pool:
        differences = list(pool.map(simulate, [(number, *job) for number, job in enumerate(jobs)]))
        results = {'differences': differences, 'fractions': list(pool.map(fractions, sizes))}
    results['fresh_training'] = [
        fresh_training(seeds, apart, 4000 // fewer)
        for seeds in (5, 10)
        for apart in (0, 0.5, 1.5, 3)
    ]
    results['tuning_curve'] = [
        tuning_curve(trials, power, 2000 // fewer) for trials in (10, 20) for power in (0.5, 1, 20)
    ]
    for name, rows in results.items():
        print(
            name,
            pd.DataFrame(rows).drop(columns='widths', errors='ignore').round(4).to_string(),
            sep='\n',
        )
    print(
        f'least coverage {min(row["crossed"] for row in differences):.4f}, '
        f'{time.perf_counter() - start:.0f} s'
    )
    if fewer == 1:
        write_json('nbs/results/coverage.json', results)


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
