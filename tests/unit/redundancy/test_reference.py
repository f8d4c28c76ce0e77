# SPDX-License-Identifier: BSD-3-Clause
"""The encoder against a second, slow program written from the format page alone."""

from __future__ import annotations

import random

import pytest

import plainredset
from groupmaker import make_dataset
from scrjob.formats import redset_header
from scrjob.redundancy.gf256 import parity_matrix
from scrjob.redundancy.groups import form_groups
from scrjob.redundancy.redset_file import RedsetReader

GROUPS = [
    ("xor", 2, 0),
    ("xor", 5, 0),
    ("partner", 2, 1),
    ("partner", 5, 1),
    ("partner", 6, 3),
    ("rs", 3, 2),
    ("rs", 4, 3),
    ("rs", 5, 2),
    ("rs", 6, 5),
    ("rs", 9, 4),
]
"""Scheme, members, parity blocks or replicas; none of the recorded cases has these."""


def sizes_of(members: int, seed: int) -> list[list[int]]:
    """One member without files, one with an empty one, the others uneven."""
    rng = random.Random(seed)
    sizes = [[rng.randrange(1, 700) for _ in range(rng.randrange(1, 4))] for _ in range(members)]
    sizes[seed % members] = []
    sizes[(seed + 1) % members] = [0, 137]
    return sizes


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "members", "copies"), GROUPS)
def test_payloads_are_those_of_the_reference(kind, members, copies, seed, tmp_path):
    sizes = sizes_of(members, seed)
    groups = form_groups(range(members), members)
    made = make_dataset(tmp_path, sizes, groups, kind=kind, copies=copies, seed=seed)
    data = []
    for rank, lengths in enumerate(sizes):
        files = made.parts[rank][: len(lengths)]
        data.append(b"".join(path.read_bytes() for path in files))
    if kind == "partner":
        expected = plainredset.partner_payloads(data, copies)
    else:
        expected = plainredset.parity_payloads(data, copies or 1, is_xor=kind == "xor")
    for path in made.hidden.glob(f"{redset_header.DATA_SET}.er.*.{kind}.*"):
        name = redset_header.parse_name(path.name)
        reader = RedsetReader(str(path))
        payload = bytearray(reader.payload_bytes)
        reader.readinto(0, memoryview(payload))
        reader.close()
        assert bytes(payload) == expected[name.member], path.name
        expected[name.member] = None
    assert expected == [None] * members


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 2), (4, 2), (8, 3), (20, 10), (3, 40)])
def test_coefficients_are_those_of_the_reference(n, k):
    assert [list(row) for row in parity_matrix(n, k)] == plainredset.coefficients(n, k)
