"""The report tells what was warned of: odd data, brought and frozen weights; and its words fit
the numbers."""

import json
import re
import warnings
from dataclasses import replace

import jsonschema
import pytest
import tiny
import torch
from test_splits import from_parts, given_parts
from torch import nn

import mnist_cmp as mc
from mnist_cmp.evidence.verdict import verdict
from mnist_cmp.models import zero_init
from mnist_cmp.report import report_page, summary

QUICK = tiny.grouped(n_trials=1, seeds=1, search_epochs=1, epochs=1, workers=1, progress=False)
KNOWN = torch.rand(8, 784, generator=torch.Generator().manual_seed(1)) / 30


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 3))


def frozen():
    "Features that were learnt elsewhere, frozen, and a new head."
    made = features()
    made[1].requires_grad_(False)
    return made


def features():
    "Features that were learnt elsewhere, and a new head."
    made = net()
    with torch.no_grad():
        made[1].weight.copy_(KNOWN)
    return made


def whole():
    "All of it was learnt elsewhere."
    made = net()
    state = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.rand(p.shape, generator=state) / 30)
    return made


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    from mnist_cmp import report

    monkeypatch.setattr(report, 'comparison_figures', lambda comparison: [])


def told(call):
    "What a call gives, and the warnings that it gives."
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        found = call()
    return found, [str(w.message) for w in seen]


@pytest.mark.parametrize('protocol', ['holdout', '2019'])
def test_images_in_two_splits_are_in_the_report(free_costs, tmp_path, protocol):
    parts = given_parts()
    parts['x_test'][:4] = parts['x_train'][[0, 3, 6, 1]]
    parts['x_valid'][:2] = parts['x_train'][[4, 5]]
    data, said = told(lambda: from_parts(parts))
    assert len(said) == 2
    found = told(
        lambda: mc.compare(
            {'one': net, 'two': net}, data, {'batch_size': (8, 16)}, protocol=protocol, **QUICK
        )
    )[0]
    words = '4 of the 15 test images also stand in the training split'
    first, *_ = verdict(found).splitlines()
    of_valid = '2 of the 12 validation images also stand in the training split'
    assert (of_valid in verdict(found)) == (protocol == 'holdout')  # 2019 validates on no image
    assert words in verdict(found)
    assert 'also stand in' in first
    page = report_page(found)
    assert words in page.split('class="verdict"')[0]
    found.save(tmp_path)
    written = json.loads((tmp_path / 'report.json').read_text())
    jsonschema.validate(written, mc.report_schema())
    assert mc.Comparison.load(tmp_path).remarks == found.remarks


def test_a_missing_class_is_in_the_report(free_costs):
    parts = given_parts()
    parts['y_train'] = parts['y_train'] % 2
    data = told(lambda: from_parts(parts))[0]
    found = told(
        lambda: mc.compare({'one': net, 'two': net}, data, {'batch_size': (8, 16)}, **QUICK)
    )[0]
    assert 'the training split has no image of 1 of the 3 classes (cat)' in verdict(found)


def test_an_older_report_has_none_of_it(compare_in, tmp_path):
    found = compare_in(tmp_path)
    found.save(tmp_path)
    assert found.remarks == []
    file = tmp_path / 'report.json'
    report = json.loads(file.read_text())
    del report['remarks']
    for model in report['contestants']:
        del model['trained'], model['same_start']
    file.write_text(json.dumps(report))
    old = mc.Comparison.load(tmp_path)
    assert (old.remarks, old['one'].trained, old['one'].same_start) == ([], None, None)
    assert verdict(old) == verdict(found)
    assert 'frozen' not in report_page(old)


@pytest.mark.parametrize(
    'key, value', [('remarks', [3]), ('remarks', 'text'), ('remarks', ['x'] * 101)]
)
def test_a_strangers_remarks_are_checked(compare_in, tmp_path, key, value):
    found = compare_in(tmp_path)
    found.save(tmp_path)
    file = tmp_path / 'report.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ValueError, match='damaged'):
        mc.Comparison.load(tmp_path)


def test_frozen_and_brought_weights_are_in_the_report(compare_in, tmp_path):
    models = {'net': net, 'frozen': frozen, 'features': features, 'whole': whole}
    found, said = told(lambda: compare_in(tmp_path, models=models))
    n = 784 * 8 + 8 + 8 * 3 + 3
    head = 8 * 3 + 3
    assert {c.name: (c.trained, c.same_start) for c in found.models} == {
        'net': (n, 0),
        'frozen': (head, 0),
        'features': (n, 784 * 8),
        'whole': (n, n),
    }
    text = verdict(found)
    assert f'Of the {n:,} parameters of frozen {head} are trained' in text
    assert (
        f'{784 * 8:,} of the {n:,} trained parameters of features begin each training with the same'
        in text
    )
    assert (
        'Each training of whole begins from the same weights, which the model brings along' in text
    )
    assert 'parameters of net' not in text and 'training of net' not in text
    # of one size, but not as far as they are trained
    assert 'do not train equally many parameters' in text and 'not of one size' not in text
    page = report_page(found)
    assert '<th>trained parameters</th>' in page
    methods = page.split('First weights: ')[1]
    assert f'frozen: the model&#x27;s own, {head} of {n:,} parameters trained' in methods
    found.save(tmp_path)
    assert mc.Comparison.load(tmp_path) == found
    jsonschema.validate(json.loads((tmp_path / 'report.json').read_text()), mc.report_schema())


def test_a_rule_that_draws_nothing(compare_in):
    found = told(
        lambda: compare_in(None, models={'net': net, 'other': net}, init={'net': zero_init})
    )[0]
    assert 'Each training of net begins from the same weights, whatever its seed.' in verdict(found)
    assert 'brings along' not in verdict(found)


def test_words_for_one_of_everything(compare_in):
    found = told(lambda: compare_in(None, n_trials=1, seeds=1, search_epochs=1, epochs=1))[0]
    for text in (verdict(found), report_page(found), summary(found), found._repr_html_()):
        plain = re.sub(r'<(style|head).*?</\1>', '', text, flags=re.S)
        assert not re.search(r'(?<![\d,.])1 \w+s\b(?! of)', plain), re.findall(
            r'(?<![\d,.])1 \w+s\b', plain
        )
        assert not re.search(r'(?<!training )(?<!search )\(s\)', plain)  # there: seconds


def test_learning_rates_have_significant_digits(compare_in):
    found = told(lambda: compare_in(None))[0]
    for rate, words in ((213_818_359.375, '2.138e+08'), (1.25e-7, '1.25e-07')):
        several = []
        for c in found.models:
            runs = [
                replace(run, history=replace(run.history, learning_rate=rate)) for run in c.runs
            ]
            several.append(replace(c, runs=runs))
        odd = replace(found, models=several)
        for text in (report_page(odd), odd._repr_html_()):
            assert words in text
        assert '2138183' not in summary(odd) and '0.0000' not in summary(odd)


def test_a_class_is_named_once(compare_in):
    class Conv(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(784, 3))

    found = told(lambda: compare_in(None, models={'Conv': Conv, 'other': tiny.one}))[0]
    page = report_page(found)
    assert 'Conv: Conv' not in page
    assert 'Conv: 2,355 parameters' in page and 'other: Sequential: 2,355 parameters' in page
