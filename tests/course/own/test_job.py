"""A job from rows to a tuned model in use, on tiny bases: what is learned, kept, resumed and refused."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from minitransformer.course.data import default_tokenizer
from minitransformer.course.own import base as bases
from minitransformer.course.own import commands, kinds, use
from minitransformer.course.own import job as jobs
from minitransformer.course.own.job import METHODS, Job, run
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from minitransformer.training.processes import is_first
from tests.conftest import ROOT, command_line
from tests.processes import needs_gloo, together

SIZES = {"vocab_size": 2048, "n_positions": 64, "n_head": 2, "d_model": 16, "d_ff": 32, "init_std": 0.1}


@pytest.fixture(autouse=True)
def tiny_bases(monkeypatch):
    """The course's bases in tiny, so that a test takes seconds."""
    words = default_tokenizer()

    def load(name):
        torch.manual_seed(1)
        if name == "gpt":
            base = GPT(GPTConfig(**SIZES, n_layer=1))
        elif name == "bert":
            base = Bert(BertConfig(**SIZES, n_layer=1, pooler=True))
        elif name == "seq2seq":
            ids = {"pad_id": words.pad_id, "start_id": words.bos_id, "end_id": words.eot_id}
            base = Seq2Seq(Seq2SeqConfig(**SIZES, n_encoder_layer=1, n_decoder_layer=1, **ids))
        else:
            return bases.load(name)
        return bases.Loaded(base.eval(), words, name)

    monkeypatch.setattr(jobs, "load", load)
    monkeypatch.setattr(use, "load", load)


TASKS = {
    "completion": ("gpt", [{"prompt": f"Say {w}:", "completion": w} for w in "red blue green".split()]),
    "classification": ("bert", [{"text": w, "label": w[0]} for w in "red blue".split()]),
    "translation": ("seq2seq", [{"source": w, "target": w} for w in "red blue green".split()]),
}


def file_of(tmp_path, task, copies=10):
    """Rows that differ by a number, so that none is another's twin."""
    given = {"completion": "prompt", "classification": "text", "translation": "source"}[task]
    rows = [{**row, given: f"{i} {row[given]}"} for i in range(copies) for row in TASKS[task][1]]
    path = tmp_path / f"{task}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def job_of(tmp_path, task, method="prefix", **more):
    settings = {"steps": 12, "batch": 4, "length": 3, **more}
    return Job(str(file_of(tmp_path, task)), task, method, TASKS[task][0], str(tmp_path / "out"), **settings)


def quiet(sentence):
    """Say nothing."""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_a_job_of_every_kind_and_method(tmp_path, task, method):
    about = run(job_of(tmp_path, task, method), quiet)
    if method == "full" and task != "classification":  # a tiny frozen base is hardly steered in twelve steps
        losses = [loss for _, loss in about["log"]["train"]]
        assert losses[-1] < losses[0], "twelve steps on rows that are nearly alike lower the loss"
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not (tmp_path / "out" / jobs.UNFINISHED).exists()
    scores = use.evaluate(tmp_path / "out")
    assert scores["rows"] == len(about["rows"]["test"])
    for name, value in about["test"].items():
        assert scores[name] == pytest.approx(value, rel=1e-5), f"{name} differs once the tuned part is loaded again"


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_a_job_of_every_kind_and_method_in_bfloat16(tmp_path, task, method):
    about = run(job_of(tmp_path, task, method, precision="bf16", steps=4), quiet)
    scores = use.evaluate(tmp_path / "out", precision="bf16")
    assert scores["loss"] == pytest.approx(about["test"]["loss"], rel=1e-5)
    whole = use.evaluate(tmp_path / "out")
    assert whole["loss"] == pytest.approx(scores["loss"], rel=0.02), "bfloat16 is right to some thousandths"


def test_the_answers_of_a_tuned_model(tmp_path):
    run(job_of(tmp_path, "classification", "full", steps=80, lr=1e-2), quiet)
    (classes,) = use.predict(tmp_path / "out", ["3 red"])
    assert [label for label, _ in classes][0] == "r" and sum(p for _, p in classes) == pytest.approx(1)
    with pytest.raises(UserError, match="predict, not to generate"):
        use.generate(tmp_path / "out", ["red"])


def test_a_stopped_job_ends_as_one_that_never_was(tmp_path, monkeypatch):
    whole = run(job_of(tmp_path, "completion"), quiet)
    (tmp_path / "out").rename(tmp_path / "whole")
    real, seen = jobs.evaluate, []

    def stops_at_the_test(*arguments):
        seen.append(1)
        if len(seen) == 2:  # the first is that of the estimate
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(jobs, "evaluate", stops_at_the_test)
    with pytest.raises(KeyboardInterrupt):
        run(job_of(tmp_path, "completion"), quiet)
    assert (tmp_path / "out" / jobs.UNFINISHED).exists()
    monkeypatch.setattr(jobs, "evaluate", real)
    again = run(job_of(tmp_path, "completion"), quiet)
    assert again["test"] == whole["test"] and again["log"]["train"] == whole["log"]["train"]
    assert run(job_of(tmp_path, "completion"), quiet) == again, "a finished job is not done again"


def test_another_job_in_the_same_folder_is_refused(tmp_path):
    run(job_of(tmp_path, "completion"), quiet)
    with pytest.raises(UserError, match="holds another job .it differs in steps"):
        run(job_of(tmp_path, "completion", steps=13), quiet)


def test_the_search_takes_the_rate_with_the_lowest_loss(tmp_path):
    about = run(job_of(tmp_path, "completion", search=True), quiet)
    assert len(about["search"]) == 4
    assert f"{about['lr']:g}" == min(about["search"], key=about["search"].get)


def test_rows_that_do_not_fit_are_left_out_or_cut(tmp_path):
    path = file_of(tmp_path, "completion")
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"prompt": "word " * 100, "completion": "red"}) + "\n")
    said = []
    about = run(
        Job(str(path), "completion", "prefix", "gpt", str(tmp_path / "a"), steps=2, batch=4, length=3), said.append
    )
    (refused,) = about["refused"]
    assert refused.startswith("row 31: it needs ") and "there are 61 (--cut cuts it)" in refused
    assert sum(map(len, about["rows"].values())) == 30
    about = run(
        Job(str(path), "completion", "prefix", "gpt", str(tmp_path / "b"), steps=2, batch=4, length=3, cut=True), quiet
    )
    assert sum(map(len, about["rows"].values())) == 31 and "it was cut" in about["refused"][0]


def test_a_label_that_occurs_once_is_left_out(tmp_path):
    path = file_of(tmp_path, "classification")
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"text": "alone", "label": "z"}\n')
    about = run(Job(str(path), "classification", "full", "bert", str(tmp_path / "out"), steps=2, batch=4), quiet)
    assert about["labels"] == ["b", "r"]
    assert about["refused"] == ["row 21: its label 'z' occurs once: it cannot be both learned and tested"]


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"task": "sorting"}, "--task sorting: there are completion"),
        ({"method": "lorra"}, "--method lorra: there are prefix"),
        ({"steps": 0}, "--steps 0"),
        ({"columns": {"question": "q"}}, "completion has the columns prompt and completion"),
        ({"lr": 0.1, "search": True}, "exclude each other"),
        ({"device": "nonsense"}, "--device nonsense: there are cpu, cuda, mps"),
        ({"device": "meta"}, "--device meta: there are cpu, cuda, mps"),
        ({"shard": True, "method": "full"}, "--shard cuts a frozen base into parts"),
        ({"shard": True, "search": True}, "--shard cuts a frozen base into parts"),
        ({"precision": "fp16"}, "--precision fp16: there are fp32, bf16"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_read(settings, says):
    with pytest.raises(UserError, match=says):
        Job(**{"data": "none", "task": "completion", "method": "prefix", "base": "gpt", "out": "none", **settings})


def test_a_base_that_cannot_do_the_task_is_refused(tmp_path):
    with pytest.raises(UserError, match="completion needs a GPT, and this base is a Bert"):
        run(Job(str(file_of(tmp_path, "completion")), "completion", "prefix", "bert", str(tmp_path / "out")), quiet)


def test_a_prefix_longer_than_the_base_is_refused(tmp_path):
    with pytest.raises(UserError, match="--length 64: this base has 64 positions"):
        run(job_of(tmp_path, "completion", length=64), quiet)


def test_damaged_jobs_are_refused(tmp_path):
    run(job_of(tmp_path, "completion"), quiet)
    out = tmp_path / "out"
    about = (out / "job.json").read_bytes()
    for damage in (about[:50], b"", b"[]", b'{"job": 3}', b"\xff"):
        (out / "job.json").write_bytes(damage)
        with pytest.raises(UserError, match="damaged"):
            use.generate(out, ["Say red:"])
    with pytest.raises(UserError, match="holds no job"):
        use.evaluate(tmp_path / "nowhere")


def test_changed_data_are_refused_for_the_test(tmp_path):
    job = job_of(tmp_path, "completion")
    run(job, quiet)
    with open(job.data, "a", encoding="utf-8") as file:
        file.write('{"prompt": "more", "completion": "more"}\n')
    with pytest.raises(UserError, match="has changed since"):
        use.evaluate(tmp_path / "out")
    assert use.evaluate(tmp_path / "out", job.data)["rows"] == 31


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="--device cuda is not to be had here with fp32: "):
        Job("none", "completion", "prefix", "gpt", "none", device="cuda")


def test_bf16_trains_near_fp32_and_says_so(tmp_path):
    whole = run(job_of(tmp_path, "completion", "lora"), quiet)
    (tmp_path / "out").rename(tmp_path / "whole")
    low = run(job_of(tmp_path, "completion", "lora", precision="bf16"), quiet)
    losses = [torch.tensor([loss for _, loss in about["log"]["train"]]) for about in (whole, low)]
    assert not torch.equal(*losses), "the matrix products were not made in bfloat16"
    torch.testing.assert_close(*losses, atol=0.02, rtol=0)
    scores = use.evaluate(tmp_path / "out", precision="bf16")
    assert scores["loss"] == pytest.approx(low["test"]["loss"], rel=1e-5)
    assert len(use.generate(tmp_path / "out", ["Say red:"], precision="bf16")) == 1


@needs_gloo
@pytest.mark.parametrize("method", ["prefix", pytest.param("full", marks=pytest.mark.slow)])
def test_two_processes_do_a_job_as_one_does(tmp_path, method):
    alone = run(job_of(tmp_path, "completion", method, search=True), quiet)
    (tmp_path / "out").rename(tmp_path / "alone")

    def work(rank):
        said = []
        about = run(job_of(tmp_path, "completion", method, search=True), said.append)
        return (about, said) if is_first() else None

    (about, said), _ = together(2, tmp_path, work)
    assert about["lr"] == alone["lr"] and about["search"] == pytest.approx(alone["search"], rel=1e-3)
    for ours, theirs in zip(about["log"]["train"], alone["log"]["train"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    assert said[-1].endswith("report.html the report."), said
    scores = use.evaluate(tmp_path / "out")
    assert scores["loss"] == pytest.approx(about["test"]["loss"], rel=1e-5)


@needs_gloo
@pytest.mark.slow
@pytest.mark.parametrize(
    "task, method", [("completion", "prefix"), ("classification", "lora"), ("translation", "adapter")]
)
def test_processes_that_each_hold_a_part_of_the_base(tmp_path, task, method):
    alone = run(job_of(tmp_path, task, method), quiet)
    (tmp_path / "out").rename(tmp_path / "alone")
    held = []

    def work(rank):
        share_out = jobs.share_out

        def noted(base, device):
            share_out(base, device)
            held.append(sum(p.to_local().numel() for p in base.parameters() if hasattr(p, "to_local")))

        jobs.share_out = noted
        about = run(job_of(tmp_path, task, method, shard=True), quiet)
        return about, held

    (about, here), (_, there) = together(2, tmp_path, work)
    assert here[0] + there[0] == alone["base_parameters"] and abs(here[0] - there[0]) < 0.1 * here[0]
    for ours, theirs in zip(about["log"]["train"], alone["log"]["train"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    assert about["test"] == pytest.approx(alone["test"], rel=1e-3)
    scores = use.evaluate(tmp_path / "out")  # of one process that holds all of it
    assert scores["loss"] == pytest.approx(about["test"]["loss"], rel=1e-5)


@needs_gloo
@pytest.mark.slow
def test_torchrun_with_one_process_killed(tmp_path):
    """The other one ends in a sentence; one process alone goes on, and ends as if it had always been alone."""
    rows, out = file_of(tmp_path, "completion"), tmp_path / "out"
    options = ["tune", "--data", str(rows), "--task", "completion", "--steps", "40", "--batch", "4", "--lr", "0.01"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "minitransformer"]
    started = subprocess.Popen(
        [*torchrun, *options, "--out", str(out)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        deadline = time.monotonic() + 200
        while not (out / jobs.UNFINISHED).exists():
            assert started.poll() is None and time.monotonic() < deadline, started.communicate()[0]
            time.sleep(0.1)
        os.kill(process_of_rank(1, started.pid), signal.SIGKILL)
        killed = time.monotonic()
        said, _ = started.communicate(timeout=60)
    finally:
        started.kill()
    assert time.monotonic() - killed < 30
    assert "Another process of this training has ended, so this one ends too" in said
    assert said.count("Training: prefix, 40 steps of 4") == 1, "the first process speaks for all"
    assert (out / jobs.UNFINISHED).exists() and not (out / "report.html").exists()
    for folder in (out, tmp_path / "alone"):
        command = [sys.executable, "-m", "minitransformer", *options, "--out", str(folder)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
    logs = [json.loads((folder / "job.json").read_text())["log"]["train"] for folder in (out, tmp_path / "alone")]
    torch.testing.assert_close(*map(torch.tensor, logs), rtol=0.02, atol=0.02)


def process_of_rank(rank, parent):
    """The number of the process that torchrun started as this rank."""
    for folder in os.listdir("/proc"):
        if folder.isdecimal():
            try:
                started_by = int(open(f"/proc/{folder}/stat").read().rpartition(")")[2].split()[1])
                settings = open(f"/proc/{folder}/environ").read().split("\0")
            except OSError:
                continue
            if started_by == parent and f"RANK={rank}" in settings:
                return int(folder)
    raise AssertionError(f"torchrun has no process of rank {rank}")


def test_the_commands_end_in_sentences(tmp_path):
    result = command_line("tune", "--data", "none.jsonl", "--task", "completion", "--out", str(tmp_path / "out"))
    assert result.returncode == 1 and "none.jsonl cannot be read" in result.stderr and "Traceback" not in result.stderr
    result = command_line("predict", "--from", str(tmp_path), "text")
    assert result.returncode == 1 and "holds no job" in result.stderr
    result = command_line("tune", "--data", "a", "--task", "completion", "--out", "b", "--columns", "prompt")
    assert result.returncode == 2 and "not of the form prompt=question" in result.stderr


# ------------------------------------------------------------------- what would be wrong without a word


@pytest.mark.parametrize("done", [False, True])
def test_a_job_whose_data_have_changed_is_not_gone_on_with(tmp_path, monkeypatch, done):
    """The old answers of an unfinished job, or the scores of a finished one, would be those of other rows."""
    if done:
        run(job_of(tmp_path, "completion"), quiet)
    else:
        monkeypatch.setattr(jobs, "_rate", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(job_of(tmp_path, "completion"), quiet)
    path = file_of(tmp_path, "completion")
    path.write_text(path.read_text() + '{"prompt": "new", "completion": "row"}\n')
    job = Job(str(path), "completion", "prefix", "gpt", str(tmp_path / "out"), steps=12, batch=4, length=3)
    with pytest.raises(UserError, match="completion.jsonl has changed since the job in .* began"):
        run(job, quiet)
    path.unlink()
    if done:
        assert run(job, quiet)["test"], "a finished job is finished, also without its data"


@pytest.mark.parametrize("columns", [{"prompt": "completion"}, {"prompt": "x", "completion": "x"}])
def test_one_column_cannot_be_both(columns):
    with pytest.raises(UserError, match="--columns: '(x|completion)' is read as prompt and as completion"):
        Job("rows.jsonl", "completion", "prefix", "gpt", "out", columns=columns)


def test_an_answer_is_as_long_beside_a_long_prompt_as_alone(monkeypatch):
    """One generation has one limit, and the longest prompt of a batch left all the others its own small room."""
    words = default_tokenizer()
    (letter,) = words.encode(" a")
    monkeypatch.setattr(kinds, "generate", lambda base, prompts, most, **more: [[letter] * most for _ in prompts])
    task = kinds.Completion(jobs.load("gpt").base, words, room=3)
    short, long = "Say red:", "word " * 55
    alone = [task.answers([text])[0] for text in (short, long)]
    assert task.answers([short, long]) == alone and len(alone[0]) > len(alone[1]) + 20


@pytest.mark.parametrize("task", ["completion", "classification", "translation"])
def test_a_text_that_is_too_long_is_refused_where_the_job_does_not_cut(tmp_path, task):
    given = {"completion": "prompt", "classification": "text", "translation": "source"}[task]
    ask = use.predict if task == "classification" else use.generate
    path, long = file_of(tmp_path, task), "word " * 100
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.with_name("more.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], given: long}])
    )
    run(job_of(tmp_path, task), quiet)
    with pytest.raises(UserError, match="Text 2 needs .* positions, and there are 61: shorten it"):
        ask(tmp_path / "out", ["red", long])
    said = []
    scores = use.evaluate(tmp_path / "out", str(path.with_name("more.jsonl")), said.append)
    assert scores["rows"] == len(rows) and "1 rows of" in said[0] and "(--cut cuts it)" in said[1]
    path.with_name("long.jsonl").write_text(json.dumps({**rows[0], given: long}) + "\n")
    with pytest.raises(UserError, match="Every row of .* is too long for this model"):
        use.evaluate(tmp_path / "out", str(path.with_name("long.jsonl")), quiet)


@pytest.mark.parametrize("task", ["completion", "classification", "translation"])
def test_a_job_that_cuts_tests_by_long_rows_and_answers_long_texts(tmp_path, task):
    """A prompt without room for an answer ended the job after its training, every time."""
    given = {"completion": "prompt", "classification": "text", "translation": "source"}[task]
    path = file_of(tmp_path, task)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, given: "word " * 100 + row[given]}) + "\n" for row in rows))
    about = run(
        Job(str(path), task, "prefix", TASKS[task][0], str(tmp_path / "out"), steps=2, length=3, cut=True), quiet
    )
    assert about["test"] and len(about["refused"]) == len(rows)
    ask = use.predict if task == "classification" else use.generate
    assert len(ask(tmp_path / "out", ["word " * 100])) == 1


def test_texts_on_standard_input_are_answered_line_for_line():
    assert commands.lines_of(io.StringIO("one\ntwo\n")) == commands.lines_of(io.StringIO("one\ntwo")) == ["one", "two"]
    assert commands.lines_of(io.StringIO("")) == []
    for text in ("one\n\ntwo\n", "one\n \n", "\n\n"):
        with pytest.raises(UserError, match="Line [12] of standard input is empty"):
            commands.lines_of(io.StringIO(text))
    with pytest.raises(UserError, match="Standard input is no text in utf-8: byte 1 cannot be read"):
        commands.lines_of(io.TextIOWrapper(io.BytesIO(b"a\xff"), "utf-8"))
