/* Training a prefix in the page: the gradient of the loss with respect to P_θ, through a frozen GPT, and Adam.
 *
 *     max_θ Σ_{i ∈ Y_idx} log p(z_i | h_<i),   z = [PREFIX; x; y]                      (003 §3.1, §3.3)
 *
 * The base is frozen, so no gradient of its weights is computed. The gradient flows through them, from the logits down
 * to the keys and values of the prefix in each layer. Names: dx is the derivative of the loss with respect to x.
 */
(function (root) {
  "use strict";
  const Mini = (root.MiniTransformer = root.MiniTransformer || {});
  const { linear, moments } = Mini;

  // ------------------------------------------------------------------------------------- backward, by part

  /** W (nOut, nIn) → (nIn, nOut). If y = x Wᵀ then dx = dy W, which is `linear` with the transposed matrix. */
  function transpose(W, nOut, nIn) {
    const turned = new Float32Array(W.length);
    for (let o = 0; o < nOut; o++) for (let i = 0; i < nIn; i++) turned[i * nOut + o] = W[o * nIn + i];
    return turned;
  }

  /**
   * Layer normalisation, y = x̂ w + b with x̂ = (x − mean) / σ: it adds to dx
   *     (g − mean(g) − x̂ mean(g x̂)) / σ,   g = dy w.
   * The two means are there because mean and σ depend on every number of the row.
   */
  function layerNormBackward(x, dy, w, rows, C, dx) {
    for (let r = 0; r < rows * C; r += C) {
      const { mean, inverse } = moments(x, r, C);
      let meanG = 0, meanGX = 0;
      for (let i = 0; i < C; i++) {
        const g = dy[r + i] * w[i];
        meanG += g / C;
        meanGX += (g * (x[r + i] - mean) * inverse) / C;
      }
      for (let i = 0; i < C; i++) {
        dx[r + i] += (dy[r + i] * w[i] - meanG - (x[r + i] - mean) * inverse * meanGX) * inverse;
      }
    }
  }

  const ROOT = Math.sqrt(2 / Math.PI);

  /** The derivative of GELU: 0.5 (1 + tanh z) + 0.5 u (1 − tanh² z) z',  z = √(2/π) (u + 0.044715 u³). */
  function geluSlope(u) {
    const tanh = Math.tanh(ROOT * (u + 0.044715 * u * u * u));
    return 0.5 * (1 + tanh) + 0.5 * u * (1 - tanh * tanh) * ROOT * (1 + 3 * 0.044715 * u * u);
  }

  /**
   * Attention, y = A v with A = softmax(q kᵀ / √D):
   *     dv = Aᵀ dy,   dA = dy vᵀ,   dscores = A (dA − Σ_j A dA),   dq = dscores k / √D,   dk = dscoresᵀ q / √D.
   *
   * @returns {{dqkv: Float32Array, dk: Float32Array, dv: Float32Array}} for the text (T, 3·C), for all columns (S, C).
   */
  function attentionBackward({ qkv, weights }, k, v, dy, { T, S, H, C, D, before }) {
    const dqkv = new Float32Array(T * 3 * C);
    const dk = new Float32Array(S * C);
    const dv = new Float32Array(S * C);
    const dA = new Float32Array(S);
    for (let h = 0; h < H; h++) {
      for (let t = 0; t < T; t++) {
        const row = (h * T + t) * S;
        const q = t * 3 * C + h * D, y = t * C + h * D;
        const end = before + t + 1; // causality: later columns had the weight 0
        let sum = 0;
        for (let j = 0; j < end; j++) {
          const column = j * C + h * D;
          let dot = 0;
          for (let i = 0; i < D; i++) {
            dot += dy[y + i] * v[column + i];
            dv[column + i] += weights[row + j] * dy[y + i];
          }
          dA[j] = dot;
          sum += weights[row + j] * dot;
        }
        for (let j = 0; j < end; j++) {
          const column = j * C + h * D;
          const dscore = (weights[row + j] * (dA[j] - sum)) / Math.sqrt(D);
          for (let i = 0; i < D; i++) {
            dqkv[q + i] += dscore * k[column + i];
            dk[column + i] += dscore * qkv[q + i];
          }
        }
      }
    }
    for (let t = 0; t < T; t++) {
      dqkv.set(dk.subarray((before + t) * C, (before + t + 1) * C), (3 * t + 1) * C);
      dqkv.set(dv.subarray((before + t) * C, (before + t + 1) * C), (3 * t + 2) * C);
    }
    return { dqkv, dk, dv };
  }

  // ------------------------------------------------------------------------------------- the whole way down

  /**
   * @param {Object} gpt from `GPT`.
   * @param {Object} [settings] lr, clip: the longest the gradient may be (0 turns that off), betas.
   */
  function PrefixTrainer(gpt, prefix, settings = {}) {
    const { L, H, C, D, F, V, layers, words, norm } = gpt;
    const { lr = 0.1, clip = 1, betas = [0.9, 0.95] } = settings;
    const theta = Float32Array.from(prefix); // P_θ (P, L·2·C), all that is trained
    const turned = {
      words: transpose(words, V, C),
      layers: layers.map((layer) => ({
        qkv: transpose(layer.qkv[0], 3 * C, C),
        out: transpose(layer.out[0], C, C),
        up: transpose(layer.up[0], F, C),
        down: transpose(layer.down[0], C, F),
      })),
    };

    /**
     * The loss of one pair, summed over y and its end, and its gradient, which is added to `gradient`.
     *
     * @param {number[]} x, y token ids; the end is part of y.
     * @returns {{loss: number, count: number}} in nats, and over how many tokens.
     */
    function pair(x, y, gradient) {
      const ids = [...x, ...y].slice(0, -1); // the last token is asked for, but nothing follows it
      const rows = y.map((_, i) => x.length - 1 + i); // row t speaks about token t + 1
      const { logits, tape } = gpt.forward(ids, gpt.newCache(theta), { logits: rows, tape: true });

      // Cross-entropy −log softmax(logits)[target]: its derivative is softmax(logits) − 1 at the target.
      let loss = 0;
      const dlogits = new Float32Array(logits.length); // (rows, V)
      y.forEach((target, r) => {
        const p = Mini.softmax(logits.subarray(r * V, (r + 1) * V));
        loss -= Math.log(p[target]);
        dlogits.set(p, r * V);
        dlogits[r * V + target] -= 1;
      });
      if (gradient) backward(tape, dlogits, gradient);
      return { loss, count: y.length };
    }

    /** From the logits down to the prefix's keys and values, which are added to `gradient` (P, L·2·C). */
    function backward(tape, dlogits, gradient) {
      const { rows, chosen, T, P, before } = tape;
      const S = before + T;
      const dh = linear(dlogits, turned.words, null, rows.length, V, C); // (rows, C)
      const dchosen = new Float32Array(rows.length * C);
      layerNormBackward(chosen, dh, norm[0], rows.length, C, dchosen);
      const dx = new Float32Array(T * C); // of what the last layer gave
      rows.forEach((t, r) => {
        for (let i = 0; i < C; i++) dx[t * C + i] += dchosen[r * C + i];
      });

      for (let l = L - 1; l >= 0; l--) {
        const layer = layers[l], kept = tape.layers[l];
        // x + FeedForward(Norm(x)): the gradient goes through the sum unchanged, and through the layer beside it.
        const du = linear(dx, turned.layers[l].down, null, T, C, F); // (T, F)
        for (let i = 0; i < du.length; i++) du[i] *= geluSlope(kept.u[i]);
        const db = linear(du, turned.layers[l].up, null, T, F, C); // (T, C)
        layerNormBackward(kept.middle, db, layer.norm2[0], T, C, dx);
        // x + Attention(Norm(x))
        const dheads = linear(dx, turned.layers[l].out, null, T, C, C); // (T, C)
        const { dqkv, dk, dv } = attentionBackward(kept, tape.k[l], tape.v[l], dheads, { T, S, H, C, D, before });
        for (let p = 0; p < P; p++) {
          const row = (p * L + l) * 2 * C;
          for (let i = 0; i < C; i++) {
            gradient[row + i] += dk[p * C + i];
            gradient[row + C + i] += dv[p * C + i];
          }
        }
        if (l === 0) break; // below the lowest layer nothing is trained
        const da = linear(dqkv, turned.layers[l].qkv, null, T, 3 * C, C); // (T, C)
        layerNormBackward(kept.x, da, layer.norm1[0], T, C, dx);
      }
    }

    // ----------------------------------------------------------------------------------------- Adam

    const mean = new Float64Array(theta.length); // running mean of the gradient
    const square = new Float64Array(theta.length); // and of its square
    let steps = 0;

    /**
     * One step of Adam (Kingma and Ba, "Adam", 2015) on the mean gradient of a batch.
     *
     * @param {Float32Array} gradient the sum over all tokens of the batch.
     * @param {number} count how many tokens.
     * @param {number} [rate] the learning rate of this step.
     */
    function step(gradient, count, rate = lr) {
      steps++;
      let length = 0;
      for (let i = 0; i < gradient.length; i++) length += (gradient[i] / count) ** 2;
      length = Math.sqrt(length);
      const scale = (clip && length > clip ? clip / (length + 1e-6) : 1) / count;
      for (let i = 0; i < theta.length; i++) {
        const g = gradient[i] * scale;
        mean[i] = betas[0] * mean[i] + (1 - betas[0]) * g;
        square[i] = betas[1] * square[i] + (1 - betas[1]) * g * g;
        const m = mean[i] / (1 - betas[0] ** steps);
        const s = square[i] / (1 - betas[1] ** steps);
        theta[i] -= (rate * m) / (Math.sqrt(s) + 1e-8);
      }
      return length;
    }

    return { theta, pair, step, zero: () => new Float32Array(theta.length) };
  }

  Object.assign(Mini, { PrefixTrainer });
})(globalThis);
