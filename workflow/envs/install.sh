#!/bin/sh
# install.sh PYTHON: installs the packages of requirements.lock and this project into the environment of that interpreter, from
# the project's folder. pip checks everything that it downloads against the hashes in the lock file.
set -eu
python=$1
export PIP_USE_PEP517=1  # an old pip would run setup.py itself
pip_install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

# Two packages come as source. setuptools, which builds them, goes first: pip would download it without checking a hash.
sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock | pip_install --require-hashes --requirement /dev/stdin
pip_install --require-hashes --no-build-isolation --requirement requirements.lock
pip_install --no-deps --no-build-isolation --editable .
