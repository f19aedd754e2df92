"""The tiny world: this course's own generator of text, for pretraining and for every task that models are tuned to.

Towns, people, films and weather that exist nowhere, told in simple English (and some Chinese), the same bytes on every
machine. `documents` streams text to pretrain on, `examples` streams the tasks, `write` makes the committed files.
"""

from minitransformer.course.tinyworld.categories import SEEN, UNSEEN
from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import split_of, transliterate
from minitransformer.course.tinyworld.styles import STYLES, style_of
from minitransformer.course.tinyworld.tables import FIELDS, Table, linearise, parse_table, slot_values
from minitransformer.course.tinyworld.tasks import TASKS, Example, examples
from minitransformer.course.tinyworld.world import KINDS, MIXES, Document, documents
from minitransformer.course.tinyworld.write import SEPARATOR, write

__all__ = [
    "FIELDS",
    "KINDS",
    "MIXES",
    "SEEN",
    "SEPARATOR",
    "STYLES",
    "TASKS",
    "UNSEEN",
    "Dice",
    "Document",
    "Example",
    "Table",
    "documents",
    "examples",
    "linearise",
    "parse_table",
    "slot_values",
    "split_of",
    "style_of",
    "transliterate",
    "write",
]
