"""Each notebook as a test, as nbdev_test runs it; `-k 02_models` for one.

Where MNIST_CMP_DATA is a folder, with the real MNIST in it, the `#| slow` cells run too.
"""

import re

import pytest
from checkout import REAL_MNIST, code_cells, flagged, name_of, notebooks, output_of_python

SLOW = 'its real-MNIST cells; MNIST_CMP_DATA is no folder'


@pytest.mark.slow
@pytest.mark.timeout(1800)  # on a busy machine some take ten minutes
@pytest.mark.parametrize('path', notebooks(), ids=name_of)
def test_notebook(path, subtests, tmp_path):
    options = ['--slow'] if REAL_MNIST else []
    out = output_of_python('tools/test_notebook.py', path, *options, TMPDIR=str(tmp_path))
    assert 'Success.' in out, f'it was not run:\n{out}'
    skipped = re.findall(r'^SKIPPED .*?: (.*)', out, re.M)
    if not REAL_MNIST and any(flagged(source, 'slow') for _, source in code_cells(path)):
        skipped.append(SLOW)
    for why in skipped:
        with subtests.test(why):
            pytest.skip(why)
