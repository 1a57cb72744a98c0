"""Execute notebooks in place, so that their saved outputs are fresh: `python tools/execute.py
nbs/01_data.ipynb …`.

Cells marked `#| eval: false` are left alone. Cells marked `#| slow` need the real MNIST
(`MNIST_CMP_DATA`): without it they keep their old outputs.
"""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def skipped(source, has_mnist):
    flags = re.findall(r'^#\|\s*(.+?)\s*$', source, re.M)
    return 'eval: false' in flags or ('slow' in flags and not has_mnist)


def placeless(text):
    "A text of an output without the names of temporary files and folders, which differ each time."
    place = re.escape(os.path.join(tempfile.gettempdir(), ''))
    text = re.sub(rf'{place}ipykernel_\d+/\d+\.py', 'cell', text)
    return re.sub(rf'{place}tmp\w{{8}}', 'FOLDER', text)


def joined(outputs):
    """The outputs of a cell, texts of one stream that follow each other as one: into how many
    pieces they come is chance, and JupyterLab saves one."""
    whole = []
    for output in outputs:
        before = whole[-1] if whole else {}
        if output.output_type == 'stream' and before.get('name') == output.name:
            before['text'] += output.text
        else:
            whole.append(output)
    return whole


def execute(path, has_mnist):
    """Run the cells of the notebook at `path` in order and save their outputs; raise at the
    first error."""
    nb = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    client = NotebookClient(
        nb,
        timeout=3600,
        kernel_name='python3',
        resources={'metadata': {'path': str(path.parent)}},
        store_widget_state=False,
    )
    with client.setup_kernel():
        for i, cell in enumerate(nb.cells):
            if cell.cell_type == 'code' and not skipped(cell.source, has_mnist):
                client.execute_cell(cell, i)
    for cell in nb.cells:
        if cell.cell_type == 'code':
            cell.outputs = joined(cell.outputs)
    for output in (output for cell in nb.cells for output in cell.get('outputs', [])):
        # dead without its kernel
        output.get('data', {}).pop('application/vnd.jupyter.widget-view+json', None)
    # pandas draws a new id for each styled table: a change that is none
    for i, cell in enumerate(nb.cells):
        for data in (o.data for o in cell.get('outputs', []) if 'text/html' in o.get('data', {})):
            data['text/html'] = re.sub(
                r'\bT_[0-9a-f]{5}(?=[_"# ])', f'T_cell{i}', data['text/html']
            )
    for output in (output for cell in nb.cells for output in cell.get('outputs', [])):
        if 'text' in output:
            output['text'] = placeless(output['text'])
    nbformat.write(nb, path)
    print(f'{path}: {time.perf_counter() - start:.1f} s', flush=True)


def main(paths):
    os.environ.update(MNIST_CMP_QUIET='1', OMP_NUM_THREADS=os.environ.get('OMP_NUM_THREADS', '1'))
    has_mnist = bool(os.environ.get('MNIST_CMP_DATA'))
    if has_mnist:
        os.environ['MNIST_CMP_DATA'] = str(Path(os.environ['MNIST_CMP_DATA']).resolve())
    for path in paths or sorted(Path('nbs').rglob('*.ipynb')):
        if '.ipynb_checkpoints' in str(path):
            continue
        try:
            execute(Path(path), has_mnist)
        except CellExecutionError as e:
            sys.exit(f'{path}: {e}')


if __name__ == '__main__':
    main(sys.argv[1:])
