"""The private environment is made once, finished when it was interrupted, and explained when it cannot be."""

import ast
import os
import shutil
import subprocess
import sys
import threading
import time
from importlib import metadata
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from minitransformer.course import bootstrap
from minitransformer.errors import UserError
from tests.conftest import ROOT

PYPROJECT = """[project]
dependencies = [
    "torch==2.13.0",
    "numpy==2.4.6; python_version >= '3.11'",
    "numpy==2.2.6; python_version < '3.11'",
]

[project.optional-dependencies]
parity = [
    "peft==0.21.2",
]
"""


class Restarted(Exception):
    """What takes the place of os.execv in a test."""


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A bare clone: pyproject.toml and no environment; the running Python lacks everything."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "has_requirements", lambda extras=(): False)

    def restart():
        raise Restarted

    monkeypatch.setattr(bootstrap, "restart", restart)
    monkeypatch.setenv(bootstrap.AGAIN, "")
    return tmp_path


@pytest.fixture
def commands(clone, monkeypatch):
    """Fake subprocesses: `commands.codes` gives each one's exit code, `commands.run` collects them."""
    log = SimpleNamespace(run=[], venv=0, pip=0)

    def call(command, **_):
        log.run.append(command)
        if "venv" in command:
            if log.venv == 0:
                bootstrap.venv_python().parent.mkdir(parents=True, exist_ok=True)
                bootstrap.venv_python().touch()
            return log.venv
        return log.pip

    monkeypatch.setattr(subprocess, "call", call)
    return log


@pytest.mark.parametrize(
    "name", ["course/bootstrap.py", "course/__init__.py", "__main__.py", "__init__.py", "errors.py"]
)
def test_an_old_python_can_read_as_far_as_the_sentence(name):
    source = (ROOT / "minitransformer" / name).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 6))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AnnAssign)):
            parts = [node.annotation] if isinstance(node, ast.AnnAssign) else [node.returns]
            parts += [] if isinstance(node, ast.AnnAssign) else [arg.annotation for arg in node.args.args]
            for part in parts:
                modern = isinstance(part, (ast.Subscript, ast.BinOp))
                assert not modern, f"{name}:{node.lineno}: quote this annotation; Python 3.6 would evaluate it"
        assert not isinstance(node, ast.ImportFrom) or node.module != "__future__", f"{name}: 3.6 lacks it"


def test_old_python_is_told(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 8, 10))
    monkeypatch.setattr(sys, "version", "3.8.10 (default, …)")
    with pytest.raises(UserError, match=r"Python 3\.10 or newer is needed; this is 3\.8\.10"):
        bootstrap.ensure()


def test_requirements_agree_with_packaging():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML parser to compare with")
    project = tomllib.loads(text)["project"]
    for extras in ((), ("parity",), ("dev",)):
        listed = project["dependencies"] + [
            line for extra in extras for line in project["optional-dependencies"][extra]
        ]
        wanted = [Requirement(line) for line in listed]
        pins = [(item.name, str(item.specifier)[2:]) for item in wanted if not item.marker or item.marker.evaluate()]
        assert bootstrap.requirements(extras) == pins
    assert all(str(Requirement(line).specifier).startswith("==") for line in project["dependencies"])


def test_markers_follow_the_python(clone, monkeypatch):
    for version, numpy in (((3, 10, 4), "2.2.6"), ((3, 11, 0), "2.4.6"), ((3, 13, 1), "2.4.6")):
        monkeypatch.setattr(sys, "version_info", version)
        assert bootstrap.requirements() == [("torch", "2.13.0"), ("numpy", numpy)]


def test_malformed_pins_are_named(clone):
    (clone / "pyproject.toml").write_text('dependencies = [\n    "torch>=2",\n]\n')
    with pytest.raises(UserError, match='"torch>=2" is not of the form name==version'):
        bootstrap.requirements()
    with pytest.raises(UserError, match="no list called parity"):
        (clone / "pyproject.toml").write_text("dependencies = [\n]\n")
        bootstrap.requirements(("parity",))


def test_a_python_that_has_everything_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    for version, kept in ((metadata.version("pytest"), True), ("0.0.1", False)):
        (tmp_path / "pyproject.toml").write_text(f'dependencies = [\n    "pytest=={version}",\n]\n')
        assert bootstrap.has_requirements() is kept
    (tmp_path / "pyproject.toml").write_text('dependencies = [\n    "no-such-thing==1.0",\n]\n')
    assert not bootstrap.has_requirements()


def test_a_local_build_counts_as_its_version(clone, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(bootstrap, "requirements", lambda extras: [("torch", "2.13.0")])
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0+cpu")
    assert bootstrap.has_requirements()


def test_first_run_installs_and_second_does_not(clone, commands):
    with pytest.raises(Restarted):
        bootstrap.ensure()
    assert [("venv" in command, "pip" in command) for command in commands.run] == [(True, False), (False, True)]
    assert bootstrap.is_stamped() and not bootstrap.is_stamped(("parity",))
    with pytest.raises(Restarted):
        os.environ[bootstrap.AGAIN] = ""
        bootstrap.ensure()
    assert len(commands.run) == 2, f"the second run ran {commands.run[2:]}"


def test_changed_pins_install_anew(clone, commands):
    bootstrap.install()
    assert bootstrap.is_stamped()
    (clone / "pyproject.toml").write_text(PYPROJECT.replace("2.13.0", "2.13.1"))
    assert not bootstrap.is_stamped()


def test_a_moved_clone_installs_anew(clone, commands, monkeypatch):
    bootstrap.install()
    moved = clone.parent / (clone.name + "-moved")
    shutil.copytree(clone, moved)
    monkeypatch.setattr(bootstrap, "ROOT", moved)
    assert not bootstrap.is_stamped()


def test_an_interrupted_install_leaves_no_stamp_and_is_finished(clone, commands, monkeypatch):
    commands.pip = 1
    with pytest.raises(UserError, match="pip could not install .*network.*Run the same command again"):
        bootstrap.ensure()
    assert not bootstrap.is_stamped()
    commands.pip = 0
    with pytest.raises(Restarted):
        bootstrap.ensure()
    assert bootstrap.is_stamped()


def test_extras_are_asked_of_pip_and_stamped_apart(clone, commands):
    bootstrap.install(("parity",))
    assert commands.run[-1][-1] == ".[parity]"
    assert bootstrap.is_stamped(("parity",)) and not bootstrap.is_stamped()


def test_a_venv_of_a_removed_python_is_made_anew(clone, commands, capsys):
    folder = bootstrap.venv_python().parent
    folder.mkdir(parents=True)
    bootstrap.venv_python().symlink_to(clone / "gone" / "python3")
    assert bootstrap.working_version() is None
    bootstrap.venv_python().unlink()
    folder.rmdir()
    bootstrap.install()
    assert "--clear" in commands.run[0]
    assert "made anew" in capsys.readouterr().err


def test_a_working_venv_is_recognised_and_a_foreign_one_is_not(clone):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bootstrap.venv_folder()], check=True)
    assert bootstrap.working_version() is None, "an environment without pip cannot be completed"
    next(bootstrap.venv_folder().rglob("site-packages")).joinpath("pip.py").touch()
    assert bootstrap.working_version() == bootstrap.python_version()
    shutil.rmtree(bootstrap.venv_folder())
    bootstrap.venv_python().parent.mkdir(parents=True)
    bootstrap.venv_python().symlink_to(sys.executable)  # runs, but belongs to another environment
    assert bootstrap.working_version() is None


def test_missing_ensurepip(clone, commands, monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)  # makes `import ensurepip` fail, as on Debian
    with pytest.raises(UserError, match="no venv module.*sudo apt install python3-venv"):
        bootstrap.install()
    assert not commands.run


def test_failing_venv(clone, commands):
    commands.venv = 1
    with pytest.raises(UserError, match="Making .venv failed"):
        bootstrap.install()


@pytest.mark.parametrize("full_from", ["the start", "pip on"])
def test_full_disk(clone, commands, monkeypatch, full_from):
    def usage(folder):
        full = full_from == "the start" or any("pip" in command for command in commands.run)
        return SimpleNamespace(free=10**7 if full else 10**12)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    commands.pip = 1
    with pytest.raises(UserError, match="disk is too full: 0.0 GB are free"):
        bootstrap.install()


def test_an_environment_that_stays_incomplete_does_not_restart_for_ever(clone, commands, monkeypatch):
    monkeypatch.setenv(bootstrap.AGAIN, bootstrap.stamp().name)
    with pytest.raises(UserError, match="Delete the folder .venv"):
        bootstrap.ensure()


def test_two_commands_do_not_install_at_once(clone, capsys):
    inside, together = [], []

    def work():
        with bootstrap.lock():
            inside.append(1)
            together.append(len(inside))
            time.sleep(0.3)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [1, 1, 1], "two held the lock at the same time"
    assert "waiting until it has finished" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="kills a process the POSIX way")
def test_the_lock_of_a_killed_process_is_free(clone):
    code = (
        "import sys, time; from pathlib import Path; from minitransformer.course import bootstrap\n"
        "bootstrap.ROOT = Path(sys.argv[1])\nwith bootstrap.lock():\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, clone], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with open(clone / ".venv.lock") as file:
        assert not bootstrap.locks(file)
        holder.kill()
        holder.communicate()
        assert bootstrap.locks(file)


def test_a_folder_without_write_permission(clone, monkeypatch):
    monkeypatch.setattr(bootstrap, "ROOT", clone / "absent")
    with pytest.raises(UserError, match="Nothing can be written to"), bootstrap.lock():
        pass


def test_the_check_of_a_finished_environment_costs_nothing(clone, commands, monkeypatch):
    bootstrap.install()
    monkeypatch.setattr(bootstrap, "is_inside", lambda: True)
    began = time.perf_counter()
    bootstrap.ensure()  # returns, where it would raise Restarted
    assert time.perf_counter() - began < 0.02
