# SPDX-License-Identifier: BSD-3-Clause
"""Lists of node names and their folded form, ``node[1-3,7]``.

Grammar of what is read::

    list    := name { separator name }          separator: comma, blank, tab, line end
    name    := { character | "[" item { "," item } "]" }
    item    := digits [ "-" digits ]            a range, padded with zeros to the width of its start

Several brackets in one name stand for all combinations, the leftmost changing slowest. Order,
duplicates and zero padding are kept in both directions, so ``expand_hosts(compress_hosts(x)) == x``
for every list of names. A name is any text without separators and brackets: nothing is taken for a
number and rebuilt from it.

Source: the syntax is that of Slurm's host lists (``man scontrol``, "hostlist").
"""

from __future__ import annotations

import re
from itertools import product
from typing import Iterable, Optional, Sequence, Union

from scrjob.errors import UsageError

Hosts = Union[str, Iterable[str], None]

MAX_HOSTS = 1_000_000
"""The most names that one list may stand for; above every machine, below any harm to memory."""

SHOWN_CHARS = 200  # of a folded list in a message
_MAX_DIGITS = 18  # of one number in a range: fits 64 bits; longer digit strings fold in pieces
_SEPARATORS = " \t\r\n\f\v,"
_SEPARATOR = re.compile(f"[{_SEPARATORS}]+")
_SPECIAL = re.compile(rf"[\[\]{_SEPARATORS}]")
_WORD = re.compile(rf"(?:[^\[\]{_SEPARATORS}]|\[[^\[\]]*\])+")
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_ITEM = re.compile(rf"[ \t]*([0-9]+)(?:-([0-9]{{1,{_MAX_DIGITS}}}))?[ \t]*")
_NUMBER = re.compile(f"([0-9]{{1,{_MAX_DIGITS}}})")
_TRAILING_NUMBER = re.compile(r"[0-9]+(?=[^0-9]*\Z)")


def expand_hosts(hoststr: Hosts) -> list[str]:
    """Return the single names of a list, in order, with duplicates.

    Args:
        hoststr: text, or strings each of which may be folded; None and "" are the empty list.

    Raises:
        UsageError: a bracket is not closed or holds no ranges, or more than MAX_HOSTS names result.
    """
    if not hoststr:
        return []
    if isinstance(hoststr, str):
        return _expand_text(hoststr, MAX_HOSTS)
    names: list[str] = []
    for text in hoststr:
        if _SPECIAL.search(text) or not text:
            names += _expand_text(text, MAX_HOSTS - len(names))
        else:
            names.append(text)
    if len(names) > MAX_HOSTS:
        raise _too_many("(a list of names)")
    return names


def compress_hosts(nodes: Hosts) -> str:
    """Return the folded form of a list in its order: ``n1 n2 n3 n5`` gives ``n[1-3,5]``.

    Numbers that do not ascend start a new group: ``n5 n1`` gives ``n5,n1``. Sort before
    (``sort_hosts``) where the order has no meaning and the text shall be short.
    """
    groups: list[Sequence[str]] = [_NUMBER.split(name) for name in expand_hosts(nodes)]
    before = None
    # Each pass folds one more number of names such as r1n01; the last pass changes nothing.
    while before != len(groups):
        before = len(groups)
        groups = _fold(groups)
    return ",".join("".join(parts) for parts in groups)


def show_hosts(nodes: Hosts) -> str:
    """Return nodes folded for a message, cut where it would be too long for a line."""
    text = compress_hosts(nodes)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."


def join_hosts(nodes: Hosts) -> str:
    """Return the single names joined by commas, in order."""
    return ",".join(expand_hosts(nodes))


def diff_hosts(set1: Hosts, set2: Hosts) -> list[str]:
    """Return the names of the first list that are not in the second, in order."""
    drop = set(expand_hosts(set2))
    return [name for name in expand_hosts(set1) if name not in drop]


def intersect_hosts(set1: Hosts, set2: Hosts) -> list[str]:
    """Return the names of the first list that are also in the second, in order."""
    keep = set(expand_hosts(set2))
    return [name for name in expand_hosts(set1) if name in keep]


def sort_hosts(nodes: Hosts) -> list[str]:
    """Return the names without duplicates in human order: ``n2`` before ``n10``."""
    return sorted(set(expand_hosts(nodes)), key=_human_order)


def splithosts(hosts: str = "") -> list[str]:
    """Return the words of a list unexpanded: ``n[1,3] m`` gives ``["n[1,3]", "m"]``.

    Raises:
        UsageError: a bracket is not closed.
    """
    words = _WORD.findall(hosts)
    if _SEPARATOR.sub("", _WORD.sub("", hosts)):
        raise UsageError(f"host list {_shown(hosts)}: a bracket is not closed or not opened")
    return words


def numbersfromrange(numstring: str) -> list[str]:
    """Return the numbers that the inside of a bracket stands for: ``08-10,7`` gives 08, 09, 10, 7.

    Raises:
        UsageError: it is no list of numbers and ranges, or stands for more than MAX_HOSTS.
    """
    return [n for item in _items(numstring, numstring, MAX_HOSTS) for n in _numbers(*item)]


def rangefromnumbers(numstring: Union[str, Sequence[str]]) -> str:
    """Return numbers as ranges, in order: ``08,09,10,7`` (text or list) gives ``08-10,7``."""
    words = _SEPARATOR.split(numstring) if isinstance(numstring, str) else numstring
    return _ranges([word for word in words if word])


def numfromhost(host: str = "") -> str:
    """Return the last number in a name as it stands there: ``r1n08`` gives ``08``; "" if none."""
    found = _TRAILING_NUMBER.search(host)
    return found[0] if found else ""


def sorthoststring(hosts: str = "") -> str:
    """Return the names of a list in human order without duplicates, joined by commas."""
    return ",".join(sort_hosts(hosts))


def _human_order(name: str) -> list[Union[str, tuple[int, str]]]:
    parts: list[Union[str, tuple[int, str]]] = [*_NUMBER.split(name)]
    for i in range(1, len(parts), 2):
        parts[i] = (int(parts[i]), parts[i])  # type: ignore[arg-type,assignment]
    return parts


def _expand_text(text: str, limit: int) -> list[str]:
    if "[" not in text and "]" not in text:
        names = [word for word in _SEPARATOR.split(text) if word]
    else:
        names = []
        for word in splithosts(text):
            if "[" in word:
                names += _expand_word(word, limit - len(names))
            else:
                names.append(word)
    if len(names) > limit:
        raise _too_many(text)
    return names


def _expand_word(word: str, limit: int) -> list[str]:
    pieces: list[list[str]] = []
    total = 1
    for i, part in enumerate(_BRACKET.split(word)):
        if i % 2 == 0:
            pieces.append([part])
            continue
        items = _items(part, word, limit // total)
        numbers = [n for item in items for n in _numbers(*item)]
        total *= len(numbers)
        pieces.append(numbers)
    return ["".join(combination) for combination in product(*pieces)]


def _items(inside: str, word: str, limit: int) -> list[tuple[str, str]]:
    """Return (first, last) of each range in a bracket, checked before anything is made of it."""
    items = []
    for text in inside.split(","):
        found = _ITEM.fullmatch(text)
        if not found:
            raise UsageError(f"host list {_shown(word)}: {text!r} is no number or range")
        first, last = found[1], found[2]
        if last is None:
            limit -= 1
            items.append((first, ""))
        else:
            padded_apart = last[0] == "0" and len(last) != len(first)
            if len(first) > _MAX_DIGITS or int(first) > int(last) or padded_apart:
                raise UsageError(f"host list {_shown(word)}: {text!r} is no ascending range")
            limit -= int(last) - int(first) + 1
            items.append((first, last))
        if limit < 0:
            raise _too_many(word)
    return items


def _numbers(first: str, last: str) -> list[str]:
    if not last:
        return [first]
    width = len(first)
    return [str(n).zfill(width) for n in range(int(first), int(last) + 1)]


def _too_many(text: str) -> UsageError:
    return UsageError(f"host list {_shown(text)} stands for more than {MAX_HOSTS} names")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")  # noqa: PLR2004 - fits a line


class _Group:
    """Consecutive names that differ in one number only.

    ``parts`` alternates text and number, beginning with text; ``folded`` is the index of the number that
    takes several values, ``values`` are those in order. What an earlier pass folded is in brackets.
    """

    __slots__ = ("folded", "last", "parts", "values")

    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = parts
        self.folded = 0
        self.last = 0
        self.values: list[str] = []

    def take(self, theirs: Sequence[str]) -> bool:
        """Add parts that continue the group; False if they do not."""
        mine, at = self.parts, self.folded
        if len(mine) != len(theirs):
            return False
        if not at:
            return self._take_second(theirs)
        number = theirs[at]
        if number[0] == "[" or mine[:at] != theirs[:at] or mine[at + 1 :] != theirs[at + 1 :]:
            return False
        value = int(number)
        if value <= self.last:
            return False
        self.last = value
        self.values.append(number)
        return True

    def _take_second(self, theirs: Sequence[str]) -> bool:
        mine = self.parts
        at = 1
        while at < len(mine) and mine[at] == theirs[at]:
            at += 2
        # Brackets left of this number would change slower than it: another order.
        if (
            at >= len(mine)
            or theirs[at][0] == "["
            or any(part[:1] == "[" for part in mine[1 : at + 1 : 2])
        ):
            return False
        if mine[::2] != theirs[::2] or mine[at + 1 :] != theirs[at + 1 :]:
            return False
        first, second = int(mine[at]), int(theirs[at])
        if first >= second:
            return False
        self.folded, self.last, self.values = at, second, [mine[at], theirs[at]]
        return True

    def closed(self) -> Sequence[str]:
        """Return the parts, with the collected values as a bracket."""
        if not self.folded:
            return self.parts
        bracket = f"[{_ranges(self.values)}]"
        return [*self.parts[: self.folded], bracket, *self.parts[self.folded + 1 :]]


def _fold(groups: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    out: list[Sequence[str]] = []
    group: Optional[_Group] = None
    for parts in groups:
        if group is None or not group.take(parts):
            if group is not None:
                out.append(group.closed())
            group = _Group(parts)
    if group is not None:
        out.append(group.closed())
    return out


def _ranges(numbers: Sequence[str]) -> str:
    """Return ``1-3,7`` for 1 2 3 7; a range goes on while padding to its first width reproduces the text."""
    out: list[str] = []
    first = last = ""
    for number in numbers:
        if first and number == str(int(last) + 1).zfill(len(first)):
            last = number
            continue
        if first:
            out.append(first if first == last else f"{first}-{last}")
        first = last = number
    if first:
        out.append(first if first == last else f"{first}-{last}")
    return ",".join(out)
