"""Two programs lose nothing of each other's."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from minitransformer.course.locks import locked, try_lock
from minitransformer.files import write_aside
from tests.conftest import ROOT


def _add_lines(path, name, count):
    for number in range(count):
        with locked(path):
            before = path.read_text() if path.exists() else ""
            write_aside(path, f"{before}{name} {number}\n".encode())


def test_four_programs_that_add_to_a_file_lose_no_line(tmp_path):
    path = tmp_path / "new" / "notes.txt"
    writers = [multiprocessing.Process(target=_add_lines, args=(path, name, 8)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert sorted(path.read_text().splitlines()) == sorted(f"{name} {n}" for name in "abcd" for n in range(8))


def test_a_lock_ends_with_its_holder(tmp_path):
    path = tmp_path / "notes.txt"
    code = (
        "import sys, time\nfrom minitransformer.course.locks import locked\n"
        "with locked(sys.argv[1]):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with open(tmp_path / ".notes.txt.lock") as file:
            assert not try_lock(file)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    began = time.monotonic()
    with locked(path):
        assert time.monotonic() - began < 5


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_needs_no_lock(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with locked(tmp_path / "notes.txt"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_lock_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with locked(tmp_path / "file" / "notes.txt"):
        ran = True
    assert ran
