"""Run the experiments whose results the notebooks show: `make experiments`, or
`python tools/experiments.py [job …]`.

Needs the real MNIST (`MNIST_CMP_DATA`), but for `digits`, `twins` and the budgets. Each job leaves
a JSON file in `runs/experiments`, goes on where it ended when it is started again, and puts its
result into `nbs/results` when it is done; two jobs run side by side, one thread each. `--list`
shows the jobs, `--check` those whose kept result is not of this code. A result keeps the settings
it was made with, and what it took from other results: where one of them has changed since, it is
stale. Who changes what a job computes, and not its settings, raises its number in VERSIONS.
"""

import argparse
import inspect
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mnist_cmp.comparison import compare, measure_test, tested
from mnist_cmp.core.files import atomic_path, json_text, read_json, write_json
from mnist_cmp.core.points import Config, Space, sobol_points
from mnist_cmp.core.records import ModelResult
from mnist_cmp.core.settings import Callbacks, Compute, Recipe
from mnist_cmp.core.system import derive_seed, machine
from mnist_cmp.core.trials import SearchResult
from mnist_cmp.data import Split, load_data
from mnist_cmp.engines.evaluation import load_model, measure_accuracy, save_model, smoke_test
from mnist_cmp.engines.steps import make_step
from mnist_cmp.evidence.answers import wrong_matrix
from mnist_cmp.evidence.comparison import Comparison
from mnist_cmp.evidence.intervals import crossed_difference
from mnist_cmp.models import MLP, CNNClassifier, initialise
from mnist_cmp.report import write_report
from mnist_cmp.search import tune
from mnist_cmp.study.retraining import retrain
from mnist_cmp.training import train

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / 'runs/experiments'
RESULTS = ROOT / 'nbs/results'
SMALL = (16, 48)
LARGE = (128, 2048)
NETS = {'cnn': CNNClassifier, 'mlp': MLP}
ENGINE = 'compiled'  # of all trainings, so that results may be held against each other
# good points of a search on MNIST
ENGINES_AT = {'mlp': Config(0.05683251953125, 19), 'cnn': Config(0.09395751953125, 31)}


def search_2019(name, start, learning_rate, batch_size, n=20):
    "A search as in 2019: 60,000 images to train on, scored on the same images."
    mnist = load_data('mnist', valid_size=0)
    return tune(
        name,
        mnist.train,
        mnist.train,
        Space(learning_rate, batch_size, start=start),
        n_trials=n,
        recipe=Recipe(epochs=3),
        compute=Compute(workers=1, engine=ENGINE),
        store=WORK / f'search_{name}_{batch_size[1]}_{start}',
    ).to_dict()


def search_holdout(name):
    "A search by today's protocol: the last 10,000 training images held out to score on."
    mnist = load_data('mnist')
    return tune(
        name,
        mnist.train,
        mnist.valid,
        recipe=Recipe(epochs=3),
        compute=Compute(workers=1, engine=ENGINE),
        store=WORK / f'search_{name}_holdout',
    ).to_dict()


def final_2019(job, name, point):
    """Ten epochs on 60,000 images, measured on the test images after each, and all that the last
    weights do on them."""
    mnist = load_data('mnist', valid_size=0)
    net = initialise(NETS[name])
    smoke = smoke_test(net, mnist.train)
    history = train(
        net,
        mnist.train,
        mnist.test,
        Recipe(epochs=10).at(point),
        compute=Compute(threads=1, engine=ENGINE),
        checkpoint=WORK / f'train_{job}',
    )
    save_model(net, WORK / f'{job}.safetensors')
    return {
        'smoke_test': smoke._asdict(),
        'history': history.to_dict(),
        'test': asdict(measure_test(net, mnist.test)),
    }


def best_mlp_2019():
    "The MLP at the best point of its search."
    return final_2019('small_mlp', 'mlp', best_of_search('small_mlp_search'))


def shifted(split, dx, dy):
    "The images moved by `dx` pixels to the right and `dy` down, what leaves the frame lost."
    x = torch.zeros_like(split.x)
    h, w = x.shape[2:]
    x[:, :, max(0, dy) : h + min(0, dy), max(0, dx) : w + min(0, dx)] = split.x[
        :, :, max(0, -dy) : h + min(0, -dy), max(0, -dx) : w + min(0, -dx)
    ]
    return Split(x, split.y, split.name, split.classes)


def shifts():
    """Accuracy of the two nets of the small-batch half on test images moved by 0 to 6 pixels,
    mean over four directions."""
    test = load_data('mnist').test
    nets = {name: load_model(NETS[name](), WORK / f'small_{name}.safetensors') for name in NETS}
    ways = ((1, 0), (-1, 0), (0, 1), (0, -1))

    def accuracy(net, d):
        return sum(
            measure_accuracy(net, shifted(test, d * x, d * y)) for x, y in (ways if d else ways[:1])
        ) / (4 if d else 1)

    return {
        'pixels': list(range(7)),
        'accuracy': {name: [accuracy(net, d) for d in range(7)] for name, net in nets.items()},
    }


def digits_budget(name):
    "How long must a trial on the digits be? Validation accuracy of twenty trials over 30 epochs."
    digits = load_data('digits')
    found = tune(
        name,
        digits.train,
        digits.valid,
        Space(start=1030),
        n_trials=20,
        recipe=Recipe(epochs=30),
        compute=Compute(workers=1, engine=ENGINE),
        store=WORK / f'digits_budget_{name}',
    )
    return {
        'points': [t.config for t in found.trials],
        'engine': ENGINE,
        'valid_accuracy': [[e.valid_accuracy for e in t.history.epochs] for t in found.trials],
    }


def keep(page, folder, names):
    "Files of a report: neither weights nor figures, since the notebooks draw them again."
    for name in names:
        with atomic_path(RESULTS / folder / name) as path:
            shutil.copyfile(page.with_name(name), path)


def fair_comparison(points=20, seeds=10):
    "Three models on MNIST, trained as long as is usual there."
    store = WORK / 'fair_comparison'
    found = compare(
        ['mlp', 'cnn', 'deep_mlp'],
        load_data('mnist'),
        n_trials=points,
        seeds=seeds,
        compute=Compute(engine=ENGINE, workers=2),
        store=store,
    )
    page = write_report(found, store)
    keep(page, 'fair_comparison', ['report.json', 'report.html', 'runs.csv'])


def words_of_make_compare():
    "The options that `make compare` gives to the command."
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    return re.search(r'^compare:.*\n\t\$\(BIN\)/mnist_cmp (.*) \$\(ARGS\)$', makefile, re.M)[1]


def digits(words=words_of_make_compare()):  # noqa: B008
    "What `make compare` does: three models on the digits."
    folder = WORK / 'digits'
    command = [sys.executable, '-m', 'mnist_cmp', *words.split(), '--out', str(folder)]
    subprocess.run(command, check=True)
    keep(folder / 'report.html', 'digits', ['report.json'])


def twins(pairs=40, seeds=5, epochs=10):
    "The MLP on the digits against a copy of it on other seeds: how often is a winner named?"
    digits = load_data('digits')
    point = best_of_comparison('digits')

    def trained(seed):
        nets = retrain(
            'mlp',
            digits.train,
            digits.valid,
            Recipe(epochs=epochs).at(point),
            seeds=seeds,
            seed=seed,
            compute=Compute(workers=1, engine=ENGINE),
        )
        return wrong_matrix(
            ModelResult(
                '', '', '', 0, 0, 0, 0, None, [tested('mlp', net, digits.test) for net in nets]
            ),
            len(digits.test),
        )

    found = [crossed_difference(trained(2 * i), trained(2 * i + 1)) for i in range(pairs)]
    return {
        'seeds': seeds,
        'epochs': epochs,
        'images': len(digits.test),
        'point': point._asdict(),
        'engine': ENGINE,
        'intervals': [[d.estimate, d.low, d.high] for d in found],
    }


def flaw_scoring(box=(0.001, 0.1)):
    "The trials of the MLP's search on MNIST, each scored on training, validation and test images."
    mnist = load_data('mnist')
    rows = []
    for index, point in enumerate(sobol_points(Space(box), 1030, 20), 1030):
        seed = derive_seed(0, 'trial', index)
        net = initialise(MLP, seed=seed)
        h = train(
            net,
            mnist.train,
            mnist.valid,
            Recipe(epochs=3).at(point),
            seed=seed,
            compute=Compute(threads=1, engine=ENGINE),
            measure_train=True,
        )
        rows.append(
            {
                'index': index,
                'engine': h.engine,
                'learning_rate': point.learning_rate,
                'batch_size': point.batch_size,
                'running': h.last.train_accuracy,
                'train': h.last.end_train_accuracy,
                'valid': h.last.valid_accuracy,
                'test': measure_accuracy(net, mnist.test),
            }
        )
    return rows


def flaw_initialiser():
    """Ten trainings of the MLP with PyTorch's own initialisation, at the point of the fair
    comparison."""
    mnist = load_data('mnist')
    point = best_of_comparison('fair_comparison')
    nets = retrain(
        'mlp',
        mnist.train,
        mnist.valid,
        Recipe(epochs=10, init='as_made').at(point),
        seeds=10,
        compute=Compute(workers=1, engine=ENGINE),
        store=WORK / 'flaw_initialiser',
    )
    return {
        'engine': nets[0].history.engine,
        'point': point._asdict(),
        'wrong': [len(tested('mlp', net, mnist.test).test.wrong) for net in nets],
    }


def flaw_running():
    """Ten epochs of the MLP: running training accuracy against that at each epoch's end, and the
    loss as 2019 divided it."""
    mnist = load_data('mnist')
    point = best_of_comparison('fair_comparison')
    net = initialise(MLP)
    losses = []
    h = train(
        net,
        mnist.train,
        mnist.valid,
        Recipe(epochs=10).at(point),
        compute=Compute(threads=1, engine=ENGINE),
        measure_train=True,
    )
    # one that hardly moves
    step = make_step(net, 1e-12)
    batches = torch.arange(len(mnist.train)).split(point.batch_size)
    for batch in batches:
        losses.append(step(mnist.train.x[batch], mnist.train.y[batch])[0].item())
    mean = sum(loss * len(batch) for loss, batch in zip(losses, batches)) / len(mnist.train)
    return {
        'engine': h.engine,
        'point': point._asdict(),
        'running': [e.train_accuracy for e in h.epochs],
        'end': [e.end_train_accuracy for e in h.epochs],
        'batches': len(batches),
        'mean_loss': mean,
        'loss_of_2019': sum(losses) / (len(losses) - 1),
    }


def engine_errors(name):
    "Ten epochs from five seeds by each engine: wrong test images, and seconds."
    mnist = load_data('mnist')
    point = ENGINES_AT[name]

    def trained(engine):
        nets = retrain(
            name,
            mnist.train,
            mnist.valid,
            Recipe(epochs=10).at(point),
            seeds=5,
            compute=Compute(engine=engine, workers=1),
            store=WORK / f'engines_{name}_{engine}',
        )
        return {
            'wrong': [len(tested(name, net, mnist.test).test.wrong) for net in nets],
            'seconds': [net.history.seconds for net in nets],
        }

    return {'point': point._asdict(), 'images': len(mnist.test)} | {
        engine: trained(engine) for engine in ('autograd', 'onednn', 'compiled')
    }


PAIRED = ('compiled', 'autograd')  # the engines of `engine_pairs`


def pair_of_trainings(seed, few, test, epochs, learning_rate, batch_size):
    "Wrong test images after each epoch of a CNN by two engines: the same first weights and order."
    wrong = {}
    for engine in PAIRED:
        net = initialise(CNNClassifier, seed=seed)
        history = train(
            net,
            few,
            test,
            Recipe(learning_rate=learning_rate, batch_size=batch_size, epochs=epochs),
            seed=seed,
            compute=Compute(threads=1, engine=engine),
            callbacks=Callbacks(progress=False),
        )
        if history.engine != engine:
            raise ValueError(f'{history.engine} trained, but {engine} was to.')
        wrong[engine] = [len(test) - round(e.valid_accuracy * len(test)) for e in history.epochs]
    return {'seed': seed, 'wrong': wrong}


def engine_pairs(pairs=28, images=20_000, epochs=3, learning_rate=0.06, batch_size=31):
    "Does the engine change the errors? Short trainings of the CNN, in pairs, each kept when done."
    mnist = load_data('mnist', valid_size=0)
    few = mnist.train[:images]
    made = []
    for seed in range(pairs):
        kept = WORK / 'engine_pairs' / f'{seed}.json'
        if not kept.exists():
            pair = pair_of_trainings(seed, few, mnist.test, epochs, learning_rate, batch_size)
            write_json(kept, pair)
        made.append(read_json(kept))
    return {
        'pairs': made,
        'images': images,
        'test_images': len(mnist.test),
        'epochs': epochs,
        'learning_rate': learning_rate,
        'batch_size': batch_size,
    }


@dataclass(frozen=True)
class Job:
    "One experiment, and where in `nbs/results` its result is kept."

    function: object
    args: tuple = ()
    file: str = 'the_2019_experiment.json'
    key: str = None  # the entry of the file; None: the file is this job's alone
    needs: tuple = ()  # jobs whose results this one uses


JOBS = {
    'small_cnn_search': Job(search_2019, ('cnn', 2030, (0.01, 0.1), SMALL), key='small_cnn_search'),
    'small_mlp_search': Job(
        search_2019, ('mlp', 1030, (0.001, 0.1), SMALL), key='small_mlp_search'
    ),
    'mlp': Job(search_holdout, ('mlp',), 'mnist_searches.json', 'mlp'),
    'cnn': Job(search_holdout, ('cnn',), 'mnist_searches.json', 'cnn'),
    'digits_budget_mlp': Job(digits_budget, ('mlp',), 'digits_budget.json', 'mlp'),
    'digits_budget_cnn': Job(digits_budget, ('cnn',), 'digits_budget.json', 'cnn'),
    'small_mlp': Job(best_mlp_2019, key='small_mlp', needs=('small_mlp_search',)),
    'small_cnn': Job(final_2019, ('small_cnn', 'cnn', Config(0.0831689, 19)), key='small_cnn'),
    'shifts': Job(shifts, key='shifts', needs=('small_mlp', 'small_cnn')),
    'large_cnn': Job(final_2019, ('large_cnn', 'cnn', Config(0.0505483, 373)), key='large_cnn'),
    'large_mlp': Job(final_2019, ('large_mlp', 'mlp', Config(0.0953835, 466)), key='large_mlp'),
    'large_mlp_search': Job(search_2019, ('mlp', 4030, (0.01, 0.1), LARGE), key='large_mlp_search'),
    'large_cnn_search': Job(search_2019, ('cnn', 2030, (0.01, 0.1), LARGE), key='large_cnn_search'),
    'digits': Job(digits, file='digits/made.json'),
    'twins': Job(twins, file='twins.json', needs=('digits',)),
    'fair_comparison': Job(fair_comparison, file='fair_comparison/made.json'),
    'flaw_scoring': Job(flaw_scoring, file='flaws.json', key='scoring'),
    'flaw_initialiser': Job(
        flaw_initialiser, file='flaws.json', key='initialiser', needs=('fair_comparison',)
    ),
    'flaw_running': Job(flaw_running, file='flaws.json', key='running', needs=('fair_comparison',)),
    'engines_mlp': Job(engine_errors, ('mlp',), 'engines.json', 'mlp'),
    'engines_cnn': Job(engine_errors, ('cnn',), 'engines.json', 'cnn'),
    'engine_pairs': Job(engine_pairs, file='engine_pairs.json'),
}
# Job → a number, 1 where none is given: raise it when the same settings have to give other numbers.
VERSIONS = {}


def entry(job):
    "What `nbs/results` keeps of a job: machine, seconds, settings, given and result; or None."
    path = RESULTS / JOBS[job].file
    if not path.exists():
        return None
    kept = read_json(path)
    return kept if JOBS[job].key is None else kept.get(JOBS[job].key)


def best_of_search(job):
    "The best point of a search that is kept."
    return SearchResult.from_dict(entry(job)['result']).best.config


def best_of_comparison(folder):
    "The MLP's best point in a comparison that is kept."
    return Comparison.load(RESULTS / folder)['mlp'].search.best.config


def settings(job):
    "All that decides what a job computes, as it stands in this file."
    function = JOBS[job].function
    args = JOBS[job].args
    bound = inspect.signature(function).bind(*args)
    bound.apply_defaults()
    found = {
        'function': function.__name__,
        'arguments': bound.arguments,
        'engine': ENGINE,
        'version': VERSIONS.get(job, 1),
    }
    if function in (digits, engine_errors, engine_pairs):
        del found['engine']  # each is its own: several, or what the command chooses
    return as_kept(found)


def given(job):
    "What a job takes from the kept results of others."
    found = {}
    for other in JOBS[job].needs:
        if other in ('digits', 'fair_comparison'):
            found[other] = best_of_comparison(other)
        elif other.endswith('_search'):
            found[other] = best_of_search(other)
        else:
            found[other] = entry(other)['result']['test']['errors']
    return as_kept(found)


def as_kept(found):
    "As a JSON file gives it back."
    return json.loads(json_text(found))


def why_stale(job):
    "Why the kept result of a job is not of this code; None if it is."
    kept = entry(job)
    if kept is None:
        return f'{job}: {JOBS[job].file} does not hold it'
    for what, now in ('settings', settings(job)), ('given', given(job)):
        if kept.get(what) != now:
            return f'{job}: made with {what} {kept.get(what)}, which are {now} today'
    return None


def put(job, found):
    "Keep a job's result in `nbs/results`."
    path = RESULTS / JOBS[job].file
    key = JOBS[job].key
    if key is None:
        return write_json(path, found)
    there = read_json(path) if path.exists() else {}
    write_json(path, there | {key: found})


def run(job):
    "Run a job, unless its result is in `runs/experiments`, and return what is to be kept."
    path = WORK / f'{job}.json'
    made_by = {'settings': settings(job), 'given': given(job)}
    if path.exists():
        done = read_json(path)
        if {name: done.get(name) for name in made_by} == made_by:
            return done
    start = time.perf_counter()
    function = JOBS[job].function
    args = JOBS[job].args
    found = function(*args)
    seconds = time.perf_counter() - start
    done = {'machine': machine(), 'seconds': seconds, **made_by, 'result': found}
    write_json(path, done)
    return done


def run_all(jobs, workers):
    "Run the jobs, each after those that it needs."
    waiting = list(jobs)
    running = {}
    with ProcessPoolExecutor(workers) as pool:
        while waiting or running:
            unfinished = {*waiting, *running.values()}
            for job in [job for job in waiting if not unfinished & {*JOBS[job].needs}]:
                running[pool.submit(run, job)] = job
                waiting.remove(job)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                put(job, future.result())
                print('done:', job, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('jobs', nargs='*', metavar='job', help='all of them, if none is named')
    parser.add_argument('--workers', type=int, default=2, help='jobs side by side')
    parser.add_argument('--list', action='store_true', help='show the jobs')
    parser.add_argument(
        '--check', action='store_true', help='name the kept results that are not of this code'
    )
    args = parser.parse_args()
    if unknown := [job for job in args.jobs if job not in JOBS]:
        parser.error(f'no job {", ".join(unknown)}; there are {", ".join(JOBS)}')
    jobs = args.jobs or list(JOBS)
    if args.list:
        return print('\n'.join(jobs))
    if args.check:
        found = list(filter(None, map(why_stale, jobs)))
        sys.exit('\n'.join(found))
    WORK.mkdir(parents=True, exist_ok=True)
    run_all(jobs, args.workers)


if __name__ == '__main__':
    main()
