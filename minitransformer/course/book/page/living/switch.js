/* Living figure: one frozen base, many prefixes. The reader's sentence under each prefix, and λ by layer and head. */
(function (Mini) {
  "use strict";
  const { h, t, number } = Mini;
  const MOST = 50; // tokens to write

  Mini.living("switch", async (stage, status, figure) => {
    const { gpt, tokenizer } = await Mini.load();
    const names = Object.fromEntries(["none", ...figure.dataset.prefixes.split(" ")].map((name) => [name, t(name)]));

    const changed = Mini.newest(status, async (current) => {
      const P_theta = await Mini.prefix(prefix.chosen());
      const P = P_theta ? P_theta.length / (gpt.L * 2 * gpt.C) : 0;
      const x = Mini.read(text.value, { tokenizer, room: gpt.N - P - MOST - 1, end: "\n" });
      const ids = [tokenizer.eot, ...x];
      const options = { prefix: P_theta, most: MOST, stop: tokenizer.eot };
      const y = await Mini.write(gpt, ids, options, current, (added) => {
        written.textContent = tokenizer.decode(added).trim();
      });
      if (y === null) return;
      // λ, averaged over the positions that wrote y: the last one of x, and those of y.
      const rows = [...ids, ...y];
      const { lambda } = gpt.forward(rows, gpt.newCache(P_theta), { watch: true });
      const means = lambda.map((of) =>
        Array.from({ length: gpt.H }, (_, head) => {
          const own = of.subarray(head * rows.length + ids.length - 1, (head + 1) * rows.length);
          return own.reduce((a, b) => a + b, 0) / own.length;
        }),
      );
      shares.replaceChildren(
        Mini.grid(
          t("λ, the prefix's fraction of the attention"),
          means.map((_, l) => t("layer {0}", l + 1)),
          Array.from({ length: gpt.H }, (_, head) => t("head {0}", head + 1)),
          means,
        ),
      );
      const size = (count) => number(count);
      const base = Object.values(gpt.layers).length && baseSize(gpt);
      facts.textContent = P
        ? t("The base: {0} parameters, the same for every prefix. This prefix: {1} × {2} = {3} parameters ({4} %).",
            size(base), P, size(P_theta.length / P), size(P_theta.length), number((100 * P_theta.length) / base, 1))
        : t("The base alone: {0} parameters.", size(base));
    });

    const text = Mini.textField(figure.dataset.text, changed);
    const prefix = Mini.choice(t("Prefix"), names, figure.dataset.prefix, changed);
    const written = h("blockquote", { class: "living-written", "aria-live": "polite" });
    const shares = h("div");
    const facts = h("p", { class: "living-facts" });
    stage.append(Mini.field(t("Your sentence"), text), prefix, written, shares, facts);
    await changed();
  });

  function baseSize({ words, norm, layers, N, C }) {
    const all = [words, ...norm, ...layers.flatMap((layer) => Object.values(layer).flat())];
    return all.reduce((sum, part) => sum + part.length, N * C);
  }
})(MiniTransformer);
