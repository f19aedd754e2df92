"""One case can be run once more in a shell."""

from minitransformer.course.workbook.again import again
from minitransformer.course.workbook.again import command as again_command
from minitransformer.course.workbook.again import main as run_again
from tests.course.workbook.helpers import ADD, SUM, check_here, write_workbook


def test_a_case_can_be_run_in_a_shell(capfd):
    edits = [("    count = x.numel()", "    print('see')\n    count = x.numel()"), (SUM, "    return x.nothing")]
    write_workbook(edits=edits)
    value = again("1.2", 1)
    capfd.readouterr()
    assert run_again(["1.2", "1"]) == 0
    assert capfd.readouterr().out == f"see\nIt gives:\n{value}\n"
    assert run_again(["1.3", "1"]) == 0
    assert capfd.readouterr().out.endswith("It gives:\nfirst:\n17\nthen:\n21\nn:\n21\n")
    assert run_again(["1.1", "1"]) == 1
    err = capfd.readouterr().err
    assert "return x.nothing" in err and "AttributeError" in err and "examine.py" not in err
    assert run_again(["1.1", "9"]) == 1 and "has the cases 1 to 4, not 9" in capfd.readouterr().err
    assert run_again(["one"]) == run_again(["1.1", "x"]) == 2
    assert again_command("1.1", 2).split()[1:] == ["-m", "minitransformer.course.workbook.again", "1.1", "2"]
    written = write_workbook(edits=[(ADD, "        self.n += None")]) and check_here("1.3")["1.3"]["text"]
    assert again_command("1.3", 1) in written, "a check says how"
