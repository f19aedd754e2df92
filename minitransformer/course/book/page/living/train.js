/* Living figure: train a prefix in the page. Ten virtual tokens learn a style from pairs that the reader may edit. */
(function (Mini) {
  "use strict";
  const { h, t, number } = Mini;
  const P = 10; // virtual tokens
  const RATE = 0.1, WARMUP = 5; // of Adam, as in lesson 9 for a free prefix
  const MOST = 45; // tokens to write

  /** Where training starts: random numbers, or the keys and values of words of the task (003 §4.2). */
  function startAt(kind, gpt, tokenizer, pairs) {
    if (kind === "words") {
      const ids = pairs.flatMap(([, y]) => y.slice(0, -1));
      return gpt.activations(Array.from({ length: P }, (_, i) => ids[i % ids.length]));
    }
    const random = Mini.seeded(0);
    const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return Float32Array.from({ length: P * gpt.L * 2 * gpt.C }, () => 0.5 * normal());
  }

  Mini.living("train", async (stage, status, figure) => {
    const { gpt, tokenizer } = await Mini.load();
    await Mini.need(["pairs"]);
    const examples = JSON.parse(new TextDecoder().decode(Mini.bytes("pairs"))); // style → [[plain, styled], …]
    let trainer = null, losses = [], running = false, seconds = 0, generation = 0;
    let looping = -1; // the generation whose loop is at work; a pause ends it after the step that it is in

    /** The pairs as ids, or an error that names the pair. */
    function read() {
      return rows.map(({ plain, styled }, i) => {
        try {
          const x = [tokenizer.eot, ...Mini.read(plain.value, { tokenizer, room: 100, end: "\n" })];
          return [x, [...Mini.read(styled.value, { tokenizer, room: 100 }), tokenizer.eot]];
        } catch (error) {
          throw new Error(t("Pair {0}: {1}", i + 1, error.message));
        }
      });
    }

    function reset() {
      running = false;
      generation++;
      trainer = null;
      losses = [];
      seconds = 0;
      button.textContent = t("Train");
      curve.replaceChildren();
      facts.textContent = t("Not trained yet: {0} virtual tokens, {1} parameters.", P, number(P * gpt.L * 2 * gpt.C));
      texts.replaceChildren();
      status.textContent = "";
    }

    async function run() {
      if (looping === generation) { // the loop at work looks at `running` after its step
        running = !running;
        button.textContent = running ? t("Pause") : t("Train on");
        return;
      }
      let pairs;
      try {
        pairs = read();
        Mini.read(test.value, { tokenizer, room: 100, end: "\n" });
        status.textContent = "";
      } catch (error) {
        status.textContent = error.message;
        return;
      }
      running = true;
      const mine = (looping = generation);
      const going = () => running && mine === generation;
      button.textContent = t("Pause");
      trainer ??= Mini.PrefixTrainer(gpt, startAt(start.chosen(), gpt, tokenizer, pairs));
      if (losses.length === 0) await say(going, 0);
      const most = losses.length + 40;
      while (going() && losses.length < most) {
        const began = performance.now();
        const gradient = trainer.zero();
        let loss = 0, count = 0;
        for (const [x, y] of pairs) {
          const part = trainer.pair(x, y, gradient);
          loss += part.loss;
          count += part.count;
          await Mini.pause(); // the page stays awake: one pair takes a tenth of a second
          if (mine !== generation) return;
        }
        trainer.step(gradient, count, RATE * Math.min(1, (losses.length + 1) / WARMUP));
        losses.push(loss / count);
        seconds += (performance.now() - began) / 1000;
        draw();
        if (losses.length % 5 === 0) await say(going, losses.length);
      }
      if (mine !== generation) return;
      running = false;
      looping = -1;
      button.textContent = t("Train on");
    }

    /** What the base writes with the prefix as it is now, for a sentence that is not in the pairs. */
    async function say(going, steps) {
      const ids = [tokenizer.eot, ...tokenizer.encode(test.value + "\n")];
      const item = h("li", {}, h("span", { class: "living-steps" }, t("after {0} steps", steps)), " ");
      const words = h("span");
      item.append(words);
      texts.prepend(item);
      const options = { prefix: trainer.theta, most: MOST, stop: tokenizer.eot };
      const mine = generation;
      await Mini.write(gpt, ids, options, () => mine === generation, (added) => {
        words.textContent = tokenizer.decode(added).trim() || "–";
      });
    }

    function draw() {
      const top = Math.max(...losses, 0.1), last = losses[losses.length - 1];
      const x = (i) => 36 + (i / Math.max(losses.length - 1, 39)) * 290;
      const y = (loss) => 130 - (loss / top) * 115;
      const points = losses.map((loss, i) => `${x(i).toFixed(1)},${y(loss).toFixed(1)}`).join(" ");
      curve.replaceChildren(
        h("svg", { viewBox: "0 0 340 150", role: "img", class: "living-plane",
            "aria-label": t("The loss fell from {0} to {1} in {2} steps.", number(losses[0], 2), number(last, 2), losses.length) },
          h("line", { x1: 36, y1: 130, x2: 330, y2: 130, class: "axis" }),
          h("line", { x1: 36, y1: 10, x2: 36, y2: 130, class: "axis" }),
          h("polyline", { points, class: "curve" }),
          h("circle", { cx: x(losses.length - 1), cy: y(last), r: 3, class: "left-side" }),
          h("text", { x: 2, y: 20 }, number(top, 1)), h("text", { x: 2, y: 134 }, "0"),
          h("text", { x: 230, y: 147 }, t("steps")), h("text", { x: 42, y: 14 }, t("loss")),
        ),
      );
      facts.textContent = t("Step {0}: loss {1} per token, {2} s per step. The base is as it was; {3} parameters are trained.",
        losses.length, number(last, 3), number(seconds / losses.length, 1), number(trainer.theta.length));
    }

    // ----------------------------------------------------------------------------------------- the form

    const styles = { ...Object.fromEntries(Object.keys(examples).map((name) => [name, t(name)])) };
    const style = Mini.select(t("Pairs of the style"), styles, figure.dataset.style, () => fill(style.input.value));
    const rows = examples[figure.dataset.style].map((_, i) => ({
      plain: h("textarea", { rows: 2, "aria-label": t("pair {0}, plain", i + 1), spellcheck: "false", oninput: reset }),
      styled: h("textarea", { rows: 2, "aria-label": t("pair {0}, in the style", i + 1), spellcheck: "false", oninput: reset }),
    }));
    function fill(name) {
      rows.forEach(({ plain, styled }, i) => ([plain.value, styled.value] = examples[name][i]));
      reset();
    }
    const start = Mini.choice(t("Start from"), { words: t("words of the task"), random: t("random numbers") }, "words", () => reset());
    const test = Mini.textField(figure.dataset.text, () => {}, 1);
    const button = h("button", { type: "button", class: "living-button", onclick: run }, t("Train"));
    const again = h("button", { type: "button", class: "living-button quiet", onclick: () => reset() }, t("Begin anew"));
    const curve = h("div"), facts = h("p", { class: "living-facts" });
    const texts = h("ol", { class: "living-log", "aria-live": "polite" });
    const pairs = h("details", {}, h("summary", {}, t("The {0} pairs; change them as you like", rows.length)),
      ...rows.map(({ plain, styled }) => h("div", { class: "living-pair" }, plain, styled)));
    stage.append(
      h("div", { class: "living-row" }, style, start), pairs, Mini.field(t("A sentence to try it on, in none of the pairs"), test),
      h("p", {}, button, " ", again), facts, curve, texts,
    );
    fill(figure.dataset.style);
  });
})(MiniTransformer);
