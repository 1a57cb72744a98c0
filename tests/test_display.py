"""What is shown of strangers' data, ledgers and reports: their texts, and no element or
attribute made by them."""

import importlib
import inspect
import io
import json
import re
import sqlite3
import warnings
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pytest
import torch

import mnist_cmp as mc
from mnist_cmp.core.files import write_json
from mnist_cmp.report import report_page
from mnist_cmp.ui.run_display import _ReportLink, _Status
from mnist_cmp.ui.sound import _Speaker

HOSTILE = (
    '<img src=x onerror=alert(1)>',
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    '</style><svg onload=alert(1)>',
    '</p></td></table><iframe src="javascript:alert(1)">',
    '<!--',
    ']]>',
    '&lt;script&gt;',
    '<a href=javascript:alert(1)>x</a>',
    '</title></textarea><base href=//x>',
    '\ud800 \x00\x1b[31m\u202e <b>',
    '$\\frac$ <b>',
    '{0.__class__}%s<b>',
)
TEXT = ' '.join(HOSTILE)
BENIGN = 'benign'


class Skeleton(HTMLParser):
    """The elements of a page with the names of their attributes, what style sheets say, and its
    texts."""

    def __init__(self, page):
        super().__init__()
        self.elements = []
        self.texts = []
        self.styles = []
        self._in_style = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, [name for name, _ in attrs]))
        self._in_style = tag == 'style'
        for name, value in attrs:
            assert not name.startswith('on'), f'<{tag} {name}={value!r}>'
            assert tag != 'script', 'a script'
            assert not (
                name in ('href', 'src') and re.match(r'\s*javascript:', value or '', re.I)
            ), f'<{tag} {name}={value!r}>'

    def handle_endtag(self, tag):
        self.elements.append(('/', tag))
        self._in_style = False

    def handle_data(self, data):
        (self.styles if self._in_style else self.texts).append(data)

    def handle_comment(self, data):
        self.elements.append(('comment', data))

    def handle_decl(self, decl):
        self.elements.append(('declaration', decl))

    def unknown_decl(self, data):
        self.elements.append(('unknown', data))

    def handle_pi(self, data):
        self.elements.append(('instruction', data))


def same_elements(hostile, benign, shown=True):
    "The two pages differ in their texts alone; the hostile text is among them where it is shown."
    page = Skeleton(hostile)
    other = Skeleton(benign)
    assert page.elements == other.elements
    # pandas names each table anew
    plain = [re.sub(r'T_\w+', 'T', ''.join(p.styles)) for p in (page, other)]
    assert plain[0] == plain[1]
    assert not shown or any('onerror=alert(1)' in text for text in page.texts), (
        'the hostile text is not shown'
    )


def html_of(obj):
    "The HTML that a notebook shows of an object."
    if hasattr(obj, '_repr_html_'):
        return obj._repr_html_()
    bundle = obj._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    return bundle.get('text/html', '')


def texts_in(node, path=()):
    "Path to each text in a report."
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, value in items:
        if isinstance(value, str):
            yield (*path, key)
        else:
            yield from texts_in(value, (*path, key))


def changed(report, path, text):
    "The report with another text."
    report = json.loads(json.dumps(report))
    node = report
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = text
    return report


def loaded(report, folder):
    "The comparison that a report tells of; None if it is refused."
    write_json(folder / 'report.json', report)
    try:
        return mc.Comparison.load(folder)
    except ValueError:
        return None


@pytest.fixture(scope='module')
def made(data, tmp_path_factory):
    "A comparison in a folder."
    folder = tmp_path_factory.mktemp('made')
    models = {
        'one': lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3)),
        'two': lambda: torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(784, 2), torch.nn.Linear(2, 3)
        ),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*parameters')  # their sizes differ on purpose
        found = mc.compare(
            models,
            data,
            {'batch_size': (8, 16)},
            n_trials=2,
            seeds=2,
            search_epochs=1,
            recipe=mc.Recipe(epochs=1),
            compute=mc.Compute(workers=1),
            store=folder,
        )
    mc.write_report(found, folder)
    return folder


@pytest.fixture(scope='module')
def comparisons(made, tmp_path_factory):
    """The comparison with each text that a report may hold turned hostile, and with each of them
    benign."""
    folder = tmp_path_factory.mktemp('texts')
    report = json.loads((made / 'report.json').read_text())
    report['contestants'][0]['search']['trials'][0]['error'] = report['commit'] = 'a text'
    free = [path for path in texts_in(report) if loaded(changed(report, path, TEXT), folder)]
    assert {path[0] for path in free} >= {
        'dataset',
        'classes',
        'machine',
        'versions',
        'fingerprints',
        'commit',
    }
    assert ('contestants', 0, 'search', 'trials', 0, 'error') in free
    both = []
    for text in TEXT, BENIGN:
        odd = report
        for path in free:
            odd = changed(odd, path, text)
        for part in 'versions', 'fingerprints':
            odd[part] = odd[part] | {text: text}  # names are texts, too
        odd['sizes'] = odd['sizes'] | {text: 1}
        both.append(loaded(odd, folder))
    return both


def data_with(text):
    x = torch.arange(18, dtype=torch.uint8)[:, None, None].expand(18, 28, 28)
    names = dict(classes=[text, text + '2'], name=text[:200])
    return mc.Data.from_arrays(
        x[:9], torch.arange(9) % 2, x[9:], torch.arange(9) % 2, valid_size=2, **names
    )


def pad_with(text):
    pad = mc.DigitPad(
        {text: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 2))},
        classes=[text, text + '2'],
    )
    pad.strokes = [{'width': 0.1, 'points': [(0.2, 0.2), (0.8, 0.8)]}]
    return pad


@pytest.fixture(scope='module')
def panel_with(made, tmp_path_factory):
    "A panel that shows a failed run with an error text."

    def make(text):
        folder = tmp_path_factory.mktemp('panel')
        write_json(
            folder / 'panel.json',
            {'state': 'failed', 'error': text, 'settings': {'models': ['mlp', 'cnn']}},
        )
        return mc.ComparePanel(folder, runs=folder / 'none', workers=1)

    return make


def link_with(text):
    link = _ReportLink()
    link.show(text)
    return link


def status_with(text):
    status = _Status()
    status.say(text)
    return status


@pytest.fixture
def shown(comparisons, panel_with):
    "Class → its object with a hostile and with a benign text."
    return {
        mc.Data: [data_with(text) for text in (TEXT, BENIGN)],
        mc.History: [c.models[0].runs[0].history for c in comparisons],
        mc.SearchResult: [c.models[0].search for c in comparisons],
        mc.Comparison: comparisons,
        mc.ComparePanel: [panel_with(text) for text in (TEXT, BENIGN)],
        mc.DigitPad: [pad_with(text) for text in (TEXT, BENIGN)],
        _ReportLink: [link_with(text) for text in (TEXT, BENIGN)],
        _Status: [status_with(text) for text in (TEXT, BENIGN)],
        _Speaker: [_Speaker(ring={'number': 0, 'text': text}) for text in (TEXT, BENIGN)],
    }


def has_display(cls):
    return any(name.startswith('_repr_') or name == '_ipython_display_' for name in dir(cls))


def test_each_class_with_a_display_is_shown_here(shown):
    classes = set()
    for room in mc._rooms:
        module = importlib.import_module(f'mnist_cmp.{room}')
        classes |= {
            c
            for _, c in inspect.getmembers(module, inspect.isclass)
            if c.__module__ == module.__name__ and has_display(c)
        }
    assert classes == set(shown)


@pytest.mark.parametrize(
    'name',
    [
        'Data',
        'History',
        'SearchResult',
        'Comparison',
        'ComparePanel',
        'DigitPad',
        '_ReportLink',
        '_Speaker',
        '_Status',
    ],
)
def test_hostile_texts_make_no_elements(shown, name):
    hostile, benign = next(pair for cls, pair in shown.items() if cls.__name__ == name)
    # the browser gets a model, no HTML
    widget_alone = name in ('_ReportLink', '_Speaker', '_Status')
    same_elements(html_of(hostile), html_of(benign), shown=not widget_alone)
    html_of(hostile).encode()  # a page with halves of characters can't be sent


def test_tables_of_params_make_no_elements():
    def net(text):
        net = torch.nn.Module()
        net.register_parameter(text.replace('.', ''), torch.nn.Parameter(torch.zeros(2, 2)))
        return net

    same_elements(*(mc.params_table(net(text))._repr_html_() for text in (HOSTILE[0], BENIGN)))


def test_tables_of_findings_make_no_elements(comparisons):
    for frame in (
        'to_frame',
        'runs_frame',
        'differences',
        'kbest',
        'costs',
        'class_errors',
        'agreement',
        'hard_frame',
    ):
        pages = [getattr(c, frame)()._repr_html_() for c in comparisons]
        same_elements(pages[0], pages[1], shown=frame in ('class_errors', 'hard_frame'))


def test_report_page_makes_no_elements(comparisons):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # letters that the font lacks
        pages = [re.sub(r'base64,[\w+/=]+', '', report_page(c)) for c in comparisons]
    same_elements(*pages)
    pages[0].encode()
    assert "default-src 'none'" in pages[0]


def test_search_of_a_strangers_ledger(search_in, tmp_path):
    search_in(tmp_path / 's')
    pages = []
    for text in TEXT.replace('\ud800', '').replace('\x00', ''), BENIGN:  # SQLite keeps neither
        with sqlite3.connect(tmp_path / 's' / 'study.sqlite') as connection:
            connection.execute(
                'UPDATE trial SET error=?, engine=?, device=?, machine=?, worker=?', [text] * 5
            )
        connection.close()
        found = mc.SearchResult.load(tmp_path / 's')
        pages.append([found._repr_html_(), found.trials[0].history._repr_html_()])
    for hostile, benign in zip(*pages):
        same_elements(hostile, benign)


def test_terminal_gets_no_commands(comparisons):
    found = comparisons[0]
    for text in repr(found), mc.verdict(found), mc.summary(found):
        text.encode()
        assert not [c for c in text if c != '\n' and (ord(c) < 32 or c == '\u202e')]


ODD = [
    '$5',
    'up to $10_ and $',
    r'$\frac$',
    '',
    '',
    r'US$ \to CA$',
    '\x00\x1b[31m\x08',
    'a\nb',
    'x' * 100_000,
    '😀',
    *HOSTILE,
]


@pytest.mark.parametrize('text', ['$\\frac$ $_$ \ud800 \x00', '$' * 100_000], ids=['odd', 'long'])
def test_report_comes_out_whatever_data_and_classes_are_called(made, tmp_path, text):
    report = json.loads((made / 'report.json').read_text())
    report |= {'classes': ODD, 'dataset': text, 'trained_on': []}
    report['contestants'][0]['search'] |= {'model': text, 'scored_on': text}
    found = loaded(report, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # letters that the font lacks
        page = mc.write_report(found, tmp_path / 'out').read_text(encoding='utf-8')
        found.models[0].search.plot_best().figure.savefig(io.BytesIO())
    assert page.count('<img ') == len(list((tmp_path / 'out' / 'figures').glob('*.png')))


def test_samples_are_drawn_whatever_the_classes_are_called():
    for text in ODD:
        axes = mc.show_samples(data_with(text).train, 4)
        page = io.BytesIO()
        axes.figure.savefig(page)
        plt.close(axes.figure)
        assert page.getvalue().startswith(b'\x89PNG')
        assert len(axes.get_xticklabels()) == 4


def test_dollars_are_drawn_as_they_are(made, tmp_path):
    report = json.loads((made / 'report.json').read_text()) | {
        'classes': ['$5', '$5 to $10', 'x' * 100]
    }
    ax = loaded(report, tmp_path).plot_class_errors()
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        r'\$5',
        r'\$5 to \$10',
        'x' * 19 + '…',
    ]
    drawn = [label._preprocess_math(label.get_text()) for label in ax.get_xticklabels()]
    assert drawn == [('$5', False), ('$5 to $10', False), ('x' * 19 + '…', False)]
