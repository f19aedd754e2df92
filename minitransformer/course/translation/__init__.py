"""The course in a second language: blocks of text and the catalogues of their translations, for terminal and book.

What is translated at all, and what keeps a lesson from being whole, is known to `course.book.translation`, which sees
everything that has text. Here is only what a program needs that prints.
"""
