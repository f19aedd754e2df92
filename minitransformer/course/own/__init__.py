"""A task of your own: rows of a file of yours, a method tuned on them, a report, and the tuned model in use.

rows.py     reads JSONL and CSV, keeps what is good, says what is not, and makes splits from a seed
kinds.py    the three kinds of task: what a row is, how it becomes a batch, how an answer is judged
base.py     the course's bases, and published ones from a folder with their own tokenizer
job.py      the tuning itself: a search for the learning rate, training that can be resumed, judgement
report.py   the report as one page of HTML
use.py      generate, predict and evaluate with what was tuned
"""
