"""The Transformers: attention, its cache, the layers around it, then GPT, BERT, an encoder–decoder, and a bigram model."""
