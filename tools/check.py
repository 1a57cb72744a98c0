"""All tests but those in a browser (tools/browser.py), each with its seconds: `make test`.

Exporting, cleaning and building are done in a copy, so that nothing here changes a file of
yours. Where MNIST_CMP_DATA is a folder, with the real MNIST in it, the notebooks' `#| slow`
cells run too.
"""

import ast
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent  # the commands of the environment that runs this file
OWN = {'__init__', '__main__', '_modidx'}  # modules that no notebook exports
ENV = {
    name: value
    for name, value in os.environ.items()
    if name not in ('IN_TEST', 'PYTHONPATH', 'MNIST_CMP_DATA')
}
ENV.update(PATH=f'{BIN}{os.pathsep}{os.environ["PATH"]}', OMP_NUM_THREADS='1', MNIST_CMP_QUIET='1')
if REAL_MNIST := Path(os.environ.get('MNIST_CMP_DATA') or ROOT / 'nowhere').is_dir():
    ENV['MNIST_CMP_DATA'] = str(Path(os.environ['MNIST_CMP_DATA']).resolve())

IMPORT_TIME = """import sys, time; start = time.perf_counter(); import mnist_cmp; print(time.perf_counter() - start)
assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules), 'import mnist_cmp alone loads a large package'"""
EVERY_NAME = """from mnist_cmp import *
import mnist_cmp, pathlib
for name in [*mnist_cmp.__all__, *mnist_cmp._rooms]: getattr(mnist_cmp, name)
assert (pathlib.Path(mnist_cmp.__file__).parent/'py.typed').exists(), 'py.typed is missing'"""
TYPED = """from typing import assert_type
import mnist_cmp as mc
found = mc.compare(['mlp', lambda: mc.MLP(8, 8)], 'digits', n_trials=4, store='runs/x')
assert_type(found, mc.Comparison)
assert_type(found.best.runs[0].history.last.train_accuracy, float)
assert_type(found['mlp'].search.best.config.batch_size, int)
assert_type(mc.verdict(found), str)
data = mc.Data.from_arrays([[0]], [0], [[0]], [0])
assert_type(mc.train(mc.initialise(mc.MLP), data.train, data.valid, mc.Recipe(.1, 8, 1)), mc.History)
assert_type(mc.tune('cnn', data.train, data.test, recipe=mc.Recipe(epochs=3)).best.accuracy, float)
mc.compare(n_trials='four')   # type: ignore[arg-type]
mc.compare(n_trails=4)   # type: ignore[call-arg]
mc.comapre()   # type: ignore[attr-defined]"""
SAME = """from functools import partial
import hashlib, mnist_cmp as mc
from safetensors.torch import save
data, make = mc.load_data('digits'), partial(mc.CNNClassifier, 8)
few = data.train[:200], data.valid[:100]
print([(t.loss, t.accuracy) for t in mc.tune(make, *few, n_trials=3, recipe=mc.Recipe(epochs=1), compute=mc.Compute(workers={workers})).trials])
print([hashlib.sha256(save(run.weights)).hexdigest() for run in mc.retrain(make, *few, mc.Recipe(.1, 16, 2), seeds=2, compute=mc.Compute(workers={workers}))])"""
BARE = """import sys, mnist_cmp, importlib.util
assert mnist_cmp.__file__.startswith(sys.prefix), f'{mnist_cmp.__file__} is not the installed package'
assert not importlib.util.find_spec('nbdev'), 'nbdev was installed with the package'"""


def run(*command, cwd=ROOT):
    """Run the command and return what it printed; a failure raises AssertionError with the end
    of its output."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=ENV,
        text=True,
        errors='replace',
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    end = '\n'.join(done.stdout.splitlines()[-60:])
    assert done.returncode == 0, f'{command[0]} ended with {done.returncode}:\n{end}'
    return done.stdout


def copy_checkout(to):
    "A copy without what git ignores."
    ignored = [
        line.strip()
        for line in (ROOT / '.gitignore').read_text().splitlines()
        if line and line[0] != '#'
    ]
    shutil.copytree(ROOT, to, symlinks=True, ignore=shutil.ignore_patterns('.git', *ignored))
    return to


def contents(folder, pattern):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob(pattern)
    }


def unchanged(before, after, remedy):
    differ = sorted(name for name in before | after if before.get(name) != after.get(name))
    assert not differ, f'{", ".join(differ)}: run `{remedy}`'


def notebooks():
    return [
        path
        for path in sorted((ROOT / 'nbs').rglob('*.ipynb'))
        if not path.parent.name.startswith('.')
    ]


def code_cells(path):
    "`(cell, source)` of each code cell."
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [(cell, ''.join(cell['source'])) for cell in cells if cell['cell_type'] == 'code']


def flagged(source, flag):
    return re.search(rf'^#\|\s*{flag}', source, re.M)


def modules_in_sync(copy):
    before = contents(copy / 'mnist_cmp', '*.py')
    for name in before.keys() - {f'{own}.py' for own in OWN - {'_modidx'}}:
        (copy / 'mnist_cmp' / name).unlink()
    run('nbdev_export', cwd=copy)
    unchanged(before, contents(copy / 'mnist_cmp', '*.py'), 'nbdev_export')


def notebooks_clean(copy):
    before = contents(copy / 'nbs', '*.ipynb')
    run('nbdev_clean', cwd=copy)
    unchanged(before, contents(copy / 'nbs', '*.ipynb'), 'nbdev_clean')


def notebooks_small():
    found = [
        f'{path.name}: widget state'
        for path in notebooks()
        if '"widgets": {' in path.read_text(encoding='utf-8')
    ]
    for path in notebooks():
        for number, (cell, _) in enumerate(code_cells(path), 1):
            place = f'{path.name}, code cell {number}'
            for output in cell['outputs']:
                sizes = {mime: len(''.join(data)) for mime, data in output.get('data', {}).items()}
                if output['output_type'] == 'error':
                    found.append(f'{place}: an error')
                if any('widget' in mime for mime in sizes):
                    found.append(f'{place}: a widget')
                if any(
                    mime.startswith('image/') and size * 3 / 4 > 90_000
                    for mime, size in sizes.items()
                ):
                    found.append(f'{place}: an image over 90 kB')
    assert not found, '\n'.join(found)


def imported(path):
    """Dotted names of all that a module imports, `mnist_cmp.core.check_int` for `from .core
    import check_int`."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = '.'.join(filter(None, ['mnist_cmp' if node.level else '', node.module]))
            yield from (f'{base}.{alias.name}' for alias in node.names)


def rooms_in_order():
    "The notebooks' numbers give the order; a module imports only modules of lower number."
    rooms = [
        path.stem.partition('_')[2]
        for path in sorted((ROOT / 'nbs').glob('[0-9]*_*.ipynb'))
        # the others are prose on what there is
        if any('default_exp' in source for _, source in code_cells(path))
    ]
    modules = {
        path.stem: path for path in (ROOT / 'mnist_cmp').glob('*.py') if path.stem not in OWN
    }
    found = [
        f'{name}: a module without a notebook, or the other way round'
        for name in set(rooms) ^ set(modules)
    ]
    for position, room in enumerate(rooms):
        allowed = {*rooms[:position], '__version__'}
        for name in imported(modules[room]) if room in modules else ():
            package, _, rest = name.partition('.')
            if package == 'mnist_cmp' and rest.split('.')[0] not in allowed:
                found.append(f'{room} imports {name}')
            if (
                re.match(r'ipywidgets|IPython\.display\.Audio', name)
                and 'controls' in rooms[position + 1 :]
            ):
                found.append(
                    f'{room} imports {name}, which only controls and the rooms after it may'
                )
    assert not found, '\n'.join(found)


def sidebar_is_complete():
    sidebar = (ROOT / '_quarto.yml').read_text(encoding='utf-8').partition('  sidebar:')[2]
    missing = [
        name
        for path in notebooks()
        if (name := path.relative_to(ROOT / 'nbs').as_posix()) not in sidebar
    ]
    assert not missing, f'_quarto.yml: the sidebar lacks {", ".join(missing)}'


def site_builds(copy):
    """The site as Sphinx renders it, without a warning, without a dead link, with every page of
    the sidebar."""
    run(sys.executable, 'tools/site/build.py', '--sphinx', cwd=copy)
    run(sys.executable, 'tools/site/links.py', cwd=copy)


def types_check():
    """The stub is that of the package, and a type checker takes right uses of it and refuses
    wrong ones."""
    run(sys.executable, 'tools/stubs.py', '--check')
    with tempfile.TemporaryDirectory() as folder:
        uses = Path(folder) / 'uses.py'
        uses.write_text(TYPED)
        run(
            sys.executable,
            '-m',
            'mypy',
            '--follow-imports=skip',
            '--warn-unused-ignores',
            '--cache-dir',
            folder,
            ROOT / 'mnist_cmp' / '__init__.pyi',
            uses,
        )


def code_is_in_style(copy):
    "What ruff.toml asks: of the notebooks, and of the files written by hand."
    run(sys.executable, '-m', 'ruff', 'check', '--no-cache', cwd=copy)
    run(sys.executable, '-m', 'ruff', 'format', '--check', '--no-cache', cwd=copy)


def import_is_light():
    seconds = statistics.median(float(run(sys.executable, '-c', IMPORT_TIME)) for _ in range(5))
    assert seconds < 0.3, f'import mnist_cmp takes {seconds:.2f} s'


def no_machine_paths(copy):
    pattern = re.compile(rf'(?<![\w.-])(?:/(?:home|Users|root|tmp)/\w|{re.escape(str(ROOT))}\b)')
    files = [path for path in sorted(copy.rglob('*')) if path.is_file()]
    found = [
        path.relative_to(copy).as_posix()
        for path in files
        if pattern.search(path.read_text(encoding='utf-8', errors='ignore'))
    ]
    assert not found, f'a path of one machine stands in {", ".join(found)}'


def package_installs(copy):
    """sdist, wheel from that sdist, and that wheel in an environment with its declared
    dependencies alone."""
    work = copy.parent
    run(sys.executable, '-m', 'build', '--outdir', work / 'dist', copy, cwd=work)
    run(sys.executable, '-m', 'twine', 'check', '--strict', *(work / 'dist').iterdir(), cwd=work)
    venv.create(work / 'bare', with_pip=True)
    bare = work / 'bare' / BIN.name
    (wheel,) = (work / 'dist').glob('*.whl')
    run(
        bare / 'python',
        '-m',
        'pip',
        'install',
        '--no-compile',
        '-c',
        ROOT / 'constraints.txt',
        wheel,
        cwd=work,
    )
    for code in (BARE, EVERY_NAME):
        run(bare / 'python', '-c', code, cwd=work)
    run(bare / 'mnist_cmp', '--help', cwd=work)
    run(bare / 'python', '-m', 'mnist_cmp', '--version', cwd=work)


class Skipped(Exception):
    "A check that can't be made here, and why."


skips = []  # why, one for each check or part of one that was not made


def skip(name, why):
    "Say and count that something is not tested here."
    skips.append(why)
    print(f'skipped   {name}: {why}', flush=True)


def notebook_passes(path):
    out = run(sys.executable, 'tools/test_notebook.py', path, *(['--slow'] if REAL_MNIST else []))
    assert 'Success.' in out, f'it was not run:\n{out}'
    for why in re.findall(r'^SKIPPED .*?: (.*)', out, re.M):
        skip(path.relative_to(ROOT), why)
    if not REAL_MNIST and any(flagged(source, 'slow') for _, source in code_cells(path)):
        skip(path.relative_to(ROOT), 'its real-MNIST cells; MNIST_CMP_DATA is no folder')


def pytest_passes():
    "The tests in tests/; gives how many passed, failed and were skipped."
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-rsfE', '-m', 'not soak'],
        cwd=ROOT,
        env=ENV,
        text=True,
        errors='replace',
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    lines = done.stdout.splitlines() or ['']
    found = {
        what: int(n) for n, what in re.findall(r'(\d+) (passed|failed|error|skipped)', lines[-1])
    }
    # also if it could not begin
    failed = found.get('failed', 0) + found.get('error', 0) or int(done.returncode != 0)
    shown = [line for line in lines if line.startswith(('SKIPPED', 'FAILED', 'ERROR'))]
    if failed:  # the names first, since logs are often shown cut
        shown += lines[-400:]
    print(
        f'{"FAILED" if failed else "ok":6} {time.perf_counter() - start:6.1f} s  pytest: '
        f'{lines[-1].strip("= ")}',
        flush=True,
    )
    for line in shown:
        print(f'    {line}', flush=True)
    return found.get('passed', 0), failed, found.get('skipped', 0)


def runs_survive():
    if sys.platform != 'linux':
        raise Skipped('it needs Linux')
    print(
        '    '
        + run(sys.executable, 'tools/soak.py', 'search', 'comparison', 'disk', '--kills', 4)
        .strip()
        .replace('\n', '\n    ')
    )


def refuses_oddities():
    "A short round of odd arguments and damaged files, always the same."
    if sys.platform != 'linux':
        raise Skipped('it needs Linux')
    print(
        '    '
        + run(sys.executable, 'tools/fuzz.py', '--examples', 15, '--mutations', 900)
        .strip()
        .replace('\n', '\n    ')
    )


def nothing_foreign_runs():
    """What bandit finds, but for what is so on purpose: B404, B603, B607: processes are started,
    from lists of words and without a shell, one of them `git`; B301, B403: a run's own processes
    talk in pickles, through pipes that nobody else has; B608: the ledger's SQL is put together
    from its own columns' names, values go in as `?`."""
    run(
        sys.executable,
        '-m',
        'bandit',
        '-q',
        '-r',
        'mnist_cmp',
        '--skip',
        'B301,B403,B404,B603,B607,B608',
    )
    # asserts and chance are tests'
    run(
        sys.executable,
        '-m',
        'bandit',
        '-q',
        '-r',
        'tools',
        'benchmarks',
        '--skip',
        'B101,B311,B404,B603,B607,B608',
    )


def servers_stay_here():
    "The commands that serve listen on this machine alone, with a token where code can be run."
    made = (ROOT / 'Makefile').read_text(encoding='utf-8')
    for command, needed in (
        ('http.server', '--bind 127.0.0.1'),
        ('jupyter lab', '--ip=127.0.0.1'),
        ('voila app', '--Voila.auto_token=True'),
    ):
        (line,) = [line for line in made.splitlines() if command in line]
        assert needed in line, f'Makefile: {command} without {needed}'
    settings = json.loads((ROOT / 'nbs' / 'voila.json').read_text(encoding='utf-8'))
    assert settings['Voila']['ip'] == '127.0.0.1' and not re.search(
        r'token=[\'"]{2}|--ip=(?!127)', made
    ), 'a server is open to others'


def same_everywhere():
    """The same search in other processes, with other hash seeds and numbers of workers, gives
    the same numbers."""

    def numbers(workers, hash_seed):
        done = subprocess.run(
            [sys.executable, '-c', SAME.format(workers=workers)],
            env=ENV | {'PYTHONHASHSEED': hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    found = {numbers(*how) for how in ((1, '0'), (2, '1'), (2, 'random'))}
    assert len(found) == 1, f'{len(found)} different results of one search'


def check(name, function, *args):
    "Run one check, print its line, and return whether it passed; None if it was skipped."
    start = time.perf_counter()
    problem = None
    try:
        function(*args)
    except Skipped as error:
        return skip(name, str(error))
    except Exception as error:
        problem = str(error) if isinstance(error, AssertionError) else repr(error)
    print(
        f'{"FAILED" if problem else "ok":6} {time.perf_counter() - start:6.1f} s  {name}',
        flush=True,
    )
    if problem:
        print('    ' + problem.replace('\n', '\n    '), flush=True)
    return problem is None


def hear_signals():
    """Where a parent had signals ignored, as `nohup` does, have them heard again: tests send
    them to what they start."""
    for name in ('SIGINT', 'SIGHUP', 'SIGTERM'):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(
                number, signal.default_int_handler if name == 'SIGINT' else signal.SIG_DFL
            )


def main():
    hear_signals()
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_checkout(Path(folder) / 'copy')
        passed = [
            check('no path of one machine', no_machine_paths, copy),
            check('modules in sync with notebooks', modules_in_sync, copy),
            check('notebooks clean', notebooks_clean, copy),
            check('notebooks small, without errors and widgets', notebooks_small),
            check('notebooks and files in style (ruff)', code_is_in_style, copy),
            check('rooms import only rooms above', rooms_in_order),
            check('sidebar has every notebook', sidebar_is_complete),
            check('site builds without a warning or a dead link', site_builds, copy),
            check('README is index.ipynb', run, sys.executable, 'tools/readme.py', '--check'),
            check('types of the public names', types_check),
            check('import mnist_cmp in under 0.3 s', import_is_light),
            check('nothing foreign is run (bandit)', nothing_foreign_runs),
            check('servers listen on this machine alone', servers_stay_here),
            check('every public name resolves', run, sys.executable, '-c', EVERY_NAME),
        ]
        jobs = [('package builds and installs in a bare environment', package_installs, copy)]
        jobs += [('odd arguments and damaged files are refused', refuses_oddities)]
        jobs += [('same numbers in other processes', same_everywhere)]
        jobs += [('search and comparison survive kills, Ctrl-C and a full disk', runs_survive)]
        jobs += [
            (f'notebook {path.relative_to(ROOT)}', notebook_passes, path)
            for path in reversed(notebooks())
        ]
        with ThreadPoolExecutor(2) as pool:
            tests = pool.submit(pytest_passes)
            passed += pool.map(lambda job: check(*job), jobs)
        tests = tests.result()
    counts = passed.count(True) + tests[0], passed.count(False) + tests[1], len(skips) + tests[2]
    print('{} passed, {} failed, {} skipped'.format(*counts))
    return 0 if not counts[1] else 1


if __name__ == '__main__':
    sys.exit(main())
