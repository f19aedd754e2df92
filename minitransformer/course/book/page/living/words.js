/* The living figures' words in the book's language; the builder writes this file. English needs none. */
globalThis.MiniTransformer = globalThis.MiniTransformer || {};
MiniTransformer.words = {};
