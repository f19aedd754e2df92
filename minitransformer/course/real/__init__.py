"""A real model, real text: what lesson 15 measures and needs (000 §4.3, §6).

    topics    sentences of the standard library's documentation, sorted by what its reference is about
    minilm    a published BERT of 22.7M parameters, from a package
    measure   the methods beside each other on these two; `python -m minitransformer real`
    folders   a published model of the reader's, tuned on ten lines
    systems   what three systems of 000 §6 do to a text
    pairs     real English–Chinese pairs, from a package

The rows of text and the measured rows stand in data/real/, so that the lesson needs no package and no Python in
particular.
"""
