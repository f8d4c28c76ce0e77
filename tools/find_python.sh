#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Prints "MAJOR.MINOR PATH" of every Python >= 3.9 on this machine that really runs and can make a
# virtual environment: the oldest first, each version once, python3 of PATH before others of its version.
#
# A name on PATH may be the shim of a version manager with nothing behind it, so each is tried.

probe='
import sys
if sys.version_info < (3, 9):
    sys.exit(1)
import ensurepip, venv
print("%d.%d" % sys.version_info[:2], sys.executable)
'

candidates() {
    printf '%s\n' python3 python
    minor=9
    while [ "$minor" -le 20 ]; do
        printf '%s\n' "python3.$minor"
        minor=$((minor + 1))
    done
    for found in "$HOME"/.pyenv/versions/*/bin/python /usr/bin/python3 /usr/local/bin/python3; do
        [ -x "$found" ] && printf '%s\n' "$found"
    done
}

candidates | while read -r name; do
    "$name" -c "$probe" 2>/dev/null
done | awk '!seen[$1]++' | sort -t. -k1,1n -k2,2n
