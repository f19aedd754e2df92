"""Make the commands work on a bare clone: a private `.venv` with the pinned requirements, made on first use.

Only the standard library is used here. The syntax is one that Python 3.6 can read (hence the quoted
annotations), so that an old Python comes as far as the sentence which says that it is too old.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from minitransformer.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent
OLDEST = (3, 10)
NEEDED_GB = 2  # the environment takes 1.3 GB with PyTorch's CPU build
AGAIN = "MINITRANSFORMER_INSTALLED"  # set for the process that starts in the new environment


def ensure(extras: "tuple[str, ...]" = ()) -> None:
    """Return in a Python that has every pinned requirement, or replace this process by one that has.

    The running Python is kept when it has them all at the pinned versions. Otherwise `.venv` is made or
    completed and the same command starts again inside it.

    Args:
        extras: names of optional groups in pyproject.toml that are needed as well, such as ("parity",).

    Raises:
        UserError: this Python is too old, or the environment could not be made; the sentence says what to do.
    """
    if sys.version_info < OLDEST:
        raise UserError(
            f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; this is {sys.version.split()[0]}. Install "
            "a newer one, or name one that you have: make PYTHON=python3.12 …"
        )
    if (is_inside() and is_stamped(extras)) or has_requirements(extras):
        return
    if os.environ.get(AGAIN) == stamp(extras).name:
        raise UserError(
            f"The environment .venv was installed, but {sys.executable} does not find its packages. Delete "
            "the folder .venv and run the command again."
        )
    with lock():
        if not is_stamped(extras):  # another process may have installed it while this one waited
            install(extras)
    os.environ[AGAIN] = stamp(extras).name
    restart()


# ---------------------------------------------------------------- what is needed, and what is there


def venv_folder() -> Path:
    """The private environment, beside pyproject.toml."""
    return ROOT / ".venv"


def venv_python() -> Path:
    """The environment's Python."""
    return venv_folder() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_inside() -> bool:
    """Whether the running Python is the environment's."""
    return Path(sys.prefix).resolve() == venv_folder().resolve()


def requirements(extras: "tuple[str, ...]" = ()) -> "list[tuple[str, str]]":
    """The pinned (name, version) pairs that apply to this Python, read from pyproject.toml.

    Raises:
        UserError: an entry is not of the form name==version, with or without a python_version marker.
    """
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pairs = []
    for group in ("dependencies",) + tuple(extras):
        listed = re.search(rf"^{group} = \[\n(.*?)^\]", text, re.M | re.S)
        if not listed:
            raise UserError(f"pyproject.toml has no list called {group}.")
        for entry in re.findall(r'^\s*"(.*)"', listed.group(1), re.M):
            form = r"([\w.-]+)==([\w.]+)(?:; python_version (<|>=) '(\d+)\.(\d+)')?"
            pinned = re.fullmatch(form, entry)
            if not pinned:
                raise UserError(
                    f'pyproject.toml: "{entry}" is not of the form name==version or '
                    "name==version; python_version < '3.11'."
                )
            name, version, comparison, major, minor = pinned.groups()
            if comparison:
                older = sys.version_info[:2] < (int(major), int(minor))
                if older != (comparison == "<"):
                    continue
            pairs.append((name, version))
    return pairs


def has_requirements(extras: "tuple[str, ...]" = ()) -> bool:
    """Whether the running Python has every pinned requirement at its version (a build's +cpu aside)."""
    from importlib import metadata  # younger than the oldest Python that has to read this file

    try:
        return all(metadata.version(name).split("+")[0] == pin for name, pin in requirements(extras))
    except metadata.PackageNotFoundError:
        return False


def stamp(extras: "tuple[str, ...]" = ()) -> Path:
    """The file that `install` writes last; its name changes with pyproject.toml, so new pins install anew."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:12]
    return venv_folder() / "-".join((".minitransformer", digest) + tuple(sorted(extras)))


def is_stamped(extras: "tuple[str, ...]" = ()) -> bool:
    """Whether `.venv` is complete, in the folder and with the Python for which it was made."""
    try:
        made_for, root = stamp(extras).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    # bin/python is a link: it dangles once its Python is removed, and changes version when the system's does.
    same_python = venv_python().exists() and (not is_inside() or made_for == python_version())
    return same_python and root == str(ROOT)


def python_version() -> str:
    """The running Python's, as in "3.12"."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


# ---------------------------------------------------------------- making it


def install(extras: "tuple[str, ...]" = ()) -> None:
    """Make `.venv` where it is missing or broken, install the requirements into it, stamp it.

    Raises:
        UserError: no venv module, no network, no space, no permission.
    """
    made_for = working_version()
    if made_for is None:
        make_venv()
        made_for = python_version()
        say(
            "Installing the requirements, once. PyTorch is most of it: a few hundred megabytes to download,\n"
            "about a gigabyte on disk, some minutes. Its default build for Linux brings CUDA along and is\n"
            'several times as large; README.md, "Installing", says how to have the small one instead.'
        )
    else:
        say("Completing the environment in .venv; what it has already is kept.")
    target = f".[{','.join(extras)}]" if extras else "."
    pip = [str(venv_python()), "-m", "pip", "install", "--disable-pip-version-check", "-e", target]
    code = subprocess.call(pip, cwd=str(ROOT))
    if code != 0:
        check_space()
        raise UserError(
            f"pip could not install the requirements (exit code {code}); its message stands above. The usual "
            "cause is a missing network or a proxy. Run the same command again: it goes on where it stopped."
        )
    aside = venv_folder() / ".stamp-in-the-making"
    aside.write_text(f"{made_for}\n{ROOT}\n", encoding="utf-8")
    aside.replace(stamp(extras))
    say("Installed; this does not happen again.\n")


def working_version() -> "str | None":
    """The version of `.venv`'s Python when it runs, is new enough, and has pip; otherwise None."""
    code = "import sys, pip; print(sys.prefix); print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run(
            [str(venv_python()), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError:
        return None
    if answer.returncode != 0:
        return None
    prefix, version = answer.stdout.splitlines()
    moved = Path(prefix).resolve() != venv_folder().resolve()
    too_old = tuple(map(int, version.split("."))) < OLDEST
    return None if moved or too_old else version


def make_venv() -> None:
    """Make an empty `.venv`, in the place of a broken one if there is one."""
    check_space(NEEDED_GB)
    try:
        import ensurepip  # noqa: F401  Debian and Ubuntu ship Python without it
        import venv  # noqa: F401
    except ImportError:
        raise UserError(
            f"This Python ({sys.executable}) has no venv module, which the course's environment needs. "
            "On Debian and Ubuntu: sudo apt install python3-venv. Then run the command again."
        ) from None
    if os.path.lexists(str(venv_folder())):
        say("The environment .venv is incomplete or was made for a Python that has gone: it is made anew.")
    else:
        say("First run: a private Python environment is made in .venv; nothing outside this folder changes.")
    # The Python that stands behind a virtual environment, lest .venv be rebuilt by a Python inside it.
    python = getattr(sys, "_base_executable", None) or sys.executable
    code = subprocess.call([python, "-m", "venv", "--clear", str(venv_folder())])
    if code != 0:
        check_space()
        raise UserError(
            f"Making .venv failed (exit code {code}); the message stands above. On Debian and Ubuntu try "
            "sudo apt install python3-venv. Otherwise delete the folder .venv and try again."
        )


def check_space(needed_gb: float = 0.1) -> None:
    """Raise a UserError when the disk of the repository, or that of temporary files, is too full."""
    for folder, needed in ((str(ROOT), needed_gb), (tempfile.gettempdir(), min(needed_gb, 0.5))):
        free = shutil.disk_usage(folder).free / 1e9
        if free < needed:
            raise UserError(
                f"The disk is too full: {free:.1f} GB are free at {folder}, and {needed} GB are needed. Make "
                f"room (the environment .venv takes up to {NEEDED_GB} GB) and run the command again."
            )


def restart() -> None:
    """Start this same command in `.venv`'s Python, in place of this process."""
    command = [str(venv_python()), "-m", "minitransformer"] + sys.argv[1:]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":  # Windows has no exec that keeps the console
        sys.exit(subprocess.call(command))
    os.execv(command[0], command)


@contextmanager
def lock():
    """Let one process install at a time. The system frees the lock when its holder ends, however it ends."""
    try:
        file = open(str(ROOT / ".venv.lock"), "a+")
    except OSError as error:
        raise UserError(
            f"Nothing can be written to {ROOT} ({error.strerror}), where the environment .venv has to go. "
            "Copy the course to a folder of your own."
        ) from None
    with file:
        if not locks(file):
            say("Another command is installing into .venv; waiting until it has finished.")
            while not locks(file):
                time.sleep(0.2)
        yield


def locks(file) -> bool:
    """Take the lock on an open file unless another process has it; on a disk that knows no locks, go on without."""
    from minitransformer.files import try_lock  # here, where the Python is new enough to read it

    try:
        return try_lock(file)
    except OSError as error:  # some network disks
        say(f"This disk knows no file locks ({error.strerror}): do not run two installing commands at once.")
        return True


def say(sentence: str) -> None:
    """Tell the user at once what is going on."""
    print(sentence, file=sys.stderr, flush=True)
