/* What the living figures share: they wake when they come into view, load their data, and never let a reader wait
 * without a word.
 *
 * A figure is registered with Mini.living(name, wake). In the page it is an element <figure data-living="name">, with a
 * still picture inside, which stays where scripts do not run or the browser lacks something.
 */
(function (root) {
  "use strict";
  const Mini = (root.MiniTransformer = root.MiniTransformer || {});
  const here = document.currentScript.src.replace(/living\/common\.js.*$/, "");
  const MOST_CHARACTERS = 2000;
  const wakers = {};

  // ------------------------------------------------------------------------------------------- words

  /** A text in the page's language, with its numbers put in: t("{0} of {1}", 3, 4). Unknown texts stay English. */
  function t(text, ...values) {
    return ((Mini.words || {})[text] ?? text).replace(/\{(\d)\}/g, (_, i) => values[i]);
  }
  const number = (x, digits = 0) =>
    x.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const percent = (x, digits = 0) => number(100 * x, digits) + " %";

  // ------------------------------------------------------------------------------------------- elements

  const SVG = new Set(["svg", "g", "line", "circle", "path", "rect", "text", "title", "polyline"]);

  /** An element: h("label", {for: "x"}, "Text ", h("b", {}, "bold")). A property that begins with "on" is a listener. */
  function h(tag, properties = {}, ...children) {
    const element = SVG.has(tag)
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name === "value" || name === "checked") element[name] = value;
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  let counter = 0;
  /** A labelled control. */
  function field(label, control, ...after) {
    control.id = control.id || `living-${++counter}`;
    return h("div", { class: "living-field" }, h("label", { for: control.id }, label), control, ...after);
  }

  /** A text field for the reader's own text. */
  const textField = (value, changed, rows = 2) =>
    h("textarea", { rows, value, spellcheck: "false", oninput: changed, class: "living-text" });

  /** A slider whose value is shown behind it. */
  function slider(label, { min, max, step, value, show = (x) => x }, changed) {
    const output = h("output", {}, show(value));
    const input = h("input", {
      type: "range", min, max, step, value,
      "aria-valuetext": show(value),
      oninput: () => {
        output.textContent = show(+input.value);
        input.setAttribute("aria-valuetext", show(+input.value));
        changed();
      },
    });
    const element = field(label, input, output);
    element.input = input;
    return element;
  }

  /** A group of radio buttons; `.chosen()` gives the value of the one that is on. */
  function choice(label, options, value, changed) {
    const name = `living-choice-${++counter}`;
    const group = h("fieldset", { class: "living-choice" }, h("legend", {}, label));
    for (const [key, text] of Object.entries(options)) {
      const input = h("input", { type: "radio", name, value: key, checked: key === value, onchange: changed });
      group.append(h("label", {}, input, " " + text));
    }
    group.chosen = () => group.querySelector("input:checked").value;
    return group;
  }

  function select(label, options, value, changed) {
    const input = h("select", { onchange: changed });
    for (const [key, text] of Object.entries(options)) input.append(h("option", { value: key }, text));
    input.value = value;
    const element = field(label, input);
    element.input = input;
    return element;
  }

  function check(label, checked, changed) {
    const input = h("input", { type: "checkbox", checked, onchange: changed });
    const element = h("label", { class: "living-check" }, input, " " + label);
    element.input = input;
    return element;
  }

  /** A grid of fractions from 0 to 1, as a table: rows and columns have headings. */
  function grid(caption, rows, columns, values, digits = 2) {
    const head = h("tr", {}, h("td"), ...columns.map((c) => h("th", { scope: "col" }, c)));
    const body = rows.map((name, r) =>
      h("tr", {}, h("th", { scope: "row" }, name), ...values[r].map((v) => shade(number(v, digits), v))),
    );
    const table = h("table", {}, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, ...body));
    return h("div", { class: "living-grid" }, table);
  }
  const shade = (text, value) => h("td", { style: `--value: ${Math.max(0, Math.min(1, value))}` }, text);

  // ------------------------------------------------------------------------------------------- time

  /** Let the browser draw, and take what the reader does. */
  const pause = () => new Promise((done) => setTimeout(done));

  /**
   * Make an action that the newest call wins: `work(current)` may be slow, asks `current()` now and then, and stops
   * when that is false. What goes wrong is said in the figure.
   */
  function newest(status, work) {
    let latest = 0;
    return async () => {
      const mine = ++latest;
      await pause();
      const current = () => mine === latest;
      if (!current()) return;
      try {
        status.textContent = "";
        await work(current);
      } catch (error) {
        if (current()) status.textContent = error.message;
      }
    };
  }

  /**
   * The reader's text as ids, or an error in words: it is empty, or longer than the model reads. `end` is put behind it.
   */
  function read(text, { tokenizer, room, end = "" }) {
    if (text.length > MOST_CHARACTERS) {
      throw new Error(
        t("The text has {0} characters; this figure reads up to {1}. Shorten it.", number(text.length), number(MOST_CHARACTERS)),
      );
    }
    if (!text.trim()) throw new Error(t("Type a text to see what the model does with it."));
    const ids = tokenizer.encode(text + end);
    if (ids.length > room) {
      throw new Error(t("The text has {0} tokens; there is room for {1}. Shorten it.", number(ids.length), number(room)));
    }
    return ids;
  }

  /** Write on, and show the text as it grows. Gives the new ids, or null where a newer call took over. */
  async function write(gpt, ids, options, current, show) {
    const cache = gpt.newCache(options.prefix);
    let { logits } = gpt.forward(ids, cache, options);
    const added = [];
    let drawn = performance.now();
    while (added.length < options.most && cache.length < gpt.N) {
      const id = Mini.choose(logits, options);
      if (id === options.stop) break;
      added.push(id);
      ({ logits } = gpt.forward([id], cache, options));
      if (performance.now() - drawn > 40) {
        show(added);
        await pause();
        if (!current()) return null;
        drawn = performance.now();
      }
    }
    show(added);
    return added;
  }

  // ------------------------------------------------------------------------------------------- data

  const loading = {};

  /** Run a script that stands beside this one, once. */
  function script(path) {
    loading[path] ??= new Promise((done, failed) => {
      const element = h("script", { src: here + path, onload: done });
      element.addEventListener("error", () => failed(new Error(t("The file {0} is missing beside this page.", path))));
      document.head.append(element);
    });
    return loading[path];
  }

  /** Load data files by name; they are then in MiniTransformer.files. */
  const need = (names) => Promise.all(names.map((name) => script(`data/${name}.js`)));

  let model;
  /** The base and the tokenizer, loaded once for all figures of a page. */
  function load() {
    model ??= need(["base", "tokenizer"]).then(() => ({
      gpt: Mini.GPT(Mini.safetensors(Mini.bytes("base"))),
      tokenizer: Mini.Tokenizer(new TextDecoder().decode(Mini.bytes("tokenizer"))),
    }));
    return model;
  }

  const prefixes = {};
  /** P_θ (P, L·2·C) of a style, or undefined for "none". */
  async function prefix(name) {
    if (name === "none") return undefined;
    prefixes[name] ??= need([`prefix-${name}`]).then(
      () => Mini.safetensors(Mini.bytes(`prefix-${name}`)).tensors.prefix,
    );
    return prefixes[name];
  }

  // ------------------------------------------------------------------------------------------- waking

  /** Register a figure: wake(stage, status, figure) fills the stage; status is where it says what it is doing. */
  function living(name, wake) {
    wakers[name] = wake;
  }

  async function wakeUp(figure) {
    const stage = h("div", { class: "living-stage" });
    const status = h("p", { class: "living-status", role: "status" }, t("Loading the model …"));
    figure.insertBefore(stage, figure.querySelector("details"));
    stage.after(status);
    try {
      await wakers[figure.dataset.living](stage, status, figure);
      figure.classList.add("awake"); // the still picture gives way
      if (status.textContent === t("Loading the model …")) status.textContent = "";
    } catch (error) {
      stage.remove();
      status.textContent = t("This figure cannot run here ({0}); the picture above stays.", error.message);
    }
  }

  function start() {
    const figures = [...document.querySelectorAll("figure[data-living]")].filter((f) => f.dataset.living in wakers);
    const watcher = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          if (!entry.isIntersecting) continue;
          watcher.unobserve(entry.target);
          wakeUp(entry.target);
        }
      },
      { rootMargin: "400px" },
    );
    figures.forEach((figure) => watcher.observe(figure));
  }
  // Deferred scripts run before DOMContentLoaded, so that by then every figure is registered.
  if (document.readyState === "complete") start();
  else document.addEventListener("DOMContentLoaded", start);

  Object.assign(Mini, {
    t, number, percent, h, field, textField, slider, choice, select, check, grid, shade,
    pause, newest, read, write, load, prefix, need, living,
    MOST_CHARACTERS,
  });
})(globalThis);
