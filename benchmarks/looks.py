"""Do planned looks, margins and plans keep what they promise? `python benchmarks/looks.py`.

Whole comparisons are simulated in worlds whose truth is known. The results go to
`nbs/results/looks.json`; `nbs/evidence/looks.ipynb` shows them. `python benchmarks/looks.py 100`
makes a hundredth of the comparisons and only prints; `python benchmarks/looks.py 1 margin` makes
the section of this name anew.
"""

import os
import sys
import time
from itertools import combinations

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import pandas as pd
from scipy import special

from mnist_cmp.core.files import read_json, write_json
from mnist_cmp.evidence.crossed import crossed_interval
from mnist_cmp.evidence.decisions import decide
from mnist_cmp.evidence.intervals import simulate_errors
from mnist_cmp.evidence.looks import Looks
from mnist_cmp.evidence.planning import chances_of, plan

RESULTS = 'nbs/results/looks.json'
# Seven kinds of world and two of the coverage benchmark. All SDs in those of what is left when
# example, seed and class are known.
WORLDS = {
    'typical': {},
    'twins': dict(shared=1.0),
    'heavy tails of difficulty': dict(tails='t3'),
    'easy and hard examples': dict(tails='mixture'),
    'seeds act by class': dict(class_sd=0.4),
    'seeds in common': dict(common_seed_sd=0.4, seed_sd=0.2),
    'seeds alike': dict(seed_sd=0.4, seeds_alike=0.7),
    'unsteady training': dict(seed_sd=0.4),
    'seeds dominate': dict(difficulty=0.5, seed_sd=1.0),
}
PLANS = (
    (5, 7, 10, 15, 20),
    (3, 4),
    (3, 5, 10),
    (5, 10),
    (5, 10, 20, 40),
    (10, 20, 30),
    (5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20),
)
PAIRS = {1: 2, 3: 3, 10: 5}  # pairs → models of which these are all pairs


def draw(
    rng,
    models,
    seeds,
    examples,
    error=0.05,
    difficulty=3.0,
    shared=0.5,
    tails='normal',
    seed_sd=0.05,
    seeds_alike=0.0,
    common_seed_sd=0.0,
    class_sd=0.0,
):
    """Errors of equally good models, bool, models×seeds×examples, by a probit model; the error
    is about `error`, and the same for all."""

    def of_examples(*shape):
        if tails == 't3':
            return rng.standard_t(3, shape) / np.sqrt(3)
        x = rng.standard_normal(shape)
        if tails == 'mixture':  # a tenth of the examples is hard
            x = 0.5 * x + np.where(rng.random(shape) < 0.1, 2.7, -0.3)
        return x

    own = of_examples(models, 1, examples)
    hard = np.sqrt(shared) * of_examples(1, 1, examples) + np.sqrt(1 - shared) * own
    skill = np.sqrt(seeds_alike) * rng.standard_normal((1, seeds, 1))
    skill = skill + np.sqrt(1 - seeds_alike) * rng.standard_normal((models, seeds, 1))
    latent = difficulty * hard + seed_sd * skill
    latent = latent + common_seed_sd * rng.standard_normal((1, seeds, 1))
    if class_sd:
        of_class = class_sd * rng.standard_normal((models, seeds, 10))
        latent = latent + of_class[..., np.arange(examples) % 10]
    sd = np.sqrt(1 + difficulty**2 + seed_sd**2 + common_seed_sd**2 + class_sd**2)
    threshold = special.ndtri(error) * sd
    noise = rng.standard_normal((models, seeds, examples), dtype=np.float32)
    return noise < latent + threshold


def false_verdicts(number, world, examples, repeats):
    "Share of comparisons of equals with a false verdict, at planned looks and at uncorrected ones."
    rng = np.random.default_rng([2026, 11, number])
    plans = {pairs: Looks(n_pairs=pairs).levels for pairs in PAIRS}
    looks = tuple(plans[1])
    z = {look: special.ndtri(0.5 + plans[1][look] / 2) for look in looks}
    z95 = special.ndtri(0.975)
    models = max(PAIRS.values())
    wrong = dict.fromkeys([*PAIRS, 'uncorrected', 'last look alone'], 0)
    for _ in range(repeats):
        errors = draw(rng, models, looks[-1], examples, **WORLDS[world])
        crossed = set()
        for look in looks:
            means = errors[:, :look].mean(1)
            for a, b in combinations(range(models), 2):
                d = means[a] - means[b]
                # no interval is shorter than that of examples alone
                if abs(d.mean()) < min(z[look], z95) * d.std(ddof=1) / np.sqrt(examples):
                    continue
                for name, pair_models in PAIRS.items():
                    if b < pair_models and _excludes(errors, a, b, look, plans[name][look]):
                        crossed.add(name)
                if b < 2 and _excludes(errors, a, b, look, 0.95):
                    crossed.add('uncorrected')
                    if look == looks[-1]:
                        crossed.add('last look alone')
        for name in crossed:
            wrong[name] += 1
    return dict(
        world=world,
        examples=examples,
        repeats=repeats,
        **{f'pairs_{pairs}': wrong[pairs] / repeats for pairs in PAIRS},
        uncorrected=wrong['uncorrected'] / repeats,
        one_look=wrong['last look alone'] / repeats,
    )


def _excludes(errors, a, b, look, level):
    "Does the interval after so many trainings leave 0 out?"
    interval = crossed_interval(errors[a, :look], errors[b, :look], level)
    return interval.low > 0 or interval.high < 0


def only_seeds_vary(looks, pairs, walks):
    """The same where seeds alone vary: the probability that one pair crosses at any look, times
    the pairs, by successive t statistics of normal numbers. Their mean and variance are drawn
    look by look."""
    rng = np.random.default_rng([2026, 12])
    levels = Looks(looks, pairs).levels
    total = np.zeros(walks)
    squares = np.zeros(walks)
    crossed = np.zeros(walks, bool)
    before = 0
    for look, level in levels.items():
        new = look - before
        z = rng.standard_normal(walks)
        total += np.sqrt(new) * z
        squares += z**2
        if new > 1:
            squares += rng.chisquare(new - 1, walks)
        variance = (squares - total**2 / look) / (look - 1)
        t = total / np.sqrt(look * variance)
        crossed |= np.abs(t) > special.stdtrit(look - 1, 0.5 + level / 2)
        before = look
    share = crossed.mean()
    return dict(
        looks=list(looks),
        pairs=pairs,
        walks=walks,
        false_verdicts=pairs * share,
        monte_carlo_error=pairs * np.sqrt(share / walks),
    )


def savings(number, world, more, repeats, examples=2000, error=0.05):
    """Verdicts and trainings used where B's error is larger by `more`: planned looks against as
    many trainings as their last."""
    rng = np.random.default_rng([2026, 13, number])
    settings = dict(difficulty=3.0, seed_sd=0.05) | WORLDS[world]
    levels = Looks().levels
    most = max(levels)
    used = []
    found = 0
    found_at_once = 0
    for _ in range(repeats):
        b, a = simulate_errors(rng, error + more, error, most, examples, **settings)
        errors = np.array([a, b])
        decided = None
        for look, level in levels.items():
            if _excludes(errors, 0, 1, look, level):
                decided = look
                break
        used.append(decided or most)
        found += decided is not None
        found_at_once += _excludes(errors, 0, 1, most, 0.95)
    return dict(
        world=world,
        examples=examples,
        difference=more,
        repeats=repeats,
        power=found / repeats,
        power_at_once=found_at_once / repeats,
        trainings=float(np.mean(used)),
        stopped_at={look: used.count(look) / repeats for look in levels},
    )


def at_the_margin(number, world, examples, repeats, margin=0.03, error=0.05, seeds=10):
    "How often models are called as good as each other whose difference is just the margin."
    rng = np.random.default_rng([2026, 14, number])
    settings = dict(difficulty=3.0, seed_sd=0.05) | WORLDS[world]
    equivalent = 0
    not_worse = 0
    for _ in range(repeats):
        a, b = simulate_errors(rng, error + margin, error, seeds, examples, **settings)
        interval = crossed_interval(a, b)
        d = decide('a', 'b', interval.low, interval.high, margin=margin, n_seeds=seeds)
        equivalent += d.equivalent
        not_worse += 'a' in d.not_worse
    return dict(
        world=world,
        examples=examples,
        seeds=seeds,
        margin=margin,
        repeats=repeats,
        as_good=equivalent / repeats,
        not_worse=not_worse / repeats,
    )


def planned(number, world, more, seeds, repeats, error=0.05):
    "The power that a plan of 80 % has: planned by a large pilot, then simulated."
    rng = np.random.default_rng([2026, 15, number])
    settings = dict(difficulty=3.0, seed_sd=0.05) | WORLDS[world]
    pilot = crossed_interval(*simulate_errors(rng, error + more, error, 200, 20_000, **settings))
    needed = plan(
        chances_of(pilot, 200), more, n_seeds=seeds, n_examples=100, seeds=(seeds,), binary=True
    ).examples[seeds]
    if needed is None:
        return dict(world=world, difference=more, seeds=seeds, examples=None, repeats=0, power=None)
    found = 0
    for _ in range(repeats):
        a, b = simulate_errors(rng, error + more, error, seeds, needed, **settings)
        found += crossed_interval(a, b).low > 0
    return dict(
        world=world,
        difference=more,
        seeds=seeds,
        examples=needed,
        repeats=repeats,
        power=found / repeats,
    )


def simultaneous(number, world, models, seeds, examples, repeats, draws=4000):
    """Bonferroni's intervals for several pairs against max-t ones, whose quantile comes from the
    correlations of the pairs' estimates, by drawn multivariate t."""
    rng = np.random.default_rng([2026, 16, number])
    results = []
    families = {
        'all pairs': list(combinations(range(models), 2)),
        'against a baseline': [(0, other) for other in range(1, models)],
    }
    held = {(family, how): 0 for family in families for how in ('bonferroni', 'max_t')}
    ratios = {family: [] for family in families}
    for _ in range(repeats):
        errors = draw(rng, models, seeds, examples, **WORLDS[world])
        covariance = _covariance(errors)
        of_pair = {(a, b): crossed_interval(errors[a], errors[b]) for a, b in families['all pairs']}
        normal = rng.standard_normal((draws, models)) @ _root(covariance).T
        for family, pairs in families.items():
            estimates = np.array([of_pair[pair].estimate for pair in pairs])
            sd = np.sqrt([of_pair[pair].variance for pair in pairs])
            df = np.array([of_pair[pair].df for pair in pairs])
            bonferroni = special.stdtrit(np.minimum(df, 1e8), 1 - 0.025 / len(pairs))
            first = np.array([a for a, _ in pairs])
            second = np.array([b for _, b in pairs])
            together = normal[:, first] - normal[:, second]
            spread = together.std(0)
            together = np.divide(together, spread, where=spread > 0, out=np.zeros_like(together))
            one_df = min(float(np.median(df)), 1e6)
            chi2 = rng.chisquare(one_df, (draws, 1)) / one_df
            quantile = np.quantile(np.abs(together / np.sqrt(chi2)).max(1), 0.95)
            ratios[family].append(float(np.mean(quantile / bonferroni)))
            held[family, 'bonferroni'] += (np.abs(estimates) <= bonferroni * sd).all()
            held[family, 'max_t'] += (np.abs(estimates) <= quantile * sd).all()
    for family, pairs in families.items():
        results.append(
            dict(
                world=world,
                models=models,
                seeds=seeds,
                examples=examples,
                family=family,
                pairs=len(pairs),
                repeats=repeats,
                width=float(np.mean(ratios[family])),
                bonferroni=held[family, 'bonferroni'] / repeats,
                max_t=held[family, 'max_t'] / repeats,
            )
        )
    return results


def _covariance(errors):
    "Of the models' mean errors: by seeds, by examples, less what both count."
    models, S, N = errors.shape
    x = errors.astype(np.float32)
    of_seeds = x.mean(2)
    of_examples = x.mean(1)
    centre = x.mean((1, 2))
    rest = x - of_seeds[:, :, None] - of_examples[:, None, :] + centre[:, None, None]
    rest = rest.reshape(models, -1)
    both = rest @ rest.T / ((S - 1) * (N - 1) * S * N)
    return np.cov(of_seeds) / S + np.cov(of_examples) / N - both


def _root(covariance):
    "A matrix whose product with its transpose is the covariance, what is negative in it cut."
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))


def max_t_of_seeds(models, seeds, repeats):
    """The same where seeds alone vary, by normal numbers: max-t with one common variance, and the
    quantile that would be right, each pair having its own."""
    rng = np.random.default_rng([2026, 17])
    families = {
        'all pairs': list(combinations(range(models), 2)),
        'against a baseline': [(0, other) for other in range(1, models)],
    }
    x = rng.standard_normal((repeats, models, seeds))
    normal = rng.standard_normal((repeats, models))
    chi2 = rng.chisquare(seeds - 1, (repeats, 1)) / (seeds - 1)
    rows = []
    for family, pairs in families.items():
        first = np.array([a for a, _ in pairs])
        second = np.array([b for _, b in pairs])
        d = x[:, first] - x[:, second]
        largest = np.abs(d.mean(2) / (d.std(2, ddof=1) / np.sqrt(seeds))).max(1)
        right = np.quantile(largest, 0.95)
        bonferroni = special.stdtrit(seeds - 1, 1 - 0.025 / len(pairs))
        together = (normal[:, first] - normal[:, second]) / np.sqrt(2 * chi2)
        common = np.quantile(np.abs(together).max(1), 0.95)
        rows.append(
            dict(
                models=models,
                seeds=seeds,
                family=family,
                pairs=len(pairs),
                repeats=repeats,
                width=common / bonferroni,
                right_width=right / bonferroni,
                bonferroni=(largest <= bonferroni).mean(),
                max_t=(largest <= common).mean(),
            )
        )
    return rows


def _spending(some):
    "Each plan with each number of pairs, where seeds alone vary."
    walks = some(1_000_000)
    return [only_seeds_vary(looks, pairs, walks) for looks in PLANS for pairs in (1, 3, 10, 45)]


def _equals(some):
    "Planned looks at equals, in each world."
    jobs = [(world, N, repeats) for N, repeats in ((300, 8000), (2000, 4000)) for world in WORLDS]
    return [
        false_verdicts(number, world, N, some(repeats))
        for number, (world, N, repeats) in enumerate(jobs)
    ]


def _unequals(some):
    "Planned looks at models that differ, by several differences."
    differences = {
        'typical': (0.004, 0.008, 0.012, 0.016, 0.024),
        'unsteady training': (0.008, 0.012, 0.016, 0.024, 0.036),
        'seeds dominate': (0.02, 0.04, 0.06, 0.08, 0.12),
    }
    jobs = [(world, more) for world in differences for more in differences[world]]
    return [savings(number, *job, some(1000)) for number, job in enumerate(jobs)]


def _margins(some):
    "Models whose difference is the margin."
    jobs = [(world, N) for world in ('typical', 'twins', 'unsteady training') for N in (500, 2000)]
    return [at_the_margin(number, *job, some(4000)) for number, job in enumerate(jobs)]


def _plans(some):
    "Comparisons of the size that a plan asks for."
    differences = {'typical': 0.01, 'twins': 0.01, 'unsteady training': 0.04}
    jobs = [(world, more, S) for world, more in differences.items() for S in (5, 10, 20)]
    return [planned(number, *job, some(1000)) for number, job in enumerate(jobs)]


def _several(some):
    "Several models in some worlds."
    worlds = {'typical': 10, 'unsteady training': 5, 'seeds dominate': 5}
    jobs = [(world, models, S) for world, S in worlds.items() for models in (3, 5, 10)]
    rows = []
    for number, job in enumerate(jobs):
        rows += simultaneous(number, *job, 500, some(1000))
    return rows


def _several_by_seeds(some):
    "Several models where seeds alone vary."
    rows = []
    for seeds in (5, 10, 20):
        for models in (3, 5, 10):
            rows += max_t_of_seeds(models, seeds, some(20_000))
    return rows


SECTIONS = {
    'only_seeds_vary': _spending,
    'false_verdicts': _equals,
    'savings': _unequals,
    'margin': _margins,
    'planned': _plans,
    'simultaneous': _several,
    'max_t_of_seeds': _several_by_seeds,
}


def main(fewer=1, *names):
    "All sections, or some, by their names in the results."
    start = time.process_time()
    results = read_json(RESULTS) if names else {}
    for name in names or SECTIONS:
        results[name] = SECTIONS[name](lambda repeats: max(repeats // fewer, 20))
        frame = pd.DataFrame(results[name]).drop(columns='stopped_at', errors='ignore')
        print(name, f'{time.process_time() - start:.0f} s', frame.round(4).to_string(), sep='\n')
    if fewer == 1:
        write_json(RESULTS, results)


if __name__ == '__main__':
    fewer, *names = sys.argv[1:] or ['1']
    main(int(fewer), *names)
