"""Code that loops, prints, allocates or exits is stopped in a child process."""

import re
import sys
import threading
import time

import pytest

from minitransformer.course.workbook import book, catalogue, checking, sandbox
from tests.course.workbook.helpers import write_workbook

ABUSES = {
    "loop": ("    import time\n    while True:\n        time.sleep(0.01)", "did not end within 20 seconds"),
    "storm": ("    while True:\n        print('again' * 1000)", "printed more than 1,000,000 characters"),
    "exit": ("    import os\n    os._exit(0)", "ended the program"),
    "pipe": (
        "    import os, subprocess\n    subprocess.Popen(['sleep', '600'])  # holds the pipes open\n"
        "    for n in range(3, 9):\n        try:\n            os.write(n, b'{\\n[1]\\n{}\\n')\n"
        "        except OSError:\n            pass\n    return 3",
        "is an int (3)",
    ),
    "memory": ("    print('hello there')\n    return torch.zeros(2**40)", "more memory than a check may use"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")
def test_files_that_the_code_deletes_or_empties_are_not_lost(capsys):
    meddling = (
        "    import os, pathlib\n    for path in pathlib.Path(__file__).parent.glob('*.*'):\n        path.unlink()\n"
        "    pathlib.Path(__file__).with_name('lesson_02.py').write_text('short')\n    return x.cumsum(0)"
    )
    path = write_workbook(edits=[("    total, sums = torch.zeros(()), []", meddling)])
    other = path.with_name("lesson_02.py")
    other.write_text("x = 1  # a line that is much longer than what comes\n", encoding="utf-8")
    before = path.read_bytes()
    checking.check(1, "1.1")
    out = " ".join(capsys.readouterr().out.split())
    assert path.read_bytes() == before
    assert "workbook/lesson_01.py was deleted while your code ran. It is back, as it was before." in out
    copy = re.search(r"kept in (workbook/backup/lesson_02\.\S+\.py)", out)
    assert copy and "much longer" in (path.parent.parent / copy[1]).read_text(encoding="utf-8")


def test_abuse_ends_in_a_message_and_loses_nothing(tmp_path):
    """The children run side by side, for each takes seconds to load PyTorch."""
    answers, before = {}, {}
    text = book.new_text(1, catalogue.exercises(1), {"1.1", "1.2", "1.3"})
    text = text.replace("        return self.n", "        input()")  # of 1.3

    def abuse(name: str, code: str) -> None:
        path = tmp_path / name / "lesson_01.py"
        path.parent.mkdir()
        path.write_text(text.replace("    return value, count", code), encoding="utf-8")
        before[name] = path.read_bytes()
        seconds = 20 if name == "loop" else 60  # of the clock, for each exercise
        began = time.monotonic()
        answers[name] = sandbox.Sandbox().check(1, path, every=True, seconds=seconds), path
        assert time.monotonic() - began < 180

    threads = [threading.Thread(target=abuse, args=(name, code)) for name, (code, _) in ABUSES.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (_, says) in ABUSES.items():
        answer, path = answers[name]
        said = answer.problem or answer.results["1.2"]["text"]
        assert says in " ".join(said.split()), f"{name}: {said}\n{answer}"
        assert answer.results["1.1"]["state"] == "passed", f"{name}: what came before is not lost"
        assert path.read_bytes() == before[name]
        assert "minitransformer/course/workbook" not in answer.problem + answer.printed, f"{name}: {answer}"
    loop, storm, memory = (answers[name][0] for name in ("loop", "storm", "memory"))
    assert loop.at == "1.2" and "It was on input 1, the smallest: Three numbers." in loop.problem
    assert re.search(r"running\s+line \d+, in mean: +(while True:|time.sleep)", loop.problem), loop.problem
    assert len(storm.printed) <= sandbox.SHOWN and storm.cut
    assert "hello there" in memory.printed and not memory.cut
    assert "waits for somebody to type" in " ".join(memory.results["1.3"]["text"].split())
