"Run All in each notebook, in JupyterLab; `-k 02_models` for one."

import json
import re
import subprocess

import pytest
from checkout import BIN, ROOT, flagged, name_of, notebooks
from lab import end_all, run_all, start_all

pytestmark = pytest.mark.browser
READ_BY_USERS = [path for path in notebooks() if re.match(r'\d|tutorials', name_of(path))]


def left_out(cell):
    "What nbdev_test leaves out, too: `eval: false`, and slow cells, which need data."
    source = ''.join(cell['source'])
    return flagged(source, r'eval:\s*false') or flagged(source, 'slow')


@pytest.fixture
def emptied(lab, request):
    "The name of a notebook in the lab, without outputs and what is left out, for one test."
    path = lab.nbs / name_of(request.param)
    whole = path.read_text(encoding='utf-8')
    nb = json.loads(whole)
    nb['cells'] = [c for c in nb['cells'] if c['cell_type'] != 'code' or not left_out(c)]
    for cell in nb['cells']:
        if cell['cell_type'] == 'code':
            cell['outputs'] = []
            cell['execution_count'] = None
    path.write_text(json.dumps(nb), encoding='utf-8')
    yield name_of(request.param)
    path.write_text(whole, encoding='utf-8')


@pytest.mark.timeout(900)
@pytest.mark.parametrize('emptied', READ_BY_USERS, ids=name_of, indirect=True)
def test_run_all(lab, emptied):
    page = lab.open(emptied)
    start_all(page)
    cells = end_all(page)
    assert any(c.get('execution_count') for c in cells), 'no cell was run'
    page.evaluate('jupyterapp.shell.currentWidget.sessionContext.shutdown()')


def test_a_notebook_that_was_saved_by_jupyterlab_is_clean_again(lab):
    "A notebook that was run and saved by JupyterLab is, after nbdev_clean, the file that it was."
    name = '02_models.ipynb'
    page = lab.open(name)
    run_all(page)
    saved = lab.saved(page, name)
    page.context.close()
    before = (ROOT / 'nbs' / name).read_text(encoding='utf-8')
    assert saved != before, 'nothing was saved'
    subprocess.run([BIN / 'nbdev_clean', '--fname', lab.nbs / name], cwd=lab.nbs.parent, check=True)
    assert (lab.nbs / name).read_text(encoding='utf-8') == before, (
        'nbdev_clean leaves another file than there was'
    )
