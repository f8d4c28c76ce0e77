# SPDX-License-Identifier: BSD-3-Clause
"""Configuration files of any content."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scrjob._configfile import expand_variables, parse_bytes, parse_config

WORD = st.text(st.sampled_from("abAB_./-1"), min_size=1, max_size=6)
TEXT = st.text(st.sampled_from("ab=# \t\n$\\{}\"'\r1\udcff"), max_size=60)


@given(TEXT, st.booleans())
def test_each_line_is_good_faulty_or_empty_but_never_two_of_them(text, raw):
    lines, problems = parse_config(text, {"a": "x"}, raw=raw)
    good, bad = [line.number for line in lines], [problem.number for problem in problems]
    assert good == sorted(set(good))
    assert bad == sorted(set(bad))
    assert not set(good) & set(bad)
    assert all(key == key.upper() and key for line in lines for key, _ in line.pairs)


@given(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=4), TEXT)
def test_a_good_line_is_read_whatever_follows_it(pairs, rest):
    line = " ".join(f"{key}={value}" for key, value in pairs)
    lines, _ = parse_config(f"{line}\n{rest}", {})
    assert lines[0].number == 1
    assert lines[0].pairs == [(key.upper(), value) for key, value in pairs]


@given(st.text(max_size=30))
def test_expansion_never_fails(text):
    assert isinstance(expand_variables(text, {"a": "1"}), str)
    if "$" not in text:
        assert expand_variables(text, {}) == text


@given(st.text(st.sampled_from("0123456789.exkKmMbB+- pPinf"), max_size=12))
def test_a_size_is_a_number_of_bytes_or_refused(text):
    try:
        size = parse_bytes(text)
    except ValueError:
        return
    assert 0 <= size < 1 << 64
