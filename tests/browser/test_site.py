"""The built site: every page and anchor that is linked to is there, and each page looks right.

It is built by Sphinx from a copy; `--site _docs` looks at one that is there, as `make docs` does.
"""

import functools
import re
import threading
from configparser import ConfigParser
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml
from checkout import ROOT, copy_checkout, output_of, output_of_python

pytestmark = pytest.mark.slow
WORDS = 'glorot_init', 'McNemar'
SIDEBAR = """() => [...document.querySelectorAll('.bd-sidebar-primary .bd-links a.reference, #quarto-sidebar a.sidebar-link')]
              .map(a => a.href.split('#')[0]).filter((href, i, all) => href && all.indexOf(href) == i)"""
BROKEN = """() => [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src.slice(-60))"""
WIDER = """() => document.documentElement.scrollWidth - document.documentElement.clientWidth"""
LOOK = """() => { for (const i of document.images) i.loading = 'eager' }"""


@pytest.fixture(scope='session')
def site(tmp_path_factory, pytestconfig):
    "The folder of the built site; Sphinx warns of nothing."
    if folder := pytestconfig.getoption('site'):
        return folder.resolve()
    copy = copy_checkout(tmp_path_factory.mktemp('site') / 'copy')
    output_of_python('tools/site/build.py', '--sphinx', cwd=copy)
    return copy / '_docs'


def pages_of(site):
    "Names of its pages."
    paths = (path for path in site.rglob('*.html') if '_static' not in path.parts)
    return sorted(path.relative_to(site).as_posix() for path in paths)


def published():
    "The address under which the site is published."
    config = ConfigParser()
    config.read(ROOT / 'settings.ini', encoding='utf-8')
    return config['DEFAULT']['doc_host'] + config['DEFAULT']['doc_baseurl'] + '/'


@contextmanager
def served(site):
    "The address of the folder on this machine; links to the published pages lead there, too."

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            path = Path(self.translate_path(self.path))
            if path.suffix != '.html' or not path.exists():
                return super().do_GET()
            text = path.read_text(encoding='utf-8').replace(published(), f'{address}/')
            self.send_response(200)
            self.send_header('Content-Type', 'text/html; charset=utf-8')
            self.end_headers()
            self.wfile.write(text.encode())

    handler = functools.partial(Handler, directory=str(site))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        address = f'http://127.0.0.1:{server.server_port}'
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield address
        server.shutdown()


@pytest.fixture(scope='session')
def address(site):
    with served(site) as address:
        yield address


def paths(contents):
    "All pages of a sidebar, in order."
    for entry in contents:
        if isinstance(entry, str):
            yield entry
        elif 'section' in entry:
            yield from paths(entry['contents'])
        else:
            yield entry['href']


def sidebar():
    config = yaml.safe_load((ROOT / '_quarto.yml').read_text(encoding='utf-8'))
    return list(paths(config['website']['sidebar']['contents']))


def is_there(site, path):
    "Quarto leaves the number of a room out of its page's name, Sphinx keeps it."
    page = Path(path).with_suffix('.html')
    return any(
        (site / name).exists()
        for name in (page, page.with_name(re.sub(r'^\d+[a-z]?_', '', page.name)))
    )


def test_every_page_of_the_sidebar_is_there(site):
    assert [path for path in sidebar() if not is_there(site, path)] == []


def follow_links(address, names):
    "From these pages, all that do not lead elsewhere; pictures, scripts and styles, too."
    pages = [f'{address}/{name}' for name in names]
    return output_of('linkchecker', '--no-status', '--no-robots', *pages)


def test_no_link_leads_nowhere(site, address):
    out = follow_links(address, pages_of(site))
    checked = int(re.search(r'(\d+) links? in', out)[1])
    assert checked > len(pages_of(site)), out


class Page(HTMLParser):
    "The anchors of a page, and the links on it."

    def __init__(self, path):
        super().__init__()
        self.anchors = {'', 'top'}
        self.links = set()
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.update(filter(None, (attrs.get('id'), attrs.get('name'))))
        if tag == 'a' and attrs.get('href'):
            self.links.add(attrs['href'])


def dead_anchors(site):
    """`page: link` of each link to an anchor that is not there.

    linkchecker knows anchors, too, but reads a page anew for each of the thousand, for minutes.
    """
    pages = {name: Page(site / name) for name in pages_of(site)}
    for name, page in pages.items():
        for link in sorted(page.links):
            url = urlsplit(urljoin(published() + name, link))
            home = urlsplit(published())
            if url.netloc != home.netloc or not url.path.startswith(home.path):
                continue
            target = unquote(url.path.removeprefix(home.path)) or 'index.html'
            if target in pages and unquote(url.fragment) not in pages[target].anchors:
                yield f'{name}: {link}'


def test_no_link_leads_to_an_anchor_that_is_not_there(site):
    assert list(dead_anchors(site)) == []


@pytest.fixture
def broken_site(tmp_path):
    "Two pages, with a right and some wrong links."
    (tmp_path / 'index.html').write_text(
        '<h1 id="a">A</h1><a href="other.html#b">right</a><a href="other.html#c">wrong</a>'
        f'<a href="{published()}other.html#d">published, wrong</a><a href="#e">wrong</a>'
        '<a href="https://example.org/#f">elsewhere</a><a href="nowhere.html">dead</a>'
        f'<a href="{published()}gone.html">dead</a><img src="no.png"><img srcset="no2.png 2x">'
    )
    (tmp_path / 'other.html').write_text('<h1 id="b">B</h1>')
    return tmp_path


def test_dead_anchors_are_seen(broken_site):
    wrong = ['#e', f'{published()}other.html#d', 'other.html#c']
    assert list(dead_anchors(broken_site)) == [f'index.html: {link}' for link in wrong]


def test_dead_links_are_seen(broken_site):
    with served(broken_site) as address, pytest.raises(AssertionError) as caught:
        follow_links(address, ['index.html'])
    for name in ('nowhere.html', 'gone.html', 'no.png', 'no2.png'):
        assert f'{address}/{name}' in str(caught.value)
    assert 'other.html' not in str(caught.value)


def search_words(site):
    "All that the search can find, as one text in lower case."
    files = (site / 'searchindex.js', site / 'search.json')
    return '\n'.join(path.read_text(encoding='utf-8') for path in files if path.exists()).lower()


@pytest.mark.parametrize('word', WORDS)
def test_the_search_knows(word, site):
    assert word.lower() in search_words(site)


# In a browser


def room(path):
    "A page's name without the room's number, which only one of the two renderers keeps."
    return Path(path).stem.lstrip('0123456789').removeprefix('a_').removeprefix('b_').lstrip('_')


def faults_of(page, url):
    "What is wrong with the page at `url`, as lines."
    said = []
    host = urlsplit(url).netloc
    listeners = {
        'console': lambda m: m.type in ('error', 'warning') and said.append(f'console: {m.text}'),
        'pageerror': lambda e: said.append(f'error: {e}'),
        'requestfailed': lambda r: said.append(f'not loaded: {r.url}'),
        'request': lambda r: (
            urlsplit(r.url).netloc not in ('', host) and said.append(f'from elsewhere: {r.url}')
        ),
    }
    for event, do in listeners.items():
        page.on(event, do)
    page.goto(url)
    page.evaluate(LOOK)
    page.wait_for_load_state('networkidle')
    said += [f'no picture: {src}' for src in page.evaluate(BROKEN)]
    if (wider := page.evaluate(WIDER)) > 0:
        said.append(f'{wider} pixels too wide')
    for event, do in listeners.items():
        page.remove_listener(event, do)
    return said


@pytest.mark.browser
@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1400, 400])
def test_each_page_looks_right(width, scheme, site, address, new_context, pictures):
    """Nothing on the console, nothing loaded from elsewhere, no horizontal scroll, all pictures
    there."""
    page = new_context(viewport={'width': width, 'height': 900}, color_scheme=scheme).new_page()
    faults = []
    for name in pages_of(site):
        if name in ('search.html', 'genindex.html'):
            continue
        faults += [f'{name}: {fault}' for fault in faults_of(page, f'{address}/{name}')]
        if pictures:
            page.screenshot(path=pictures / f'{Path(name).stem}_{width}_{scheme}.png')
    assert faults == []


@pytest.mark.browser
def test_the_sidebar_is_in_the_order_of_the_configuration(address, page):
    page.goto(f'{address}/index.html')
    found = [room(href) for href in page.evaluate(SIDEBAR)]
    found = ['index' if name in ('', urlsplit(address).netloc) else name for name in found]
    assert found == [room(path) for path in sidebar()]


@pytest.mark.browser
@pytest.mark.parametrize('word', WORDS)
def test_the_search_finds(word, site, address, page):
    if not (site / 'searchindex.js').exists():
        pytest.skip("it is Quarto's, and its words are looked at above")
    page.goto(f'{address}/search.html?q={word}')
    assert page.wait_for_selector('#search-results li', timeout=10_000)
