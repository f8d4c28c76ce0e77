#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Records fping and ping in a network of their own, in which some of node1, node2, node3 are silent.
# Needs root, iproute2, and the tools. DOWN is a list of silent nodes.
set -eu
cd "$(dirname "$0")/.."
[ "${1-}" = inside ] || exec unshare --mount --net "$0" inside

ip link set lo up
ip link add silent type veth peer name nobody
ip address add 198.51.100.1/24 dev silent
ip link set silent up
ip link set nobody up
for last in 21 22 23; do
    ip neighbour add "198.51.100.$last" lladdr 02:00:00:00:00:01 dev silent
done
hosts=$(mktemp)
mount --bind "$hosts" /etc/hosts

case_of() { # DOWN NODES...
    down=$1
    shift
    for node in node1 node2 node3; do
        case ",$down," in
            *",$node,"*) echo "198.51.100.2${node#node} $node" ;;
            *) echo "127.0.1.${node#node} $node" ;;
        esac
    done >"$hosts"
    name=$(echo "${down:-none}.$*" | tr ' ,' '__')
    fping=$(fping --version | awk 'NR == 1 { print $3 }')
    ping=$(ping -V | awk 'NR == 1 { print $NF }')
    python3 tools/record.py "tests/data/recorded/fping/$fping/$name" "DOWN=$down" -- \
        fping -q -C 2 -p 300 -t 1000 -i 1 -- "$@"
    for node in "$@"; do
        python3 tools/record.py "tests/data/recorded/ping/$ping/${down:-none}.$node" "DOWN=$down" -- \
            ping -n -c 2 -W 1 -- "$node"
    done
}

case_of '' node1 node2 node3
case_of node2 node1 node2 node3
case_of node3 node1 node2 node3
case_of node1 node2 node3
case_of node1,node2,node3 node1 node2 node3
case_of '' node1 no-such-node node3
