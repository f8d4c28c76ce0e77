# SPDX-License-Identifier: BSD-3-Clause
"""The real world as one value."""

from __future__ import annotations

import os
import socket

from scrjob._context import system_context


def test_it_has_this_processs_environment_as_a_copy() -> None:
    context = system_context()
    assert context.environ == dict(os.environ)
    assert context.environ is not os.environ
    assert context.hostname == socket.gethostname()


def test_an_environment_given_replaces_it_all() -> None:
    assert system_context({"A": "1"}).environ == {"A": "1"}


def test_more_variables_make_a_new_context() -> None:
    context = system_context({"A": "1", "B": "2"})
    other = context.with_environ({"B": "3"})
    assert other.environ == {"A": "1", "B": "3"}
    assert context.environ == {"A": "1", "B": "2"}
    assert type(other.runner) is type(context.runner)
