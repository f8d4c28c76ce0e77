# SPDX-License-Identifier: BSD-3-Clause
"""srun's command line, read as srun reads it: where each option ends, and where the program begins.

Nothing here judges the user's options; srun does. Words that are not about nodes are given back byte
for byte, and nothing behind the program's name is looked at but the word ``:``, which begins the next
part of a heterogeneous step wherever it stands.

Source: srun(1) of 22.05, each name and arity tried on that srun; of later options the manuals and
headers up to 24.11. srun stops at the first word that is no option (getopt's ``+``) and takes
unambiguous abbreviations of long names.
"""

from __future__ import annotations

import re
from typing import Callable, Iterable, Mapping, NamedTuple, Optional, Sequence

from scrjob.errors import UsageError

NONE, NEEDED, OPTIONAL = "none", "needed", "optional"

_FLAGS = """
    consolidate-segments contiguous debugger-test disable-status exact external-launcher help hold interactive
    label multi-prog no-allocate overcommit oversubscribe preserve-env quiet quit-on-interrupt reboot
    spread-job spread-segments stepmgr test-only unbuffered usage use-min-nodes verbose version
    wait-for-children whole
"""
_WITH_OPTIONAL_VALUE = """
    bcast compress exclusive immediate kill-on-bad-exit nice no-kill oom-kill-step overlap propagate pty
    resv-ports send-libs x11
"""
_WITH_VALUE = """
    accel-bind account acctg-freq bb bbf bcast-exclude begin chdir cluster cluster-constraint clusters comment
    constraint container container-id core-spec cores-per-socket cpu-bind cpu-freq cpus-per-gpu cpus-per-task
    deadline delay-boot dependency distribution epilog error exclude export extra-node-info gid gpu-bind
    gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres gres-flags het-group hint input job-name
    jobid licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus mpi msg-timeout
    network nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket
    ntasks-per-tres open-mode output pack-group partition power prefer priority profile prolog qos relative
    reservation segment signal slurmd-debug sockets-per-node switches task-epilog task-prolog tasks-per-node
    thread-spec threads threads-per-core time time-min tmp treewidth tres-bind tres-per-task uid wait wckey
"""
_LETTERS = """
    A:account B:extra-node-info C:constraint D:chdir E:preserve-env F:nodefile G:gpus H:hold I:immediate
    J:job-name K:kill-on-bad-exit L:licenses M:clusters N:nodes O:overcommit Q:quiet S:core-spec T:threads
    V:version W:wait X:disable-status Z:no-allocate b:begin c:cpus-per-task d:dependency e:error h:help
    i:input k:no-kill l:label m:distribution n:ntasks o:output p:partition q:qos r:relative s:oversubscribe
    t:time u:unbuffered v:verbose w:nodelist x:exclude
"""
_LONG = {
    **dict.fromkeys(_FLAGS.split(), NONE),
    **dict.fromkeys(_WITH_OPTIONAL_VALUE.split(), OPTIONAL),
    **dict.fromkeys(_WITH_VALUE.split(), NEEDED),
}
_SHORT = {pair[0]: pair[2:] for pair in _LETTERS.split()}
_SAME = {"tasks-per-node": "ntasks-per-node", "pack-group": "het-group"}
_HELP_LINE = re.compile(r"^ +(?:-\w, +)?--([A-Za-z0-9][\w-]*)(\[=|=)?", re.MULTILINE)
PART = ":"


class Option(NamedTuple):
    """One option: its long name, its value (None for none), and its letter if it was a letter."""

    name: str
    value: Optional[str]
    letter: str = ""


class Group(NamedTuple):
    """The words that stand together, and the options in them: several only as in ``-lvN2``."""

    words: tuple[str, ...]
    options: tuple[Option, ...]


class Part(NamedTuple):
    """One part of a step: its options, then the program with its arguments ([] if there is none)."""

    groups: tuple[Group, ...]
    program: tuple[str, ...]

    def value(self, name: str) -> Optional[str]:
        """Return an option's value as srun takes it: the last one; "" without value, None if not given."""
        found = [option for option in self._options() if option.name == name]
        return (found[-1].value or "") if found else None

    def has(self, *names: str) -> bool:
        """Tell whether any of these options is given."""
        return any(option.name in names for option in self._options())

    def without(self, *names: str) -> list[str]:
        """Return the words of the options, those of these names left out."""
        words: list[str] = []
        for group in self.groups:
            kept = [option for option in group.options if option.name not in names]
            if len(kept) == len(group.options):
                words += group.words
            else:  # only letters can stand with others
                words += [f"-{option.letter}{option.value or ''}" for option in kept]
        return words

    def _options(self) -> Iterable[Option]:
        return (option for group in self.groups for option in group.options)


def parse(args: Sequence[str], ask_help: Callable[[], str]) -> list[Part]:
    """Return the parts of a step, one unless it is heterogeneous.

    Args:
        args: the words after ``srun``.
        ask_help: returns what ``srun --help`` says here; asked only for a long option, without ``=``,
            that is not in our table: a site's own (SPANK), or one of a newer Slurm. What the help does not
            know either is taken to have no value.
    """
    table = _Table(ask_help)
    parts = []
    rest = list(args)
    while True:
        groups = _take_options(rest, table)
        end = rest.index(PART) if PART in rest else len(rest)
        parts.append(Part(tuple(groups), tuple(rest[:end])))
        if end == len(rest):
            return parts
        del rest[: end + 1]


def parse_help(text: str) -> dict[str, str]:
    """Return name -> arity of the long options that ``srun --help`` lists."""
    kinds = {None: NONE, "": NONE, "=": NEEDED, "[=": OPTIONAL}
    return {name: kinds[sign] for name, sign in _HELP_LINE.findall(text)}


class _Table:
    """Long options by name or abbreviation."""

    def __init__(self, ask_help: Callable[[], str]) -> None:
        self._ask_help = ask_help
        self._more: Optional[Mapping[str, str]] = None

    def find(self, word: str, has_value: bool) -> tuple[str, str]:
        """Return (name, arity) of what the user typed."""
        found = _match(word, _LONG)
        if found is None and not has_value:
            if self._more is None:
                self._more = parse_help(self._ask_help())
            found = _match(word, self._more)
        name, arity = found or (word, NONE)
        return _SAME.get(name, name), arity


def _match(word: str, table: Mapping[str, str]) -> Optional[tuple[str, str]]:
    if word in table:
        return word, table[word]
    names = [name for name in table if name.startswith(word)]
    kinds = {table[name] for name in names}
    if len(kinds) != 1:
        return None
    # Of several names srun says itself that the word is ambiguous.
    return (names[0] if len(names) == 1 else word), kinds.pop()


def _take_options(rest: list[str], table: _Table) -> list[Group]:
    """Take the options off the front of ``rest``."""
    groups = []
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            groups.append(Group((word,), ()))
            break
        if word.startswith("--"):
            groups.append(_long(word, rest, table))
        else:
            groups.append(_letters(word, rest))
    return groups


def _long(word: str, rest: list[str], table: _Table) -> Group:
    typed, equals, value = word[2:].partition("=")
    name, arity = table.find(typed, bool(equals))
    if equals:
        return Group((word,), (Option(name, value),))
    if arity is NEEDED and rest:
        value = rest.pop(0)
        return Group((word, value), (Option(name, value),))
    return Group((word,), (Option(name, None),))


def _letters(word: str, rest: list[str]) -> Group:
    options: list[Option] = []
    words = [word]
    for at, letter in enumerate(word[1:], 2):
        name = _SHORT.get(letter, letter)
        arity = _LONG.get(name, NONE)
        if arity is NONE:
            options.append(Option(name, None, letter))
            continue
        value: Optional[str] = word[at:] or None
        if value is None and arity is NEEDED and rest:
            value = rest.pop(0)
            words.append(value)
        options.append(Option(name, value, letter))
        break
    return Group(tuple(words), tuple(options))


_COUNT = re.compile(r"\+?([0-9]+)([km]?)(?:-\+?([0-9]+)([km]?))?", re.IGNORECASE)
_UNIT = {"": 1, "k": 1024, "m": 1024**2}


def node_range(text: str) -> tuple[int, int]:
    """Return the least and the largest number of nodes of ``--nodes``.

    Raises:
        UsageError: it is no number and no range.
    """
    found = _COUNT.fullmatch(text)
    if found:
        least = int(found[1]) * _UNIT[found[2].lower()]
        most = int(found[3]) * _UNIT[found[4].lower()] if found[3] else least
        if 0 < least <= most:
            return least, most
    raise UsageError(f"launcher srun: --nodes={text}: expected a number from 1, or LEAST-MOST")


def number(option: str, text: Optional[str]) -> Optional[int]:
    """Return an option's number, None if it is not given.

    Raises:
        UsageError: it is no number from 1.
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise UsageError(f"launcher srun: --{option}={text}: expected a number from 1")
