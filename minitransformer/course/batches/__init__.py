"""Tasks and texts as batches: classification, translation; masked words, pairs, texts with holes, packed documents."""
