# SPDX-License-Identifier: BSD-3-Clause
"""Build hook: render ``src/scrjob/config.py.in`` to ``scrjob/config.py``.

A wheel gets the rendered file; the source tree is left alone. An editable install imports from the
source tree, so only there the file is written beside its template (git ignores it). Site values come
from environment variables of the build, see the template.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TEMPLATE = Path("src") / "scrjob" / "config.py.in"
SLOT = re.compile(r"@(?P<name>[A-Z_]+)(?::(?P<default>[^@]*))?@")


def render(template: str, environ: dict[str, str]) -> str:
    """Replace each ``@NAME:default@`` by the Python literal of the variable or its default."""

    def literal(match: re.Match[str]) -> str:
        return repr(environ.get(match["name"], match["default"] or ""))

    return SLOT.sub(literal, template)


class ConfigHook(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
    """Puts the rendered configuration into the wheel."""

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
        self._rendered = file.name
        build_data["force_include"][file.name] = "scrjob/config.py"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary file."""
        rendered = getattr(self, "_rendered", None)
        if rendered:
            Path(rendered).unlink()
