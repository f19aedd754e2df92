"""Batches that the course's own bases are pretrained on: masked words, pairs, texts with holes, packed documents."""
