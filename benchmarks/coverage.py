"""Do the intervals of `mnist_cmp.evidence` hold the truth as often as they say? `python
benchmarks/coverage.py`.

Thousands of comparisons are simulated in worlds whose truth is known. The results go to
`nbs/results/coverage.json`; `nbs/evidence/crossed.ipynb` and `nbs/evidence/intervals.ipynb` show
them. `python benchmarks/coverage.py --fewer 100` makes a hundredth of the comparisons and only
prints; `--processes 2` takes half the time.
"""

import argparse
import itertools
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import pandas as pd
from scipy import special, stats

from mnist_cmp.core.files import atomic_path
from mnist_cmp.evidence.crossed import WORLDS, crossed_interval, expected_interval
from mnist_cmp.evidence.intervals import (
    bonett_price_interval,
    crossed_difference,
    error_interval,
    expected_best,
    paired_t,
    prob_better,
    wilson_interval,
)

RESULTS = 'nbs/results/coverage.json'
ERRORS = (0.015, 0.015), (0.09, 0.09), (0.02, 0.01), (0.1, 0.08)
SIZES = {100: 4000, 300: 4000, 10_000: 1000}  # examples → comparisons
SEEDS = 2, 3, 4, 5, 10, 20
UNPAIRED = 2, 3, 4, 5  # numbers of seeds at which they are taken as unpaired
BEFORE = 5  # number of seeds at which the intervals of before stand beside, in 500 comparisons
ONE_MODEL = 1, 2, 3, 5, 10, 20  # numbers of seeds for one model's expected error
CHECKED = 20  # comparisons of each cell for which the package's own functions are called
Z = stats.norm.ppf(0.975)


class Errors:
    """Comparisons of one cell by their sums: of each the products of all pairs of trainings, summed
    over examples, from which each interval for the first S trainings follows. So all comparisons
    are computed at once, by a second implementation; on some it is held against the package's."""

    def __init__(self, n, repeats, seeds):
        self.n = n
        self.seeds = seeds
        self.products = np.empty((repeats, 2 * seeds, 2 * seeds))

    def add(self, i, a, b):
        "Comparison number i."
        both = np.concatenate([a, b]).astype(np.float32)
        # whole numbers below 2**24: exact
        self.products[i] = both @ both.T

    def block(self, x, y, S):
        "The products of S trainings of x with S of y; 0: A, 1: B."
        k = self.seeds
        return self.products[:, x * k : x * k + S, y * k : y * k + S]

    def rows(self, x, S):
        "Errors of each of S trainings."
        k = self.seeds
        return np.diagonal(self.products, axis1=1, axis2=2)[:, x * k : x * k + S]

    def parts(self, rows, nonzero, of_columns):
        "V_r, V_c and V_e of S trainings, from sums of trainings and of squares."
        S = rows.shape[1]
        n = self.n
        of_rows = (rows**2).sum(1)
        total = rows.sum(1)
        v_r = (of_rows / n**2 - total**2 / (S * n**2)) / (S * max(S - 1, 1))
        v_c = (of_columns / S**2 - total**2 / (S**2 * n)) / (n * (n - 1))
        rest = nonzero - of_rows / n - of_columns / S + total**2 / (S * n)
        return v_r, v_c, rest / (max(S - 1, 1) * (n - 1) * S * n)

    def of_model(self, x, S):
        "Estimates and parts of one model."
        rows = self.rows(x, S)
        parts = self.parts(rows, rows.sum(1), self.block(x, x, S).sum((1, 2)))
        return rows.mean(1) / self.n, parts

    def of_difference(self, S):
        "Sums of the squares of the examples' differences, and how many are not 0."
        a, b, both = (self.block(*pair, S) for pair in ((0, 0), (1, 1), (0, 1)))
        of_columns = a.sum((1, 2)) + b.sum((1, 2)) - 2 * both.sum((1, 2))
        traces = [np.trace(block, axis1=1, axis2=2) for block in (a, b, both)]
        return of_columns, traces[0] + traces[1] - 2 * traces[2]

    def estimates(self, S):
        "A less B, of S trainings each."
        return (self.rows(0, S) - self.rows(1, S)).mean(1) / self.n

    def paired(self, S):
        "Low and high of the paired form."
        of_columns, nonzero = self.of_difference(S)
        v_r, v_c, v_e = self.parts(self.rows(0, S) - self.rows(1, S), nonzero, of_columns)
        variance, df = self.variance([(v_r, S - 1)], v_c, v_e, 1 / (self.n + 1) ** 2)
        return self.limits(self.estimates(S), variance, df)

    def unpaired(self, S):
        "Low and high of the unpaired form."
        of_columns, _ = self.of_difference(S)
        estimate = self.estimates(S)
        v_c = (of_columns / S**2 - self.n * estimate**2) / (self.n * (self.n - 1))
        (_, (r_a, _, e_a)), (_, (r_b, _, e_b)) = (self.of_model(x, S) for x in (0, 1))
        seeds = [(r_a, S - 1), (r_b, S - 1)]
        variance, df = self.variance(seeds, v_c, e_a + e_b, 1 / (self.n + 1) ** 2)
        return self.limits(estimate, variance, df)

    def expected(self, S):
        "Low and high of model B's expected error."
        n = self.n
        p, (v_r, v_c, v_e) = self.of_model(1, S)
        seeds = [(v_r, S - 1)] if S > 1 else []
        variance, df = self.variance(seeds, v_c, v_e, 0)
        wider = quantile(df) / quantile(n - 1)
        with np.errstate(divide='ignore', invalid='ignore'):
            effective = p * (1 - p) * n / (n - 1) / variance / wider**2
        effective = np.where(variance > 0, np.minimum(effective, n), n)
        wrong = p * effective
        right = effective - wrong
        low = np.where(wrong > 0, special.betaincinv(wrong, right + 1, 0.025), 0)
        high = np.where(right > 0, special.betaincinv(wrong + 1, right, 0.975), 1)
        return low, high

    def variance(self, seeds, v_c, v_e, added):
        "V and its degrees of freedom; `seeds` are pairs of a part and its own."
        v_r = sum(part for part, _ in seeds) + 0 * v_c
        variance = np.maximum(np.maximum(v_r + v_c - v_e * bool(seeds), v_r), v_c) + added
        parts = [*seeds, (v_c, self.n - 1)]
        with np.errstate(divide='ignore', invalid='ignore'):
            df = variance**2 / sum(part**2 / f for part, f in parts)
        return variance, np.maximum(np.where(np.isnan(df), np.inf, df), 1)

    def limits(self, estimate, variance, df):
        "A t interval."
        half = quantile(df) * np.sqrt(variance)
        return estimate - half, estimate + half


def quantile(df):
    "Of Student's t for 95 %; of the normal distribution where df is infinite."
    df = np.asarray(df, dtype=float)
    return np.where(np.isinf(df), Z, special.stdtrit(np.where(np.isinf(df), 1, df), 0.975))


def before(a, b):
    "By name: the intervals of other methods, some of releases before."
    two_way = crossed_difference(a, b)
    seeds = paired_t(a.mean(1), b.mean(1))
    examples = paired_t(a.mean(0), b.mean(0))
    only_a = np.count_nonzero(a[0] & ~b[0])
    only_b = np.count_nonzero(b[0] & ~a[0])
    one = bonett_price_interval(only_a, only_b, a.shape[1])
    union = (
        min(x.low for x in (two_way, seeds, examples)),
        max(x.high for x in (two_way, seeds, examples)),
    )
    return {
        'seeds alone': (seeds.low, seeds.high),
        'one training': (one.low, one.high),
        'two-way': (two_way.low, two_way.high),
        'union': union,
    }


def check(errors, own):
    "The second implementation against the package's; `own`: (form, S) → intervals of its own."
    for (form, S), found in own.items():
        low, high = getattr(errors, form)(S)
        ours = np.array([(r.low, r.high) for r in found])
        np.testing.assert_allclose(
            ours, np.transpose([low, high])[: len(ours)], rtol=1e-9, atol=1e-12
        )


def differences(job):
    """In one world: how often each interval holds the difference of the true errors, its mean
    width over the best possible, and how often it excludes 0. The chance is the same for all pairs
    of errors, and comparisons of fewer seeds are the first trainings of those of more."""
    number, world, n, fewer = job
    rng = np.random.default_rng([2026, number])
    repeats = SIZES[n] // fewer
    comparisons = {pair: Errors(n, repeats, max(SEEDS)) for pair in ERRORS}
    own = {pair: {} for pair in ERRORS}
    others = {pair: {} for pair in ERRORS}
    for i in range(repeats):
        margins = WORLDS[world].margins(rng, max(SEEDS), n)
        for pair in ERRORS:
            a, b = (m < WORLDS[world].threshold(pair[k], k) for k, m in enumerate(margins))
            comparisons[pair].add(i, a, b)
            if i < CHECKED:
                for S in SEEDS:
                    verdict = crossed_interval(a[:S], b[:S])
                    own[pair].setdefault((verdict.method, S), []).append(verdict)
                    own[pair].setdefault(('expected', S), []).append(expected_interval(b[:S]))
            if i < 500:
                for name, limits in before(a[:BEFORE], b[:BEFORE]).items():
                    others[pair].setdefault(name, []).append(limits)
    rows = []
    expected = []
    for pair in ERRORS:
        check(comparisons[pair], own[pair])
        cell = dict(world=world, examples=n, error_a=pair[0], error_b=pair[1])
        rows += rows_of(cell, comparisons[pair], own[pair], others[pair])
        # half of the pairs have all errors that matter
        if pair[1] in (0.01, 0.09):
            expected += expected_rows(cell, comparisons[pair])
    return rows, expected


def rows_of(cell, errors, own, others):
    "A row for each number of seeds and each interval."
    truth = cell['error_a'] - cell['error_b']
    rows = []
    for S in SEEDS:
        best = 2 * Z * errors.estimates(S).std()
        forms = {'paired': errors.paired(S)} if S > 2 else {}
        if S in UNPAIRED:
            forms['unpaired'] = errors.unpaired(S)
        if S == BEFORE:
            forms |= {name: np.transpose(pairs) for name, pairs in others.items()}
        for name, (low, high) in forms.items():
            row = dict(cell, seeds=S, interval=name, repeats=len(low))
            # of the package at this number of seeds
            row['verdict'] = (name, S) in own
            rows.append(row | judged(low, high, truth, best))
    return rows


def expected_rows(cell, errors):
    "A row for each number of seeds, of model B's expected error."
    rows = []
    for S in ONE_MODEL:
        low, high = errors.expected(S)
        estimate, _ = errors.of_model(1, S)
        row = dict(world=cell['world'], examples=cell['examples'], error=cell['error_b'], seeds=S)
        row['repeats'] = len(low)
        rows.append(row | judged(low, high, cell['error_b'], 2 * Z * estimate.std()))
    return rows


def judged(low, high, truth, best):
    "How often intervals hold the truth and exclude 0, and their mean width over the best possible."
    return {
        'coverage': np.mean((low <= truth) & (truth <= high)),
        'width': np.mean(high - low) / best,
        'excludes_0': np.mean((low > 0) | (high < 0)),
        'above_0': np.mean(low > 0),
    }


def groups(job):
    """How often the interval holds the truth where examples come in groups that are alike, with the
    groups said and unsaid; five seeds."""
    number, (n_groups, size), alike, (error_a, error_b), fewer = job
    rng = np.random.default_rng([2028, number])
    group = np.repeat(np.arange(n_groups), size)
    repeats = 2000 // fewer
    found = []
    for _ in range(repeats):
        a, b = grouped_errors(rng, (error_a, error_b), group, alike)
        with_groups = crossed_interval(a, b, groups=group)
        without = crossed_interval(a, b)
        found.append([(r.low, r.high) for r in (with_groups, without)])
    low, high = np.moveaxis(np.array(found), 2, 0)
    held = ((low <= error_a - error_b) & (error_a - error_b <= high)).mean(0)
    return dict(
        n_groups=n_groups,
        size=size,
        alike=alike,
        error_a=error_a,
        error_b=error_b,
        repeats=repeats,
        coverage=held[0],
        unsaid=held[1],
        width=np.mean((high - low)[:, 0] / (high - low)[:, 1]),
    )


def grouped_errors(rng, errors, group, alike, difficulty=3.0, seed_sd=0.05, seeds=5):
    "As in the typical world, but a share of the difficulty is that of the examples' group."
    sd = np.sqrt(1 + difficulty**2 + seed_sd**2)

    def drawn():
        of_group = rng.standard_normal(group[-1] + 1)[group]
        of_example = rng.standard_normal(len(group))
        return np.sqrt(alike / 2) * of_group + np.sqrt((1 - alike) / 2) * of_example

    common = drawn()
    wrong = []
    for error in errors:
        latent = difficulty * (common + drawn()) + special.ndtri(error) * sd
        skill = seed_sd * rng.standard_normal((seeds, 1))
        wrong.append(rng.standard_normal((seeds, len(group))) < latent + skill)
    return wrong


def losses(job):
    """How often the interval holds the truth for losses that are no errors: lognormal ones, with a
    long tail, and the balanced error of three classes of unequal size."""
    number, n, seeds, more, fewer = job
    rng = np.random.default_rng([2029, number])
    repeats = (4000 if n == 300 else 1000) // fewer
    sizes = np.array([2, 4, 24]) * n // 30
    strata = np.repeat(range(3), sizes)
    found = {'lognormal loss': [], 'balanced error': []}
    for _ in range(repeats):
        common = rng.standard_normal(n)
        pair = []
        for scale in (1 + more, 1):
            latent = 0.7 * (common + rng.standard_normal(n))
            latent = latent + 0.1 * rng.standard_normal((seeds, 1))
            latent = latent + 0.5 * rng.standard_normal((seeds, n))
            pair.append(scale * np.exp(latent - (2 * 0.7**2 + 0.1**2 + 0.5**2) / 2))
        result = crossed_interval(*pair)
        found['lognormal loss'].append((result.low, result.high, result.estimate))
        classes = []
        for size, error in zip(sizes, (0.2, 0.1, 0.05)):
            classes.append(
                WORLDS['unsteady training'].simulate(
                    rng, float(error + more / 5), error, seeds, int(size)
                )
            )
        a, b = (np.hstack(part) for part in zip(*classes))
        result = crossed_interval(a, b, strata=strata)
        found['balanced error'].append((result.low, result.high, result.estimate))
    rows = []
    for name, triples in found.items():
        low, high, estimate = np.transpose(triples)
        truth = more if name == 'lognormal loss' else more / 5
        row = dict(loss=name, examples=n, seeds=seeds, difference=truth, repeats=repeats)
        row['coverage'] = np.mean((low <= truth) & (truth <= high))
        row['width'] = np.mean(high - low) / (2 * Z * np.std(estimate))
        rows.append(row)
    return rows


def fractions(job):
    """Coverage of two intervals for a fraction, exactly, for true errors from 0.0003 to 0.5: its
    least, and where it is low."""
    n, interval = job
    low, high = np.transpose([interval(k, n) for k in range(n + 1)])
    # where coverage jumps
    edges = np.concatenate([np.nextafter(limits, to) for limits in (low, high) for to in (0, 1)])
    even = np.geomspace(0.0003, 0.5, 20_001)

    # of the counts from the first whose interval reaches up to p to the last whose begins below it
    def coverage(p):
        first = np.searchsorted(high, p)
        last = np.searchsorted(low, p, 'right') - 1
        return stats.binom.cdf(last, n, p) - stats.binom.cdf(first - 1, n, p)

    p = np.unique(np.concatenate([edges[(edges >= 0.0003) & (edges <= 0.5)], even]))
    found = coverage(p)
    low_at = coverage(even) < 0.935
    return dict(
        interval=interval.__name__,
        images=n,
        least=found.min(),
        least_at=p[found.argmin()],
        mean=coverage(even).mean(),
        below_935=low_at.mean(),
        largest_p_below_935=max(p[found < 0.935], default=None),
    )


def fresh_training(job):
    """How often `prob_better`, and limits by a normal model, hold the probability that a fresh
    training of A errs less than one of B with the same seed, on the same examples. Of some sets of
    examples a thousand pairs of trainings each are the truth; comparisons are drawn from them."""
    number, world, n, (error_a, error_b), fewer = job
    rng = np.random.default_rng([2027, number])
    sets = max((20 if n == 300 else 5) // fewer, 1)
    pairs = 1000
    draws = 2000 // sets
    held = {S: [] for S in (3, 5, 10, 20)}
    for _ in range(sets):
        a, b = error_counts(rng, world, error_a, error_b, pairs, n)
        truth = np.mean(a < b) + np.mean(a == b) / 2
        for S in held:
            for _ in range(draws):
                some = rng.choice(pairs, S, replace=False)
                found = [prob_better(a[some], b[some]), normal_limits(b[some] - a[some])]
                # the truth itself is known to one in a thousand
                within = [low - 1e-3 <= truth <= high + 1e-3 for _, low, high in found]
                held[S].append([*within, found[0].high - found[0].low])
    rows = []
    for S, values in held.items():
        ours, normal, width = np.mean(values, axis=0)
        row = dict(world=world, examples=n, error_a=error_a, error_b=error_b, seeds=S)
        rows.append(dict(row, repeats=len(values), coverage=ours, normal=normal, width=width))
    return rows


def normal_limits(d):
    "P(a difference is above 0) if differences are normal, by the noncentral t (Owen & Hua 1977)."
    sd = d.std(ddof=1)
    if not sd:
        return np.sign(d[0]) / 2 + 0.5, 0.0, 1.0
    t = min(abs(d.mean()) / sd * np.sqrt(len(d)), 1000)
    sides = special.nctdtrinc(len(d) - 1, [0.975, 0.025], t) / np.sqrt(len(d))
    low, high = np.sort(np.copysign(1, d.mean()) * sides)
    return special.ndtr([d.mean() / sd, low, high])


def error_counts(rng, world, error_a, error_b, pairs, n):
    "Errors of each of many trainings of A and of B, on one set of examples."
    a, b = WORLDS[world].simulate(rng, error_a, error_b, pairs, n)
    return a.sum(1), b.sum(1)


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


def write_tables(path, results):
    "Write each table as its columns and its rows, a row on each line, five digits."
    parts = []
    for name, rows in results.items():
        lines = ',\n'.join(json.dumps(list(rounded(row).values())) for row in rows)
        columns = json.dumps(list(rows[0]))
        parts.append(f'{json.dumps(name)}: {{"columns": {columns}, "data": [\n{lines}\n]}}')
    with atomic_path(path) as p:
        p.write_text('{\n' + ',\n'.join(parts) + '\n}\n', encoding='utf-8')


def rounded(row):
    "A row with plain numbers of five significant digits."
    short = {}
    for name, value in row.items():
        is_number = isinstance(value, (float, np.floating))
        short[name] = float(f'{value:.5g}') if is_number else value
    return short


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--fewer', type=int, default=1, help='divides the number of comparisons')
    parser.add_argument('--processes', type=int, default=1)
    args = parser.parse_args()
    start = time.perf_counter()
    cells = itertools.product(SIZES, WORLDS)
    jobs = [(i, world, n, args.fewer) for i, (n, world) in enumerate(cells)]
    shares = list(itertools.product((300, 500, 1000, 10_000), (wilson_interval, error_interval)))
    fresh = list(itertools.product((300, 10_000), ((0.02, 0.02), (0.02, 0.015)), WORLDS))
    fresh = [(i, world, n, pair, args.fewer) for i, (n, pair, world) in enumerate(fresh)]
    grouped = itertools.product(((10, 30), (20, 15), (50, 6), (50, 200)), (0, 0.3), ERRORS)
    grouped = [(i, *job, args.fewer) for i, job in enumerate(grouped)]
    others = itertools.product((300, 10_000), (3, 5, 10), (0.0, 0.1))
    others = [(i, *job, args.fewer) for i, job in enumerate(others)]
    results = {'differences': [], 'expected': []}
    with ProcessPoolExecutor(args.processes) as pool:
        for rows, expected in pool.map(differences, jobs):
            results['differences'] += rows
            results['expected'] += expected
        results['groups'] = list(pool.map(groups, grouped))
        results['losses'] = [row for rows in pool.map(losses, others) for row in rows]
        results['fractions'] = list(pool.map(fractions, shares))
        results['fresh_training'] = [
            row for rows in pool.map(fresh_training, fresh) for row in rows
        ]
    results['tuning_curve'] = [
        tuning_curve(trials, power, 2000 // args.fewer)
        for trials in (10, 20)
        for power in (0.5, 1, 20)
    ]
    verdicts = pd.DataFrame(results['differences'])
    print(verdicts.groupby(['interval', 'examples', 'seeds'])[['coverage', 'width']].describe().T)
    for name in ('groups', 'losses', 'fractions', 'fresh_training', 'tuning_curve'):
        print(name, pd.DataFrame(results[name]).round(4).to_string(), sep='\n')
    print(f'{time.perf_counter() - start:.0f} s')
    if args.fewer == 1:
        write_tables(RESULTS, results)


if __name__ == '__main__':
    main()
