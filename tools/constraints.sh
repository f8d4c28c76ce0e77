#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Writes constraints/ anew: what the newest versions of everything resolve to on the two Pythons.
# mypy and pytest stay at the last versions that still know Python 3.9, so that all versions agree.

set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

freeze() { # FILE VERSION TEXT EXTRA...
    file=$1 version=$2 text=$3
    shift 3
    python=$(tools/find_python.sh | awk -v wanted="$version" '$1 == wanted { print $2 }')
    [ -n "$python" ] || { echo "constraints: no Python $version runs here" >&2; exit 1; }
    "$python" -m venv "$work/$version"
    "$work/$version/bin/python" -m pip install -q -U pip hatchling
    "$work/$version/bin/python" -m pip install -q --no-build-isolation "$@" \
        --group test --group lint --group docs -e '.[mpi]'
    {
        echo "# Versions that were resolved together and pass the suite; for Python $text."
        echo "# Made anew by tools/constraints.sh."
        "$work/$version/bin/python" -m pip freeze --all --exclude-editable |
            grep -vE '^(setuptools|wheel)=='
    } >"constraints/$file"
}

freeze py39.txt 3.9 '3.9 and 3.10'
freeze py311.txt 3.11 '3.11 and newer' 'mypy<1.20' 'pytest<9'
