"""Sphinx's settings for the site where Quarto is not installed; build.py lays the pages out and
calls Sphinx."""

import sys
from configparser import ConfigParser
from pathlib import Path

import yaml
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))  # for build.anchor
config = ConfigParser()
config.read(ROOT / 'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
website = yaml.safe_load((ROOT / '_quarto.yml').read_text(encoding='utf-8'))['website']

project = cfg['title']
author = cfg['author']
copyright = cfg['copyright']  # noqa: A001
version = release = cfg['version']
extensions = ['myst_nb']
html_static_path = ['static']
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 4
myst_heading_slug_func = 'build.anchor'
nb_execution_mode = 'off'
nb_output_stderr = 'show'
nb_render_markdown_format = 'gfm'
html_math_renderer = 'mathml'
html_theme = 'sphinx_book_theme'
html_title = cfg['title']
html_baseurl = cfg['doc_host'] + cfg['doc_baseurl'] + '/'
html_favicon = str(ROOT / 'nbs' / website['favicon'])
html_copy_source = html_use_index = False
html_show_sphinx = False
html_context = {'default_mode': 'auto'}
html_theme_options = {
    'repository_url': cfg['git_url'],
    'repository_branch': cfg['branch'],
    'home_page_in_toc': True,
    'navbar_persistent': [],
    'use_repository_button': True,
    'use_download_button': False,
    'use_issues_button': True,
    'show_toc_level': 2,
    'navigation_with_keys': False,
}


def math_visitor(block):
    "Formulas as MathML, which browsers draw by themselves: nothing is loaded from elsewhere."

    def visit(self, node):
        self.body.append(tex2mathml(node.astext(), as_block=block))
        raise nodes.SkipNode

    return visit, None


def setup(app):
    app.add_html_math_renderer('mathml', math_visitor(False), math_visitor(True))
    app.add_css_file('site.css')
