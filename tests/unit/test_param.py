# SPDX-License-Identifier: BSD-3-Clause
"""Settings: grammar of the files, precedence, expansion, sources, typed reading."""

from __future__ import annotations

import logging
import os

import pytest

from scrjob._parameters import PARAMETERS
from scrjob.errors import ConfigError
from scrjob.param import Param


@pytest.fixture
def world(tmp_path):
    """Make a Param from the texts of the three files and an environment."""

    def make(user=None, app=None, system=None, **environ):
        (tmp_path / ".scr").mkdir(exist_ok=True)
        for name, text in ((".scrconf", user), (".scr/app.conf", app), ("system.conf", system)):
            if text is not None:
                (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        return Param(
            environ=environ, prefix=str(tmp_path), system_file=str(tmp_path / "system.conf")
        )

    return make


def test_the_first_source_wins(world):
    files = {"user": "A=user", "app": "A=app", "system": "A=system"}
    assert world(**files, A="env").get("A") == "env"
    assert world(**files).get("A") == "user"
    assert world(user="", app="A=app", system="A=system").get("A") == "app"
    assert world(app="", system="A=system").get("A") == "system"
    assert world(system="").get("A") is None
    assert world().get("SCR_FLUSH") == "10"


def test_the_source_of_each_value_is_told(world, tmp_path):
    param = world(user="#\nA=1\nA=2", app="B=1", system="C=1", E="1")
    assert param.source("E") == "environment"
    assert param.source("A") == f"{tmp_path}/.scrconf:3"
    assert param.source("B") == f"{tmp_path}/.scr/app.conf:1"
    assert param.source("C") == f"{tmp_path}/system.conf:1"
    assert param.source("SCR_FLUSH") == "built-in default"
    assert param.source("NONE") == "not set"


def test_an_environment_value_hides_all_lines_of_a_key(world):
    assert world(user="STORE=/a\nSTORE=/b COUNT=1", STORE="/x").get_hash("STORE") == {"/x": {}}


def test_of_several_values_the_last_written_wins(world):
    """A value that comes again keeps its place, as in the C library."""
    assert world(user="A=1\nA=2").get("A") == "2"
    assert world(user="A=1\nA=2\nA=1").get("A") == "2"


def test_in_app_conf_the_newest_value_comes_first(world):
    param = world(app="A=new\nA=old\n")
    assert param.get("A") == "new"
    assert list(param.get_hash("A")) == ["old", "new"]


def test_children_of_a_value(world):
    param = world(user="cache=/dev/shm size=1\nCACHE=/ssd SIZE=3 x=Y\nCACHE=/ssd\tSIZE = 4")
    assert param.get_hash("CACHE") == {
        "/dev/shm": {"SIZE": {"1": {}}},
        "/ssd": {"SIZE": {"3": {}, "4": {}}, "X": {"Y": {}}},
    }


def test_cache_is_made_of_two_settings_if_unset(world):
    param = world(SCR_CACHE_BASE="/b", SCR_CACHE_SIZE="2")
    assert param.get_hash("CACHE") == {"/b": {"SIZE": {"2": {}}}}
    assert param.get_hash("CNTLDIR") is None
    assert param.get_hash("SCR_FLUSH") == {"10": {}}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1 # c", "1"),
        ("A=x#y", "x#y"),
        ('A="q"', '"q"'),
        (" \t a = 1", "1"),
        ("A=1\r", "1\r"),
        (r"A=a\tb\\c\d", "a\tb\\cd"),
        ("A=$HOME2", "/home/u2"),
        ("A=$HOME/$USER_X", "/home/u/y"),
        (r"A=\$HOME", "/home/u"),
        (r"A=\${V1}", "one"),
        (r"A=\$NOPE.", "."),
        ("A=" + "x" * 1023, "x" * 1023),
        ("A=\udcff", "\udcff"),
        ("A=end\\", "end\\"),
    ],
)
def test_values_of_a_file(world, line, value):
    param = world(user=line, HOME="/home/u", USER_X="y", V1="one")
    assert param.problems == []
    assert param.get("A") == value


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("foo", "KEY=VALUE"),
        ('A="x y"', "KEY=VALUE"),
        ("A=a b", "KEY=VALUE"),
        ("=x", "KEY=VALUE"),
        ("==x", "KEY=VALUE"),
        ("A=", "no value for 'A'"),
        ("A=#c", "no value for 'A'"),
        ("A==x", "no value for 'A'"),
        ("A=x=y", "KEY=VALUE"),
        ("A=1 B=", "no value for 'B'"),
        ("A=$NOPE", "'NOPE'"),
        ("A=${HOME}", "no name after '$'"),
        ("A=$", "no name after '$'"),
        ("A=" + "x" * 1024, "1023"),
        ("A=" + "\u00e9" * 512, "1023"),
    ],
)
def test_a_faulty_line_loses_nothing_else(world, tmp_path, caplog, line, why):
    """Lesson A16: one bad line is told with file and line, and only it is skipped."""
    with caplog.at_level(logging.WARNING):
        param = world(user=f"X=1\n{line}\nY=2\n", HOME="/h")
        values = [param.get(name) for name in ("X", "A", "Y")]
    assert values == ["1", None, "2"]
    assert len(param.problems) == len(caplog.messages) == 1
    assert param.problems[0].startswith(f"{tmp_path}/.scrconf:2: ")
    assert why in param.problems[0]
    assert caplog.messages == param.problems


def test_expansion_at_look_up(world):
    raw = "a${HOME}b$HOME-c$NOPE.d$-e${BAD"
    assert world(A=raw, HOME="/h").get("A") == "a/hb/h-c.d$-e${BAD"


def test_app_conf_is_not_processed_when_read(world):
    param = world(app="A=a\\b${HOME}\n", HOME="/h")
    assert param.get("A") == "a\\b/h"
    assert param.problems == []


@pytest.mark.parametrize(
    ("name", "value", "expanded"),
    [
        ("SCR_CNTL_BASE", "~", "/h"),
        ("SCR_CNTL_BASE", "~/x", "/h/x"),
        ("SCR_CNTL_BASE", "~nobody-of-that-name/x", "~nobody-of-that-name/x"),
        ("SCR_CNTL_BASE", "a~", "a~"),
        ("SCR_CNTL_BASE", ".hidden", ".hidden"),
        ("SCR_GROUP", "~/x", "~/x"),
        ("OTHER", "~/x", "~/x"),
    ],
)
def test_home_is_expanded_only_in_names_that_scripts_read(world, name, value, expanded):
    """Lesson A16: neither another user's home nor a hidden name is mangled."""
    assert world(user=f"{name}={value}", HOME="/h").get(name) == expanded
    assert list(world(HOME="/h", **{name: value}).get_hash(name)) == [expanded]


def test_home_stays_if_it_is_not_known(world):
    assert world(SCR_CNTL_BASE="~/x").get("SCR_CNTL_BASE") == "~/x"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100", 100),
        ("10kb", 10240),
        ("1.5m", 1572864),
        ("7.9kb", 8089),
        ("1.4T", 1539316278886),
        ("200GB", 214748364800),
        ("1.5kb", 1536),
        ("1e", 1 << 60),
        ("1e3", 1000),
        ("0x10", 16),
        (" 5", 5),
        ("99999999999999999", 99999999999999999),
        (".5k", 512),
    ],
)
def test_sizes(text, size):
    """Lesson A16: a number without a unit is a size."""
    assert Param.abtoull(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "b", "10b", "-1", "16E", "x", "1 k", "1kbb", "0x", "inf", "nan", "1e999", "k", "5 "],
)
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="no size"):
        Param.abtoull(text)


def test_typed_values(world):
    param = world(I=" -3 ", B="2", Z="0", S="1.5", K="2kb", EMPTY="")
    assert param.get_int("I") == -3
    assert param.get_bool("B") is True
    assert param.get_bool("Z", True) is False
    assert param.get_seconds("S") == 1.5
    assert param.get_bytes("K") == 2048
    assert (param.get_int("EMPTY", 7), param.get_int("NONE", 8)) == (7, 8)
    assert param.get_bool("NONE", True) is True
    assert param.get_bytes("NONE", 9) == 9
    assert param.get_seconds("EMPTY", 2.5) == 2.5


@pytest.mark.parametrize(
    ("getter", "value"),
    [
        ("get_int", "many"),
        ("get_int", "1.5"),
        ("get_bool", "yes"),
        ("get_bytes", "10b"),
        ("get_seconds", "soon"),
        ("get_seconds", "-1"),
        ("get_seconds", "inf"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_source(world, tmp_path, getter, value):
    param = world(user=f"A={value}")
    with pytest.raises(ConfigError) as caught:
        getattr(param, getter)("A")
    assert f"A='{value}' ({tmp_path}/.scrconf:1): expected" in str(caught.value)


def test_reading_creates_nothing(tmp_path):
    """Lesson A16: no directory appears because it was looked into."""
    param = Param(environ={}, prefix=str(tmp_path / "none"), system_file=str(tmp_path / "s"))
    assert param.get("A") is None
    assert param.problems == []
    assert list(tmp_path.iterdir()) == []


def test_where_the_user_file_is(tmp_path):
    (tmp_path / "mine.conf").write_text("A=mine\n")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / ".scrconf").write_text("A=prefix\n")

    def get(**environ):
        return Param(environ=environ, cwd=str(tmp_path), system_file="").get("A")

    assert get(SCR_CONF_FILE="mine.conf", SCR_PREFIX="p") == "mine"
    assert get(SCR_PREFIX="p") == "prefix"
    assert get(SCR_PREFIX="$WHERE", WHERE=str(tmp_path / "p")) == "prefix"
    assert get() is None


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_file_that_is_none_is_reported(tmp_path, make, caplog):
    make(tmp_path / ".scrconf")
    param = Param(environ={}, prefix=str(tmp_path), system_file="")
    assert param.get("SCR_FLUSH") == "10"
    assert len(param.problems) == len(caplog.messages) == 1
    assert ".scrconf" in param.problems[0]


def test_a_file_beyond_the_limit_is_reported(tmp_path):
    (tmp_path / ".scrconf").write_bytes(b"#" * ((1 << 20) + 1))
    param = Param(environ={}, prefix=str(tmp_path), system_file="")
    assert "larger" in param.problems[0]


def test_read_config_file_gives_the_tree(world, tmp_path):
    (tmp_path / "c").write_text("a=1 b=2\nbad\n")
    param = world()
    assert param.read_config_file(tmp_path / "c") == {"A": {"1": {"B": {"2": {}}}}}
    assert param.read_config_file(tmp_path / "absent") == {}
    assert param.problems == [f"{tmp_path}/c:2: expected KEY=VALUE at 'bad'; line skipped"]


def test_the_system_file_of_the_build_is_the_default(monkeypatch, tmp_path):
    (tmp_path / "s").write_text("A=1\n")
    monkeypatch.setattr("scrjob.config.SCR_SYSTEM_CONFIG_FILE", str(tmp_path / "s"))
    assert Param(environ={}, prefix=str(tmp_path)).get("A") == "1"


def test_without_arguments_the_process_is_asked(monkeypatch):
    monkeypatch.setenv("SCR_FLUSH", "77")
    assert Param().get("SCR_FLUSH") == "77"


def test_defaults_are_of_their_type():
    param = Param(environ={}, prefix="/nonexistent", system_file="")
    for name in PARAMETERS:
        value = param.get(name)
        assert value == PARAMETERS[name].default
    assert param.get_bytes("SCR_FILE_BUF_SIZE") == 32 << 20
