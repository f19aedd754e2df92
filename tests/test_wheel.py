"""What `pip install .` gives: the library alone, with few requirements, which works without the course's folder."""

import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

COURSES = ("matplotlib", "sacrebleu", "rouge_score", "nltk", "pytest", "transformers", "peft", "minitransformer.course")

USE = f"""
import sys
folder = sys.argv[1]
sys.path.insert(0, folder)
for name in {COURSES}:
    sys.modules[name] = None  # an import of it fails, as where it is not installed
import torch, minitransformer as m
from minitransformer import metrics
assert m.__file__.startswith(folder), m.__file__
model = m.GPT(m.GPTConfig(vocab_size=300, n_positions=16, n_layer=1, n_head=2, d_model=8, d_ff=16))
with m.attached(model, m.PrefixTuning(3)):
    m.train(model, lambda step: {{"ids": torch.randint(300, (2, 9))}}, m.TrainConfig(steps=2), progress=False)
m.save_model("gpt.safetensors", model)
ids = torch.tensor([[1, 2, 3]])
assert torch.equal(m.load_model("gpt.safetensors", m.GPT, m.GPTConfig)(ids), model.eval()(ids))
assert metrics.accuracy([1, 2], [1, 3]) == 0.5
try:
    metrics.bleu(["a"], [["a"]])
except m.UserError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy by the setuptools that are here, without a network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "minitransformer", source / "minitransformer", ignore=shutil.ignore_patterns("__pyc*"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "lessons").mkdir()
    (source / "lessons" / "lesson_01_try.py").touch()
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "-w", str(out), str(source)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("minitransformer-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with what the wheel holds."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


def test_the_wheel_is_the_library(installed):
    held = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "minitransformer").rglob("*.py")}
    library = {name for name in package if not name.startswith("minitransformer/course/")}
    files = {name for name in held if ".dist-info/" not in name}
    assert files == library | {"minitransformer/py.typed"}


def test_it_asks_for_little(installed):
    head = Parser().parsestr(next(installed.glob("*.dist-info/METADATA")).read_text(encoding="utf-8"))
    asked = [Requirement(line) for line in head.get_all("Requires-Dist")]
    always = {item.name for item in asked if not item.marker}
    assert always == {"torch", "numpy", "tiktoken", "regex", "safetensors", "tqdm"}
    assert {"metrics", "course"} <= set(head.get_all("Provides-Extra"))


def test_it_works_without_the_course(installed, tmp_path):
    result = subprocess.run(
        [sys.executable, "-I", "-c", USE, str(installed)], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "package sacrebleu, which is not installed" in result.stdout and "[metrics]" in result.stdout


def test_its_command_ends_in_a_sentence(installed, tmp_path):
    code = (
        "import runpy, sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "runpy.run_module('minitransformer', run_name='__main__')"
    )
    # -S: without the packages of this environment, which is tied to the clone and would find the course there
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(installed), "lesson", "3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.startswith("The lessons and their commands are not part of the installed package")
