"""The private environment is made once, finished when it was interrupted, and explained when it cannot be."""

import ast
import contextlib
import errno
import functools
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from importlib import metadata
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from minitransformer.course import bootstrap
from minitransformer.errors import UserError
from tests.conftest import ROOT

PYPROJECT = """[project]
dependencies = [
    "torch>=2.4",  # a reason
    "numpy",
]

[project.optional-dependencies]
metrics = [
    "sacrebleu>=2.4,<3",
]
course = [  # a reason
    "minitransformer[metrics]",
]
test = [
]
parity = [
    "peft>=0.21",
]
"""
LOCK = """# a reason
torch==2.13.0
numpy==2.4.6; python_version >= '3.11'
numpy==2.2.6; python_version < '3.11'
sacrebleu==2.6.0
peft==0.21.2
"""


class Restarted(Exception):
    """What takes the place of os.execv in a test."""


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A bare clone: pyproject.toml, its lock, and no environment; the running Python lacks everything."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "requirements.lock").write_text(LOCK)
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "has_requirements", lambda extras=(): False)

    def restart():
        raise Restarted

    monkeypatch.setattr(bootstrap, "restart", restart)
    monkeypatch.setenv(bootstrap.AGAIN, "")
    return tmp_path


@pytest.fixture
def commands(clone, monkeypatch):
    """Fake subprocesses: `commands.venv` and the others give the exit codes, `commands.run` collects them."""
    log = SimpleNamespace(run=[], venv=0, pip=0, torch=0)

    def run(command, _):
        log.run.append(command)
        if "venv" in command:
            if log.venv == 0:
                bootstrap.venv_python().parent.mkdir(parents=True, exist_ok=True)
                bootstrap.venv_python().touch()
            return log.venv
        return log.torch if "--index-url" in command else log.pip

    monkeypatch.setattr(bootstrap, "run", run)
    monkeypatch.setattr(bootstrap, "wants_cpu_build", lambda: False)
    return log


def read_at_the_start():
    """The files of the package that Python reads before the first command looks at its version."""
    code = (
        "import sys, minitransformer.course.cli\nfor name, module in sys.modules.items():\n"
        "    if name.startswith('minitransformer'): print(module.__file__)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(os.path.relpath(path, ROOT / "minitransformer") for path in found.splitlines()) + ["__main__.py"]


@pytest.mark.parametrize("name", read_at_the_start())
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


def project(groups):
    """What pyproject.toml asks for, as pip's own library reads it."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML parser to compare with")
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = list(table["dependencies"])
    for group in groups:
        listed += table["optional-dependencies"][group]
    return [Requirement(line) for line in listed]


def test_requirements_agree_with_packaging():
    locked = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    locked = [Requirement(line) for line in locked]
    for extras in ((), ("parity",), ("dev",), ("mutants",), ("real",)):
        wanted = {item.name: item for item in project(("metrics", "course", "test", *extras))}
        own = wanted.pop("minitransformer")  # a group that contains another
        assert own.extras == {"metrics"}
        found = bootstrap.requirements(extras)
        assert sorted(name for name, _ in found) == sorted(wanted)
        for name, version in found:
            pins = [item for item in locked if item.name == name and (not item.marker or item.marker.evaluate())]
            assert [str(item.specifier) for item in pins] == [f"=={version}"]
            assert wanted[name].specifier.contains(version), f"{name}: the pin is outside pyproject.toml's range"


@pytest.mark.parametrize("minor", [10, 11, 12, 13, 14])
def test_every_python_has_one_pin_for_each_package(minor, monkeypatch):
    lines = [line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()]
    monkeypatch.setattr(sys, "version_info", (3, minor, 1))
    assert sorted(bootstrap.pins()) == sorted({name for name in lines if name and not name.startswith("#")})


def test_the_library_needs_little():
    assert {item.name for item in project(())} == {"torch", "numpy", "tiktoken", "regex", "safetensors", "tqdm"}
    for item in project(("metrics", "course", "test", "parity", "real", "mutants", "dev")):
        assert item.marker is None, (
            f"{item}: markers stand in requirements.lock, or the bootstrap would have to read two"
        )
        assert not any(part.operator == "==" for part in item.specifier), f"{item}: a range, or pip fights others' pins"


def test_markers_follow_the_python(clone, monkeypatch):
    for version, numpy in (((3, 10, 4), "2.2.6"), ((3, 11, 0), "2.4.6"), ((3, 13, 1), "2.4.6")):
        monkeypatch.setattr(sys, "version_info", version)
        assert bootstrap.requirements() == [("torch", "2.13.0"), ("numpy", numpy), ("sacrebleu", "2.6.0")]


def test_malformed_entries_are_named(clone):
    (clone / "requirements.lock").write_text("torch==2.13.0\ntorch>=2\n")
    with pytest.raises(UserError, match='requirements.lock:2: "torch>=2" is not of the form name==version'):
        bootstrap.requirements()
    (clone / "requirements.lock").write_text(LOCK + "peft==0.20.0\n")
    with pytest.raises(UserError, match="requirements.lock:7: peft is pinned a second time"):
        bootstrap.requirements()
    (clone / "requirements.lock").write_text("torch==2.13.0\n")
    with pytest.raises(UserError, match="no pin for numpy, sacrebleu"):
        bootstrap.requirements()
    (clone / "pyproject.toml").write_text("dependencies = [\n]\n")
    with pytest.raises(UserError, match="no list called course"):
        bootstrap.requirements()
    (clone / "pyproject.toml").write_text(PYPROJECT.replace('"numpy"', "\"numpy; python_version < '3.11'\""))
    with pytest.raises(UserError, match='"numpy; python_version .* is not of the form'):
        bootstrap.requirements()


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock"])
def test_a_missing_file_of_the_course_is_named(clone, name):
    (clone / name).unlink()
    with pytest.raises(UserError, match=rf"{name} cannot be read \(No such file.*its files"):
        bootstrap.ensure()


def test_a_python_that_has_everything_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "BASE", ())
    (tmp_path / "pyproject.toml").write_text('dependencies = [\n    "pytest>=8",\n]\n')
    for version, kept in ((metadata.version("pytest"), True), ("0.0.1", False)):
        (tmp_path / "requirements.lock").write_text(f"pytest=={version}\n")
        assert bootstrap.has_requirements() is kept
    (tmp_path / "pyproject.toml").write_text('dependencies = [\n    "no-such-thing>=1.0",\n]\n')
    (tmp_path / "requirements.lock").write_text("no-such-thing==1.0\n")
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
    for name, text in (("pyproject.toml", PYPROJECT), ("requirements.lock", LOCK)):
        assert bootstrap.is_stamped()
        (clone / name).write_text(text + "# another\n")
        assert not bootstrap.is_stamped()
        (clone / name).write_text(text)


def test_a_moved_clone_installs_anew(clone, commands, monkeypatch):
    bootstrap.install()
    moved = clone.parent / (clone.name + "-moved")
    shutil.copytree(clone, moved)
    monkeypatch.setattr(bootstrap, "ROOT", moved)
    assert not bootstrap.is_stamped()


def test_an_interrupted_install_leaves_no_stamp_and_is_finished(clone, commands, monkeypatch):
    commands.pip = 1
    with pytest.raises(
        UserError, match=r"pip could not install .*log is in .*\.venv\.log.*network.*Run the same command again"
    ):
        bootstrap.ensure()
    assert not bootstrap.is_stamped()
    commands.pip = 0
    with pytest.raises(Restarted):
        bootstrap.ensure()
    assert bootstrap.is_stamped()


def test_extras_are_asked_of_pip_and_stamped_apart(clone, commands):
    bootstrap.install(("parity",))
    assert commands.run[-1][-4:] == ["-c", "requirements.lock", "-e", ".[course,test,parity]"]
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
    packages = next(bootstrap.venv_folder().rglob("site-packages"))
    packages.joinpath("pip.py").touch()
    packages.joinpath("pip-1.0.dist-info").mkdir()
    packages.joinpath("pip-1.0.dist-info", "METADATA").write_text("Name: pip\nVersion: 1.0\n")
    assert bootstrap.working_version() is None, "a pip whose installation was cut off has no RECORD yet"
    packages.joinpath("pip-1.0.dist-info", "RECORD").write_text("pip.py,,\n")
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


def test_a_finished_environment_is_used_in_a_folder_that_cannot_be_written(clone, commands, monkeypatch):
    bootstrap.install()

    def refuse():
        raise AssertionError("nothing has to be written")

    monkeypatch.setattr(bootstrap, "lock", refuse)
    with pytest.raises(Restarted):
        bootstrap.ensure()


def test_what_was_cut_off_is_installed_again(clone, commands):
    packages = clone / ".venv" / "lib" / "python3.12" / "site-packages"
    for name in ("whole-1.0.dist-info", "half-1.0.dist-info"):
        (packages / name).mkdir(parents=True)
        (packages / name / "METADATA").touch()
    (packages / "whole-1.0.dist-info" / "RECORD").touch()
    bootstrap.install()
    assert [path.name for path in packages.iterdir()] == ["whole-1.0.dist-info"]


# ---------------------------------------------------------------- what the system refuses


def test_a_file_in_the_place_of_the_environment(clone, commands):
    (clone / ".venv").write_text("mine")
    with pytest.raises(UserError, match=r"\.venv is not a folder.*Move it away"):
        bootstrap.ensure()
    assert (clone / ".venv").read_text() == "mine" and not commands.run


@pytest.mark.parametrize("name", [".venv.log", "stamp", "temporary"])
def test_a_folder_in_a_files_place(clone, commands, monkeypatch, name):
    path = {".venv.log": clone / ".venv.log", "stamp": bootstrap.stamp()}.get(name)
    if path:
        path.mkdir(parents=True)
    else:  # run for real, with a file where pip's downloads go
        monkeypatch.undo()
        monkeypatch.setattr(bootstrap, "ROOT", clone)
        monkeypatch.setattr(bootstrap, "has_requirements", lambda extras=(): False)
        monkeypatch.setattr(bootstrap, "working_version", lambda: "3.12")
        monkeypatch.setattr(bootstrap, "wants_cpu_build", lambda: False)
        bootstrap.venv_python().parent.mkdir(parents=True)
        bootstrap.venv_python().touch()
        bootstrap.temporary_folder().symlink_to(clone / "gone")
    with pytest.raises(UserError, match=r"\.venv cannot be made or used: .*(directory|exists).*delete \.venv"):
        bootstrap.ensure()


@pytest.mark.parametrize("where", ["listdir", "exists", "execv", "disk_usage", "write"])
def test_what_may_not_be_entered_read_or_written(clone, commands, monkeypatch, where):
    """Whoever runs the tests as root is refused nothing, so the refusals are made."""

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(clone / ".venv"))

    if where == "listdir":
        (clone / ".venv").mkdir()
        monkeypatch.setattr(os, "listdir", refuse)
    elif where == "exists":
        bootstrap.install()
        monkeypatch.setattr(bootstrap, "venv_python", refuse)
    elif where == "execv":
        bootstrap.install()
        monkeypatch.setattr(bootstrap, "restart", refuse)
    elif where == "disk_usage":
        monkeypatch.setattr(shutil, "disk_usage", refuse)
    else:
        monkeypatch.setattr(type(clone), "write_text", refuse)
    with pytest.raises(UserError, match=r"\.venv cannot be made or used: Permission denied \(.*\.venv\)"):
        bootstrap.ensure()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_entered(clone, commands):
    (clone / ".venv").mkdir(mode=0)
    try:
        with pytest.raises(UserError, match="Permission denied"):
            bootstrap.ensure()
    finally:
        (clone / ".venv").chmod(0o700)


# ---------------------------------------------------------------- PyTorch's CPU build


@contextlib.contextmanager
def served(folder):
    """A folder as a web server on this machine; gives its address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_index_that_answers_and_one_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "index.html").write_text("<a href='torch.whl'>torch</a>")
    with served(tmp_path) as address:
        assert bootstrap.answers(address + "/torch/", 10)
        assert not bootstrap.answers(address + "/numpy/", 10), "404 is no answer"
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes the call and says nothing
        began = time.monotonic()
        assert not bootstrap.answers(f"http://127.0.0.1:{server.getsockname()[1]}/torch/", 0.5)
        assert time.monotonic() - began < 3
    began = time.monotonic()
    assert not bootstrap.answers("http://127.0.0.1:9/torch/", 5), "nobody listens there"
    assert time.monotonic() - began < 3


@pytest.fixture
def a_pip(clone, monkeypatch):
    """This Python's pip in the place of the environment's, without a configuration."""
    monkeypatch.setattr(bootstrap, "venv_python", lambda: sys.executable)
    for name in list(os.environ):
        if name.upper().startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.mark.parametrize(
    "variable, own",
    [("", False), ("TIMEOUT", False), ("INDEX_URL", True), ("EXTRA_INDEX_URL", True), ("FIND_LINKS", True)],
)
def test_an_index_of_the_users_is_seen(a_pip, monkeypatch, variable, own):
    if variable:
        monkeypatch.setenv(f"PIP_{variable}", "60")
    assert bootstrap.has_own_index() is own


@pytest.mark.parametrize(
    "line, own", [("index-url = file:///x", True), ("find_links = /x", True), ("retries = 1", False)]
)
def test_an_index_in_a_file_is_seen(a_pip, clone, monkeypatch, line, own):
    (clone / "pip.conf").write_text(f"[global]\n{line}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(clone / "pip.conf"))
    assert bootstrap.has_own_index() is own


@pytest.mark.parametrize("changed", ["nothing", "platform", "driver", "index", "silence"])
def test_the_cpu_build_is_wanted_where_it_serves(clone, monkeypatch, changed):
    monkeypatch.setattr(sys, "platform", "darwin" if changed == "platform" else "linux")
    monkeypatch.setattr(bootstrap, "has_nvidia", lambda: changed == "driver")
    monkeypatch.setattr(bootstrap, "has_own_index", lambda: changed == "index")
    monkeypatch.setattr(bootstrap, "answers", lambda address: changed != "silence" and address.endswith("/cpu/torch/"))
    assert bootstrap.wants_cpu_build() is (changed == "nothing")


def test_the_cpu_build_comes_first_and_alone(clone, commands, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "wants_cpu_build", lambda: True)
    bootstrap.install()
    _, torch, rest = commands.run
    assert torch[-4:] == ["--no-deps", "--index-url", bootstrap.CPU_INDEX, "torch==2.13.0"]
    assert "--index-url" not in rest
    commands.torch = 1  # it answered, and then did not deliver
    bootstrap.install()
    assert bootstrap.is_stamped() and "did not deliver" in capsys.readouterr().err


BACKEND = """
import pathlib, zipfile

def build_editable(folder, settings=None, metadata=None):
    name = "minitransformer-0.1.0-py3-none-any.whl"
    info = "minitransformer-0.1.0.dist-info/"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        head = "Metadata-Version: 2.1\\nName: minitransformer\\nVersion: 0.1.0\\nRequires-Dist: torch>=2.4\\n"
        extras = "".join(f"Provides-Extra: {extra}\\n" for extra in ("course", "test"))
        wheel.writestr(info + "METADATA", head + extras)
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the default build is PyTorch's CPU build")
def test_a_bare_clone_takes_the_cpu_build_from_its_index(tmp_path):
    """With the real venv and pip, without a network: a folder is PyTorch's index, and an empty wheel is PyTorch."""
    index, clone = tmp_path / "index", tmp_path / "clone"
    (index / "torch").mkdir(parents=True)
    wheel = "torch-2.13.0+cpu-py3-none-any.whl"
    with zipfile.ZipFile(index / "torch" / wheel, "w") as file:
        file.writestr("torch.py", "x = 1\n")
        file.writestr(
            "torch-2.13.0+cpu.dist-info/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n"
        )
        file.writestr(
            "torch-2.13.0+cpu.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("torch-2.13.0+cpu.dist-info/RECORD", "")
    (index / "torch" / "index.html").write_text(f'<a href="{wheel.replace("+", "%2B")}">{wheel}</a>')
    clone.mkdir()
    system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n\n'
    lists = PYPROJECT.replace('    "numpy",\n', "").replace('    "minitransformer[metrics]",\n', "")
    named = lists.replace("[project]", '[project]\nname = "minitransformer"\nversion = "0.1.0"')
    (clone / "pyproject.toml").write_text(system + named)
    (clone / "requirements.lock").write_text(LOCK)
    (clone / "backend.py").write_text(BACKEND)
    shutil.copytree(ROOT / "minitransformer", clone / "minitransformer", ignore=shutil.ignore_patterns("__pyc*"))
    (clone / "minitransformer" / "course" / "cli.py").write_text(
        "from minitransformer.course import bootstrap\n"
        "def main():\n"
        "    import sys\n"
        "    bootstrap.CPU_INDEX, bootstrap.has_nvidia = sys.argv[1], lambda: False\n"
        "    bootstrap.ensure()\n"
        "    from importlib.metadata import version\n"
        "    print(version('torch'), sys.prefix)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("PIP_")}
    environment.update(PIP_CONFIG_FILE=os.devnull, no_proxy="127.0.0.1")
    python = getattr(sys, "_base_executable", None) or sys.executable
    with served(index) as address:
        command = [python, "-m", "minitransformer", address]
        for run in ("first", "second"):
            result = subprocess.run(
                command,
                cwd=clone,
                env=environment,
                capture_output=True,
                text=True,
                timeout=240,
                stdin=subprocess.DEVNULL,
            )
            log = (clone / ".venv.log").read_text()
            assert result.stdout.split() == ["2.13.0+cpu", str(clone / ".venv")], result.stderr + log
            if run == "first":
                said = result.stderr.splitlines()
                assert any("PyTorch's CPU build" in line for line in said) and "Installed in" in result.stderr
                assert len(said) < 12 and "Collecting" not in result.stderr, "the log belongs into its file"
                assert "Successfully installed torch-2.13.0+cpu" in log
            else:
                assert result.stderr == ""
    assert not (clone / ".venv" / ".tmp").exists()


# ---------------------------------------------------------------- what is seen of it


def test_progress_without_a_terminal_is_a_few_lines(clone, capsys):
    progress = bootstrap.Progress()
    progress.step("the requirements")
    code = "print('Collecting torch'); import time; time.sleep(0.5); print('ERROR: no such thing'); raise SystemExit(3)"
    assert bootstrap.run([sys.executable, "-c", code], progress) == 3
    progress.end()
    assert capsys.readouterr().err == "  0:00  the requirements\n"
    assert bootstrap.last_error() == " It said: ERROR: no such thing"
    assert (clone / ".venv.log").read_text().startswith("$ " + sys.executable)


def test_progress_in_a_terminal_is_one_line(clone, capsys, monkeypatch):
    monkeypatch.setattr(bootstrap, "clock", lambda seconds: "1:05")
    monkeypatch.setenv("COLUMNS", "50")
    progress = bootstrap.Progress()
    progress.live = True
    progress.step("the requirements")
    progress.show("torch, 70 of 184 MB")
    progress.show("x" * 100)
    progress.end()
    lines = capsys.readouterr().err.split("\r")
    assert lines[2] == "  1:05  the requirements: torch, 70 of 184 MB"
    assert len(lines[3].rstrip("\n")) == 49, "a line that wraps cannot be written over"


def test_what_pip_says_is_told_in_short(clone):
    detail = bootstrap.Detail()
    detail.read("Collecting torch>=2.4 (from minitransformer==0.1.0)\n  Downloading https://a.b/torch-2.13.0%2Bcpu-cp3")
    assert str(detail) == "package 1, torch"
    detail.read("11-manylinux_2_28_x86_64.whl (184.0 MB)\n")
    assert str(detail) == "torch, 0 of 184 MB"
    file = bootstrap.temporary_folder() / "pip-unpack-abc" / "torch-2.13.0+cpu-cp311-manylinux_2_28_x86_64.whl"
    file.parent.mkdir(parents=True)
    with open(file, "wb") as opened:
        opened.truncate(73_000_000)
    assert str(detail) == "torch, 73 of 184 MB"
    detail.read("Collecting numpy==2.4.6 (from -c requirements.lock)\n  Downloading numpy-2.4.6.whl.metadata (6 kB)\n")
    assert str(detail) == "package 2, numpy"
    packages = clone / ".venv" / "lib" / "python3.12" / "site-packages"
    (packages / "pip-1.0.dist-info").mkdir(parents=True)
    (packages / "pip-1.0.dist-info" / "RECORD").touch()
    detail.read("Installing collected packages: torch, numpy, six\n")
    (packages / "torch-2.13.0.dist-info").mkdir()
    assert str(detail) == "unpacking, 0 of 3 packages are done"
    (packages / "torch-2.13.0.dist-info" / "RECORD").touch()
    assert str(detail) == "unpacking, 1 of 3 packages are done"


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
@pytest.mark.parametrize("to", ["the command alone", "its group, as a terminal does"])
def test_ctrl_c_while_the_environment_is_made(clone, to):
    """It ends in a sentence, what it started ends as well, and the next run makes the environment anew."""
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from minitransformer.course import bootstrap, cli
        bootstrap.ROOT = Path(sys.argv.pop())
        bootstrap.has_requirements = lambda extras=(): False
        real, slow = bootstrap.run, "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
        bootstrap.run = lambda command, progress: real([sys.executable, "-c", slow], progress)
        sys.exit(cli.main())
        """
    )
    command = [sys.executable, "-c", code, "lessons", str(clone)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline, lines = time.monotonic() + 30, []
    while len(lines) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        lines = (clone / ".venv.log").read_text().splitlines() if (clone / ".venv.log").exists() else []
    (os.kill if to == "the command alone" else os.killpg)(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in error, error
    assert error.rstrip().splitlines()[-1].startswith("Stopped before the environment .venv was complete. Run the same")
    with pytest.raises(ProcessLookupError):
        os.kill(int(lines[1]), 0)


def test_waiting_threads_leave_their_core(monkeypatch):
    monkeypatch.setattr(os, "environ", {"PATH": "x"})
    bootstrap.share_the_cores()
    assert os.environ == {"PATH": "x", **bootstrap.SPIN}
    for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME"):
        monkeypatch.setattr(os, "environ", {name: "active"})
        bootstrap.share_the_cores()
        assert os.environ == {name: "active"}, "what the user has set is left alone"
