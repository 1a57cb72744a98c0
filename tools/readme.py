"""Make README.md from nbs/index.ipynb, without Quarto, and nbs/llms.txt from the sidebar:
`python tools/readme.py`.

With `--check` nothing is written: the exit code is 1 if README.md, one of its figures or
llms.txt would change. Figures go to nbs/images/index_1.png and so on. A cell's `#| hide`, `#|
echo: false`, `#| output: false` and `#| fig-alt: …` mean here what they mean on the site.
"""

import base64
import posixpath
import re
import sys
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
NOTE = '<!-- Made by tools/readme.py from nbs/index.ipynb: change it there. -->'
QUARTO_ONLY = re.compile(r'^:::.*|.*\{\{<.*|.*[\])]\{[.#].*', re.M)


class Table(HTMLParser):
    "The rows of an HTML table: a list of lists of cell texts."

    def __init__(self, html):
        super().__init__()
        self.rows = []
        self.in_cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == 'tr':
            self.rows.append([])
        if tag in ('td', 'th'):
            self.rows[-1].append('')
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ('td', 'th'):
            self.in_cell = False

    def handle_data(self, data):
        if self.in_cell:
            self.rows[-1][-1] += data

    def markdown(self):
        width = max(map(len, self.rows))

        def text(cell):
            return ' '.join(cell.split()).replace('|', r'\|')

        rows = [[*map(text, row), *[''] * (width - len(row))] for row in self.rows]
        return '\n'.join(f'| {" | ".join(row)} |' for row in [rows[0], ['---'] * width, *rows[1:]])


def fenced(text, language=''):
    return f'```{language}\n{text.rstrip()}\n```'


def local_links(markdown):
    "Links and images relative to nbs/ become relative to the README."

    def relink(match):
        start, url = match.groups()
        if re.match(r'[a-z]+:|[#/]', url):
            return match[0]
        return start + posixpath.normpath(f'nbs/{url}')

    return re.sub(r'(\]\(|\b(?:src|href)=")([^)"\s]+)', relink, markdown)


def shown(output, alt, figures):
    "One output as Markdown; a figure's bytes are added to `figures`."
    if output.output_type == 'stream':
        return fenced(output.text) if output.name == 'stdout' else ''
    data = output.get('data', {})
    if 'text/markdown' in data:
        return local_links(data['text/markdown'])
    if 'image/png' in data:
        name = f'nbs/images/index_{len(figures) + 1}.png'
        figures[name] = base64.b64decode(data['image/png'])
        return f'![{alt}]({name})'
    if '<table' in data.get('text/html', ''):
        return Table(data['text/html']).markdown()
    return fenced(data['text/plain']) if 'text/plain' in data else ''


def render(nb):
    "The notebook as `(markdown, {path: bytes of a figure})`."
    parts = [NOTE]
    figures = {}
    for cell in nb.cells:
        if cell.cell_type == 'markdown':
            parts.append(local_links(cell.source))
        if cell.cell_type != 'code':
            continue
        flags = re.findall(r'^#\|\s*(.+?)\s*$', cell.source, re.M)
        if 'hide' in flags or 'include: false' in flags:
            continue
        source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip()
        if source and 'echo: false' not in flags:
            parts.append(fenced(source, 'python'))
        if 'output: false' in flags:
            continue
        alt = next((flag[8:].strip() for flag in flags if flag.startswith('fig-alt:')), '')
        parts += [shown(output, alt, figures) for output in cell.outputs]
    markdown = '\n\n'.join(part.strip() for part in parts if part.strip()) + '\n'
    if bad := QUARTO_ONLY.search(markdown):
        sys.exit(f'index.ipynb: only Quarto understands this line: {bad[0]!r}')
    return markdown, figures


def page(path):
    "A page's `(title, summary)`: its first heading and the quote below it."
    text = (ROOT / 'nbs' / path).read_text(encoding='utf-8')
    if path.endswith('.ipynb'):
        text = next(
            c.source for c in nbformat.reads(text, as_version=4).cells if c.cell_type == 'markdown'
        )
    title = re.search(r'^# (.+)', text, re.M)
    quote = re.search(r'^> (.+)', text, re.M)
    return title[1], quote[1] if quote and path.endswith('.ipynb') else ''


def listed(contents, base):
    "A line for each page of a section of the sidebar; sections within it have their heading."
    lines = []
    for entry in contents:
        if isinstance(entry, dict) and 'section' in entry:
            lines += ['', f'### {entry["section"]}', '', *listed(entry['contents'], base)]
            continue
        path = entry if isinstance(entry, str) else entry['href']
        title, summary = page(path)
        name = re.sub(r'(^|/)[0-9]+[a-z]?_', r'\1', posixpath.splitext(path)[0])
        lines.append(f'- [{title}]({base}{name}.html)' + f': {summary}' * bool(summary))
    return lines


def llms():
    "The site's table of contents in Markdown (https://llmstxt.org), in the order of the sidebar."
    config = ConfigParser()
    config.read(ROOT / 'settings.ini', encoding='utf-8')
    cfg = config['DEFAULT']
    sidebar = yaml.safe_load((ROOT / '_quarto.yml').read_text(encoding='utf-8'))['website'][
        'sidebar'
    ]['contents']
    lines = [
        f'# {cfg["title"]}',
        '',
        f'> {cfg["description"]}',
        '',
        'A Python package, made of notebooks with nbdev. `import mnist_cmp` gives every public '
        'name; `mnist_cmp --help` lists the options of the command.',
    ]
    base = f'{cfg["doc_host"]}{cfg["doc_baseurl"]}/'
    for section in (entry for entry in sidebar if 'section' in entry):
        lines += ['', f'## {section["section"]}', '', *listed(section['contents'], base)]
    return '\n'.join(lines) + '\n'


def main(check):
    markdown, figures = render(nbformat.read(ROOT / 'nbs' / 'index.ipynb', as_version=4))
    wanted = {'README.md': markdown.encode(), 'nbs/llms.txt': llms().encode(), **figures}
    there = [
        'README.md',
        'nbs/llms.txt',
        *(path.relative_to(ROOT).as_posix() for path in ROOT.glob('nbs/images/index_*.png')),
    ]
    found = {name: (ROOT / name).read_bytes() for name in there if (ROOT / name).exists()}
    if check:
        differ = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        if differ:
            sys.exit(
                f'{", ".join(differ)}: not what nbs/index.ipynb and _quarto.yml give; run `make '
                'readme`'
            )
        return
    for name in found.keys() - wanted:
        (ROOT / name).unlink()
    for name, content in wanted.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_bytes(content)


if __name__ == '__main__':
    main('--check' in sys.argv[1:])
