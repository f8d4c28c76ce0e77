# SPDX-License-Identifier: BSD-3-Clause
"""The field of 256 elements, against an independent library, and the parity matrix of the format."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
import reedsolo

from scrjob.redundancy import gf256

reedsolo.init_tables(gf256.POLYNOMIAL, generator=gf256.GENERATOR)


def rows_by_column_operations(n, k):
    """The matrix as the format defines it, step by step, in the other library's arithmetic."""
    mul = reedsolo.gf_mul
    rows = [[reedsolo.gf_pow(r, c) if r else int(c == 0) for c in range(n)] for r in range(n + k)]
    for i in range(n):
        if rows[i][i] == 0:
            swap = next(c for c in range(i + 1, n) if rows[i][c])
            for row in rows:
                row[i], row[swap] = row[swap], row[i]
        factor = reedsolo.gf_inverse(rows[i][i])
        for row in rows:
            row[i] = mul(row[i], factor)
        for c in range(n):
            factor = rows[i][c]
            if c != i and factor:
                for row in rows:
                    row[c] ^= mul(factor, row[i])
    assert rows[:n] == [[int(r == c) for c in range(n)] for r in range(n)]
    return tuple(map(tuple, rows[n:]))


def is_invertible(matrix):
    rows = [list(row) for row in matrix]
    for i in range(len(rows)):
        pivot = next((r for r in range(i, len(rows)) if rows[r][i]), None)
        if pivot is None:
            return False
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, len(rows)):
            factor = gf256.mul(rows[r][i], gf256.inverse(rows[i][i]))
            rows[r] = [x ^ gf256.mul(factor, y) for x, y in zip(rows[r], rows[i])]
    return True


def test_products_and_inverses_are_those_of_another_library():
    for a in range(256):
        assert [gf256.mul(a, b) for b in range(256)] == [reedsolo.gf_mul(a, b) for b in range(256)]
    assert [gf256.inverse(a) for a in range(1, 256)] == list(
        map(reedsolo.gf_inverse, range(1, 256))
    )


def test_documented_values():
    powers = [1]
    for _ in range(15):
        powers.append(gf256.mul(powers[-1], 2))
    assert powers == [1, 2, 4, 8, 16, 32, 64, 128, 29, 58, 116, 232, 205, 135, 19, 38]
    assert gf256.mul(0x53, 0xCA) == 143
    assert gf256.inverse(2) == 142
    assert gf256.inverse(0x53) == 140


def test_field_laws():
    rng = random.Random(1)
    for _ in range(2000):
        a, b, c = (rng.randrange(256) for _ in range(3))
        assert gf256.mul(a, b) == gf256.mul(b, a)
        assert gf256.mul(a, gf256.mul(b, c)) == gf256.mul(gf256.mul(a, b), c)
        assert gf256.mul(a, b ^ c) == gf256.mul(a, b) ^ gf256.mul(a, c)
    for a in range(1, 256):
        assert gf256.mul(a, gf256.inverse(a)) == 1
        assert gf256.mul(a, 1) == a
        assert gf256.mul(a, 0) == gf256.mul(0, a) == 0
    with pytest.raises(ZeroDivisionError):
        gf256.inverse(0)


@pytest.mark.parametrize(
    ("n", "k", "rows"),
    [
        (4, 2, [[27, 28, 18, 20], [28, 27, 20, 18]]),
        (4, 3, [[27, 28, 18, 20], [28, 27, 20, 18], [18, 20, 27, 28]]),
        (3, 2, [[1, 1, 1], [15, 8, 6]]),
        (8, 2, [[26, 132, 186, 51, 231, 16, 198, 39], [132, 26, 51, 186, 16, 231, 39, 198]]),
    ],
)
def test_documented_matrices(n, k, rows):
    assert gf256.parity_matrix(n, k) == tuple(map(tuple, rows))


@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (2, 1), (5, 3), (7, 6), (16, 4), (33, 9), (60, 2), (24, 23)]
)
def test_matrix_is_what_the_column_operations_give(n, k):
    assert gf256.parity_matrix(n, k) == rows_by_column_operations(n, k)


def test_every_coefficient_up_to_the_bounds_is_there_and_not_zero():
    for n in range(1, 256):
        for k in {1, min(2, 256 - n), 256 - n if n > 250 else 1}:
            rows = gf256.parity_matrix(n, k)
            assert [len(row) for row in rows] == [n] * k
            assert all(all(row) for row in rows)
    assert len(gf256.parity_matrix(129, 127)) == 127


@pytest.mark.parametrize(("n", "k"), [(0, 1), (1, 0), (255, 2), (2, 255), (-1, 3)])
def test_impossible_measures(n, k):
    with pytest.raises(ValueError, match="256"):
        gf256.parity_matrix(n, k)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (3, 2), (4, 3), (6, 4), (7, 5)])
def test_every_square_submatrix_can_be_inverted(n, k):
    matrix = gf256.parity_matrix(n, k)
    for size in range(1, k + 1):
        for rows in combinations(matrix, size):
            for columns in combinations(range(n), size):
                assert is_invertible([[row[c] for c in columns] for row in rows])


def test_sampled_submatrices_of_large_groups_can_be_inverted():
    rng = random.Random(2)
    for n, k in ((32, 8), (128, 128), (200, 20), (254, 2)):
        matrix = gf256.parity_matrix(n, k)
        for _ in range(20):
            size = rng.randint(1, min(k, n, 12))
            columns = rng.sample(range(n), size)
            rows = rng.sample(range(k), size)
            assert is_invertible([[matrix[r][c] for c in columns] for r in rows])


def test_any_known_values_give_any_other():
    rng = random.Random(3)
    polynomial = [rng.randrange(256) for _ in range(6)]  # highest degree first
    values = [reedsolo.gf_poly_eval(polynomial, point) for point in range(256)]
    for _ in range(200):
        *known, wanted = rng.sample(range(256), 7)
        total = 0
        for coefficient, point in zip(gf256.interpolation(tuple(known), wanted), known):
            total ^= gf256.mul(coefficient, values[point])
        assert total == values[wanted]


@pytest.mark.parametrize(("known", "wanted"), [((1, 2, 1), 3), ((1, 2), 2)])
def test_points_must_differ(known, wanted):
    with pytest.raises(ValueError, match="different"):
        gf256.interpolation(known, wanted)


@pytest.mark.parametrize("coefficient", [0, 1, 2, 29, 128, 255])
@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 255, 70001])
def test_multiply_add_is_the_sum_of_products(coefficient, length):
    rng = np.random.default_rng(length)
    total, data = (rng.integers(0, 256, length, dtype=np.uint8) for _ in range(2))
    expected = [t ^ gf256.mul(coefficient, d) for t, d in zip(total.tolist(), data.tolist())]
    kept = data.copy()
    gf256.multiply_add(total, coefficient, data)
    assert total.tolist() == expected
    assert (data == kept).all()
