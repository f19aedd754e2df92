"""How a trained model writes: one sampler and one beam search."""
