"""The models: attention and the layers around it, then GPT, BERT, an encoder–decoder, and a bigram model."""
