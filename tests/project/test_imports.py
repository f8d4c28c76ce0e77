# SPDX-License-Identifier: BSD-3-Clause
"""What imports bring with them: commands start on slow file systems, a thousand times at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unmeasured

COSTLY = {
    "argparse",
    "asyncio",
    "concurrent.futures",
    "dataclasses",
    "dateutil",
    "importlib.metadata",
    "logging",
    "mpi4py",
    "numpy",
    "psutil",
    "rich",
    "socket",
    "subprocess",
    "tempfile",
    "ClusterShell",
}
ALLOWED = {
    "scrjob": set(),
    "scrjob.errors": set(),
    "scrjob.hostlist": set(),
    "scrjob.formats.kvtree": set(),
    "scrjob.cli": set(),
    "scrjob.param": set(),
    "scrjob.node.check": set(),
    "scrjob.node.condition": set(),
    "scrjob.node.inspect": set(),
    "scrjob.commands.scr_crc32": set(),
    "scrjob.commands.scr_should_exit": set(),
    "scrjob.commands.scr_halt": set(),
    "scrjob.commands.scr_index": set(),
    "scrjob.commands.scr_halt_cntl": set(),
    "scrjob.commands.scr_retries_halt": set(),
    "scrjob.commands.scr_flush_file": set(),
    "scrjob.commands.scr_nodes_file": set(),
    "scrjob.commands.scr_hostlist": set(),
    "scrjob.commands.scr_log_event": set(),
    "scrjob.jobenv": set(),
    "scrjob.resmgrs.resourcemanager": {"logging"},
    "scrjob.remoteexec.clustershell": set(),
    "scrjob.remoteexec.pdsh": set(),
    "scrjob.remoteexec.srun": set(),
    "scrjob.remoteexec.ssh": set(),
}


def brought_by(*arguments: str) -> set[str]:
    """Return the costly modules that are loaded after the code has run in a bare interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split()) & COSTLY


def bare() -> set[str]:
    return brought_by("import sys; print(*sys.modules)")


@pytest.mark.parametrize("module", ALLOWED)
def test_an_import_brings_only_what_is_agreed(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    assert brought_by(code) - bare() == ALLOWED[module]


def test_the_packages_names_are_loaded_on_use() -> None:
    code = "import sys, scrjob; scrjob.Param; print(*(m for m in sys.modules if 'scrjob' in m))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "scrjob.param" in done.stdout.split()
    assert "scrjob.jobenv" not in done.stdout.split()


def test_every_name_of_the_package_resolves() -> None:
    import scrjob

    for name in scrjob.__all__:
        assert getattr(scrjob, name) is not None
    assert dir(scrjob) == sorted(scrjob.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = scrjob.nonsense
