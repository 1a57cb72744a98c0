"""Images of any size and colour are shown; what is no image is called an example."""

import base64
import re
import warnings

import numpy as np
import pytest
import torch
import torch.nn as nn
from tiny import known_costs

import mnist_cmp as mc
from mnist_cmp import comparison
from mnist_cmp.comparison import _pixels
from mnist_cmp.core.records import check_comparison
from mnist_cmp.evidence.comparison import Comparison
from mnist_cmp.report import _methods, summary

SPACE = {'learning_rate': (0.001, 0.1), 'batch_size': (8, 32)}


def linear(inputs, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(inputs)), classes))


def narrow(inputs, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(inputs)), 3), nn.Linear(3, classes))


def compared(data):
    "A comparison that takes a second."
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        patch.setattr(comparison, 'measure_costs', known_costs)
        return mc.compare(
            {'linear': linear, 'narrow': narrow},
            data,
            SPACE,
            n_trials=2,
            seeds=3,
            search_epochs=2,
            recipe=mc.Recipe(epochs=3),
            compute=mc.Compute(threads=1, workers=1),
        )


def coloured(side=(20, 24), n=240):
    "Images of one dominant colour, some of a wrong label."
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    x = rng.integers(0, 120, (n, 3, *side), dtype=np.uint8)
    x[np.arange(n), y] += 60
    y[::5] = rng.integers(0, 3, len(y[::5]))
    return x, np.array(['red', 'green', 'blue'])[y]


@pytest.fixture(scope='module')
def images():
    return mc.Data.from_arrays(*coloured(), name='colours')


@pytest.fixture(scope='module')
def of_images(images):
    return compared(images)


@pytest.fixture(scope='module')
def of_table():
    rng = np.random.default_rng(1)
    x = rng.normal(5, 3, (300, 6))
    y = np.where(x[:, 0] + rng.normal(0, 2, 300) > 5, 'ill', 'well')
    return compared(mc.Data.from_arrays(x, y, scale='standard', name='patients'))


def plain_text(page):
    "What a reader of the page sees."
    page = re.sub(r'<style>.*?</style>', '', page, flags=re.S)
    page = re.sub(r'src="data:[^"]*"', '', page)
    return re.sub(r'<[^>]*>', ' ', page)


def test_colour_images_are_called_so_and_shown(images, of_images):
    assert (of_images.example, of_images.word, of_images.is_image) == ('test image', 'image', True)
    assert of_images.picture_shape == [3, 20, 24]
    assert sum(map(len, of_images.pictures.values())) > 0
    for why, held in of_images.pictures.items():
        for index in held:
            pixels = of_images.picture(why, int(index))
            assert (pixels.shape, pixels.dtype) == ((20, 24, 3), np.uint8)
            given = images.test.x[int(index)].permute(1, 2, 0).numpy()
            assert np.array_equal(pixels, given)
    why = next(why for why, held in of_images.pictures.items() if held)
    shown = [ax.images[0].get_array() for ax in of_images.plot_pictures(why).axes if ax.images]
    assert {image.shape for image in shown} == {(20, 24, 3)}


def test_the_report_of_colour_images_says_what_they_are(of_images, tmp_path):
    path = of_images.report(tmp_path / 'colours')
    text = plain_text(path.read_text(encoding='utf-8'))
    assert 'Each example is an image of 3×20×24, and asked for is one of 3 classes.' in text
    assert 'test images' in text
    assert Comparison.load(path.parent) == of_images
    assert (path.parent / 'figures' / 'confusions.png').exists()


@pytest.fixture(scope='module')
def report_of_table(of_table, tmp_path_factory):
    "The folder of its report."
    return of_table.report(tmp_path_factory.mktemp('patients') / 'report').parent


def test_what_is_no_image_is_an_example_everywhere(of_table, report_of_table):
    assert (of_table.example, of_table.word) == ('test example', 'example')
    assert (of_table.pictures, of_table.picture_shape) == ({}, [])
    text = plain_text((report_of_table / 'report.html').read_text(encoding='utf-8'))
    assert 'image' not in text.lower()
    assert 'test examples' in text
    assert 'Each example is 6 numbers, and asked for is one of 2 classes.' in text
    assert 'Examples were standardised by mean and standard deviation of the training part' in text
    frames = of_table.costs(), of_table.differences(), of_table.to_frame(), of_table.hard_frame()
    for words in (of_table.verdict(), summary(of_table), *(' '.join(f) for f in frames)):
        assert 'image' not in words.lower()
    figures = {file.stem for file in (report_of_table / 'figures').iterdir()}
    assert not any(name.startswith('pictures') for name in figures)
    assert {'confusions', 'class_errors', 'calibration'} <= figures


def test_hard_examples_are_listed_by_index(of_table, report_of_table):
    frame = of_table.hard_frame()
    assert len(frame) > 0
    labels = [of_table.classes[of_table.labels[i]] for i in frame.example]
    assert frame['class'].tolist() == labels
    for _, row in frame[frame.why == 'all'].iterrows():
        wrong = [row.example in run.test.wrong for c in of_table.models for run in c.runs]
        assert np.mean(wrong) > 0.5
    page = (report_of_table / 'report.html').read_text(encoding='utf-8')
    rows = re.findall(r'<tr><td>(\d+)</td><td>(every model|\w+ alone)</td>', page)
    assert [int(index) for index, _ in rows] == frame.example.tolist()


def test_pictures_have_at_most_64_pixels_a_side():
    x = np.zeros((30, 3, 100, 40), np.uint8)
    x[:, 0, :50] = 200
    data = mc.Data.from_arrays(x, np.arange(30) % 2, name='tall')
    pixels = _pixels(data.test, 0)
    assert pixels.shape == (3, 64, 40)
    assert pixels[0, :31].min() == 200 and pixels[0, 33:].max() == 0
    assert pixels[1:].max() == 0


def test_standardised_images_are_brought_back():
    x, y = coloured()
    as_bytes = mc.Data.from_arrays(x, y, seed=3)
    as_floats = mc.Data.from_arrays(x / np.float32(255), y, scale='standard', seed=3)
    assert as_floats.scaling.kind == 'standard'
    assert np.array_equal(_pixels(as_bytes.test, 5), _pixels(as_floats.test, 5))


def test_other_ranges_go_from_black_to_white():
    x = np.linspace(-1000, 3000, 40 * 64).reshape(40, 1, 8, 8)
    data = mc.Data.from_arrays(x, np.arange(40) % 2, scale=None)
    pixels = _pixels(data.test, 0)
    assert (pixels.shape, pixels.min(), pixels.max()) == ((1, 8, 8), 0, 255)
    flat = mc.Data.from_arrays(np.full_like(x, 7) + x[:, :, :1, :1], np.arange(40) % 2, scale=None)
    assert _pixels(flat.test, 0).max() == 0


def test_damaged_pictures_are_refused(of_images):
    why, held = next((why, held) for why, held in of_images.pictures.items() if held)
    record = Comparison.from_dict(of_images.to_dict())
    for shape in ([3, 20], [2, 20, 24], [3, 20, 65], [3, 24, 24]):
        record.picture_shape = shape
        with pytest.raises(ValueError, match='picture|pictures'):
            check_comparison(record)
    record.picture_shape = [3, 20, 24]
    record.pictures[why][next(iter(held))] = base64.b64encode(b'few').decode()
    with pytest.raises(ValueError, match='size of a picture'):
        check_comparison(record)


def test_grey_images_of_28_by_28_are_recorded_as_ever():
    digits = mc.load_data('digits')
    few = mc.Data(digits.train[:60], digits.valid[:30], digits.test[:40], 'few', digits.classes)
    record = compared(few)
    assert (record.picture_shape, record.inputs) == ([], [1, 28, 28])
    index = next(iter(record.pictures['all']))
    expected = (few.test.x[int(index), 0] * 255).round().to(torch.uint8).numpy()
    assert np.array_equal(record.picture('all', int(index)), expected)
    assert 'Each example is' not in _methods(record)
