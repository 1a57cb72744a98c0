"""JupyterLab over a copy of the checkout, on this machine alone, and what its pages can do.

The functions take a Playwright page in which a notebook is open.
"""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat.v4 as v4
from checkout import BIN, REAL_MNIST, copy_checkout

WIDTHS = (1400, 700)  # of the pictures
THEMES = ('light', 'dark')
COUNT_SOUND = """window.contexts = 0;
window.AudioContext = class extends window.AudioContext { constructor(...a) { super(...a); window.contexts++; } };"""
LOCAL = re.compile(r'https?://(127\.0\.0\.1|localhost)[:/]|(data|blob|about):')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@contextmanager
def server(command, folder, log, **more):
    "A Jupyter server in a process of its own: gives its address."
    home = folder / 'jupyter'
    port = free_port()
    token = secrets.token_hex(16)
    env = (
        os.environ
        | dict(
            PATH=f'{BIN}{os.pathsep}{os.environ["PATH"]}',
            OMP_NUM_THREADS='1',
            JUPYTER_CONFIG_DIR=str(home),
            JUPYTERLAB_SETTINGS_DIR=str(home / 'settings'),
            JUPYTERLAB_WORKSPACES_DIR=str(home / 'workspaces'),
            JUPYTER_RUNTIME_DIR=str(home / 'runtime'),
            IPYTHONDIR=str(home / 'ipython'),
        )
        | more
    )
    for name in ('MNIST_CMP_QUIET', 'MPLBACKEND'):  # kernels are those of a user
        env.pop(name, None)
    if REAL_MNIST:
        env['MNIST_CMP_DATA'] = str(Path(os.environ['MNIST_CMP_DATA']).resolve())
    words = [str(w).format(port=port, token=token) for w in command]
    with open(log, 'ab') as out:
        process = subprocess.Popen(
            words, cwd=folder / 'copy' / 'nbs', env=env, stdout=out, stderr=out
        )
    try:
        for _ in range(600):
            assert process.poll() is None, f'the server ended:\n{Path(log).read_text()[-3000:]}'
            with socket.socket() as s:
                if s.connect_ex(('127.0.0.1', port)) == 0:
                    break
            time.sleep(0.2)
        yield f'http://127.0.0.1:{port}', token
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


LAB = [
    sys.executable,
    '-m',
    'jupyterlab',
    '--no-browser',
    '--ip=127.0.0.1',
    '--port={port}',
    '--IdentityProvider.token={token}',
    '--LabApp.expose_app_in_browser=True',
    '--LabApp.news_url=None',
    '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate',
    *(['--allow-root'] if hasattr(os, 'geteuid') and os.geteuid() == 0 else []),
]


class Lab:
    "A running JupyterLab over a copy of the checkout in a folder."

    def __init__(self, folder, address, token):
        self.folder = folder
        self.nbs = folder / 'copy' / 'nbs'
        self.address = address
        self.token = token
        self.new_context = None  # Playwright's, of the test that runs

    def write(self, name, *cells):
        "A notebook of some code cells in the copy."
        kernel = {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}
        nb = v4.new_notebook(
            cells=[v4.new_code_cell(c) for c in cells], metadata={'kernelspec': kernel}
        )
        (self.nbs / name).write_text(json.dumps(nb), encoding='utf-8')

    def page(self, width=1400, height=1000, dark=False):
        "A fresh page, whose `elsewhere` names what it asked for from elsewhere; it gets none of it."
        context = self.new_context(
            viewport={'width': width, 'height': height}, color_scheme='dark' if dark else 'light'
        )
        context.add_init_script(COUNT_SOUND)
        page = context.new_page()
        page.elsewhere = []

        def local(route):
            if LOCAL.match(route.request.url):
                return route.continue_()
            page.elsewhere.append(route.request.url)
            route.abort()

        context.route('**/*', local)
        page.set_default_timeout(120_000)
        return page

    def open(self, name, **how):
        "The notebook in a page of its own, its kernel ready."
        dark = how.get('dark', False)
        place = settings_of(self.folder) / 'themes.jupyterlab-settings'
        place.write_text(json.dumps({'theme': 'JupyterLab Dark' if dark else 'JupyterLab Light'}))
        page = self.page(**how)
        page.goto(f'{self.address}/doc/tree/{name}?token={self.token}&reset')
        self.ready(page)
        return page

    def ready(self, page):
        page.wait_for_function(
            """() => { const w = window.jupyterapp?.shell.currentWidget;
            return w?.context?.isReady && w.sessionContext?.session?.kernel?.status === 'idle'; }""",
            timeout=180_000,
        )

    def saved(self, page, name):
        "What the notebook holds on the disk after it was saved."
        page.evaluate('jupyterapp.shell.currentWidget.context.save()')
        return (self.nbs / name).read_text(encoding='utf-8')


def settings_of(folder):
    return folder / 'jupyter' / 'settings' / '@jupyterlab' / 'apputils-extension'


@contextmanager
def running_lab(folder):
    "A `Lab` in the folder."
    copy_checkout(folder / 'copy')
    settings = settings_of(folder)
    settings.mkdir(parents=True)
    # no question about news over the pictures
    (settings / 'notification.jupyterlab-settings').write_text('{"fetchNews": "false"}')
    with server(LAB, folder, folder / 'lab.log') as (address, token):
        yield Lab(folder, address, token)


def start_all(page):
    "Begin to run all cells."
    page.evaluate(
        "window.ran = null; jupyterapp.commands.execute('notebook:run-all-cells').then(() => { "
        'window.ran = true; }); null'
    )


def run_all(page):
    "Run all cells and wait for the last."
    start_all(page)
    return end_all(page)


def end_all(page, timeout=600):
    "Wait for the last cell; an error output is an AssertionError."
    page.wait_for_function('() => window.ran', timeout=timeout * 1000)
    page.wait_for_function(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'",
        timeout=60_000,
    )
    return no_errors(page)


CELLS = 'jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells'


def no_errors(page):
    cells = page.evaluate(CELLS)
    found = [
        f'cell {i}: {o["ename"]}: {o["evalue"]}'
        for i, c in enumerate(cells)
        for o in c.get('outputs', [])
        if o['output_type'] == 'error'
    ]
    assert not found, '\n'.join(found)
    return cells


def run_cell(page, i, timeout=120):
    "Run one cell by its place, as Shift-Enter does; gives its text output."
    page.evaluate(f'jupyterapp.shell.currentWidget.content.activeCellIndex = {i}')
    page.locator('.jp-Notebook .jp-CodeCell').nth(i).locator('.cm-content').click()
    page.keyboard.press('Shift+Enter')
    page.wait_for_function(
        f"""() => {{ const c = {CELLS}[{i}], prompt = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[{i}];
        return c.execution_count && !prompt.querySelector('.jp-InputPrompt').textContent.includes('*'); }}""",
        timeout=timeout * 1000,
    )
    cells = no_errors(page)
    return ''.join(
        ''.join(o.get('text', o.get('data', {}).get('text/plain', ''))) for o in cells[i]['outputs']
    )
