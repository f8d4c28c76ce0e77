#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Sets up what the tasks of the Makefile need.
#
#   tools/setup.sh venv DIRECTORY WHICH GROUP...   a virtual environment with scrjob installed editable;
#                                                  WHICH is a version such as 3.11, or "newest":
#                                                  of those that pyproject.toml names, if one is here
#   tools/setup.sh packages                        Debian packages, if we are root and they are missing
#
# A second call is quick: a stamp in the environment holds the checksum of all that decides what is in it.

set -eu
cd "$(dirname "$0")/.."

venv() {
    directory=$1
    which=$2
    shift 2
    wanted=$({ cat pyproject.toml hatch_build.py src/scrjob/config.py.in constraints/*.txt; echo "$@"; pwd; } | sha256sum)
    if [ -x "$directory/bin/python" ] && [ "$(cat "$directory/.stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    python=$(pick "$which")
    if [ -z "$python" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt_install python3-venv
        python=$(pick "$which")
    fi
    if [ -z "$python" ]; then
        echo "setup: no Python >= 3.9 that runs and has the modules venv and ensurepip;" \
            "on Debian: apt install python3-venv" >&2
        exit 1
    fi
    echo "setup: $directory with $python"
    rm -f "$directory/.stamp"
    [ "$("$directory/bin/python" -V 2>/dev/null)" = "$("$python" -V)" ] || "$python" -m venv --clear "$directory"
    case $("$directory/bin/python" -c 'import sys; print(sys.version_info < (3, 11))') in
        True) constraints=constraints/py39.txt ;;
        *) constraints=constraints/py311.txt ;;
    esac
    pip="$directory/bin/python -m pip --disable-pip-version-check install -q -c $constraints"
    groups=
    for group in "$@"; do groups="$groups --group $group"; done
    # Dependency groups came with pip 25.1. The build back end comes before the package, so that its
    # version is pinned too.
    $pip pip hatchling
    # shellcheck disable=SC2086  # a list of words
    $pip --no-build-isolation $groups -e '.[mpi]'
    printf '%s\n' "$wanted" >"$directory/.stamp"
}

# Of those that nobody has tried yet, only the oldest is taken, and only if there is no other.
pick() {
    known=$(sed -n 's/.*"Programming Language :: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml | tr '\n' ' ')
    tools/find_python.sh | awk -v wanted="$1" -v known=" $known" '
        { version = $1; sub(/^[^ ]* /, "") }
        wanted == "newest" ? !best || index(known, " " version " ") : version == wanted { best = $0 }
        END { if (best) print best }
    '
}

# What each package is needed for can be told by a command in it.
packages() {
    missing=
    while read -r command package; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null || missing="$missing $package"
    done <<EOF
unshare util-linux
nsenter util-linux
fping fping
ping iputils-ping
slurmctld slurmctld
slurmd slurmd
srun slurm-client
munged munge
pdsh pdsh
sshd openssh-server
ssh openssh-client
ip iproute2
pkill procps
mpiexec.openmpi openmpi-bin
mpicc.openmpi libopenmpi-dev
gcc gcc
EOF
    # A library is no command.
    PATH="$PATH:/usr/sbin:/sbin" ldconfig -p | grep -q 'libisal\.so\.2' || missing="$missing libisal2"
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        # shellcheck disable=SC2086  # a list of words
        apt_install $missing
    else
        echo "setup: not installed, tests that need them are skipped:$missing" >&2
    fi
}

# Nothing that is installed is started: the tests start what they need, in namespaces of their own.
apt_install() {
    echo "setup: apt-get install $*"
    export DEBIAN_FRONTEND=noninteractive
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

"$@"
