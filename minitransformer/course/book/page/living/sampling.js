/* Living figure: temperature, top-k and top-p on a real distribution over the next token. */
(function (Mini) {
  "use strict";
  const { h, t, number, percent } = Mini;
  const ROWS = 12, MOST = 25;

  Mini.living("sampling", async (stage, status, figure) => {
    const { gpt, tokenizer } = await Mini.load();
    let seed = 0;

    const settings = () => ({
      temperature: +temperature.input.value,
      topK: +topK.input.value > 50 ? null : +topK.input.value,
      topP: +topP.input.value === 1 ? null : +topP.input.value,
    });
    const ask = () => [tokenizer.eot, ...Mini.read(text.value, { tokenizer, room: gpt.N - MOST - 1 })];

    const changed = Mini.newest(status, async () => {
      const { logits } = gpt.forward(ask(), gpt.newCache());
      const before = Mini.softmax(logits), after = Mini.distribution(logits, settings());
      const entropy = after.reduce((sum, p) => (p > 0 ? sum - p * Math.log2(p) : sum), 0);
      const kept = after.filter((p) => p > 0).length;
      const largest = Math.max(...before, ...after);
      bars.replaceChildren(...Mini.byValue(before).slice(0, ROWS).map((i) =>
        h("tr", { class: after[i] > 0 ? "" : "out" }, h("th", { scope: "row" }, tokenizer.show(i)),
          h("td", {}, percent(before[i], 1)), bar(before[i] / largest, "before"), h("td", {}, percent(after[i], 1)), bar(after[i] / largest, "after"))));
      facts.textContent = t("{0} of {1} tokens can be drawn; the entropy is {2} bits.", number(kept), number(gpt.V), number(entropy, 2));
    });
    const bar = (width, kind) =>
      h("td", { class: "living-bar", "aria-hidden": "true" }, h("span", { class: kind, style: `--value: ${width}` }));

    const draw = Mini.newest(status, async (current) => {
      const ids = ask();
      drawn.replaceChildren();
      for (let i = 0; i < 5; i++) {
        const item = h("li");
        drawn.append(item);
        const options = { ...settings(), most: MOST, stop: tokenizer.eot, random: Mini.seeded(seed++) };
        const y = await Mini.write(gpt, ids, options, current, (added) => {
          item.textContent = "… " + tokenizer.decode(added).trim();
        });
        if (y === null) return;
      }
    });

    const text = Mini.textField(figure.dataset.text, changed, 1);
    const two = (x) => number(x, 2);
    const temperature = Mini.slider(t("Temperature"), { min: 0, max: 2, step: 0.05, value: 1, show: two }, changed);
    const topK = Mini.slider(t("top-k"), { min: 1, max: 51, step: 1, value: 51, show: (x) => (x > 50 ? t("off") : x) }, changed);
    const topP = Mini.slider(t("top-p"), { min: 0.05, max: 1, step: 0.05, value: 1, show: (x) => (x === 1 ? t("off") : two(x)) }, changed);
    const bars = h("tbody");
    const heads = [t("next token"), t("the model's"), "", t("drawn from"), ""].map((head) => h("th", head ? { scope: "col" } : { "aria-hidden": "true" }, head));
    const table = h("table", { class: "living-distribution" }, h("thead", {}, h("tr", {}, ...heads)), bars);
    const facts = h("p", { class: "living-facts", role: "status" });
    const button = h("button", { type: "button", class: "living-button", onclick: draw }, t("Draw five texts"));
    const drawn = h("ol", { class: "living-log", "aria-live": "polite" });
    stage.append(Mini.field(t("The text so far"), text), temperature, topK, topP, h("div", { class: "living-scroll" }, table), facts, h("p", {}, button), drawn);
    await changed();
  });
})(MiniTransformer);
