"In a terminal, however narrow, no line breaks inside a word or a number, and the bar stays a bar."

import os
import re
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import ROOT

import mnist_cmp as mc
from mnist_cmp import cli, report
from mnist_cmp.core import display

fcntl = pytest.importorskip('fcntl')
pty = pytest.importorskip('pty')
termios = pytest.importorskip('termios')

WIDTHS = range(40, 201)
TIED = r'(?<=\d) (?=%|(s|ms|min|h|points|epochs|seeds|trials|images)\b)|(?<=±) | (?=± )'
UNITS = '%', 's', 'ms', 'min', 'h', 'points', 'epochs', 'seeds', 'trials', 'images'


class Terminal:
    "A pseudo-terminal, and all that was written to it."

    def __init__(self, width):
        self.end, self.slave = pty.openpty()
        self.resize(width)
        self.content = b''
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def resize(self, width):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack('HHHH', 50, width, 0, 0))

    def read(self):
        while True:
            try:
                new = os.read(self.end, 65536)
            except OSError:  # the other side is closed
                return
            if not new:
                return
            self.content += new

    def close(self):
        "Close it; gives what was written."
        os.close(self.slave)
        self.reader.join(30)
        os.close(self.end)
        return self.content.decode()


@pytest.fixture(scope='module')
def found():
    return mc.Comparison.load(ROOT / 'nbs' / 'results' / 'digits')


def check_lines(lines, original, width):
    "Each line fits, unless it is one word; all words are whole; no number is parted from its unit."
    words = original.split()
    assert [word for line in lines for word in line.split()] == words
    for line in lines:
        tied = re.sub(TIED, '', line)
        assert display.text_width(line) <= width or ' ' not in tied, (width, line)
        assert not line.startswith('±') and not line.endswith(('±', '−')), (width, line)
    for line, following in zip(lines, lines[1:]):
        is_number = line[-1].isdigit() and original[original.index(line) + len(line)] == ' '
        is_unit = following.split()[0].rstrip('.,') in UNITS
        assert not (is_number and is_unit), (width, line, following)


def test_result_at_each_width(found, monkeypatch):
    path = '/a/path/that/is/longer/than/the/narrowest/of/them/report.html'
    text = f'{report.verdict(found)}\nReport: {path}'
    for width in WIDTHS:
        terminal = Terminal(width)
        with os.fdopen(os.dup(terminal.slave), 'w', encoding='utf-8') as stream:
            monkeypatch.setattr(sys, 'stdout', stream)
            cli._Printer()(text)
            monkeypatch.undo()
        lines = terminal.close().replace('\r\n', '\n').splitlines()
        check_lines(lines, text, width)


def test_a_pipe_gets_whole_lines(found, tmp_path, monkeypatch):
    text = report.verdict(found)
    with open(tmp_path / 'out', 'w', encoding='utf-8') as stream:
        monkeypatch.setattr(sys, 'stdout', stream)
        cli._Printer()(text)
        monkeypatch.undo()
    assert (tmp_path / 'out').read_text(encoding='utf-8') == text + '\n'


def test_errors_warnings_and_the_command_to_go_on(monkeypatch):
    argv = ['--models', 'mlp,deep_mlp', '--learning_rate', '0.001,0.1', '--out', 'runs/x y']
    command = cli._resume_command(argv, None)
    for width in WIDTHS:
        terminal = Terminal(width)
        with os.fdopen(os.dup(terminal.slave), 'w', encoding='utf-8') as stream:
            monkeypatch.setattr(sys, 'stderr', stream)
            cli._complain(
                'mnist_cmp: There is no Dask scheduler at tcp://127.0.0.1:9 '
                '(it did not answer in 10 s).'
            )
            display.tell('costs/mlp.json is damaged (no JSON). What it held is measured again.')
            cli._complain(f'  {cli._resume_command(argv, None, cli._room())}')
            monkeypatch.undo()
        shown = terminal.close().replace('\r\n', '\n')
        assert max(map(display.text_width, shown.splitlines())) <= width
        assert shown[shown.index('  mnist_cmp') :].replace('\\\n', '').split() == command.split()


def test_help_at_each_width(monkeypatch):
    monkeypatch.setenv('COLUMNS', '1000')
    words = {*re.split(r'[\s\[\],{}()]+', cli._parser().format_help())}
    for width in WIDTHS:
        monkeypatch.setenv('COLUMNS', str(width))
        text = cli._parser().format_help()
        assert max(map(len, text.splitlines())) <= width
        new = {*re.split(r'[\s\[\],{}()]+', text)} - words
        assert {word for word in new if not word.isupper()} == set(), width


def test_choices_are_named_at_each_width(monkeypatch):
    for width in WIDTHS:
        monkeypatch.setenv('COLUMNS', str(width))
        said = re.split(r'\W+', cli._parser().format_help())
        for action in cli._parser()._actions:
            assert {*map(str, action.choices or ())} <= {*said}, (width, action.dest)


def renamed(found, *names):
    return replace(
        found,
        pictures={},
        models=[replace(c, name=name) for c, name in zip(found.models, names)],
    )


LONG = 'a_model_of_mine_with_a_name_that_is_wide_and_long'
ALIKE = [
    (f'{LONG}_a', f'{LONG}_b'),
    ('網' * 30 + 'a', '網' * 30 + 'b'),
    (f'a_{LONG}', f'b_{LONG}'),
    (f'{LONG}_a_{LONG}', f'{LONG}_b_{LONG}'),
]


@pytest.mark.parametrize('names', ALIKE)
def test_long_names_stay_apart_at_each_width(found, names):
    models = renamed(found, *names)
    for width in WIDTHS:
        text = report.narrow_summary(models, width)
        heads = [line.split() for line in text.splitlines() if line.startswith(' ')]
        heads = [word for line in heads for word in line]
        assert len(heads) == len(set(heads)) == 2, (width, heads)
        table, _, below = text.partition(f'\n\n{heads[0]} is ')
        assert max(map(display.text_width, table.splitlines())) <= width
        if heads != list(names):
            assert f'{heads[0]} is {below}' == '\n'.join(
                f'{head} is {name}' for head, name in zip(heads, names) if head != name
            )


@pytest.mark.parametrize('width,is_narrow', [(100, False), (80, False), (70, True)])
def test_long_names_do_not_make_a_table_narrow(found, tmp_path, monkeypatch, width, is_narrow):
    models = renamed(found, *ALIKE[3])
    monkeypatch.setattr('mnist_cmp.comparison.compare', lambda *args, **kwargs: models)
    monkeypatch.setattr('mnist_cmp.report.write_report', lambda *args: 'report.html')
    monkeypatch.setattr(cli, 'terminal_width', lambda stream: width)
    said = []
    args = cli._parser().parse_args(['--quiet'])
    cli.run(args, tmp_path / 'out', said.append)
    table = report.narrow_summary(models, width) if is_narrow else report.summary(models)
    assert said[0].startswith(f'\n{table}\n\n')


def test_table_at_each_width(found):
    for width in range(30, 201):
        lines = report.narrow_summary(found, width).splitlines()
        assert max(map(display.text_width, lines)) <= width
    words = {*report.summary(found).split(), *found.names}
    assert {*report.narrow_summary(found, 40).split()} <= words


# ---- the bar


def drawn(width, encoding='utf-8', desc='deep_mlp: search', note='best 93.00% at 0.0440, 22'):
    "Each state of a bar's line in a terminal that gets wider by ten columns in its midst."
    terminal = Terminal(width)
    code = (
        'import sys, time, os; from mnist_cmp.core.display import Progress\n'
        f'with Progress(20, {desc!r}) as bar:\n    for i in range(20):\n'
        f'        time.sleep(.06); bar.update(note={note!r})\n'
        '        if i == 9: print("half", flush=True); sys.stdin.readline()\n'
    )
    environment = os.environ | dict(PYTHONIOENCODING=encoding, TERM='xterm')
    environment.pop('MNIST_CMP_QUIET', None)
    process = subprocess.Popen(
        [sys.executable, '-c', code],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=terminal.slave,
    )
    process.stdout.readline()
    time.sleep(0.3)
    before = len(terminal.content)
    terminal.resize(width + 10)
    process.communicate('\n', timeout=60)
    assert process.returncode == 0
    terminal.close()
    parts = terminal.content[:before], terminal.content[before:]
    return [
        [line.rstrip() for line in re.split(r'[\r\n]+', part.decode(encoding)) if line.strip()]
        for part in parts
    ]


@pytest.mark.parametrize('width', [40, 60, 80, 120, 200])
def test_bar_keeps_its_width(width):
    before, after = drawn(width)
    assert len(before) > 3 and len(after) > 3
    for lines, room in (before, width), (after, width + 10):
        for line in lines:
            assert display.text_width(line) < room
            assert line.startswith('deep_mlp: search ') and re.search(r' \d+/20\b', line), line
    done = re.search('[█▏▎▍▌▋▊▉]+', after[-1])[0]
    assert len(done) >= 10, after[-1]
    assert max(map(display.text_width, after)) > width  # it has grown
    assert ('best 93.00% at 0.0440' in before[-1]) == (width >= 80), before[-1]


def test_bar_without_signs_for_it():
    for lines in drawn(40, 'ascii', desc='a_model_of_a_long_name_indeed: search'):
        for line in lines:
            assert line.isascii() and len(line) < 50 and '... ' in line, line
        assert re.search('#{4,}', lines[-1])


# ---- whole runs

RUN = """import sys
from mnist_cmp import cli, comparison
from tiny import known_costs
comparison.measure_costs = known_costs
sys.exit(cli.main(sys.argv[1:]))"""
SMALL = [
    '--models',
    'mlp,deep_mlp',
    '--n_trials',
    '2',
    '--seeds',
    '2',
    '--search_epochs',
    '1',
    '--epochs',
    '1',
    '--workers',
    '1',
    '--out',
    'run',
]


def run_in(terminal, folder, **environment):
    environment = os.environ | dict(TERM='xterm', PYTHONIOENCODING='utf-8') | environment
    environment.pop('MNIST_CMP_QUIET', None)
    package = Path(mc.__file__).parent.parent
    tests = Path(__file__).parent
    environment['PYTHONPATH'] = os.pathsep.join([str(package), str(tests)])
    done = subprocess.run(
        [sys.executable, '-c', RUN, *SMALL],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=terminal.slave,
        stderr=terminal.slave,
        timeout=300,
    )
    assert done.returncode == 0, terminal.content.decode()
    return terminal.close()


def test_run_in_a_narrow_terminal(tmp_path):
    text = run_in(Terminal(40), tmp_path)
    assert '\x1b' not in text.replace('\x1b[A', ''), 'colours, or movements of the cursor'
    for line in re.split(r'[\r\n]+', text):
        assert display.text_width(line.rstrip()) <= 40, line
    bars = [line for line in text.split('\r') if '/2' in line]
    assert any(line.startswith('mlp: search ') for line in bars)
    assert any(line.startswith('deep_mlp: trainings ') for line in bars)
    words = text.replace('\r', ' ').split()
    for word in 'holdout; parameters 877,930 ± run/report.html'.split():
        assert word in words


def test_run_in_a_terminal_that_rewrites_nothing(tmp_path):
    text = run_in(Terminal(60), tmp_path, TERM='dumb').replace('\r\n', '\n')
    assert '\r' not in text and '\x1b' not in text
    assert not re.search('[█▏▎▍▌▋▊▉]', text)
    assert 'mlp: trial 1/2' in text and 'deep_mlp: seed 1' in text
    assert max(map(display.text_width, text.splitlines())) <= 60
