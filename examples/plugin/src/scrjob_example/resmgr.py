# SPDX-License-Identifier: BSD-3-Clause
"""The site's resource manager, asked through ``sitectl``."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Optional

from scrjob.errors import OutputParseError
from scrjob.model import JobId, NodeName
from scrjob.resmgrs import ResourceManager

TIMEOUT_S = 2.0


class Row(NamedTuple):
    """One line of ``sitectl nodes``."""

    node: NodeName
    state: str
    reason: str


def parse_nodes(text: str) -> list[Row]:
    """Return the rows of ``name|state|reason``; an allocation without nodes does not exist."""
    rows = [line.split("|") for line in text.splitlines()]
    if not rows or any(len(row) != len(Row._fields) for row in rows):
        raise OutputParseError("sitectl nodes", text, "expected lines of name|state|reason")
    return [Row(NodeName(name), state, reason) for name, state, reason in rows]


class SiteManager(ResourceManager):
    """Answers for the allocation that SITE_JOB names."""

    poll_seconds = 5.0
    node_tests = ("site_health",)
    remote_exec = ("site",)

    def __init__(self) -> None:
        super().__init__("site")

    @classmethod
    def detect(cls, environ: Mapping[str, str]) -> Optional[str]:
        """Return why the environment is one of ours."""
        return "SITE_JOB is set" if environ.get("SITE_JOB") else None

    def job_id(self) -> Optional[JobId]:
        """Return SITE_JOB."""
        job = self.context.environ.get("SITE_JOB")
        return JobId(job) if job else None

    def job_nodes(self) -> list[NodeName]:
        """Return the nodes as sitectl lists them."""
        return [row.node for row in self._rows()]

    def down_nodes(self) -> dict[NodeName, str]:
        """Return what sitectl calls down."""
        return {row.node: row.reason for row in self._rows() if row.state == "down"}

    def end_time(self) -> int:
        """Return what ``sitectl end`` says."""
        text = self._ask("end").strip()
        if text == "never":
            return -1
        if not text.isdigit():
            raise OutputParseError("sitectl end", text, "expected a number or never")
        return int(text)

    def _rows(self) -> list[Row]:
        return parse_nodes(self._ask("nodes")) if self.job_id() else []

    def _ask(self, question: str) -> str:
        context = self.context
        argv = ["sitectl", question]
        return context.runner.run(argv, timeout_s=TIMEOUT_S, env=context.environ).check().stdout
