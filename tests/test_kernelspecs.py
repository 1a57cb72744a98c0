"Each notebook names its kernel, so that JupyterLab asks for none and colours the code."

import json
import re

import pytest
from checkout import ROOT

KERNEL = {'display_name': 'python3', 'language': 'python', 'name': 'python3'}
NOTEBOOKS = sorted(
    path
    for path in (ROOT / 'nbs').rglob('*.ipynb')
    if not any(part.startswith(('.', '_')) for part in path.relative_to(ROOT).parts)
)


def metadata(path):
    return json.loads(path.read_text(encoding='utf-8'))['metadata']


def test_all_are_looked_at():
    names = {path.relative_to(ROOT / 'nbs').as_posix() for path in NOTEBOOKS}
    rooms = set()
    for path in (ROOT / 'mnist_cmp').rglob('*.py'):
        made = re.search(
            r'File to edit: (?:\.\./)+nbs/(\S+\.ipynb)', path.read_text(encoding='utf-8')
        )
        if made:
            rooms.add(made[1])
    assert rooms, 'no module says which notebook it comes from'
    assert names >= rooms | {'app.ipynb', 'index.ipynb', 'tutorials/the_fair_comparison.ipynb'}


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_kernel_is_named(path):
    "No more than that: versions and filters, which editors write there, differ between people."
    assert metadata(path) == {'kernelspec': KERNEL}


def test_cleaning_keeps_the_kernel_and_drops_the_rest():
    "What JupyterLab saves becomes, by `nbdev_clean` with our settings, what stands in the files."
    from nbdev.clean import _nbdev_clean

    saved = {
        'kernelspec': {**KERNEL, 'display_name': 'Python 3 (ipykernel)'},
        'language_info': {'name': 'python', 'version': '3.11.2'},
    }
    nb = {'cells': [], 'metadata': saved, 'nbformat': 4, 'nbformat_minor': 5}
    _nbdev_clean(nb)
    assert nb['metadata'] == {'kernelspec': KERNEL}
