"""From text to batches: the tokenizer, corpora on disk, and one module of batches for each kind of task."""
