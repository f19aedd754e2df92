/* The course's GPT in plain JavaScript: forward pass with a prefix and a cache. minitransformer/models/gpt.py is the
 * same model in PyTorch, and the tests hold this one to it.
 *
 * Shapes: T new tokens, P prefix length, S = P + all tokens so far, H heads, D head width, C = H·D model width,
 * V vocabulary, L layers. A matrix (T, C) is one Float32Array, row after row: row t begins at t·C.
 */
(function (root) {
  "use strict";
  const Mini = (root.MiniTransformer = root.MiniTransformer || {});

  // ------------------------------------------------------------------------------------------- the parts

  /** y = x Wᵀ + b for every row: x (rows, nIn), W (nOut, nIn), b (nOut) or null → (rows, nOut). nIn is a multiple of 4. */
  function linear(x, W, b, rows, nIn, nOut) {
    const y = new Float32Array(rows * nOut);
    let t = 0;
    // Four rows and two outputs at a time: eight products for six numbers that are read. Written out one by one it
    // would be the same sums, at a third of the speed.
    for (; t + 4 <= rows; t += 4) {
      const x0 = t * nIn, x1 = x0 + nIn, x2 = x1 + nIn, x3 = x2 + nIn;
      for (let o = 0; o < nOut; o += 2) {
        const w0 = o * nIn, w1 = w0 + nIn;
        let a0 = 0, a1 = 0, a2 = 0, a3 = 0, c0 = 0, c1 = 0, c2 = 0, c3 = 0;
        for (let i = 0; i < nIn; i++) {
          const u = W[w0 + i], w = W[w1 + i];
          const p = x[x0 + i], q = x[x1 + i], r = x[x2 + i], s = x[x3 + i];
          a0 += u * p; a1 += u * q; a2 += u * r; a3 += u * s;
          c0 += w * p; c1 += w * q; c2 += w * r; c3 += w * s;
        }
        const at = t * nOut + o;
        y[at] = a0; y[at + nOut] = a1; y[at + 2 * nOut] = a2; y[at + 3 * nOut] = a3;
        y[at + 1] = c0; y[at + nOut + 1] = c1; y[at + 2 * nOut + 1] = c2; y[at + 3 * nOut + 1] = c3;
      }
    }
    for (; t < rows; t++) {
      for (let o = 0; o < nOut; o++) {
        let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        const w = o * nIn, r = t * nIn;
        for (let i = 0; i < nIn; i += 4) {
          s0 += W[w + i] * x[r + i];
          s1 += W[w + i + 1] * x[r + i + 1];
          s2 += W[w + i + 2] * x[r + i + 2];
          s3 += W[w + i + 3] * x[r + i + 3];
        }
        y[t * nOut + o] = s0 + s1 + s2 + s3;
      }
    }
    if (b) for (let at = 0, o = 0; at < y.length; at++, o = o + 1 === nOut ? 0 : o + 1) y[at] += b[o];
    return y;
  }

  /** Layer normalisation: every row to mean 0 and variance 1, then scaled by w and moved by b. */
  function layerNorm(x, w, b, rows, C) {
    const y = new Float32Array(rows * C);
    for (let r = 0; r < rows * C; r += C) {
      const { mean, inverse } = moments(x, r, C);
      for (let i = 0; i < C; i++) y[r + i] = (x[r + i] - mean) * inverse * w[i] + b[i];
    }
    return y;
  }

  /** The mean of a row, and one over its standard deviation. */
  function moments(x, start, C) {
    let mean = 0, variance = 0;
    for (let i = 0; i < C; i++) mean += x[start + i];
    mean /= C;
    for (let i = 0; i < C; i++) variance += (x[start + i] - mean) ** 2;
    return { mean, inverse: 1 / Math.sqrt(variance / C + 1e-5) };
  }

  const ROOT = Math.sqrt(2 / Math.PI);

  /** GPT-2's GELU: 0.5 u (1 + tanh(√(2/π) (u + 0.044715 u³))). */
  const gelu = (u) => 0.5 * u * (1 + Math.tanh(ROOT * (u + 0.044715 * u * u * u)));

  function add(x, y) {
    const sum = new Float32Array(x.length);
    for (let i = 0; i < x.length; i++) sum[i] = x[i] + y[i];
    return sum;
  }

  // ------------------------------------------------------------------------------------------- the model

  /**
   * @param {{tensors: Object<string, Float32Array>, about: Object}} file from `safetensors`.
   */
  function GPT({ tensors, about }) {
    const { n_layer: L, n_head: H, d_model: C, d_ff: F, vocab_size: V, n_positions: N } = about.config;
    const D = C / H;
    if (C % 4 || F % 4 || V % 2) throw new Error("`linear` wants widths of a multiple of four, and an even vocabulary.");
    const named = (l, name) => tensors[`blocks.${l}.${name}`];
    const layers = Array.from({ length: L }, (_, l) => ({
      norm1: [named(l, "norm1.weight"), named(l, "norm1.bias")],
      qkv: [named(l, "attention.qkv.weight"), named(l, "attention.qkv.bias")],
      out: [named(l, "attention.out.weight"), named(l, "attention.out.bias")],
      norm2: [named(l, "norm2.weight"), named(l, "norm2.bias")],
      up: [named(l, "mlp.up.weight"), named(l, "mlp.up.bias")],
      down: [named(l, "mlp.down.weight"), named(l, "mlp.down.bias")],
    }));
    const words = tensors["token_embedding.weight"]; // (V, C)
    const positions = tensors["position_embedding.weight"]; // (N, C)
    const norm = [tensors["norm.weight"], tensors["norm.bias"]];

    /**
     * Keys and values of each layer, a column for each position so far.
     *
     * A prefix is nothing but the first P columns, filled before any text is read:
     *     h_i = P_θ[i, :]  if i ∈ P_idx                                               (003 §3.3)
     *
     * @param {Float32Array} [prefix] P_θ (P, L·2·C): a row for each virtual token; in it, layer after layer, the C
     *   numbers of its key, then the C numbers of its value.
     */
    function newCache(prefix) {
      const P = prefix ? prefix.length / (L * 2 * C) : 0;
      const cache = { P, length: P, k: [], v: [] };
      for (let l = 0; l < L; l++) {
        cache.k.push(new Float32Array(N * C));
        cache.v.push(new Float32Array(N * C));
        for (let p = 0; p < P; p++) {
          const row = (p * L + l) * 2 * C;
          cache.k[l].set(prefix.subarray(row, row + C), p * C);
          cache.v[l].set(prefix.subarray(row + C, row + 2 * C), p * C);
        }
      }
      return cache;
    }

    /**
     * Read T new tokens; the cache then holds their keys and values too.
     *
     * @param {number[]} ids the new tokens.
     * @param {Object} cache from `newCache`.
     * @param {Object} [options]
     *   logits: rows whose logits are wanted, "last" (as a rule), "all", or a list of row numbers.
     *   watch: whether to give the attention weights and λ.
     *   tape: whether to keep what `backward` needs.
     *   share: the prefix's weights before normalisation are multiplied by this; 1 is the model itself, 0 mutes it.
     *   causal: false lets every token see all others of this call (the GPT was not trained for that).
     *   hidden: a Set of columns that nobody sees, as padding would be.
     *   firstPosition: the position of column P; P as a rule, for a prefix takes the first P positions.
     * @returns {{logits: Float32Array, weights: Float32Array[], lambda: Float32Array[], tape: Object}}
     *   logits (rows wanted, V); for each layer weights (H, T, S) and λ (H, T), the prefix's fraction of the weights.
     */
    function forward(ids, cache, options = {}) {
      const { logits: wanted = "last", watch = false, tape = false, share = 1, causal = true, hidden } = options;
      const { P, length: before } = cache;
      const T = ids.length, S = before + T;
      const shift = (options.firstPosition ?? P) - P;
      if (T === 0) throw new Error("There is no token to read.");
      if (S > N) throw new Error(`${S} positions are needed; the model has ${N}.`);

      let x = new Float32Array(T * C);
      ids.forEach((id, t) => {
        if (!(id >= 0 && id < V)) throw new Error(`There is no token ${id}.`);
        const position = before + t + shift;
        for (let i = 0; i < C; i++) x[t * C + i] = words[id * C + i] + positions[position * C + i];
      });

      const seen = { weights: [], lambda: [] };
      const record = tape ? { ids, P, T, before, layers: [] } : null;
      layers.forEach((layer, l) => {
        // x + Attention(Norm(x))
        const a = layerNorm(x, ...layer.norm1, T, C); // (T, C)
        const qkv = linear(a, ...layer.qkv, T, C, 3 * C); // (T, 3·C)  queries, keys and values side by side
        for (let t = 0; t < T; t++) {
          cache.k[l].set(qkv.subarray((3 * t + 1) * C, (3 * t + 2) * C), (before + t) * C);
          cache.v[l].set(qkv.subarray((3 * t + 2) * C, (3 * t + 3) * C), (before + t) * C);
        }
        const { heads, weights, lambda } = attend(qkv, cache.k[l], cache.v[l], { T, S, P, before, share, causal, hidden });
        const middle = add(x, linear(heads, ...layer.out, T, C, C)); // (T, C)
        // x + FeedForward(Norm(x))
        const b = layerNorm(middle, ...layer.norm2, T, C); // (T, C)
        const u = linear(b, ...layer.up, T, C, F); // (T, F)
        if (record) record.layers.push({ x, qkv, weights, middle, u });
        const after = add(middle, linear(u.map(gelu), ...layer.down, T, F, C)); // (T, C)
        x = after;
        if (watch) {
          seen.weights.push(weights);
          seen.lambda.push(lambda);
        }
      });
      cache.length = S;

      let rows = wanted;
      if (wanted === "last") rows = [T - 1];
      if (wanted === "all") rows = ids.map((_, t) => t);
      const chosen = new Float32Array(rows.length * C);
      rows.forEach((t, r) => chosen.set(x.subarray(t * C, (t + 1) * C), r * C));
      const h = layerNorm(chosen, ...norm, rows.length, C);
      const logits = linear(h, words, null, rows.length, C, V); // (rows, V)  W is the token table again
      if (record) Object.assign(record, { rows, chosen, k: cache.k, v: cache.v });
      return { logits, tape: record, ...seen };
    }

    /**
     * softmax(Q Kᵀ / √D) V for every head: qkv (T, 3·C), keys and values (S, C) → heads side by side (T, C),
     * weights (H, T, S), λ (H, T).
     */
    function attend(qkv, k, v, { T, S, P, before, share, causal, hidden }) {
      const heads = new Float32Array(T * C);
      const weights = new Float32Array(H * T * S);
      const lambda = new Float32Array(H * T);
      for (let h = 0; h < H; h++) {
        for (let t = 0; t < T; t++) {
          const row = (h * T + t) * S; // where this query's weights begin
          const q = t * 3 * C + h * D;
          const end = causal ? before + t + 1 : S; // the columns that this query may see
          let largest = -Infinity;
          for (let j = 0; j < end; j++) {
            if ((hidden && hidden.has(j)) || (j < P && share === 0)) continue;
            let score = 0;
            for (let i = 0; i < D; i++) score += qkv[q + i] * k[j * C + h * D + i];
            weights[row + j] = score / Math.sqrt(D);
            if (weights[row + j] > largest) largest = weights[row + j];
          }
          let sum = 0;
          for (let j = 0; j < end; j++) {
            const unseen = (hidden && hidden.has(j)) || (j < P && share === 0);
            weights[row + j] = unseen ? 0 : Math.exp(weights[row + j] - largest) * (j < P ? share : 1);
            sum += weights[row + j];
          }
          if (sum === 0) continue; // a query that may see nothing reads nothing
          for (let j = 0; j < end; j++) {
            const weight = (weights[row + j] /= sum);
            if (weight === 0) continue;
            if (j < P) lambda[h * T + t] += weight;
            for (let i = 0; i < D; i++) heads[t * C + h * D + i] += weight * v[j * C + h * D + i];
          }
        }
      }
      return { heads, weights, lambda };
    }

    /**
     * Go on with a text, token by token, with the cache.
     *
     * @param {number[]} ids the text, at least one token.
     * @param {Object} [options] what `forward` takes (share, …) and what `choose` takes (temperature, …), and
     *   prefix (P, L·2·C), most: the most tokens to add, stop: the token at which to end.
     * @returns {number[]} the new tokens.
     */
    function generate(ids, options = {}) {
      const { prefix, most = 60, stop } = options;
      const cache = newCache(prefix);
      let { logits } = forward(ids, cache, { ...options, logits: "last" });
      const added = [];
      while (added.length < most) {
        const id = Mini.choose(logits, options);
        if (id === stop) break;
        added.push(id);
        if (cache.length === N || added.length === most) break;
        ({ logits } = forward([id], cache, { ...options, logits: "last" }));
      }
      return added;
    }

    /** Keys and values that a real text has in every layer, as a prefix (P, L·2·C) that says the same. */
    function activations(ids) {
      const cache = newCache();
      forward(ids, cache);
      const prefix = new Float32Array(ids.length * L * 2 * C);
      for (let p = 0; p < ids.length; p++) {
        for (let l = 0; l < L; l++) {
          prefix.set(cache.k[l].subarray(p * C, (p + 1) * C), (p * L + l) * 2 * C);
          prefix.set(cache.v[l].subarray(p * C, (p + 1) * C), ((p * L + l) * 2 + 1) * C);
        }
      }
      return prefix;
    }

    return { config: about.config, L, H, C, D, F, V, N, layers, words, norm, newCache, forward, generate, activations };
  }

  Object.assign(Mini, { GPT, linear, layerNorm, moments });
})(globalThis);
