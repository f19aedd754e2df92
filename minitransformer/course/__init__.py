"""The machine around the lessons: runner, output, exercises, laboratory, tiny world, pretraining, command line. The library needs none of it."""
