"What is promised of versions: each requirement names its oldest one, and CI runs what is named."

import re
import subprocess
import sys
from importlib.metadata import metadata

import oldest
import pytest
import yaml
from checkout import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

WORKFLOW = yaml.safe_load((ROOT / '.github' / 'workflows' / 'test.yml').read_text(encoding='utf-8'))


def printed():
    "The constraints that the script prints: name → version."
    done = subprocess.run(
        [sys.executable, ROOT / 'tools' / 'oldest.py'], capture_output=True, text=True, check=True
    )
    return dict(line.split('==') for line in done.stdout.splitlines())


def test_each_requirement_is_tested_at_its_oldest_version():
    pins = printed()
    asked = [Requirement(each) for each in oldest.requirements()]
    assert len(asked) > 20
    assert [each.name for each in asked] == list(pins)
    for each in asked:
        version = Version(pins[each.name])
        assert version in each.specifier
        (lower,) = [part for part in each.specifier if part.operator == '>=']
        assert Version(lower.version) == version


@pytest.mark.parametrize('text', ['numpy', 'numpy<3', 'numpy==2.0', 'numpy>2'])
def test_a_requirement_without_an_oldest_version_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(f'{text} names no oldest version')):
        oldest.oldest(text)


def test_an_upper_end_is_no_part_of_the_oldest_version():
    assert oldest.oldest('fastcore>=1.12.3,<2') == 'fastcore==1.12.3'


def test_the_versions_that_this_release_was_tested_with_are_allowed():
    pins = printed()
    lines = (ROOT / 'constraints.txt').read_text(encoding='utf-8').splitlines()
    tested = dict(line.split('==') for line in lines if line and line[0] != '#')
    assert tested.keys() <= pins.keys()
    for name, version in tested.items():
        assert Version(version) >= Version(pins[name])


def test_ci_runs_each_python_that_the_package_names():
    classifiers = metadata('mnist_cmp').get_all('Classifier')
    named = re.findall(r'Programming Language :: Python :: (3\.\d+)', '\n'.join(classifiers))
    jobs = WORKFLOW['jobs']
    assert jobs['test']['strategy']['matrix'] == {
        'os': ['ubuntu-latest', 'macos-latest'],
        'python': named,
    }
    setup = jobs['oldest']['steps'][1]['with']
    assert f'>={setup["python-version"]}' == metadata('mnist_cmp')['Requires-Python']
    commands = [step['run'] for step in jobs['oldest']['steps'] if 'run' in step]
    assert commands == [
        'python tools/oldest.py > oldest.txt',
        'make test CONSTRAINTS=oldest.txt',
    ]
