# SPDX-License-Identifier: BSD-3-Clause
"""Feed the readers of SCR's files with what coverage finds: ``make fuzz``, or ``python -m fuzz READER ...``.

Needs atheris (``pip install atheris``). Begins with files that SCR wrote; each input comes as a packed tree
without a checksum, which no mutation could keep. Stops at the first error that is not one of ours, and leaves
the input in ``fuzz/found``.

A reader alone: ``python -m fuzz READER -max_total_time=60``, with libFuzzer's options.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))

SECONDS = 30
FOUND = HERE / "found"
CHILD = "--child"


def fuzz(name: str, options: list[str], scratch: str) -> None:
    """Feed one reader until the time is over; never returns.

    Args:
        name: of the reader.
        options: of libFuzzer.
        scratch: an empty directory.
    """
    import atheris

    with atheris.instrument_imports(include=["scrjob"]):
        from fuzzreaders import READERS, golden_images
        from scrjob.errors import ScrError
        from scrjob.formats import kvtree

    reader = READERS[name]
    path = os.path.join(scratch, "rank2file")
    corpus = os.path.join(scratch, "corpus")
    os.mkdir(corpus)
    for number, image in enumerate(golden_images()[name]):
        length = int.from_bytes(image[8:16], "big")
        Path(corpus, str(number)).write_bytes(image[kvtree.HEADER.size : length - 4])

    def one(body: bytes) -> None:
        size = kvtree.HEADER.size + len(body)
        head = kvtree.HEADER.pack(kvtree.MAGIC, kvtree.FILE_TYPE, kvtree.VERSION, size, 0)
        Path(path).write_bytes(head + body)
        with contextlib.suppress(ScrError, OSError):
            reader(path, head + body)

    FOUND.mkdir(exist_ok=True)
    atheris.Setup(
        [sys.argv[0], f"-artifact_prefix={FOUND}/{name}-", "-rss_limit_mb=512", *options, corpus],
        one,
    )
    atheris.Fuzz()


def main() -> int:
    """Feed all readers for a while each, or one as the arguments say."""
    if sys.argv[1:2] == [CHILD]:
        fuzz(sys.argv[2], sys.argv[4:], sys.argv[3])
    from fuzzreaders import READERS

    names = sys.argv[1:2] or list(READERS)
    if not READERS.keys() >= set(names):
        print(f"fuzz: no reader {names[0]!r}; there are {', '.join(READERS)}", file=sys.stderr)
        return 2
    options = sys.argv[2:] or [f"-max_total_time={SECONDS}", "-timeout=5"]
    code = 0
    for name in names:
        print(f"fuzz: {name}", flush=True)
        # libFuzzer ends its process at once: only another one can tidy up.
        with tempfile.TemporaryDirectory(prefix="scrjob-fuzz-") as scratch:
            argv = [sys.executable, "-m", "fuzz", CHILD, name, scratch, *options]
            code = max(code, abs(subprocess.run(argv, cwd=HERE.parent, check=False).returncode))
    return code


if __name__ == "__main__":
    sys.exit(main())
