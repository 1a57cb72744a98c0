"""Open every page of the built site in a browser: `python tools/site/browse.py [--shots FOLDER]
[page …]`.

Light and dark, at 1400 and 400 pixels: nothing on the console, nothing loaded from elsewhere, no
horizontal scroll, all pictures there, the sidebar in the order of _quarto.yml; and the search
finds its words. It needs `pip install playwright` and a Chromium: the one that $CHROMIUM names,
else the system's, else Playwright's own.
"""

import argparse
import functools
import os
import shutil
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from links import ROOT, WORDS, paths
from playwright.sync_api import sync_playwright

WIDTHS = (1400, 400)
SCHEMES = ('light', 'dark')
SIDEBAR = """() => [...document.querySelectorAll('.bd-sidebar-primary .bd-links a.reference, #quarto-sidebar a.sidebar-link')]
              .map(a => a.href.split('#')[0]).filter((href, i, all) => href && all.indexOf(href) == i)"""
BROKEN = """() => [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src.slice(-60))"""
WIDER = """() => document.documentElement.scrollWidth - document.documentElement.clientWidth"""
LOOK = """() => { for (const i of document.images) i.loading = 'eager' }"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def serve(folder):
    server = ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def sidebar():
    return list(
        paths(
            yaml.safe_load((ROOT / '_quarto.yml').read_text(encoding='utf-8'))['website'][
                'sidebar'
            ]['contents']
        )
    )


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


def search_faults(page, base):
    """The words that the site's search does not find (Sphinx's page of results; Quarto's search
    is checked in links.py)."""
    for word in WORDS:
        page.goto(f'{base}/search.html?q={word}')
        try:
            page.wait_for_selector('#search-results li', timeout=10_000)
        except Exception:
            yield f'the search does not find {word}'


def check(browser, base, site, only, shots):
    pages = [
        p.relative_to(site).as_posix()
        for p in sorted(site.rglob('*.html'))
        if '_static' not in p.parts
    ]
    pages = [
        p
        for p in pages
        if p not in ('search.html', 'genindex.html') and (not only or Path(p).stem in only)
    ]
    for width in WIDTHS:
        for scheme in SCHEMES:
            page = browser.new_page(viewport={'width': width, 'height': 900}, color_scheme=scheme)
            for name in pages:
                for fault in faults_of(page, f'{base}/{name}'):
                    yield f'{name}, {width} px, {scheme}: {fault}'
                if shots:
                    page.screenshot(
                        path=shots / f'{Path(name).stem}_{width}_{scheme}.png', full_page=bool(only)
                    )
            page.close()
    page = browser.new_page()
    page.goto(f'{base}/index.html')
    found = [room(href) for href in page.evaluate(SIDEBAR)]
    wanted = [room(path) for path in sidebar()]
    found = ['index' if not name or name == urlsplit(base).netloc else name for name in found]
    if found != wanted:
        yield f'the sidebar is {found}, but _quarto.yml says {wanted}'
    if (site / 'searchindex.js').exists():
        yield from search_faults(page, base)
    print(f'{len(pages)} pages at {len(WIDTHS)} widths in {len(SCHEMES)} schemes')


def main(site, only, shots):
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
    chromium = (
        os.environ.get('CHROMIUM') or shutil.which('chromium') or shutil.which('chromium-browser')
    )
    server = serve(site)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
        faults = list(check(browser, f'http://127.0.0.1:{server.server_port}', site, only, shots))
        browser.close()
    print('\n'.join(faults) or 'no fault')
    return 1 if faults else 0


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Open every page of the built site in a browser.')
    parser.add_argument('pages', nargs='*', help='names of pages without .html; all by default')
    parser.add_argument('--site', type=Path, default=ROOT / '_docs', help='the built site')
    parser.add_argument('--shots', type=Path, help='a folder for a picture of each page')
    asked = parser.parse_args()
    sys.exit(main(asked.site, asked.pages, asked.shots))
