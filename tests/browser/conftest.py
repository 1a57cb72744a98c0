"""Chromium, the one that $CHROMIUM names or the system's, and a JupyterLab to look at.

What is missing is installed from the system's packages; where that can't be done the tests are
skipped, and say so.
"""

import os
import shutil
import subprocess

import pytest
from filelock import FileLock
from lab import running_lab


def find_chromium():
    names = ('chromium', 'chromium-browser', 'google-chrome')
    return os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, names)), None)


def install_chromium():
    "Debian's or Ubuntu's package."
    if not shutil.which('apt-get'):
        pytest.skip('there is no Chromium and no apt-get; name one in CHROMIUM')
    sudo = [] if os.geteuid() == 0 else ['sudo', '-n']
    for words in (['update'], ['-y', 'install', 'chromium']):
        command = [*sudo, 'apt-get', '-qq', *words]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f'apt-get {words[-1]} failed: {done.stderr.strip()[-300:]}')


@pytest.fixture(scope='session')
def chromium(tmp_path_factory):
    "Path of Chromium."
    with FileLock(tmp_path_factory.getbasetemp().parent / 'chromium.lock'):
        if not find_chromium():
            install_chromium()
    return find_chromium() or pytest.skip('apt-get installed no Chromium')


@pytest.fixture(scope='session')
def browser_type_launch_args(browser_type_launch_args, chromium):
    "pytest-playwright starts this browser, and not one of its own."
    return browser_type_launch_args | {
        'executable_path': chromium,
        'args': ['--no-sandbox', '--disable-gpu'],
    }


@pytest.fixture(scope='session')
def one_lab(tmp_path_factory, browser):  # no browser, no lab
    with running_lab(tmp_path_factory.mktemp('lab')) as lab:
        yield lab


@pytest.fixture
def lab(one_lab, new_context):
    "JupyterLab, whose pages are closed when the test ends."
    one_lab.new_context = new_context
    yield one_lab
    one_lab.new_context = None


def shrink(folder):
    "Fewer colours in the pictures: a quarter of the bytes."
    from PIL import Image

    for path in folder.glob('*.png'):
        with Image.open(path) as picture:
            small = picture.convert('RGB').quantize(256, dither=Image.Dither.NONE)
        small.save(path, optimize=True)


@pytest.fixture
def pictures(pytestconfig):
    "The folder that --pictures names, or None."
    folder = pytestconfig.getoption('pictures')
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    yield folder
    if folder:
        shrink(folder)
