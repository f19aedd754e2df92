/* Choosing the next token: temperature, top-k, top-p, as in minitransformer/generation/sampling.py. */
(function (root) {
  "use strict";
  const Mini = (root.MiniTransformer = root.MiniTransformer || {});

  /** The index of the largest number, the first of equals. */
  function argmax(x) {
    let best = 0;
    for (let i = 1; i < x.length; i++) if (x[i] > x[best]) best = i;
    return best;
  }

  /** exp(x) / Σ exp(x); what is -Infinity gets 0. */
  function softmax(x) {
    const largest = x[argmax(x)];
    const p = Float64Array.from(x, (value) => Math.exp(value - largest));
    const sum = p.reduce((a, b) => a + b, 0);
    return p.map((value) => value / sum);
  }

  /** Indices from the largest number to the smallest; equals stay in order. */
  const byValue = (x) => Array.from(x.keys()).sort((i, j) => x[j] - x[i] || i - j);

  /** Rule out (-Infinity) all but the k likeliest tokens; those that equal the k-th stay. */
  function keepTopK(logits, k) {
    const kth = Array.from(logits).sort((a, b) => b - a)[Math.min(k, logits.length) - 1];
    return Float64Array.from(logits, (value) => (value < kth ? -Infinity : value));
  }

  /** Rule out all but the fewest tokens whose probabilities sum to p or more: the likeliest. */
  function keepTopP(logits, p) {
    const probabilities = softmax(logits);
    const kept = Float64Array.from(logits);
    let before = 0; // what likelier tokens hold already; 0 for the first, which stays
    for (const i of byValue(logits)) {
      if (before >= p) kept[i] = -Infinity;
      before += probabilities[i];
    }
    return kept;
  }

  /**
   * Probabilities from which the next token is drawn.
   *
   * @param {Object} [options] temperature (0 takes the likeliest), topK, topP; null or nothing turns one off.
   */
  function distribution(logits, { temperature = 0, topK = null, topP = null } = {}) {
    if (temperature === 0) {
      const best = argmax(logits);
      return Float64Array.from(logits, (_, i) => (i === best ? 1 : 0));
    }
    let scaled = Float64Array.from(logits, (value) => value / temperature);
    if (topK !== null) scaled = keepTopK(scaled, topK);
    if (topP !== null) scaled = keepTopP(scaled, topP);
    return softmax(scaled);
  }

  /** One token, drawn with options.random (Math.random as a rule), which gives a number from 0 to 1. */
  function choose(logits, options = {}) {
    if (!options.temperature) return argmax(logits);
    const p = distribution(logits, options);
    let left = (options.random ?? Math.random)();
    let last = 0;
    for (let i = 0; i < p.length; i++) {
      if (p[i] === 0) continue;
      last = i;
      left -= p[i];
      if (left < 0) return i;
    }
    return last; // rounding left a little over
  }

  /** A small generator of random numbers from 0 to 1 that can be repeated (mulberry32). */
  function seeded(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  Object.assign(Mini, { argmax, softmax, byValue, keepTopK, keepTopP, distribution, choose, seeded });
})(globalThis);
