"""Real predictions by other libraries, for `mc.judge`: `python benchmarks/elsewhere.py` writes them
to nbs/results/elsewhere, in a minute or two.

Needs `pip install scikit-learn lightgbm jax`, in an environment of its own, and nothing of
mnist_cmp. `made.json` beside the files says by which versions they were made, and what
scikit-learn's metrics say of them. The same versions on the same processor write the same bytes.

What a seed means. Some of these algorithms draw nothing at random (k nearest neighbours, the SVM,
logistic regression), and would give ten equal trainings. So a seed of scikit-learn's and LightGBM's
models draws the training examples, as many as there are, with replacement, the same for all
models; the model gets it as its `random_state` as well, where it has one. A seed of the JAX nets
draws their first weights and the order of the images, and nothing else. All settings are plain
ones: nothing was searched for, and nothing was chosen by the test examples.
"""

import csv
import hashlib
import json
import os
import platform
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = '--xla_cpu_multi_thread_eigen=false'

import numpy as np

FOLDER = Path('nbs/results/elsewhere')
LIBRARIES = 'numpy', 'scipy', 'scikit-learn', 'lightgbm', 'jax', 'jaxlib'
SEEDS = range(1, 11)
FLOOR = 1e-15  # lowest probability for log loss, as in scikit-learn until 1.2

# model → its class, and the arguments that are not the library's own choice
CLASSIFIERS = {
    'logistic': ('sklearn.linear_model.LogisticRegression', {'max_iter': 1000}),
    'forest': ('sklearn.ensemble.RandomForestClassifier', {}),
    'svm': ('sklearn.svm.SVC', {}),
    'knn': ('sklearn.neighbors.KNeighborsClassifier', {}),
    'mlp': ('sklearn.neural_network.MLPClassifier', {'max_iter': 500}),
    'naive_bayes': ('sklearn.naive_bayes.GaussianNB', {}),
    'lightgbm': (
        'lightgbm.LGBMClassifier',
        {'n_jobs': 1, 'deterministic': True, 'force_row_wise': True, 'verbose': -1},
    ),
}
REGRESSORS = {
    'ridge': ('sklearn.linear_model.Ridge', {}),
    'forest': ('sklearn.ensemble.RandomForestRegressor', {}),
    'boosting': ('sklearn.ensemble.HistGradientBoostingRegressor', {}),
}
SETTINGS = {
    'seeds': len(SEEDS),
    'digits': {'test': 300, 'models': ['logistic', 'forest', 'svm', 'knn', 'mlp']},
    'digits_ways': {
        'ways': ['plain', 'faint', 'noisy', 'blurred', 'moved'],
        'models': ['logistic', 'forest'],
    },
    'breast_cancer': {
        'test': 190,
        'split': 0,
        'models': ['logistic', 'forest', 'naive_bayes', 'lightgbm'],
    },
    'diabetes': {'test': 142, 'split': 0, 'models': list(REGRESSORS)},
    'jax': {'models': ['jax_mlp', 'jax_cnn'], 'epochs': 30, 'batch': 16, 'rate': 0.1},
}


def make(kind, seed):
    "An estimator: its class by its whole name, with the seed where it takes one."
    path, arguments = kind
    module, _, name = path.rpartition('.')
    estimator = getattr(import_module(module), name)(**arguments)
    if 'random_state' in estimator.get_params():
        estimator.set_params(random_state=seed)
    return estimator


def trained(kind, x, y, seed):
    "An estimator trained on examples that the seed draws with replacement."
    drawn = np.random.default_rng(seed).integers(len(x), size=len(x))
    return make(kind, seed).fit(x[drawn], y[drawn])


def digits():
    """scikit-learn's digits, values 0 to 1: training images (those that mnist_cmp trains on and
    validates by) and the last 300, its test images; the number of the first of these."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = found.images / 16
    first = len(x) - SETTINGS['digits']['test']
    return x[:first], found.target[:first], x[first:], found.target[first:], first


def divided(found, settings, stratify=None):
    "A table of scikit-learn in two parts, with the rows of the test part; columns standardised."
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(found.data)),
        test_size=settings['test'],
        random_state=settings['split'],
        stratify=stratify,
    )
    test = np.sort(test)
    x = (found.data - found.data[train].mean(0)) / found.data[train].std(0)
    return x[train], found.target[train], x[test], found.target[test], test


def in_ways(images):
    "Way → images of 8×8 as they are, or worse: values 0 to 1."
    noise = np.random.default_rng(0).normal(0, 0.15, images.shape)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    blurred = np.zeros_like(images)
    for row, down in enumerate((0.25, 0.5, 0.25)):
        for column, right in enumerate((0.25, 0.5, 0.25)):
            blurred += down * right * padded[:, row : row + 8, column : column + 8]
    return {
        'plain': images,
        'faint': 0.6 * images,
        'noisy': np.clip(images + noise, 0, 1),
        'blurred': blurred,
        'moved': padded[:, 1:9, :8],
    }


def write_rows(name, header, rows):
    with open(FOLDER / name, 'w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(header)
        writer.writerows(rows)


def long_rows(answers, examples, labels):
    "Rows of a long table: a model's answer to an example, after the training of one seed."
    for model, trainings in answers.items():
        for seed, answer in zip(SEEDS, trainings, strict=True):
            for row in zip(examples, answer, labels, strict=True):
                example, prediction, label = row
                yield model, seed, example, prediction, label


def scores(metric, answers, y):
    "Model → a metric of scikit-learn's, the mean over the trainings."
    return {name: float(np.mean([metric(y, a) for a in runs])) for name, runs in answers.items()}


def make_digits():
    "Labels as a long table; and of the same images in five ways as arrays."
    from sklearn.metrics import zero_one_loss

    x, y, x_test, y_test, first = digits()
    ways = SETTINGS['digits_ways']['ways']
    images = in_ways(x_test)
    every_way = np.concatenate([images[way] for way in ways])
    answers = {}
    answers_in_ways = {}
    for name in SETTINGS['digits']['models']:
        models = [trained(CLASSIFIERS[name], x.reshape(len(x), -1), y, seed) for seed in SEEDS]
        answers[name] = [m.predict(x_test.reshape(len(x_test), -1)) for m in models]
        if name in SETTINGS['digits_ways']['models']:
            labels = [m.predict(every_way.reshape(len(every_way), -1)) for m in models]
            answers_in_ways[name] = np.array(labels, np.uint8)
    examples = range(first, first + len(x_test))
    header = 'model', 'seed', 'example', 'prediction', 'label'
    write_rows('digits.csv', header, long_rows(answers, examples, y_test))

    np.savez_compressed(FOLDER / 'digits_ways.npz', **answers_in_ways)
    rows = [
        (f'{image} {way}', label, image, way)
        for way in ways
        for image, label in zip(examples, y_test, strict=True)
    ]
    write_rows('digits_ways_labels.csv', ('example', 'label', 'image', 'way'), rows)
    truth = np.tile(y_test, len(ways))
    return {
        'digits.csv': {'error': scores(zero_one_loss, answers, y_test)},
        'digits_ways.npz': {'error': scores(zero_one_loss, answers_in_ways, truth)},
    }


def make_breast_cancer():
    "Probabilities as arrays, trainings × examples × classes; the classes have names."
    from sklearn.datasets import load_breast_cancer
    from sklearn.metrics import log_loss, roc_auc_score, zero_one_loss

    found = load_breast_cancer()
    settings = SETTINGS['breast_cancer']
    x, y, x_test, y_test, test = divided(found, settings, stratify=found.target)
    answers = {}
    for name in settings['models']:
        models = [trained(CLASSIFIERS[name], x, y, seed) for seed in SEEDS]
        answers[name] = np.array([m.predict_proba(x_test) for m in models])
    np.savez_compressed(FOLDER / 'breast_cancer.npz', **answers)
    labels = found.target_names[y_test]
    write_rows('breast_cancer_labels.csv', ('example', 'label'), zip(test, labels))

    floored = {name: np.maximum(p, FLOOR) for name, p in answers.items()}
    labelled = {name: p.argmax(2) for name, p in answers.items()}
    first = {name: p[..., 0] for name, p in answers.items()}  # malignant
    return {
        'breast_cancer.npz': {
            'error': scores(zero_one_loss, labelled, y_test),
            'log_loss': scores(log_loss, floored, y_test),
            'auroc': scores(roc_auc_score, first, y_test == 0),
        }
    }


def make_diabetes():
    "Numbers as a long table."
    from sklearn.datasets import load_diabetes
    from sklearn.metrics import mean_squared_error

    x, y, x_test, y_test, test = divided(load_diabetes(), SETTINGS['diabetes'])
    answers = {}
    for name, kind in REGRESSORS.items():
        models = [trained(kind, x, y, seed) for seed in SEEDS]
        answers[name] = [m.predict(x_test).round(1) for m in models]
    header = 'model', 'seed', 'example', 'prediction', 'label'
    write_rows('diabetes.csv', header, long_rows(answers, test, y_test))
    return {'diabetes.csv': {'squared_error': scores(mean_squared_error, answers, y_test)}}


def jax_net(name):
    "A net of JAX: `weights(key)` draws them, `logits(weights, images)` uses them."
    import jax
    import jax.numpy as jnp

    if name == 'jax_mlp':
        shapes = [(64, 128), (128, 128), (128, 10)]
    else:
        shapes = [(16, 1, 3, 3), (32, 16, 3, 3), (128, 64), (64, 10)]

    def weights(key):
        drawn = []
        for k, shape in zip(jax.random.split(key, len(shapes)), shapes):
            inputs = shape[0] if len(shape) == 2 else shape[1] * shape[2] * shape[3]
            outputs = shape[1] if len(shape) == 2 else shape[0]
            drawn.append(jax.random.normal(k, shape) * (2 / inputs) ** 0.5)
            drawn.append(jnp.zeros(outputs))
        return drawn

    def logits(ws, images):
        h = images[:, None]
        layers = list(zip(ws[::2], ws[1::2]))
        while layers[0][0].ndim == 4:
            w, b = layers.pop(0)
            h = jax.lax.conv_general_dilated(h, w, (1, 1), 'SAME') + b[None, :, None, None]
            n, maps, height, width = h.shape
            h = jax.nn.relu(h).reshape(n, maps, height // 2, 2, width // 2, 2).max((3, 5))
        h = h.reshape(len(h), -1)
        for w, b in layers[:-1]:
            h = jax.nn.relu(h @ w + b)
        return h @ layers[-1][0] + layers[-1][1]

    return weights, logits


def jax_parameters(name):
    "How many numbers a net of JAX learns."
    import jax

    weights, _ = jax_net(name)
    return sum(w.size for w in weights(jax.random.key(0)))


def jax_labels(name, x, y, x_test):
    "Labels of the test images by a net of JAX, for each seed: plain SGD, each epoch one `lax.scan`."
    import jax
    import jax.numpy as jnp

    weights, logits = jax_net(name)
    settings = SETTINGS['jax']
    batches = len(x) // settings['batch']
    x, y, x_test = (jnp.asarray(array) for array in (x.astype('float32'), y, x_test))

    def loss(ws, places):
        logs = jax.nn.log_softmax(logits(ws, x[places]))
        return -logs[jnp.arange(len(places)), y[places]].mean()

    def step(ws, places):
        slopes = jax.grad(loss)(ws, places)
        return [w - settings['rate'] * slope for w, slope in zip(ws, slopes)], None

    @jax.jit
    def epoch(ws, key):
        order = jax.random.permutation(key, len(x))[: batches * settings['batch']]
        return jax.lax.scan(step, ws, order.reshape(batches, -1))[0]

    for seed in SEEDS:
        first, *others = jax.random.split(jax.random.key(seed), 1 + settings['epochs'])
        ws = weights(first)
        for key in others:
            ws = epoch(ws, key)
        yield np.asarray(logits(ws, x_test).argmax(1), np.uint8)


def make_jax():
    "Labels as one small file for each training."
    from sklearn.metrics import zero_one_loss

    x, y, x_test, y_test, _ = digits()
    errors = {}
    for name in SETTINGS['jax']['models']:
        answers = list(jax_labels(name, x, y, x_test))
        for seed, labels in zip(SEEDS, answers, strict=True):
            np.save(FOLDER / f'{name}_{seed}.npy', labels)
        found = scores(zero_one_loss, {name: answers}, y_test)
        errors[f'{name}_*.npy'] = {'error': found}
    return errors


def digests():
    "File → the SHA-256 of its bytes."
    paths = sorted(path for path in FOLDER.iterdir() if path.name != 'made.json')
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = {
        'versions': {'python': platform.python_version()}
        | {name: version(name) for name in LIBRARIES},
        'machine': f'{platform.system()} {platform.machine()}',
        'settings': SETTINGS,
        'parameters': {name: jax_parameters(name) for name in SETTINGS['jax']['models']},
        'metrics': make_digits() | make_breast_cancer() | make_diabetes() | make_jax(),
        'sha256': digests(),
    }
    text = json.dumps(made, indent=1) + '\n'
    (FOLDER / 'made.json').write_text(text, encoding='utf-8')
    json.dump(made['metrics'], sys.stdout, indent=1)


if __name__ == '__main__':
    main()
