# SPDX-License-Identifier: BSD-3-Clause
"""Finding plugins: our own table, other packages' entry points, and every way to get it wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scrjob._plugins import Plugin, Registry
from scrjob.errors import PluginError, PluginLoadError
from scrjob.testing.fakes import fake_context

GROUP = "scrjob.test_things"


def offer(place: Path, package: str, points: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an installed package with entry points, as importlib.metadata sees it."""
    info = place / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")
    monkeypatch.syspath_prepend(str(place))


@pytest.fixture
def registry() -> Registry:
    return Registry(
        "thing",
        GROUP,
        {
            "ours": "scrjob._plugins:Plugin",
            "absent": "scrjob_nowhere.module:Class",
            "renamed": "scrjob._plugins:Gone",
        },
        {"absent": "pip install scrjob-nowhere"},
    )


def test_a_built_in_plugin_needs_no_entry_points(registry: Registry) -> None:
    assert registry.load("ours") is Plugin
    assert registry.load("OURS") is Plugin


def test_an_outside_plugin_is_found_by_its_entry_point(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path, "other", "theirs = scrjob.model:ExitStatus", monkeypatch)
    assert registry.load("Theirs").__name__ == "ExitStatus"
    assert registry.names() == ["ours", "absent", "renamed", "theirs"]


def test_nobody_takes_a_built_in_name(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path, "other", "ours = scrjob.model:ExitStatus", monkeypatch)
    assert registry.load("ours") is Plugin
    assert registry.names().count("ours") == 1


def test_two_packages_with_one_name_are_refused_with_both_origins(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path / "a", "first", "theirs = scrjob.model:ExitStatus", monkeypatch)
    offer(tmp_path / "b", "second", "theirs = scrjob.model:NodeDown", monkeypatch)
    with pytest.raises(PluginError, match=r"scrjob\.model:ExitStatus, scrjob\.model:NodeDown"):
        registry.load("theirs")


def test_an_unknown_name_lists_the_known_ones(registry: Registry) -> None:
    with pytest.raises(PluginError, match="unknown thing 'ou'; known: ours, absent, renamed"):
        registry.load("ou")


def test_an_empty_registry_says_none() -> None:
    with pytest.raises(PluginError, match="known: none"):
        Registry("thing", GROUP, {}).load("x")


def test_a_plugin_that_does_not_import_says_what_to_install(registry: Registry) -> None:
    with pytest.raises(PluginLoadError, match=r"No module named 'scrjob_nowhere'.*; pip install"):
        registry.load("absent")


def test_a_class_that_is_gone_is_a_load_error(registry: Registry) -> None:
    with pytest.raises(PluginLoadError, match="Gone"):
        registry.load("renamed")


def test_describe_tries_every_plugin(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path, "other", "theirs = scrjob.model:ExitStatus", monkeypatch)
    rows = {row.name: row for row in registry.describe()}
    assert (rows["ours"].origin, rows["ours"].error) == ("scrjob", None)
    assert (rows["theirs"].origin, rows["theirs"].error) == ("entry point", None)
    assert "scrjob_nowhere" in (rows["absent"].error or "")


def test_a_plugin_uses_what_it_is_bound_to() -> None:
    plugin = Plugin()
    context = fake_context({"A": "1"})
    plugin.bind(context)
    assert plugin.context is context


def test_a_plugin_constructed_alone_uses_the_real_world() -> None:
    plugin = Plugin()
    assert plugin.context is plugin.context
    assert (
        plugin.context.runner.run([sys.executable, "-c", "print(1)"], timeout_s=30).stdout == "1\n"
    )
