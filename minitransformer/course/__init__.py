"""The machine around the lessons: runner, output, workbook, laboratory, tiny world.

The library imports nothing of it.
"""
