"""The kept results: of today's experiments, and of one engine where one stands beside another."""

import json
from pathlib import Path

import experiments
import pytest

RESULTS = Path(experiments.RESULTS)


@pytest.mark.parametrize('job', experiments.JOBS)
def test_result_is_of_this_code(job):
    why = experiments.why_stale(job)
    assert why is None, f'{why}. Run `python tools/experiments.py {job}`.'


def test_other_settings_make_a_result_stale(monkeypatch):
    assert experiments.why_stale('mlp') is None
    monkeypatch.setitem(experiments.VERSIONS, 'mlp', 2)
    assert 'made with settings' in experiments.why_stale('mlp')


def test_other_inputs_make_a_result_stale(monkeypatch):
    assert experiments.why_stale('flaw_running') is None
    monkeypatch.setattr(
        experiments, 'best_of_comparison', lambda folder: experiments.Config(0.5, 16)
    )
    assert 'made with given' in experiments.why_stale('flaw_running')


def test_a_comment_makes_no_result_stale(tmp_path, monkeypatch):
    def search_holdout(name):
        "Another docstring."
        # and a comment

    job = experiments.JOBS['mlp']
    other = experiments.Job(search_holdout, job.args, job.file, job.key)
    monkeypatch.setitem(experiments.JOBS, 'mlp', other)
    assert experiments.why_stale('mlp') is None


def engines(found):
    "The engines that a result names, of its trainings."
    if isinstance(found, list):
        return set().union(*map(engines, found))
    if not isinstance(found, dict):
        return set()
    own = {found['engine']} if isinstance(found.get('engine'), str) else set()
    return own.union(*(engines(part) for key, part in found.items() if key != 'settings'))


def read(name):
    return json.loads((RESULTS / name).read_text(encoding='utf-8'))


# What a page holds against each other.
TOGETHER = [
    ['fair_comparison/report.json', 'flaws.json', 'mnist_searches.json'],
    ['the_2019_experiment.json', 'mnist_searches.json'],
    ['digits_budget.json'],
    ['twins.json'],
]


@pytest.mark.parametrize('names', TOGETHER, ids=' '.join)
def test_one_engine(names):
    found = {name: engines(read(name)) for name in names}
    assert all(found.values()), f'{found}: a result does not tell its engine'
    assert len(set().union(*found.values())) == 1, f'different engines: {found}'


def test_one_engine_for_each_model_on_the_digits():
    "`make compare` takes the fastest step that pays for a model, for all that it does with it."
    models = read('digits/report.json')['contestants']
    assert len(models) > 1
    for model in models:
        assert len(engines(model)) == 1, model['name']


def test_mixed_engines_are_seen():
    trained = [{'history': {'engine': engine}} for engine in ('compiled', 'onednn')]
    found = {'settings': {'engine': 'autograd'}, 'result': {'trials': trained}}
    assert engines(found) == {'compiled', 'onednn'}


def test_digits_are_those_of_make_compare():
    words = experiments.words_of_make_compare().split()
    asked = dict(zip(words[::2], words[1::2], strict=True))
    report = read('digits/report.json')
    assert report['dataset'] == 'digits'
    assert [model['name'] for model in report['contestants']] == asked['--models'].split(',')
    assert {len(model['runs']) for model in report['contestants']} == {int(asked['--seeds'])}


def first_job():
    return {'test': {'errors': {'1': 3}}}


def second_job(more=1):
    return experiments.entry('first')['result']['test']['errors']['1'] + more


def test_jobs_run_after_those_they_need_and_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, 'WORK', tmp_path / 'work')
    monkeypatch.setattr(experiments, 'RESULTS', tmp_path / 'results')
    monkeypatch.setattr(
        experiments,
        'JOBS',
        {
            'second': experiments.Job(second_job, file='both.json', key='second', needs=('first',)),
            'first': experiments.Job(first_job, file='both.json', key='first'),
        },
    )
    experiments.run_all(['second', 'first'], 1)
    assert experiments.entry('second')['result'] == 4
    assert experiments.entry('second')['given'] == {'first': {'1': 3}}
    assert [experiments.why_stale(job) for job in ('first', 'second')] == [None, None]
    experiments.put(
        'first', experiments.entry('first') | {'result': {'test': {'errors': {'1': 5}}}}
    )
    assert 'made with given' in experiments.why_stale('second')
    experiments.run_all(['second'], 1)
    assert experiments.entry('second')['result'] == 6
