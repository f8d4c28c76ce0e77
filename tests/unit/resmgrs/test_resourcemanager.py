# SPDX-License-Identifier: BSD-3-Clause
"""The base class of resource managers, and the choice of one."""

from __future__ import annotations

import pytest

from scrjob.errors import PluginError
from scrjob.resmgrs import AutoResourceManager, ResourceManager
from scrjob.resmgrs.auto import choose_resource_manager
from scrjob.testing.fakes import fake_context


def test_the_base_class_knows_no_allocation() -> None:
    manager = ResourceManager()
    assert manager.detect({"ANY": "thing"}) is None
    assert manager.prerun() is None
    assert (manager.job_id(), manager.job_nodes(), manager.down_nodes()) == (None, [], {})
    assert (manager.end_time(), manager.start_time(), manager.pinned_nodes()) == (0, None, [])
    assert manager.private_storage()


def test_outside_of_any_allocation_there_is_the_base_class() -> None:
    context = fake_context({"PATH": "/bin"})
    manager = choose_resource_manager(context)
    assert type(manager) is ResourceManager
    assert manager.context is context
    assert type(AutoResourceManager()) is ResourceManager


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(PluginError, match=r"unknown resource manager 'SLRUM'; known: .*local"):
        choose_resource_manager(fake_context(), "SLRUM")
