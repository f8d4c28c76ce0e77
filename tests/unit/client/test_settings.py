# SPDX-License-Identifier: BSD-3-Clause
"""Settings, identity and directories of a program."""

from __future__ import annotations

import os
import pwd

import pytest

from clientworld import ClientWorld, Rank, write
from scrjob.client.layout import Layout, absolute_in_prefix
from scrjob.client.session import Session
from scrjob.client.settings import ProgramConfig, prefix_of, read_settings
from scrjob.errors import ConfigError, UnsafePathError, UsageError


def settings(world: ClientWorld, **changes: str | None):
    return read_settings(world.context(**changes), world.prefix)


@pytest.mark.parametrize("scheme", ["FILE", "RS2", "XOR,RS", ""])
def test_a_scheme_that_does_not_exist_is_refused_with_its_source(world: ClientWorld, scheme):
    with pytest.raises(
        ConfigError, match=r"SCR_COPY_TYPE=.*\(environment\): .*SINGLE, PARTNER, XOR, RS"
    ):
        settings(world, SCR_COPY_TYPE=scheme)


@pytest.mark.parametrize("given", ["xor", "Partner", "rs", "SINGLE"])
def test_the_case_of_a_scheme_does_not_matter(world: ClientWorld, given):
    assert settings(world, SCR_COPY_TYPE=given).scheme.copy_type == given.upper()


def test_the_scheme_by_default_and_as_set(world: ClientWorld):
    assert settings(world).scheme == ("XOR", 8, 2)
    given = {"SCR_COPY_TYPE": "RS", "SCR_SET_SIZE": "4", "SCR_SET_FAILURES": "3"}
    assert settings(world, **given).scheme == ("RS", 4, 3)


def test_rs_that_is_to_survive_nothing_is_refused(world: ClientWorld):
    with pytest.raises(
        ConfigError, match=r"SCR_SET_FAILURES=0 \(environment\): expected 1 or more"
    ):
        settings(world, SCR_COPY_TYPE="RS", SCR_SET_FAILURES="0")
    assert settings(world, SCR_SET_FAILURES="0").scheme.copy_type == "XOR"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCR_CACHE_SIZE", "0"),
        ("SCR_CACHE_SIZE", "many"),
        ("SCR_CACHE_BASE", "relative"),
        ("SCR_CNTL_BASE", ""),
        ("SCR_MPI_BUF_SIZE", "0"),
        ("SCR_FILE_BUF_SIZE", "10b"),
        ("SCR_FLUSH", "often"),
        ("SCR_CHECKPOINT_SECONDS", "-1"),
    ],
)
def test_a_wrong_value_is_told_with_its_name(world: ClientWorld, name, value):
    with pytest.raises(ConfigError, match=name):
        settings(world, **{name: value})


def test_a_wrong_setting_is_one_error_on_all_ranks(world: ClientWorld):
    answers = world.run_any(lambda _s, _r: None, ranks=3, SCR_COPY_TYPE="FILE")
    assert [type(answer) for answer in answers] == [ConfigError] * 3
    assert len({str(answer) for answer in answers}) == 1


def test_user_without_a_name_in_the_environment(world: ClientWorld):
    """Lesson A21: USER may be unset."""
    found = settings(world, SCR_USER_NAME=None, USER=None)
    assert found.user == pwd.getpwuid(os.getuid()).pw_name
    assert settings(world, SCR_USER_NAME=None, USER="bob").user == "bob"
    assert settings(world, SCR_USER_NAME="eve", USER="bob").user == "eve"


def test_user_whose_uid_has_no_name(world: ClientWorld, monkeypatch):
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert settings(world, SCR_USER_NAME=None, USER=None).user == str(os.getuid())


@pytest.mark.parametrize(
    "name", ["SLURM_JOBID", "SLURM_JOB_ID", "FLUX_JOB_ID", "LSB_JOBID", "PBS_JOBID"]
)
def test_the_job_id_of_each_resource_manager(world: ClientWorld, name):
    assert settings(world, SCR_JOB_ID=None, **{name: "12"}).job_id == "12"
    assert settings(world, SCR_JOB_ID="7", **{name: "12"}).job_id == "7"


def test_without_a_job_id_there_is_a_default(world: ClientWorld):
    assert settings(world, SCR_JOB_ID=None).job_id == "defjobid"


def test_sources_go_before_each_other_environment_user_file_program(world: ClientWorld):
    with open(f"{world.prefix}/.scrconf", "w", encoding="ascii") as file:
        file.write("SCR_SET_SIZE=3\nSCR_FLUSH=5\n")

    def program(session: Session, rank: Rank) -> list[str | None]:
        names = ("SCR_FLUSH", "SCR_SET_SIZE", "SCR_CACHE_SIZE", "SCR_PREFIX", "NO_SUCH")
        return [session.config(name) for name in names]

    config = ["SCR_FLUSH=1", "SCR_SET_SIZE=4", "SCR_CACHE_SIZE=2"]
    assert world.run(program, config=config) == [["0", "3", "2", world.prefix, None]] * 2
    with open(f"{world.prefix}/.scr/app.conf", encoding="ascii") as file:
        assert file.read() == "SCR_CACHE_SIZE=2\nSCR_SET_SIZE=4\nSCR_FLUSH=1\n"


def test_what_an_earlier_program_set_is_forgotten(world: ClientWorld):
    world.run(lambda _s, _r: None, config=["SCR_CACHE_SIZE=2"])
    assert world.run(lambda s, _: s.config("SCR_CACHE_SIZE")) == ["1", "1"]


def test_program_config_collects_descriptors_and_replaces_values():
    config = ProgramConfig()
    for text in ("A=1", "A=2", "STORE=/x COUNT=2  GROUP=NODE", "STORE=/y", "STORE=/z", "B=", "C=3"):
        config.change(text)
    config.change("C=")
    assert config.text() == "STORE=/z\nA=2\n"
    config.change("STORE=/y COUNT=1")
    assert config.text() == "STORE=/y COUNT=1\nSTORE=/z\nA=2\n"
    assert config.scalars() == {"A": "2", "STORE": "/y"}


@pytest.mark.parametrize("text", ["=1", "A", "A=1 B", "A= B=1", "A=1 B=", "A=1\nB=2", ""])
def test_program_config_refuses_what_it_cannot_write_down(text):
    with pytest.raises(UsageError):
        ProgramConfig().change(text)


@pytest.mark.parametrize(
    ("environment", "program", "expected"),
    [
        ("/p/./a//b/../c/", None, "/p/a/c"),
        ("rel", None, "/cwd/rel"),
        (None, "set", "/cwd/set"),
        ("env", "set", "/cwd/env"),
        (None, None, "/cwd"),
        ("a b\n'", None, "/cwd/a b\n'"),
    ],
)
def test_the_prefix_is_absolute_and_reduced(world: ClientWorld, environment, program, expected):
    given = {} if program is None else {"SCR_PREFIX": program}
    assert prefix_of(world.context(SCR_PREFIX=environment), given, "/cwd") == expected


def test_a_prefix_with_nul_is_refused(world: ClientWorld):
    with pytest.raises(ConfigError, match="NUL"):
        prefix_of(world.context(SCR_PREFIX="a\0b"), {}, "/")


@pytest.mark.parametrize("name", ["with blanks", "quote'\"", "new\nline", "ümlaut"])
def test_a_prefix_of_any_name_works(tmp_path, name):
    world = ClientWorld(tmp_path)
    world.prefix = str(tmp_path / name)
    os.makedirs(world.prefix)
    assert world.run(
        lambda s, r: write(s, r, "c"), ranks=1, SCR_PREFIX=world.prefix, SCR_FLUSH="1"
    ) == [True]
    assert world.index().current() == "c"


def test_directories_are_made_private_level_by_level(tmp_path):
    found = Layout.create(f"{tmp_path}/a/b", f"{tmp_path}/c", "bob", "array/12")
    assert found == (f"{tmp_path}/a/b/bob/scr.array/12", f"{tmp_path}/c/bob/scr.array/12")
    for path in ("a", "a/b", "a/b/bob", "a/b/bob/scr.array/12"):
        assert os.stat(tmp_path / path).st_mode & 0o777 == 0o700


def test_a_link_in_a_shared_place_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "bob").symlink_to("elsewhere")
    with pytest.raises(UnsafePathError, match="symbolic link"):
        Layout.create(str(tmp_path), str(tmp_path), "bob", "1")


def test_a_directory_that_anybody_may_write_is_refused_the_librarys_own_is_not(tmp_path):
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob").chmod(0o770)
    Layout.create(str(tmp_path), str(tmp_path), "bob", "1")
    (tmp_path / "bob").chmod(0o777)
    with pytest.raises(UnsafePathError, match="anybody"):
        Layout.create(str(tmp_path), str(tmp_path), "bob", "1")


@pytest.mark.parametrize(("user", "job"), [("..", "1"), ("bob", "x/../../y")])
def test_names_that_lead_elsewhere_are_refused(tmp_path, user, job):
    with pytest.raises(UnsafePathError):
        Layout.create(str(tmp_path), str(tmp_path), user, job)


def test_a_cache_that_cannot_be_written_is_one_clear_line_on_all_ranks(world: ClientWorld):
    with open(world.shm, "wb"):
        pass  # a file
    answers = world.run_any(lambda _s, _r: None)
    assert len({str(answer) for answer in answers}) == 1
    text = str(answers[0])
    assert text.startswith("rank 0 on node1: making the directories of this job: ")
    assert world.shm in text
    assert "\n" not in text


def test_a_prefix_that_cannot_be_written_is_one_clear_line(world: ClientWorld):
    with open(f"{world.prefix}/.scr", "wb"):
        pass
    (answer, _) = world.run_any(lambda _s, _r: None)
    assert f"{world.prefix}/.scr" in str(answer)


def test_owns_is_about_the_text_alone():
    found = Layout("/c", "/shm/a/scr.1")
    assert found.owns("/shm/a/scr.1/scr.dataset.3")
    assert found.owns("/shm/a/scr.1/node.2/scr.dataset.3")
    for path in ("/shm/a/scr.1", "/shm/a/scr.12/x", "/shm/a/scr.1/../x", "/", "/shm/a/scr.1//x"):
        assert not found.owns(path)


def test_names_in_a_prefix_that_is_the_root():
    assert absolute_in_prefix("tmp/x", "/", "/") == "/tmp/x"
