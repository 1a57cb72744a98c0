"The panel on own data, with a recipe and a space of its own: what its note says, and what goes on."

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

import mnist_cmp as mc
from mnist_cmp.ui.own_data import DATA_FILE
from mnist_cmp.ui.run_state import RunState, check_settings, read_note
from mnist_cmp.ui.run_view import run_pictures, run_sentence, run_table

SMALL = dict(models=['mlp', 'deep_mlp'], n_trials=1, search_epochs=1, epochs=2, seeds=1)


def numbers():
    "A table of ten measures, and a number to predict."
    bunch = load_diabetes()
    x = (bunch.data * 20).astype(np.float32)
    return mc.Data.from_arrays(x, bunch.target, name='sugar', scale='standard')


def ended(panel):
    "How the run of a panel ends; an error is shown."
    state = panel.wait(300)
    assert (state.state, state.error) == ('finished', '')
    return state


def test_data_of_numbers_go_on_in_another_panel(tmp_path):
    "What another panel reads is what the first was given, to the bit, and trained with its recipe."
    data = numbers()
    panel = mc.ComparePanel(runs=tmp_path, workers=1, data={'sugar': data})
    recipe = {'optimizer': 'adamw', 'clip': '1'}
    panel.set(**SMALL, dataset='sugar', learning_rate=[0.001, 0.01], recipe=recipe)
    panel.run()
    state = ended(panel)
    assert 'squared' in state.verdict
    note = json.loads((panel.folder / 'panel.json').read_text())['settings']
    assert (note['dataset'], note['recipe'], list(note['data'])) == ('sugar', recipe, ['kept'])

    moved = tmp_path / 'elsewhere' / 'run'
    shutil.copytree(panel.folder, moved)
    other = mc.ComparePanel(moved, workers=1)
    assert other.fields['dataset'].value == 'sugar'
    other.set(seeds=2)
    other.resume()
    ended(other)
    first, more = (mc.Comparison.load(folder) for folder in (panel.folder, moved))
    assert first.fingerprints == more.fingerprints
    assert first.fingerprints['test'] == data.test.fingerprint
    for before, after in zip(first.models, more.models, strict=True):
        assert len(after.runs) == 2
        assert before.runs[0].test.value == after.runs[0].test.value
        assert after.runs[0].history.recipe['optimizer'][0] == 'adamw'


def test_a_run_of_numbers_is_shown_by_its_loss(tmp_path):
    panel = mc.ComparePanel(runs=tmp_path, workers=1, data={'sugar': numbers()})
    panel.set(**SMALL, dataset='sugar', learning_rate=[0.001, 0.01])
    panel.run()
    state = ended(panel)
    assert 'loss' in run_table(state) and '%' not in run_table(state)
    assert 'loss' in run_pictures(state)
    assert run_sentence(state, 1) == 'Finished.'


def test_a_path_is_read_by_the_run(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 6)).astype(np.float32)
    np.savez(tmp_path / 'arrays.npz', x=x, y=np.where(x[:, 0] > 0, 'up', 'down'))
    given = {'what': str(tmp_path / 'arrays.npz'), 'scale': 'standard'}
    panel = mc.ComparePanel(runs=tmp_path / 'runs', workers=1, data={'arrows': given})
    panel.set(**SMALL, dataset='arrows', space={'learning_rate': '0.05'})
    panel.run()
    ended(panel)
    assert not (panel.folder / DATA_FILE).exists()
    result = mc.Comparison.load(panel.folder)
    assert (result.dataset, sorted(result.classes)) == ('arrows', ['down', 'up'])
    assert {t.config.learning_rate for m in result.models for t in m.search.trials} == {0.05}
    with pytest.raises(ValueError, match='own data which this panel does not offer'):
        mc.ComparePanel(panel.folder)


def test_kept_data_that_were_exchanged_are_refused(tmp_path):
    panel = mc.ComparePanel(runs=tmp_path, workers=1, data={'sugar': numbers()})
    panel.set(**SMALL, dataset='sugar', learning_rate=[0.001, 0.01])
    panel.run()
    ended(panel)
    other = mc.ComparePanel(runs=tmp_path, workers=1, data={'photos': mc.load_data('digits')})
    other.form.data['photos'].put_into(tmp_path / 'other')
    shutil.copy(tmp_path / 'other' / DATA_FILE, panel.folder / DATA_FILE)
    panel.set(seeds=2)
    panel.resume()
    state = panel.wait(300)
    assert state.state == 'failed'
    assert 'other data than this run began with' in state.error


@pytest.mark.parametrize('name', ['recipe', 'space', 'tuning', 'data'])
def test_notes_of_earlier_releases_are_read(tmp_path, name):
    settings = check_settings(SMALL)
    del settings[name]
    note = {'state': 'stopped', 'settings': settings}
    (tmp_path / 'panel.json').write_text(json.dumps(note))
    assert read_note(tmp_path)['settings'] == check_settings(SMALL)
    assert RunState.read(tmp_path).state == 'stopped'


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({'recipe': {'optimizer': ''}}, 'optimizer is'),
        ({'recipe': {'label_smoothing': '2'}}, 'label_smoothing is 2.0'),
        ({'space': {'width': '8|8'}}, 'must stand there once'),
        ({'space': {'a b': '8'}}, 'must have the form NAME=SPEC'),
        ({'tuning': {'select': 'best'}}, "select is 'best'"),
        ({'recipe': {'init': 'os:abort'}}, "recipe has no setting 'init'"),
        ({'dataset': 'x' * 101, 'data': {'what': 'x'}}, 'at most 100 characters'),
    ],
)
def test_strange_notes_are_refused(tmp_path, settings, words):
    note = {'state': 'stopped', 'settings': SMALL | settings}
    (tmp_path / 'panel.json').write_text(json.dumps(note))
    with pytest.raises(ValueError, match='is damaged') as caught:
        read_note(tmp_path)
    assert words in str(caught.value)


def test_a_side_of_a_model_that_does_not_take_part_begins_no_run(tmp_path):
    panel = mc.ComparePanel(runs=tmp_path / 'runs')
    panel.set(**SMALL, space={'cnn:width': '8|16'})
    with pytest.raises(ValueError, match="the model of a setting is 'cnn'"):
        panel.run()
    assert not Path(tmp_path / 'runs').exists()


def test_what_the_panel_does_not_have_is_said_by_set(tmp_path):
    panel = mc.ComparePanel(runs=tmp_path, models=['./nets.py:conv'], data={'sugar': numbers()})
    for settings, words in (
        ({'dataset': 'nix'}, "'sugar'"),
        ({'models': ['conv', 'mlp']}, "Did you mean './nets.py:conv'?"),
        ({'recipe': {'optimizer': 'adamx'}}, "optimizer is 'adamx'"),
        ({'recipe': {'optimizr': 'adam'}}, 'Did you mean optimizer?'),
        ({'space': {'widht': '8|16'}}, "setting 'widht'"),
    ):
        with pytest.raises(ValueError) as caught:
            panel.set(**settings)
        assert words in str(caught.value)
    panel.set(recipe={'clip': 1, 'nesterov': True}, tuning={'cv': 3})
    assert panel.settings['recipe'] == {'clip': '1', 'nesterov': 'true'}
    assert panel.settings['tuning'] == {'cv': '3'}


@pytest.mark.parametrize('models', [{'small': len}, [len], './nets.py:conv', ['conv']])
def test_models_of_a_panel_are_names_that_can_be_imported(models):
    with pytest.raises(TypeError, match='must be a list of names that another process can import'):
        mc.ComparePanel(models=models)
