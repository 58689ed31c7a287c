#!/bin/sh
# install.sh PYTHON: puts the packages of requirements.lock and this project into that interpreter's environment. It is run in
# the project's folder. Nothing comes in that no hash of the lock file speaks for.
set -eu
python=$1
export PIP_USE_PEP517=1  # an old pip would run a setup.py itself
pip_install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

# Two packages come as source. What builds them has to be there first: pip on its own would fetch it without a hash.
sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock | pip_install --require-hashes --requirement /dev/stdin
pip_install --require-hashes --no-build-isolation --requirement requirements.lock
pip_install --no-deps --no-build-isolation --editable .
