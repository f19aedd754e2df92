/* Living figure: the prefix's share. He et al.'s identity, with both sides drawn, and a slider that weighs the prefix. */
(function (Mini) {
  "use strict";
  const { h, t, number } = Mini;
  const MOST = 40;

  /**
   * Both sides of the identity for one query, each computed on its own from scores and values.
   *
   *     Σ_j A_j v_j = (1 − λ) Σ_text A'_j v_j + λ Σ_prefix A''_j v_j
   *
   * @param {number} share what the prefix's weights are multiplied by before normalisation.
   */
  function identity(gpt, cache, tape, { layer, head, t: row, share }) {
    const { P, before, layers } = tape;
    const { D, C } = gpt;
    const q = layers[layer].qkv.subarray(row * 3 * C + head * D, row * 3 * C + (head + 1) * D);
    const n = before + row + 1;
    const e = Array.from({ length: n }, (_, j) => {
      let score = 0;
      for (let i = 0; i < D; i++) score += q[i] * cache.k[layer][j * C + head * D + i];
      return Math.exp(score / Math.sqrt(D));
    });
    const read = (from, to, weight) => {
      let sum = 0;
      const y = new Float64Array(D);
      for (let j = from; j < to; j++) {
        sum += weight(j);
        for (let i = 0; i < D; i++) y[i] += weight(j) * cache.v[layer][j * C + head * D + i];
      }
      return { sum, y: sum ? y.map((value) => value / sum) : y };
    };
    const left = read(0, n, (j) => (j < P ? share * e[j] : e[j])).y;
    const ofText = read(P, n, (j) => e[j]), ofPrefix = read(0, P, (j) => e[j]);
    const lambda = (share * ofPrefix.sum) / (share * ofPrefix.sum + ofText.sum);
    const right = ofText.y.map((value, i) => (1 - lambda) * value + lambda * ofPrefix.y[i]);
    const apart = Math.max(...left.map((value, i) => Math.abs(value - right[i])));
    return { left, right, text: ofText.y, prefix: ofPrefix.y, lambda, apart };
  }
  Mini.identity = identity;

  /**
   * The vectors in the plane that holds the text's answer, the prefix's, and zero. The line between the two answers lies
   * level; the result is on it.
   */
  function draw({ left, right, text, prefix, lambda }) {
    const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
    const unit = (a) => a.map((value) => value / (Math.sqrt(dot(a, a)) || 1));
    const e1 = unit(prefix.map((value, i) => value - text[i]));
    const e2 = unit(text.map((value, i) => value - dot(text, e1) * e1[i]));
    const at = (v) => [dot(v, e1), dot(v, e2)];
    const points = { text: at(text), prefix: at(prefix), left: at(left), right: at(right), zero: [0, 0] };
    const xs = Object.values(points).map((p) => p[0]), ys = Object.values(points).map((p) => p[1]);
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const scale = Math.min(250 / (x1 - x0 || 1), 130 / (y1 - y0 || 1));
    const place = ([x, y]) => [45 + (x - x0) * scale, 35 + (y1 - y) * scale];
    const line = (a, b, kind) => {
      const [p, q] = [place(points[a]), place(points[b])];
      return h("line", { x1: p[0], y1: p[1], x2: q[0], y2: q[1], class: kind });
    };
    const label = (name, words, dy) => {
      const [x, y] = place(points[name]);
      return h("text", { x, y: y + dy, "text-anchor": "middle" }, words);
    };
    const dotAt = (name, r, kind) => {
      const [x, y] = place(points[name]);
      return h("circle", { cx: x, cy: y, r, class: kind });
    };
    return h(
      "svg",
      { viewBox: `0 0 340 ${65 + (y1 - y0) * scale}`, role: "img", class: "living-plane",
        "aria-label": t("In the plane of the two answers, the result lies on the line between the text's answer and the prefix's, at the fraction λ = {0}.", number(lambda, 3)) },
      line("zero", "text", "of-text"), line("zero", "prefix", "of-prefix"), line("text", "prefix", "between"),
      dotAt("zero", 2, "zero"), dotAt("text", 4, "of-text"), dotAt("prefix", 4, "of-prefix"),
      dotAt("left", 5, "left-side"), dotAt("right", 9, "right-side"),
      label("text", t("text alone"), -14), label("prefix", t("prefix alone"), -14), label("zero", "0", 14),
    );
  }

  Mini.living("share", async (stage, status, figure) => {
    const { gpt, tokenizer } = await Mini.load();
    const P_theta = await Mini.prefix(figure.dataset.prefix);
    const P = P_theta.length / (gpt.L * 2 * gpt.C);

    const changed = Mini.newest(status, async (current) => {
      const m = +share.input.value;
      const ids = [tokenizer.eot, ...Mini.read(text.value, { tokenizer, room: gpt.N - P - MOST - 1, end: "\n" })];
      const cache = gpt.newCache(P_theta);
      const firstPosition = fromZero.input.checked ? 0 : P;
      const { tape } = gpt.forward(ids, cache, { tape: true, share: m, firstPosition });
      const both = identity(gpt, cache, tape, {
        layer: +layer.input.value, head: +head.input.value, t: ids.length - 1, share: m,
      });
      plane.replaceChildren(draw(both));
      sides.textContent = t("λ = {0}. The two sides differ by at most {1}.", number(both.lambda, 3), both.apart.toExponential(0));
      const options = { prefix: P_theta, most: MOST, stop: tokenizer.eot, share: m, firstPosition };
      const y = await Mini.write(gpt, ids, options, current, (added) => {
        written.textContent = tokenizer.decode(added).trim();
      });
      if (y === null) return;
      const alone = gpt.generate(ids, { most: MOST, stop: tokenizer.eot });
      const same = alone.length === y.length && alone.every((id, i) => id === y[i]);
      plain.textContent = tokenizer.decode(alone).trim();
      verdict.textContent = same ? t("Both texts are the same.") : t("The texts differ.");
    });

    const numbered = (words, n) => Object.fromEntries(Array.from({ length: n }, (_, i) => [i, t(words, i + 1)]));
    const text = Mini.textField(figure.dataset.text, changed);
    const show = (x) => "× " + number(x, 2);
    const share = Mini.slider(t("The prefix's share"), { min: 0, max: 3, step: 0.05, value: 1, show }, changed);
    const fromZero = Mini.check(t("the text's positions count from 0"), false, changed);
    const layer = Mini.select(t("Layer"), numbered("layer {0}", gpt.L), 0, changed);
    const head = Mini.select(t("Head"), numbered("head {0}", gpt.H), 0, changed);
    const plane = h("div"), sides = h("p", { class: "living-facts" }), verdict = h("p", { class: "living-facts" });
    const written = h("blockquote", { class: "living-written", "aria-live": "polite" });
    const plain = h("blockquote", { class: "living-written plain" });
    stage.append(
      Mini.field(t("Your sentence"), text), share, fromZero,
      h("p", { class: "living-label" }, t("With the prefix, so weighted:")), written,
      h("p", { class: "living-label" }, t("The plain base:")), plain, verdict,
      h("div", { class: "living-row" }, layer, head), plane, sides,
    );
    await changed();
  });
})(MiniTransformer);
