"""The machine around the lessons, which a reader of the lessons or of the library need not read.

    cli, bootstrap, own/        the command line; the private environment; a task of your own
    lessons, runner, output/    a lesson is read, run, and shown in a terminal, a notebook or a record
    workbook/                   the exercises
    lab/, trial                 the documents' claims as experiments; one trial of a method
    tinyworld/, tasks, skills   the data, how a task is asked, what a base can do
    bigram, hard, answers       counting models; hard prompts, and the words that answer them
    jsonl, batches/             tasks' rows on disk, and each kind of text and task as batches
    pretrain, bases, data       how the bases are made from those batches, and where they lie
    book/, index, documents     the read-along book; the way from the documents to the lessons
    devices, together, shipped  where to compute; several processes; whether shipped files are what was shipped
    chat, bench, mutants        a conversation, speed, and whether the tests notice changes

The library imports nothing of it.
"""
