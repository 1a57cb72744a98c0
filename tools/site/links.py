"""Check the built site: `python tools/site/links.py [_docs]`. Every page of the sidebar is
there, every internal link and its anchor leads somewhere, every picture exists, links to our own
published pages too, and the search knows the words.
"""

import re
import sys
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORDS = 'glorot_init', 'McNemar'


class Page(HTMLParser):
    "The anchors of a page, and all that it points to."

    def __init__(self, path):
        super().__init__()
        self.anchors = {'', 'top'}
        self.links = []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.update(filter(None, (attrs.get('id'), attrs.get('name'))))
        rel = attrs.get('rel') or ''
        if tag in ('a', 'link') and not re.search('canonical|preconnect|prefetch', rel):
            self.links.append(attrs.get('href'))
        self.links += [
            attrs.get('src'),
            *((s.split() or [''])[0] for s in (attrs.get('srcset') or '').split(',')),
        ]


def paths(contents):
    "All pages of a sidebar, in order."
    for entry in contents:
        if isinstance(entry, str):
            yield entry
        elif 'section' in entry:
            yield from paths(entry['contents'])
        else:
            yield entry['href']


def is_there(site, path):
    "Quarto leaves the number of a room out of its page's name, Sphinx keeps it."
    page = Path(path).with_suffix('.html')
    return any(
        (site / name).exists()
        for name in (page, page.with_name(re.sub(r'^\d+[a-z]?_', '', page.name)))
    )


def site_url():
    config = ConfigParser()
    config.read(ROOT / 'settings.ini', encoding='utf-8')
    return config['DEFAULT']['doc_host'] + config['DEFAULT']['doc_baseurl'] + '/'


def dead_links(site):
    "`page: link` of each internal link that leads nowhere."
    pages = {
        path.resolve(): Page(path) for path in site.rglob('*.html') if '_static' not in path.parts
    }
    for path, page in pages.items():
        for link in sorted({link for link in page.links if link}):
            at_home = link.startswith(site_url())
            url = urlsplit(link.removeprefix(site_url()) if at_home else link)
            if url.scheme or url.netloc:
                continue
            target = (
                ((site if at_home else path.parent) / unquote(url.path)).resolve()
                if url.path
                else path
            )
            if target.is_dir():
                target /= 'index.html'
            known = pages.get(target)
            if not target.exists() or (known and unquote(url.fragment) not in known.anchors):
                yield f'{path.relative_to(site.resolve())}: {link}'


def search_words(site):
    "All that the search can find, as one text in lower case."
    return '\n'.join(
        path.read_text(encoding='utf-8')
        for path in (site / 'searchindex.js', site / 'search.json')
        if path.exists()
    ).lower()


def main(site):
    sidebar = yaml.safe_load((ROOT / '_quarto.yml').read_text(encoding='utf-8'))['website'][
        'sidebar'
    ]['contents']
    faults = [
        f'the sidebar has {path}, the site has not'
        for path in paths(sidebar)
        if not is_there(site, path)
    ]
    faults += [f'dead link in {fault}' for fault in dead_links(site)]
    index = search_words(site)
    faults += [f'the search does not find {word}' for word in WORDS if word.lower() not in index]
    print('\n'.join(faults) or f'{len(list(paths(sidebar)))} pages, no dead link')
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / '_docs'))
