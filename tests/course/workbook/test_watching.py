"""A check on every save."""

from minitransformer.course.workbook import watching
from tests.course.workbook.helpers import write_workbook


def test_watch_checks_on_every_change_and_survives_an_editor_that_replaces_the_file(here, capsys, monkeypatch):
    path = write_workbook(solved=())
    monkeypatch.setattr(watching, "PAUSE", 0)

    def steps():
        yield None
        capsys.readouterr()
        yield None
        assert capsys.readouterr().out == "", "nothing changed, nothing is printed"
        path.unlink()
        yield None
        assert capsys.readouterr().out == "", "a file that is being replaced is waited for"
        write_workbook(solved=("1.1",))
        yield None
        assert "✓ 1.1 running_sum" in capsys.readouterr().out
        yield "h"
        assert "1.2 mean · hint 1 of 3" in capsys.readouterr().out
        yield "q"

    keys = steps()
    assert watching.watch(1, key=lambda: next(keys)) == 0
