"The forms for issues and pull requests, and the code of conduct, lead to what is there."

import configparser
import re

import pytest
import yaml
from checkout import ROOT

FORMS = ROOT / '.github' / 'ISSUE_TEMPLATE'
SETTINGS = configparser.ConfigParser()
SETTINGS.read(ROOT / 'settings.ini', encoding='utf-8')


@pytest.mark.parametrize('name', ['bug', 'question', 'feature'])
def test_a_form_asks_at_least_one_thing_that_must_be_answered(name):
    form = yaml.safe_load((FORMS / f'{name}.yml').read_text(encoding='utf-8'))
    assert form.keys() == {'name', 'description', 'labels', 'body'}
    fields = [part for part in form['body'] if part['type'] != 'markdown']
    ids = [field['id'] for field in fields]
    assert len(set(ids)) == len(ids)
    assert all(field['attributes']['label'] for field in fields)
    assert any(field.get('validations', {}).get('required') for field in fields)


def test_a_bug_is_told_with_version_machine_and_report():
    form = yaml.safe_load((FORMS / 'bug.yml').read_text(encoding='utf-8'))
    asked = {part.get('id'): part for part in form['body']}
    assert {'version', 'machine', 'report'} <= asked.keys()
    assert '`mnist_cmp --version`' in asked['version']['attributes']['label']
    # the line that it asks for can be run
    (line,) = re.findall(r'python -c "(.*?)"', asked['machine']['attributes']['description'])
    told = []
    exec(line, {'print': told.append})  # noqa: S102 (a line of our own form)
    assert 'torch' in told[0]


def test_links_lead_into_this_repository():
    own = SETTINGS['DEFAULT']['git_url'] + '/'
    pages = [FORMS / 'config.yml', ROOT / 'CONTRIBUTING.md', ROOT / 'CODE_OF_CONDUCT.md']
    links = re.findall(r'https://github\.com/[^\s)]+', '\n'.join(map(read, pages)))
    assert len(links) >= 3
    for link in links:
        assert link.startswith(own)
        _, is_file, path = link.partition('/blob/main/')
        assert not is_file or (ROOT / path).is_file()


def read(path):
    return path.read_text(encoding='utf-8')


def test_the_code_of_conduct_names_the_maintainers():
    assert SETTINGS['DEFAULT']['author_email'] in read(ROOT / 'CODE_OF_CONDUCT.md')


def test_a_pull_request_is_asked_for_what_the_project_promises():
    text = read(ROOT / '.github' / 'PULL_REQUEST_TEMPLATE.md')
    for needed in 'make test', 'No number', 'tests/test_old_runs.py', 'CHANGELOG.md':
        assert needed in text
    for name in re.findall(r'`([\w/]+\.\w+)`', text):
        assert (ROOT / name).is_file()
