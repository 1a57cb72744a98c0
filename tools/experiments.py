"""Run the experiments whose results the notebooks show: `make experiments`, or `python tools/experiments.py [job …]`.

Needs the real MNIST (`MNIST_CMP_DATA`). Each job leaves a JSON file in `runs/experiments`, and goes on where it ended when
it is started again; two jobs run side by side, one thread each. At the end the files are put together in `nbs/results`.
"""
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import torch

from mnist_cmp.comparison import Comparison, Contestant, compare, measure_test, tested
from mnist_cmp.core import atomic_path, derive_seed, machine, read_json, write_json
from mnist_cmp.data import Split, load_data
from mnist_cmp.evaluation import load_model, measure_accuracy, save_model, smoke_test
from mnist_cmp.findings import wrong_matrix
from mnist_cmp.models import CNNClassifier, MLP, initialise
from mnist_cmp.points import Box, Point, sobol_points
from mnist_cmp.report import verdict, write_report
from mnist_cmp.retraining import retrain
from mnist_cmp.search import search
from mnist_cmp.statistics import crossed_difference
from mnist_cmp.steps import make_step
from mnist_cmp.training import train
from mnist_cmp.trials import SearchResult

WORK, RESULTS = Path('runs/experiments'), Path('nbs/results')
SMALL, LARGE = (16, 48), (128, 2048)
NETS = {'cnn': CNNClassifier, 'mlp': MLP}
ENGINES_AT = {'mlp': Point(.05683251953125, 19), 'cnn': Point(.09395751953125, 31)}   # good points of a search on MNIST


def search_2019(name, start, learning_rate, batch_size, n=20):
    "A search as in 2019: 60,000 images to train on, scored on the same images."
    mnist = load_data('mnist', valid_size=0)
    return search(name, mnist.train, mnist.train, Box(learning_rate, batch_size), start=start, n=n, epochs=3, workers=1,
                  store=WORK/f'search_{name}_{batch_size[1]}_{start}').to_dict()


def search_holdout(name):
    "A search by today's protocol: the last 10,000 training images held out to score on."
    mnist = load_data('mnist')
    return search(name, mnist.train, mnist.valid, epochs=3, workers=1, store=WORK/f'search_{name}_holdout').to_dict()


def final_2019(job, name, point):
    "Ten epochs on 60,000 images, measured on the test images after each, and all that the last weights do on them."
    mnist = load_data('mnist', valid_size=0)
    net = initialise(NETS[name])
    smoke = smoke_test(net, mnist.train)
    history = train(net, mnist.train, mnist.test, **point._asdict(), epochs=10, threads=1, checkpoint=WORK/f'train_{job}')
    save_model(net, WORK/f'{job}.safetensors')
    return {'smoke_test': smoke._asdict(), 'history': history.to_dict(), 'test': asdict(measure_test(net, mnist.test))}


def best_mlp_2019():
    "The MLP at the best point of its search."
    best = SearchResult.from_dict(result('small_mlp_search')).best.point
    return final_2019('small_mlp', 'mlp', best)


def shifted(split, dx, dy):
    "The images moved by `dx` pixels to the right and `dy` down, what leaves the frame lost."
    x = torch.zeros_like(split.x)
    h, w = x.shape[2:]
    x[:, :, max(0, dy):h + min(0, dy), max(0, dx):w + min(0, dx)] = \
        split.x[:, :, max(0, -dy):h + min(0, -dy), max(0, -dx):w + min(0, -dx)]
    return Split(x, split.y, split.name, split.classes)


def shifts():
    "Accuracy of the two nets of the small-batch half on test images moved by 0 to 6 pixels, mean over four directions."
    test = load_data('mnist').test
    nets = {name: load_model(NETS[name](), WORK/f'small_{name}.safetensors') for name in NETS}
    ways = ((1, 0), (-1, 0), (0, 1), (0, -1))
    def accuracy(net, d): return sum(measure_accuracy(net, shifted(test, d*x, d*y)) for x, y in (ways if d else ways[:1])) / (4 if d else 1)
    return {'pixels': list(range(7)), 'accuracy': {name: [accuracy(net, d) for d in range(7)] for name, net in nets.items()}}


def digits_budget(name):
    "How long must a trial on the digits be? Validation accuracy of twenty trials over 30 epochs."
    digits = load_data('digits')
    found = search(name, digits.train, digits.valid, Box(), start=1030, n=20, epochs=30, workers=1, store=WORK/f'digits_budget_{name}')
    return {'points': [t.point for t in found.trials],
            'valid_accuracy': [[e.valid_accuracy for e in t.history.epochs] for t in found.trials]}


def comparison(folder, data, kept):
    "Three models, 20 points and 10 seeds each, trained as long as is usual on the data."
    found = compare(['mlp', 'cnn', 'deep_mlp'], load_data(data), workers=2, store=WORK/folder)
    page = write_report(found, WORK/folder)
    for name in kept:   # neither weights nor figures: the notebooks draw them again
        with atomic_path(RESULTS/folder/name) as p: shutil.copyfile(page.with_name(name), p)
    return verdict(found)


def twins(pairs=40, seeds=5, epochs=10):
    "The MLP on the digits against a copy of it on other seeds: how often is a winner named?"
    digits, point = load_data('digits'), Comparison.load(RESULTS/'digits')['mlp'].search.best.point
    def trained(seed):
        nets = retrain('mlp', digits.train, digits.valid, point, seeds=seeds, epochs=epochs, seed=seed, workers=1)
        return wrong_matrix(Contestant('', '', '', 0, 0, 0, 0, None, [tested('mlp', net, digits.test) for net in nets]), len(digits.test))
    found = [crossed_difference(trained(2*i), trained(2*i + 1)) for i in range(pairs)]
    return {'seeds': seeds, 'epochs': epochs, 'images': len(digits.test), 'point': point._asdict(),
            'intervals': [[d.estimate, d.low, d.high] for d in found]}


def flaw_scoring(box=(.001, .1)):
    "The trials of the MLP's search on MNIST, each scored on training, validation and test images."
    mnist, rows = load_data('mnist'), []
    for index, point in enumerate(sobol_points(Box(box), 1030, 20), 1030):
        seed = derive_seed(0, 'trial', index)
        net = initialise(MLP, seed=seed)
        h = train(net, mnist.train, mnist.valid, **point._asdict(), epochs=3, seed=seed, threads=1, measure_train=True)
        rows.append({'index': index, 'learning_rate': point.learning_rate, 'batch_size': point.batch_size,
                     'running': h.last.train_accuracy, 'train': h.last.end_train_accuracy, 'valid': h.last.valid_accuracy,
                     'test': measure_accuracy(net, mnist.test)})
    return rows


def flaw_initialiser():
    "Ten trainings of the MLP with PyTorch's own initialisation, at the point of the fair comparison."
    mnist, point = load_data('mnist'), SearchResult.load(WORK/'fair_comparison'/'search'/'mlp').best.point
    nets = retrain('mlp', mnist.train, mnist.valid, point, seeds=10, epochs=10, init=None, workers=1,
                   store=WORK/'flaw_initialiser')
    return [len(tested('mlp', net, mnist.test).test.wrong) for net in nets]


def flaw_running():
    "Ten epochs of the MLP: running training accuracy against that at each epoch's end, and the loss as 2019 divided it."
    mnist, point = load_data('mnist'), SearchResult.load(WORK/'fair_comparison'/'search'/'mlp').best.point
    net, losses = initialise(MLP), []
    h = train(net, mnist.train, mnist.valid, **point._asdict(), epochs=10, threads=1, measure_train=True)
    step, batches = make_step(net, 1e-12), torch.arange(len(mnist.train)).split(point.batch_size)   # one that hardly moves
    for batch in batches: losses.append(step(mnist.train.x[batch], mnist.train.y[batch])[0].item())
    mean = sum(loss*len(batch) for loss, batch in zip(losses, batches))/len(mnist.train)
    return {'running': [e.train_accuracy for e in h.epochs], 'end': [e.end_train_accuracy for e in h.epochs],
            'batches': len(batches), 'mean_loss': mean, 'loss_of_2019': sum(losses)/(len(losses) - 1)}


def engine_errors(name):
    "Ten epochs from five seeds by each engine: wrong test images, and seconds."
    mnist, point = load_data('mnist'), ENGINES_AT[name]
    def trained(engine):
        nets = retrain(name, mnist.train, mnist.valid, point, seeds=5, epochs=10, engine=engine, workers=1, store=WORK/f'engines_{name}_{engine}')
        return {'wrong': [len(tested(name, net, mnist.test).test.wrong) for net in nets], 'seconds': [net.history.seconds for net in nets]}
    return {'point': point._asdict(), 'images': len(mnist.test)} | {engine: trained(engine) for engine in ('autograd', 'onednn', 'compiled')}


JOBS = {   # name → (function, arguments); a job may use the results of those before it in its line of DEPENDS
    'small_cnn_search': (search_2019, 'cnn', 2030, (.01, .1), SMALL),
    'small_mlp_search': (search_2019, 'mlp', 1030, (.001, .1), SMALL),
    'mlp': (search_holdout, 'mlp'),
    'cnn': (search_holdout, 'cnn'),
    'digits_budget_mlp': (digits_budget, 'mlp'),
    'digits_budget_cnn': (digits_budget, 'cnn'),
    'small_mlp': (best_mlp_2019,),
    'small_cnn': (final_2019, 'small_cnn', 'cnn', Point(.0831689, 19)),
    'shifts': (shifts,),
    'large_cnn': (final_2019, 'large_cnn', 'cnn', Point(.0505483, 373)),
    'large_mlp': (final_2019, 'large_mlp', 'mlp', Point(.0953835, 466)),
    'large_mlp_search': (search_2019, 'mlp', 4030, (.01, .1), LARGE),
    'large_cnn_search': (search_2019, 'cnn', 2030, (.01, .1), LARGE, 10),          # two halves, side by side
    'digits': (comparison, 'digits', 'digits', ['report.json']),
    'twins': (twins,),
    'fair_comparison': (comparison, 'fair_comparison', 'mnist', ['report.json', 'report.html', 'runs.csv']),
    'flaw_scoring': (flaw_scoring,),
    'flaw_initialiser': (flaw_initialiser,),
    'flaw_running': (flaw_running,),
    'engines_mlp': (engine_errors, 'mlp'),
    'engines_cnn': (engine_errors, 'cnn'),
    'large_cnn_search_rest': (search_2019, 'cnn', 2040, (.01, .1), LARGE, 10),
}
DEPENDS = {'small_mlp': ['small_mlp_search'], 'shifts': ['small_mlp', 'small_cnn'],
           'twins': ['digits'], 'flaw_initialiser': ['fair_comparison'], 'flaw_running': ['fair_comparison']}


def result(job): return read_json(WORK/f'{job}.json')['result']


def run(job):
    "Run a job unless its result is there."
    for other in DEPENDS.get(job, []):
        while not (WORK/f'{other}.json').exists(): time.sleep(5)
    if not (WORK/f'{job}.json').exists():
        function, *args = JOBS[job]
        start = time.perf_counter()
        found = function(*args)
        write_json(WORK/f'{job}.json', {'machine': machine(), 'seconds': time.perf_counter() - start, 'result': found})
    return job


def assemble():
    "Put the results together in the files that the notebooks load."
    found = {job: read_json(WORK/f'{job}.json') for job in JOBS}
    rest = found.pop('large_cnn_search_rest')
    whole = found['large_cnn_search']
    whole['seconds'] += rest['seconds']
    whole['result'] |= {'n': 20, 'trials': whole['result']['trials'] + rest['result']['trials']}
    budget = {name: found.pop(f'digits_budget_{name}') for name in NETS}
    for job in ('digits', 'fair_comparison'): found.pop(job)   # they wrote their own folders
    write_json(RESULTS/'twins.json', found.pop('twins'))
    write_json(RESULTS/'flaws.json', {job.removeprefix('flaw_'): found.pop(job) for job in JOBS if job.startswith('flaw_')})
    write_json(RESULTS/'digits_budget.json', budget)
    write_json(RESULTS/'engines.json', {name: found.pop(f'engines_{name}') for name in NETS})
    write_json(RESULTS/'mnist_searches.json', {name: found.pop(name) for name in NETS})
    write_json(RESULTS/'the_2019_experiment.json', found)


def main(jobs):
    "Run `jobs`, or all of them and put the results together."
    WORK.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as pool:
        for done in as_completed([pool.submit(run, job) for job in jobs or JOBS]): print('done:', done.result(), flush=True)
    if not jobs: assemble()


if __name__ == '__main__': main(sys.argv[1:])
