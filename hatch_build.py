# SPDX-License-Identifier: BSD-3-Clause
"""Build hook: render ``src/scrjob/config.py.in`` to ``scrjob/config.py``, pack the programs of the nodes.

A wheel gets the rendered file; the source tree is left alone. An editable install imports from the
source tree, so only there the file is written beside its template (git ignores it). Site values come
from environment variables of the build, see the template.

``scrjob/scrjob-node.pyz`` has all modules that ``scrjob.node`` needs, compiled for the Python that builds, so
that a node opens one file instead of forty (docs/decisions/023-zipapp.md). An editable install has none: it
would not follow the sources.
"""

from __future__ import annotations

import ast
import importlib.util
import marshal
import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Iterator

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TEMPLATE = Path("src") / "scrjob" / "config.py.in"
SLOT = re.compile(r"@(?P<name>[A-Z_]+)(?::(?P<default>[^@]*))?@")


def render(template: str, environ: dict[str, str]) -> str:
    """Replace each ``@NAME:default@`` by the Python literal of the variable or its default."""

    def literal(match: re.Match[str]) -> str:
        return repr(environ.get(match["name"], match["default"] or ""))

    return SLOT.sub(literal, template)


NODE_START = "import sys\nfrom scrjob.node.__main__ import main\nsys.exit(main())\n"


def node_modules(source: Path) -> dict[str, Path]:
    """Return name -> file of the modules of ``scrjob.node`` and of all that they import of scrjob.

    What is imported for type checking only is left out.
    """
    found: dict[str, Path] = {}
    todo = [f"scrjob.node.{path.stem}" for path in (source / "scrjob" / "node").glob("*.py")]
    while todo:
        name = todo.pop()
        if name in found or not name.startswith("scrjob"):
            continue
        path = source.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if path.exists():  # else a name in a module
            found[name] = path
            todo.append(name.rpartition(".")[0])
            todo.extend(_imports(ast.parse(path.read_bytes())))
    found.pop("scrjob.node.__init__", None)
    return found


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child)


def pack_node(source: Path, target: Path) -> None:
    """Write the programs of the nodes as one file; its last bytes tell for which Python it is."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(node_modules(source).values()):
            inside = str(path.relative_to(source))
            _add(archive, inside, path.read_bytes())
        _add(archive, "__main__.py", NODE_START.encode("ascii"))
        archive.comment = str(sys.implementation.cache_tag).encode("ascii")


def _add(archive: zipfile.ZipFile, name: str, source: bytes) -> None:
    code = compile(source, name, "exec", dont_inherit=True)
    # Found valid by its own word: there is no source beside it (importlib, "unchecked hash-based pycs").
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")
    header += importlib.util.source_hash(source)
    archive.writestr(zipfile.ZipInfo(f"{name}c"), header + marshal.dumps(code))


class ConfigHook(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
    """Puts the rendered configuration and the programs of the nodes into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Render for the wheel being built; ``version`` is "standard" or "editable"."""
        if self.target_name != "wheel":
            return
        text = render((Path(self.root) / TEMPLATE).read_text("utf-8"), dict(os.environ))
        if version == "editable":
            beside = Path(self.root) / TEMPLATE.with_name("config.py")
            if not beside.exists() or beside.read_text("utf-8") != text:  # else it may be in use
                beside.write_text(text, "utf-8")
            return
        with tempfile.NamedTemporaryFile(
            "w", suffix=".py", prefix="scrjob-config-", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        self._temporary = [file.name]
        build_data["force_include"][file.name] = "scrjob/config.py"
        fd, packed = tempfile.mkstemp(suffix=".pyz", prefix="scrjob-node-")
        os.close(fd)
        os.chmod(packed, 0o644)  # as any file of a wheel
        self._temporary.append(packed)
        pack_node(Path(self.root) / "src", Path(packed))
        build_data["force_include"][packed] = "scrjob/scrjob-node.pyz"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary files."""
        for name in getattr(self, "_temporary", []):
            Path(name).unlink()
