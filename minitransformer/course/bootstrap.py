"""Make the commands work on a bare clone: a private `.venv` with the pinned requirements, made on first use.

Only the standard library is used here. The syntax is one that Python 3.6 can read (hence the quoted
annotations), so that an old Python comes as far as the sentence which says that it is too old.
"""

import errno
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from minitransformer.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent
OLDEST = (3, 10)
NEEDED_GB = 2  # the environment takes 1.3 GB with PyTorch's CPU build
AGAIN = "MINITRANSFORMER_INSTALLED"  # set for the process that starts in the new environment
BASE = ("course", "test")  # the groups of pyproject.toml that every command has
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # PyTorch's own, for its build without CUDA
PATIENCE = 5  # seconds in which that index has to answer


def ensure(extras: "tuple[str, ...]" = ()) -> None:
    """Return in a Python that has every pinned requirement, or replace this process by one that has.

    The running Python is kept when it has them all at the pinned versions. Otherwise `.venv` is made or
    completed and the same command starts again inside it.

    Args:
        extras: names of optional groups in pyproject.toml that are needed beside `BASE`, such as ("parity",).

    Raises:
        UserError: this Python is too old, or the environment could not be made; the sentence says what to do.
        KeyboardInterrupt: Ctrl-C while the environment was made, with a sentence as its argument.
    """
    if sys.version_info < OLDEST:
        raise UserError(
            f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; this is {sys.version.split()[0]}. Install "
            "a newer one, or name one that you have: make PYTHON=python3.12 …"
        )
    try:
        if (is_inside() and is_stamped(extras)) or has_requirements(extras):
            return
        if os.environ.get(AGAIN) == stamp(extras).name:
            raise UserError(
                f"The environment .venv was installed, but {sys.executable} does not find its packages. Delete "
                "the folder .venv and run the command again."
            )
        if not is_stamped(extras):
            with lock():
                if not is_stamped(extras):  # another process may have installed it while this one waited
                    install(extras)
        os.environ[AGAIN] = stamp(extras).name
        restart()
    except BrokenPipeError:  # whoever reads our output has gone: no fault of the environment's
        raise
    except OSError as error:
        raise explained(error) from None


def explained(error: OSError) -> UserError:
    """What the system refused, as a sentence."""
    if error.errno == errno.ENOSPC:
        check_space()
    where = f" ({error.filename})" if error.filename else ""
    return UserError(
        f"The environment .venv cannot be made or used: {error.strerror or error}{where}. You have to be allowed to "
        f"read and write the folder {ROOT} and .venv in it. If .venv is somebody else's, copy the course "
        "to a folder of your own, without .venv. Otherwise delete .venv and run the command again."
    )


def share_the_cores() -> None:
    """Have PyTorch's threads wait for each other without blocking a core, which slows a busy laptop down.

    Its OpenMP threads spin while they wait. That is the fastest when they are alone, and wasteful beside another
    program: the thread that they wait for does not get their core. They spin shortly, then sleep. Each
    OpenMP runtime has a switch of its own: GNU's reads GOMP_SPINCOUNT (turns of a loop), LLVM's and Intel's, on macOS
    and Windows, KMP_BLOCKTIME (milliseconds). A runtime reads them when PyTorch is loaded, so this comes before.
    Nothing is changed for a user who has set any of these; `make bench` measures both situations.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", *SPIN)):
        os.environ.update(SPIN)


SPIN = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}


# ---------------------------------------------------------------- what is needed, and what is there


def venv_folder() -> Path:
    """The private environment, beside pyproject.toml."""
    return ROOT / ".venv"


def venv_python() -> Path:
    """The environment's Python."""
    return venv_folder() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def log_file() -> Path:
    """What venv and pip print while the environment is made."""
    return ROOT / ".venv.log"


def is_inside() -> bool:
    """Whether the running Python is the environment's."""
    return Path(sys.prefix).resolve() == venv_folder().resolve()


def read(name: str) -> str:
    """The text of one of the course's own files.

    Raises:
        UserError: it is missing or unreadable.
    """
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{ROOT / name} cannot be read ({getattr(error, 'strerror', None) or error}). The commands work in "
            "the course's own folder, as it was cloned or unpacked, with all of its files."
        ) from None


def needed(extras: "tuple[str, ...]" = ()) -> "list[str]":
    """The names of the packages that the library, `BASE` and these groups ask for in pyproject.toml.

    Raises:
        UserError: there is no such group, or an entry is more than a name and a range of versions.
    """
    text = read("pyproject.toml")
    names = []
    groups = ["dependencies"] + list(BASE) + list(extras)
    for group in groups:  # grows while it is gone through, by the groups that a group contains
        listed = re.search(rf"^{group} = \[.*?\n(.*?)^\]", text, re.M | re.S)
        if not listed:
            raise UserError(f"pyproject.toml has no list called {group}.")
        for entry in re.findall(r'^\s*"(.*?)"', listed.group(1), re.M):
            parts = re.fullmatch(r"([\w.-]+)(?:\[([\w,-]+)\]|((?:[<>=!~]=|[<>])[\w.,<>=!~*]+))?", entry)
            if not parts:
                raise UserError(f'pyproject.toml: "{entry}" is not of the form name>=version or name[group].')
            if parts.group(2):
                groups.extend(other for other in parts.group(2).split(",") if other not in groups)
            elif parts.group(1) not in names:
                names.append(parts.group(1))
    return names


def pins() -> "dict[str, str]":
    """The version of each package that requirements.lock pins for this Python.

    Raises:
        UserError: a line is not of the form name==version, with or without a python_version marker; two lines for a
            package.
    """
    pinned = {}
    for number, line in enumerate(read("requirements.lock").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        form = r"([\w.-]+)==([\w.+]+)(?:; python_version (<|>=) '(\d+)\.(\d+)')?"
        parts = re.fullmatch(form, line.strip())
        if not parts:
            raise UserError(
                f'requirements.lock:{number}: "{line.strip()}" is not of the form name==version or '
                "name==version; python_version < '3.11'."
            )
        name, version, comparison, major, minor = parts.groups()
        older = comparison and sys.version_info[:2] < (int(major), int(minor))
        if not comparison or bool(older) == (comparison == "<"):
            if name in pinned:
                raise UserError(f"requirements.lock:{number}: {name} is pinned a second time for this Python.")
            pinned[name] = version
    return pinned


def requirements(extras: "tuple[str, ...]" = ()) -> "list[tuple[str, str]]":
    """The (name, version) pairs to install on this Python: the names of pyproject.toml, the pins of requirements.lock.

    Raises:
        UserError: a package has no pin, or one of the two files cannot be read.
    """
    pinned = pins()
    names = needed(extras)
    missing = [name for name in names if name not in pinned]
    if missing:
        raise UserError(f"requirements.lock has no pin for {', '.join(missing)}, which pyproject.toml asks for.")
    return [(name, pinned[name]) for name in names]


def has_requirements(extras: "tuple[str, ...]" = ()) -> bool:
    """Whether the running Python has every pinned requirement at its version (a build's +cpu aside)."""
    from importlib import metadata  # younger than the oldest Python that has to read this file

    try:
        return all(metadata.version(name).split("+")[0] == pin for name, pin in requirements(extras))
    except metadata.PackageNotFoundError:
        return False


def stamp(extras: "tuple[str, ...]" = ()) -> Path:
    """The file that `install` writes last; its name changes with what is asked for, so new pins install anew."""
    digest = hashlib.sha256((read("pyproject.toml") + read("requirements.lock")).encode("utf-8")).hexdigest()[:12]
    return venv_folder() / "-".join((".minitransformer", digest) + tuple(sorted(extras)))


def is_stamped(extras: "tuple[str, ...]" = ()) -> bool:
    """Whether `.venv` is complete, in the folder and with the Python for which it was made."""
    try:
        made_for, root = stamp(extras).read_text(encoding="utf-8").splitlines()
        # bin/python is a link: it dangles once its Python is removed, and changes version when the system's does.
        same_python = venv_python().exists() and (not is_inside() or made_for == python_version())
    except (OSError, UnicodeDecodeError, ValueError):
        return False
    return same_python and root == str(ROOT)


def python_version() -> str:
    """The running Python's, as in "3.12"."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


# ---------------------------------------------------------------- making it


def install(extras: "tuple[str, ...]" = ()) -> None:
    """Make `.venv` where it is missing or broken, install the requirements into it, stamp it.

    Raises:
        UserError: no venv module, no network, no space, no permission.
        KeyboardInterrupt: Ctrl-C, with a sentence as its argument.
    """
    if os.path.lexists(str(venv_folder())):
        if not venv_folder().is_dir():
            raise UserError(
                f"{venv_folder()} is not a folder, and the environment has to go there. Move it away, or delete it, "
                "and run the command again."
            )
        os.listdir(str(venv_folder()))  # raises where it may not be entered
    log_file().write_bytes(b"")
    progress = Progress()
    try:
        made_for = working_version()
        if made_for is None:
            make_venv(progress)
            made_for = python_version()
        else:
            say("Completing the environment in .venv; what it has already is kept.")
        forget_half_installed()
        install_requirements(extras, progress)
        aside = venv_folder() / ".stamp-in-the-making"
        aside.write_text(f"{made_for}\n{ROOT}\n", encoding="utf-8")
        aside.replace(stamp(extras))
    except KeyboardInterrupt:
        progress.end()
        raise KeyboardInterrupt(
            "Stopped before the environment .venv was complete. Run the same command again: it goes on, and what was "
            "downloaded whole is not downloaded again."
        ) from None
    finally:
        progress.end()
        shutil.rmtree(str(temporary_folder()), ignore_errors=True)
    say(f"Installed in {clock(progress.seconds())}; this does not happen again.\n")


def install_requirements(extras: "tuple[str, ...]", progress: "Progress") -> None:
    """Have pip install them at their pins, PyTorch in its CPU build where the other would be of no use.

    Raises:
        UserError: pip failed.
    """
    pip = [str(venv_python()), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    pip += ["--progress-bar", "off"]
    rest = "the requirements, of which PyTorch is the largest"
    if wants_cpu_build():
        progress.step("PyTorch's CPU build")
        torch = "torch==" + pins()["torch"]
        # Without its dependencies: those come from where pip gets everything else.
        if run(pip + ["--no-deps", "--index-url", CPU_INDEX, torch], progress) == 0:
            rest = "the other requirements"
        else:
            check_space()
            say("PyTorch's own server did not deliver its CPU build; pip takes the default build, which is larger.")
    progress.step(rest)
    groups = ",".join(BASE + tuple(extras))
    code = run(pip + ["-c", "requirements.lock", "-e", f".[{groups}]"], progress)
    if code != 0:
        check_space()
        raise UserError(
            f"pip could not install the requirements (exit code {code}).{last_error()} Its log is in {log_file()}. The "
            "usual cause is a missing network or a proxy. Run the same command again: it goes on where it stopped."
        )


def wants_cpu_build() -> bool:
    """Whether PyTorch's CPU build has to be fetched from PyTorch's own index, and can be.

    pip's usual index has builds for Linux that bring the CUDA libraries, 2–3 GB, of use with an NVIDIA driver alone. A
    user who has configured indexes or links for pip has said where packages come from: nothing else is asked then.
    """
    return sys.platform == "linux" and not has_nvidia() and not has_own_index() and answers(CPU_INDEX + "/torch/")


def has_nvidia() -> bool:
    """Whether this machine has an NVIDIA driver, in a container or under Windows (WSL) too."""
    traces = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvidia0", "/usr/lib/wsl/lib/libcuda.so.1")
    return any(map(os.path.exists, traces)) or shutil.which("nvidia-smi") is not None


def has_own_index() -> bool:
    """Whether pip is configured, by a file or the environment, with an index or links of the user's."""
    listed = subprocess.run(
        [str(venv_python()), "-m", "pip", "config", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    keys = re.findall(r"^\S*\.([\w-]+)=", listed.stdout.decode("utf-8", "replace"), re.M)
    own = {"index-url", "extra-index-url", "find-links", "no-index"}
    return listed.returncode != 0 or any(key.replace("_", "-") in own for key in keys)


def answers(address: str, patience: float = PATIENCE) -> bool:
    """Whether a server sends a page within some seconds, the look-up of its name included."""
    import urllib.request

    answered = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(address, timeout=patience) as page:
                answered.append(page.read(1) != b"")
        except Exception:  # whatever it is, there is no page
            pass

    thread = threading.Thread(target=ask, daemon=True)  # a look-up of a name knows no time-out
    thread.start()
    thread.join(patience)
    return answered == [True]


def package_records() -> "list[tuple[str, bool]]":
    """The folder of each package's records in `.venv`, and whether the package is whole: pip writes RECORD last."""
    places = ("lib/python*/site-packages/*.dist-info", "Lib/site-packages/*.dist-info")
    start = glob.escape(str(venv_folder()))
    folders = {folder for place in places for folder in glob.glob(os.path.join(start, place))}
    return [(folder, os.path.exists(os.path.join(folder, "RECORD"))) for folder in sorted(folders)]


def forget_half_installed() -> None:
    """Remove the records of packages whose installation was cut off, which pip would take for installed."""
    for folder, is_whole in package_records():
        if not is_whole:
            shutil.rmtree(folder, ignore_errors=True)


def working_version() -> "str | None":
    """The version of `.venv`'s Python when it runs, is new enough, and has a whole pip; otherwise None."""
    code = (
        "import sys, pip; from importlib.metadata import distribution as d; assert d('pip').read_text('RECORD')\n"
        "print(sys.prefix); print('%d.%d' % sys.version_info[:2])"
    )
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


def make_venv(progress: "Progress") -> None:
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
    say(f"It takes some minutes, once; about a gigabyte on disk. The details go to {log_file().name}.")
    progress.step("an empty environment")
    # The Python that stands behind a virtual environment, lest .venv be rebuilt by a Python inside it.
    python = getattr(sys, "_base_executable", None) or sys.executable
    code = run([python, "-m", "venv", "--clear", str(venv_folder())], progress)
    if code != 0:
        check_space()
        raise UserError(
            f"Making .venv failed (exit code {code}).{last_error()} The log is in {log_file()}. On Debian and Ubuntu "
            "try sudo apt install python3-venv. Otherwise delete the folder .venv and try again."
        )


def check_space(needed_gb: float = 0.1) -> None:
    """Raise a UserError when the disk of the repository, or that of temporary files, is too full."""
    for folder, least in ((str(ROOT), needed_gb), (tempfile.gettempdir(), min(needed_gb, 0.1))):
        free = shutil.disk_usage(folder).free / 1e9
        if free < least:
            raise UserError(
                f"The disk is too full: {free:.1f} GB are free at {folder}, and {least} GB are needed. Make "
                f"room (the environment .venv takes up to {NEEDED_GB} GB) and run the command again."
            )


# ---------------------------------------------------------------- a program that works, and what is seen of it


class Progress:
    """What is being installed, how far it is, and since when, on standard error.

    A terminal has one line, which is written over. A file gets a line when a step begins, and one every half minute.
    """

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.live = sys.stderr.isatty() if sys.stderr else False
        self.what = ""
        self.said = 0.0  # when the last line was written
        self.width = 0  # of the line that stands in the terminal

    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began

    def step(self, what: str) -> None:
        """Begin another step."""
        self.end()
        self.what = what
        self.show("", now=True)

    def show(self, detail: str, now: bool = False) -> None:
        """Say how far the step is."""
        line = f"  {clock(self.seconds())}  {self.what}" + (f": {detail}" if detail else "")
        if self.live:
            line = line[: shutil.get_terminal_size().columns - 1]
            print("\r" + line.ljust(self.width), end="", file=sys.stderr, flush=True)
            self.width = len(line)
        elif now or time.monotonic() - self.said > 30:
            say(line)
            self.said = time.monotonic()

    def end(self) -> None:
        """Leave the terminal's line as it is; what follows stands below."""
        if self.live and self.width:
            print(file=sys.stderr, flush=True)
        self.width = 0


def clock(seconds: float) -> str:
    """Minutes and seconds, as in 2:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def temporary_folder() -> Path:
    """Where pip keeps what it downloads: on .venv's disk, since /tmp is often small; and to see how far it is."""
    return venv_folder() / ".tmp"


def run(command: "list[str]", progress: Progress) -> int:
    """Run a program while its progress is shown; its output goes to the log. Gives its exit code."""
    environment = dict(os.environ)
    if venv_python().exists():
        temporary_folder().mkdir(exist_ok=True)
        environment.update((name, str(temporary_folder())) for name in ("TMPDIR", "TEMP", "TMP"))
    with open(str(log_file()), "ab") as log:
        log.write(("$ " + " ".join(command) + "\n").encode("utf-8", "replace"))
        log.flush()
        at = log.tell()
        process = subprocess.Popen(
            command, cwd=str(ROOT), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        with open(str(log_file()), "rb") as log:
            log.seek(at)
            detail = Detail()
            while process.poll() is None:
                detail.read(log.read().decode("utf-8", "replace"))
                progress.show(str(detail))
                time.sleep(0.1)
    except BaseException:
        stop(process)
        raise
    return process.returncode


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a program; where Ctrl-C has reached it, too, it gets some seconds to tidy up."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Detail:
    """What pip is at, by the lines of its log."""

    def __init__(self) -> None:
        self.text = ""  # what the last lines said
        self.rest = ""  # a line of which the end has not come
        self.file, self.megabytes = "", 0.0  # what is being downloaded
        self.packages = 0  # looked up so far
        self.to_unpack, self.whole_before = 0, 0  # packages

    def read(self, more: str) -> None:
        """Take note of what the log has more."""
        lines = (self.rest + more).split("\n")
        self.rest = lines.pop()
        for line in lines:
            self.file = ""
            download = re.match(r"\s*Downloading (\S+) \(([\d.]+) ([kMG]?)B\)", line)
            if download:
                self.file = download.group(1).rsplit("/", 1)[-1]
                self.megabytes = float(download.group(2)) * {"G": 1e3, "M": 1.0, "k": 1e-3}.get(download.group(3), 1e-6)
            elif line.startswith("Collecting "):
                self.packages += 1
                self.text = f"package {self.packages}, {re.split('[^A-Za-z0-9._-]', line[11:])[0]}"
            elif line.startswith("Installing collected packages:"):
                self.to_unpack = line.count(",") + 1
                self.whole_before = whole_packages()

    def __str__(self) -> str:
        """Where a file of a megabyte or more is being downloaded, how much of it has come; otherwise the package."""
        if self.to_unpack:
            done = min(max(whole_packages() - self.whole_before, 0), self.to_unpack)
            return f"unpacking, {done} of {self.to_unpack} packages are done"
        if not self.file or self.megabytes < 1:
            return self.text
        # pip may name a file as its address does, %2B for +, and stores it under its own name.
        pattern = re.sub("%[0-9A-F]{2}", "?", self.file)
        found = glob.glob(os.path.join(glob.escape(str(temporary_folder())), "*", pattern))
        megabytes = max((os.path.getsize(path) / 1e6 for path in found), default=0.0)
        return f"{self.file.split('-')[0]}, {megabytes:.0f} of {self.megabytes:.0f} MB"


def whole_packages() -> int:
    """How many packages are in `.venv`, complete."""
    return sum(is_whole for _, is_whole in package_records())


def last_error() -> str:
    """The last line of the log that tells of an error, to be put into a sentence; or nothing."""
    try:
        lines = log_file().read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    errors = [line.strip() for line in lines if re.match(r"\s*(ERROR|Error)\b", line)]
    return f" It said: {errors[-1]}" if errors else ""


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
    from minitransformer.course.locks import try_lock  # here, where the Python is new enough to read it

    try:
        return try_lock(file)
    except OSError as error:  # some network disks
        say(f"This disk knows no file locks ({error.strerror}): do not run two installing commands at once.")
        return True


def say(sentence: str) -> None:
    """Tell the user at once what is going on."""
    print(sentence, file=sys.stderr, flush=True)
