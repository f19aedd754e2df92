"""From text to batches: the tokenizer, corpora on disk, and batches of prompts and what follows them."""
