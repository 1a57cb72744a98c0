"""Logs of evaluation harnesses: small ones made by hand (fixtures/evaluation_logs/README.md says
after which documentation) are read as what they say, odd ones are answered in words."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mnist_cmp.evidence import evaluation_logs
from mnist_cmp.evidence.predictions import Predictions

LOGS = Path(__file__).parent / 'fixtures' / 'evaluation_logs'
FLEXIBLE = {'metric': 'exact_match', 'filter': 'flexible-extract'}


@pytest.fixture
def inspect(tmp_path):
    "A copy of the logs of Inspect."
    return Path(shutil.copytree(LOGS / 'inspect', tmp_path / 'inspect'))


@pytest.fixture
def lm_eval(tmp_path):
    "A copy of the logs of lm-evaluation-harness."
    return Path(shutil.copytree(LOGS / 'lm_eval', tmp_path / 'lm_eval'))


def changed(path, **changes):
    "Write a log of Inspect with other fields."
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def packed(path, compression=zipfile.ZIP_DEFLATED):
    "The same log as an .eval archive, in its place."
    header = json.loads(path.read_text())
    samples = header.pop('samples')
    with zipfile.ZipFile(path.with_suffix('.eval'), 'w', compression) as archive:
        for sample in samples:
            name = f'samples/{sample["id"]}_epoch_{sample["epoch"]}.json'
            archive.writestr(name, json.dumps(sample))
            if sample.get('error'):
                sample['error'] = sample['error']['message']
        summaries = [{k: s.get(k) for k in ('id', 'epoch', 'scores', 'error')} for s in samples]
        archive.writestr('summaries.json', json.dumps(summaries))
        archive.writestr('header.json', json.dumps(header))
    path.unlink()
    return path.with_suffix('.eval')


# ---- Inspect


def test_letters_are_right_and_wrong(inspect):
    found = Predictions.from_inspect(inspect, score='match', missing='wrong')
    assert (found.kind, found.classes) == ('labels', ['wrong', 'right'])
    assert found.examples == ['sea#1', 'sea#2', 'sum-1#1', 'sum-1#2', 'sum-2#1', 'sum-2#2']
    assert found.answers['lab__small'].tolist() == [[1, 0, 1, 1, 0, 0]]
    assert found.answers['lab__large'].tolist() == [[-1, 0, 1, 1, 1, 1]]
    assert (found.y == 1).all()
    assert (found.group_names, found.groups.tolist()) == (
        ['sea', 'sum-1', 'sum-2'],
        [0, 0, 1, 1, 2, 2],
    )
    assert found.seeds == {'lab__large': ['7Fq2mWzPk5'], 'lab__small': ['7Fq2mWzPk5']}
    assert "'lab/small' is called lab__small." in found.remarks
    assert any('lab__large has no answer for 1 of 6' in remark for remark in found.remarks)


def test_a_failed_sample_is_refused(inspect):
    told = "lab__large has no answer for 1 of 6 samples, first of training .*, example 'sea#1'"
    with pytest.raises(ValueError, match=told):
        Predictions.from_inspect(inspect, score='match')
    with pytest.raises(ValueError, match=told):
        Predictions.from_inspect(inspect, score='grader/clear')


def test_shares_are_losses(inspect):
    found = Predictions.from_inspect(inspect, score='grader/clear', missing='wrong')
    assert found.kind == 'losses'
    assert found.answers['lab__small'].tolist() == [[1, 1, 0, 0, 0.5, 0.75]]
    assert found.answers['lab__large'].tolist() == [[1, 0.5, 0, 0, 0, 0]]
    assert 'The loss is 1 − grader/clear.' in found.remarks
    assert '1 of 12 samples failed: a loss of 1.' in found.remarks


def test_archives_are_read_as_their_logs(inspect):
    known = Predictions.from_inspect(inspect, score='match', missing='wrong')
    packed(inspect / 'large.json')
    packed(inspect / 'small.json', zipfile.ZIP_STORED)
    found = Predictions.from_inspect(inspect, score='match', missing='wrong')
    assert {n: a.tolist() for n, a in found.answers.items()} == {
        n: a.tolist() for n, a in known.answers.items()
    }
    assert (found.examples, found.seeds, found.remarks) == (
        known.examples,
        known.seeds,
        known.remarks,
    )


def test_names_of_a_dict_are_taken_and_runs_told_apart(inspect):
    again = json.loads((inspect / 'small.json').read_text())
    again['eval'] |= {'eval_id': 'e-again'}  # the same run asked it twice
    (inspect / 'again.json').write_text(json.dumps(again))
    logs = {'s': [inspect / 'small.json', inspect / 'again.json'], 'l': f'{inspect}/l*.json'}
    found = Predictions.from_inspect(logs, score='match', missing='wrong')
    assert found.seeds == {'l': ['e-large'], 's': ['e-again', 'e-small']}
    assert not found.paired
    logs['s'] = [inspect / 'small.json'] * 2
    with pytest.raises(ValueError, match='Give each once'):
        Predictions.from_inspect(logs, score='match', missing='wrong')


def test_several_scores_are_listed(inspect):
    with pytest.raises(
        ValueError, match="one of 'grader/clear', 'grader/short', 'match'. Say score="
    ):
        Predictions.from_inspect(inspect)


ODD = {
    'a run that failed': ({'status': 'error'}, "has the status 'error'"),
    'a run that goes on': ({'status': 'started'}, "has the status 'started'"),
    'a run that was taken back': ({'invalidated': True}, 'has the status invalidated'),
    'no samples': ({'samples': []}, 'is no log of Inspect with samples'),
    'samples that are none': ({'samples': [1, 2]}, 'has samples that are none of Inspect'),
    'no header': ({'eval': None}, 'is no log of Inspect with samples'),
    'another task': (
        {'eval': {'task': 'other', 'model': 'lab/small', 'run_id': 'r'}},
        "the tasks ['other', 'small_quiz'], but must be of one",
    ),
    'a list for a score': (
        {'samples': [{'id': 1, 'epoch': 1, 'scores': {'match': {'value': [1]}}}]},
        'match of sample 1 in',
    ),
    'no scores': (
        {'samples': [{'id': 1, 'epoch': 1, 'scores': None}]},
        'lab__large has no answer for',
    ),
}


@pytest.mark.parametrize('name', ODD)
def test_odd_logs_of_inspect(name, inspect):
    changes, told = ODD[name]
    changed(inspect / 'small.json', **changes)
    with pytest.raises(ValueError) as error:
        Predictions.from_inspect(inspect, score='match')
    assert told in str(error.value)


def test_archives_that_are_none(inspect, monkeypatch):
    path = packed(inspect / 'small.json')
    monkeypatch.setattr(evaluation_logs, '_MOST_LOG', path.stat().st_size)
    with zipfile.ZipFile(path, 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('other', 'x')
    with pytest.raises(ValueError, match='bytes, but must hold at most'):
        Predictions.from_inspect(path)
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('header.json', ' ' * 10**6)
    with pytest.raises(ValueError, match='header.json unpacks to 1,000,000 bytes'):
        Predictions.from_inspect(path)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('_journal/start.json', '{}')
    with pytest.raises(ValueError, match="no item named 'header.json'"):
        Predictions.from_inspect(path)
    path.write_bytes(b'PK no zip')
    with pytest.raises(ValueError, match='can not be read as a log of Inspect'):
        Predictions.from_inspect(path)
    monkeypatch.undo()
    path.with_suffix('.json').write_text('[' * 10**5)
    with pytest.raises(ValueError, match='can not be read as a log of Inspect'):
        Predictions.from_inspect(path.with_suffix('.json'))


# ---- lm-evaluation-harness


def test_lines_are_right_and_wrong(lm_eval):
    found = Predictions.from_lm_eval(lm_eval, **FLEXIBLE)
    assert found.answers['lab__small'].tolist() == [[1, 0, 1, 0]]
    assert found.answers['lab__large'].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert (found.examples, found.groups) == (['0', '1', '2', '3'], None)
    assert found.seeds['lab__large'] == ['2026-08-20T10-00-00.123456', '2026-08-21T10-00-00.654321']
    assert not found.paired
    strict = Predictions.from_lm_eval(lm_eval, metric='exact_match', filter='strict-match')
    assert strict.answers['lab__large'].tolist() == [[1, 1, 0, 0], [1, 0, 1, 0]]


def test_a_metric_may_be_a_loss(lm_eval):
    found = Predictions.from_lm_eval(lm_eval, metric='f1', filter='strict-match')
    assert found.answers['lab__small'].tolist() == [[0.75, 0.5, 0.5, 0.5]]
    found = Predictions.from_lm_eval(
        lm_eval, metric='f1', filter='strict-match', greater_is_better=False
    )
    assert found.answers['lab__small'].tolist() == [[0.25, 0.5, 0.5, 0.5]]
    for path in lm_eval.rglob('*.jsonl'):
        path.write_text(path.read_text().replace('f1', 'brier_score'))
    with pytest.raises(ValueError, match='Say greater_is_better=False'):
        Predictions.from_lm_eval(lm_eval, metric='brier_score', filter='strict-match')


def test_several_of_each_are_listed(lm_eval):
    with pytest.raises(ValueError, match="filter is None.*'flexible-extract', 'strict-match'"):
        Predictions.from_lm_eval(lm_eval)
    with pytest.raises(ValueError, match="metric is None.*'exact_match', 'f1'"):
        Predictions.from_lm_eval(lm_eval, filter='strict-match')
    path = next(lm_eval.rglob('*.jsonl'))
    shutil.copy(path, path.with_name(path.name.replace('legs', 'arms')))
    with pytest.raises(ValueError, match="task is None.*'arms', 'legs'"):
        Predictions.from_lm_eval(lm_eval, **FLEXIBLE)
    found = Predictions.from_lm_eval(lm_eval, task='legs', **FLEXIBLE)
    assert {name: len(seeds) for name, seeds in found.seeds.items()} == {
        'lab__large': 2,
        'lab__small': 1,
    }


@pytest.mark.parametrize(
    'old, new, told',
    [
        ('"hash of 2"', '"another"', 'has another document 2 than the logs before it'),
        ('"doc_id": 3', '"doc_id": 4', 'has no answer for 2 of 10 samples'),
        ('"doc_id": 3', '"doc_id": 2', 'has another document 2 than the logs before it'),
        ('"exact_match": 1.0', '"exact_match": null', "first of training '2026-08-20T09"),
        ('"exact_match": 1.0', '"exact_match": NaN', "first of training '2026-08-20T09"),
        ('"exact_match": 1.0', '"exact_match": [1]', 'exact_match of 0 is [1], but must be a num'),
        ('{"doc_id"', '["doc_id"', 'can not be read as JSON, line 1'),
        ('"doc_id"', '"id"', 'line 1, is no sample: it has no doc_id'),
    ],
)
def test_odd_lines(old, new, told, lm_eval):
    (path,) = (lm_eval / 'lab__small').iterdir()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError) as error:
        Predictions.from_lm_eval(lm_eval, **FLEXIBLE)
    assert told in str(error.value)


def test_a_file_twice_as_long_and_an_empty_one(lm_eval):
    (path,) = (lm_eval / 'lab__small').iterdir()
    path.write_text(path.read_text() * 2)
    with pytest.raises(ValueError, match='4 samples of lab__small more than once'):
        Predictions.from_lm_eval(lm_eval, **FLEXIBLE)
    path.write_text('\n')
    with pytest.raises(ValueError, match='has no sample'):
        Predictions.from_lm_eval(lm_eval, **FLEXIBLE)


def test_a_failed_sample_counts_as_wrong(lm_eval):
    (path,) = (lm_eval / 'lab__small').iterdir()
    path.write_text(path.read_text().replace('"exact_match": 1.0', '"exact_match": NaN', 3))
    found = Predictions.from_lm_eval(lm_eval, **FLEXIBLE, missing='wrong')
    assert (found.answers['lab__small'] == -1).sum() == 2
    assert np.isin(found.answers['lab__large'], (0, 1)).all()


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation_logs, '_MOST_FILES', 2)
    for number in range(3):
        (tmp_path / f'{number}.json').touch()
    with pytest.raises(ValueError, match='3 of them are there: 1 to 2 will do'):
        Predictions.from_inspect(tmp_path)
