"""Packages of the wheel; all else is in pyproject.toml.

``egs`` stays at the top level of the repository, and is ``zipasr.recipes`` in the wheel: a mapping
that pyproject.toml cannot express beside a search for packages.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["zipasr*"]), "zipasr.recipes"],
    package_dir={"zipasr.recipes": "egs"},
)
