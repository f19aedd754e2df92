/* Living figure: attention on a sentence of your own, the prefix's columns included; masks are switched on and off. */
(function (Mini) {
  "use strict";
  const { h, t, number } = Mini;
  const MOST = 40; // tokens that can be drawn

  Mini.living("attention", async (stage, status, figure) => {
    const { gpt, tokenizer } = await Mini.load();
    const names = Object.fromEntries(["none", ...figure.dataset.prefixes.split(" ")].map((name) => [name, t(name)]));
    let hidden = new Set(); // tokens that are masked, by their place in the text
    let shown = ""; // the text that the buttons belong to

    const changed = Mini.newest(status, async (current) => {
      const P_theta = await Mini.prefix(prefix.chosen());
      if (!current()) return;
      const P = P_theta ? P_theta.length / (gpt.L * 2 * gpt.C) : 0;
      const ids = Mini.read(text.value, { tokenizer, room: MOST });
      const tokens = ids.map((id) => tokenizer.show(id));
      if (shown !== text.value) {
        shown = text.value;
        hidden = new Set();
        asking.input.replaceChildren(...tokens.map((token, i) => h("option", { value: i }, `${i + 1} · ${token}`)));
        asking.input.value = ids.length - 1;
        buttons.replaceChildren(...tokens.map(toggle));
      }
      const options = { watch: true, causal: causal.input.checked, hidden: new Set([...hidden].map((i) => i + P)) };
      const { weights } = gpt.forward(ids, gpt.newCache(P_theta), options);
      const [l, head, S, T] = [+layer.input.value, +headOf.input.value, P + ids.length, ids.length];
      const of = (q, j) => weights[l][(head * T + q) * S + j];
      const row = Math.min(+asking.input.value, T - 1);
      map.replaceChildren(draw(of, P, tokens, row));
      const columns = Array.from({ length: S }, (_, j) => ({ weight: of(row, j), name: j < P ? t("prefix {0}", j + 1) : tokens[j - P] }));
      const lambda = columns.slice(0, P).reduce((sum, c) => sum + c.weight, 0);
      const top = columns.filter((c) => c.weight > 0).sort((a, b) => b.weight - a.weight).slice(0, 6);
      list.replaceChildren(...top.map((c) =>
        h("li", { style: `--value: ${c.weight}` }, h("span", {}, c.name), " ", h("b", {}, number(c.weight, 3)))));
      facts.textContent = P
        ? t("The prefix's {0} columns get λ = {1} of this row.", P, number(lambda, 3))
        : t("Without a prefix, the row's weights belong to the text alone.");
    });

    function toggle(token, i) {
      const button = h("button", { type: "button", "aria-pressed": "false", class: "living-token", onclick: () => {
        if (hidden.has(i)) hidden.delete(i);
        else hidden.add(i);
        button.setAttribute("aria-pressed", hidden.has(i));
        changed();
      } }, token);
      return button;
    }

    /** The weights as a picture: a row for each token that asks, a column for each that is read. */
    function draw(of, P, tokens, chosen) {
      const T = tokens.length, S = P + T, side = S > 40 ? 12 : 18, left = 76;
      const svg = h("svg", { viewBox: `0 0 ${left + S * side + 4} ${T * side + 16}`, width: left + S * side + 4, role: "img", class: "living-map",
        "aria-label": t("Attention weights: {0} rows, one for each token, and {1} columns, {2} of the prefix.", T, S, P) });
      if (P) svg.append(h("text", { x: left, y: 10, class: "of-prefix" }, t("prefix")));
      svg.append(h("text", { x: left + P * side, y: 10 }, t("text")));
      for (let q = 0; q < T; q++) {
        const y = 14 + q * side;
        svg.append(h("text", { x: left - 4, y: y + side / 2 + 3, "text-anchor": "end", class: q === chosen ? "chosen" : "" }, tokens[q].slice(0, 10)));
        for (let j = 0; j < S; j++) {
          svg.append(h("rect", {
            x: left + j * side, y, width: side - 1, height: side - 1,
            class: j < P ? "of-prefix" : "of-text", style: `--value: ${of(q, j)}`,
            onclick: () => { asking.input.value = q; changed(); },
          }));
        }
      }
      svg.append(h("rect", { x: left - 1, y: 13 + chosen * side, width: S * side + 1, height: side + 1, class: "frame" }));
      return svg;
    }

    const numbered = (words, n) => Object.fromEntries(Array.from({ length: n }, (_, i) => [i, t(words, i + 1)]));
    const text = Mini.textField(figure.dataset.text, changed);
    const prefix = Mini.choice(t("Prefix"), names, figure.dataset.prefix, changed);
    const causal = Mini.check(t("causal mask: a token sees only itself and what stands before it"), true, changed);
    const layer = Mini.select(t("Layer"), numbered("layer {0}", gpt.L), 0, changed);
    const headOf = Mini.select(t("Head"), numbered("head {0}", gpt.H), 0, changed);
    const asking = Mini.select(t("Who reads?"), {}, "", changed);
    const buttons = h("div", { class: "living-tokens", role: "group", "aria-label": t("Hide a token from all, as padding is hidden") });
    const map = h("div", { class: "living-scroll", tabindex: "0", role: "region", "aria-label": t("attention weights") });
    const list = h("ol", { class: "living-bars", "aria-live": "polite" }), facts = h("p", { class: "living-facts" });
    stage.append(
      Mini.field(t("Your sentence"), text), prefix, h("div", { class: "living-row" }, layer, headOf, asking), causal,
      h("p", { class: "living-label" }, t("Press a token to hide it from all, as padding is hidden:")), buttons, map, list, facts,
    );
    await changed();
  });
})(MiniTransformer);
