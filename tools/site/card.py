"""Draw nbs/images/card.png, the picture that social media show with a link to the site: `python
tools/site/card.py`."""

from pathlib import Path

import matplotlib.pyplot as plt

from mnist_cmp.core.display import model_color, plot_style
from mnist_cmp.core.files import read_json

ROOT = Path(__file__).resolve().parents[2]


def wrong(runs, name):
    "Test images that a net gets wrong, with one, two and three guesses."
    errors = runs[f'small_{name}']['result']['test']['errors']
    return [errors[k] for k in '123']


def caption(runs):
    "What the picture shows, in words; it is kept in the file."
    return '; '.join(f'{name}: {wrong(runs, name)}' for name in ('mlp', 'cnn'))


def draw(runs, out):
    "The k-best test errors of the two nets on MNIST, beside the question; 1200×630 pixels."
    with plot_style():
        plt.rcParams['figure.constrained_layout.use'] = False
        fig = plt.figure(figsize=(12, 6.3), dpi=100)
        ax = fig.add_axes((0.55, 0.14, 0.41, 0.64))
        for place, name in enumerate(('mlp', 'cnn')):
            bars = ax.bar(
                [k + 0.4 * place - 0.2 for k in range(1, 4)],
                wrong(runs, name),
                0.38,
                color=model_color(name),
                label=name.upper(),
            )
            ax.bar_label(bars, fontsize=15, padding=3)
        ax.set_xticks([1, 2, 3], ['first guess', 'in two', 'in three'])
        ax.tick_params(labelsize=15)
        ax.set_yticks([])
        ax.grid(False)
        ax.spines['left'].set_visible(False)
        ax.legend(fontsize=17)
        fig.text(0.755, 0.86, 'wrong of 10,000 MNIST test images', fontsize=17, ha='center')
        fig.text(0.05, 0.62, 'mnist_cmp', fontsize=54, weight='bold', color=model_color('mlp'))
        fig.text(
            0.05,
            0.52,
            'Which model is better on this data,\nat equal size and equal tuning effort,\n'
            'by how much, and how sure are we?',
            fontsize=22,
            va='top',
            linespacing=1.5,
        )
        fig.savefig(out, metadata={'Software': None, 'Description': caption(runs)})


if __name__ == '__main__':
    draw(read_json(ROOT / 'nbs/results/the_2019_experiment.json'), ROOT / 'nbs/images/card.png')
