#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs the quick tests on the oldest and the newest Python of this machine, besides that of .venv.

set -eu
cd "$(dirname "$0")/.."

main=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
versions=$(tools/find_python.sh | cut -d' ' -f1)
oldest=$(echo "$versions" | head -n 1)
newest=$(echo "$versions" | tail -n 1)

[ "$oldest" = 3.9 ] || echo "quick: no Python 3.9 runs here; the oldest that does is $oldest"
[ "$newest" != "$main" ] || echo "quick: no Python newer than $main runs here"

# All at the same time; what they say is shown one after the other.
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
running=
for version in $(printf '%s\n' "$oldest" "$newest" | uniq); do
    if [ "$version" = "$main" ]; then
        echo "quick: Python $version is that of .venv, where the whole suite runs"
        continue
    fi
    tools/setup.sh venv ".venv-$version" "$version" test
    ".venv-$version/bin/python" -m pytest -q -n 3 --dist loadfile -m "not slow" -p no:cacheprovider \
        tests/unit tests/property tests/contract tests/commands >"$said/$version" 2>&1 &
    running="$running $version=$!"
done
failed=0
for pair in $running; do
    version=${pair%=*}
    wait "${pair#*=}" || failed=1
    echo "quick: Python $version, the unit, property, contract and command tests"
    cat "$said/$version"
done
exit $failed
