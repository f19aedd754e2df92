/* Living figure: how much of a weight's change a low rank holds. The change is full fine-tuning's own, from a record. */
(function (Mini) {
  "use strict";
  const { h, t, number, percent } = Mini;

  /**
   * Singular values and vectors of A (rows, columns) by one-sided Jacobi rotations: turn pairs of columns until all are
   * orthogonal. Their lengths are then the singular values.
   *
   * @returns {{values: number[], left: Float64Array[], right: Float64Array[]}} from the largest value down; left[i] is a
   *   column times its value, so that A = Σ_i left[i] right[i]ᵀ.
   */
  function singular(A, rows, columns) {
    const U = Array.from({ length: columns }, (_, c) => Float64Array.from({ length: rows }, (_, r) => A[r * columns + c]));
    const V = Array.from({ length: columns }, (_, c) => Float64Array.from({ length: columns }, (_, r) => +(r === c)));
    const turn = (x, y, cos, sin) => {
      for (let i = 0; i < x.length; i++) [x[i], y[i]] = [cos * x[i] - sin * y[i], sin * x[i] + cos * y[i]];
    };
    const dot = (x, y) => {
      let sum = 0;
      for (let i = 0; i < x.length; i++) sum += x[i] * y[i];
      return sum;
    };
    for (let sweep = 0, worst = 1; sweep < 30 && worst > 1e-9; sweep++) {
      worst = 0;
      for (let a = 0; a < columns; a++) {
        for (let b = a + 1; b < columns; b++) {
          const aa = dot(U[a], U[a]), bb = dot(U[b], U[b]), ab = dot(U[a], U[b]);
          if (Math.abs(ab) < 1e-12 * Math.sqrt(aa * bb) || ab === 0) continue;
          worst = Math.max(worst, Math.abs(ab) / Math.sqrt(aa * bb));
          const zeta = (bb - aa) / (2 * ab);
          const tan = (Math.sign(zeta) || 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
          const cos = 1 / Math.sqrt(1 + tan * tan);
          turn(U[a], U[b], cos, cos * tan);
          turn(V[a], V[b], cos, cos * tan);
        }
      }
    }
    const lengths = U.map((column) => Math.sqrt(dot(column, column)));
    const order = Mini.byValue(lengths);
    return { values: order.map((i) => lengths[i]), left: order.map((i) => U[i]), right: order.map((i) => V[i]) };
  }
  Mini.singular = singular;

  Mini.living("rank", async (stage, status) => {
    await Mini.need(["change"]);
    const { tensors, about } = Mini.safetensors(Mini.bytes("change"));
    const [rows, columns] = about.shape;
    const { values, left, right } = singular(tensors.change, rows, columns);
    const total = values.reduce((sum, s) => sum + s * s, 0);
    const largest = tensors.change.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

    const changed = Mini.newest(status, async () => {
      const r = +rank.input.value;
      const held = values.slice(0, r).reduce((sum, s) => sum + s * s, 0) / total;
      const near = new Float64Array(rows * columns);
      for (let i = 0; i < r; i++)
        for (let a = 0; a < rows; a++) for (let b = 0; b < columns; b++) near[a * columns + b] += left[i][a] * right[i][b];
      paint(whole, tensors.change);
      paint(part, near);
      spectrum.replaceChildren(bars(r));
      const lora = r * (rows + columns);
      facts.textContent = t("Rank {0} holds {1} of the change (of its squares), with {2} parameters instead of {3} ({4}).",
        r, percent(held, 1), number(lora), number(rows * columns), percent(lora / (rows * columns)));
    });

    /** A matrix as a picture, blue where negative, orange where positive. */
    function paint(canvas, matrix) {
      canvas.width = rows;
      canvas.height = columns;
      const context = canvas.getContext("2d");
      const image = context.createImageData(rows, columns);
      for (let a = 0; a < rows; a++) {
        for (let b = 0; b < columns; b++) {
          const x = matrix[a * columns + b] / largest, at = 4 * (b * rows + a);
          const colour = x < 0 ? [0, 114, 178] : [213, 94, 0];
          image.data.set([...colour, 255 * Math.min(1, Math.sqrt(Math.abs(x)))], at);
        }
      }
      context.putImageData(image, 0, 0);
    }

    function bars(r) {
      const svg = h("svg", { viewBox: "0 0 340 90", role: "img", class: "living-plane",
        "aria-label": t("The {0} singular values, from {1} down to {2}.", values.length, number(values[0], 2), number(values[values.length - 1], 3)) });
      const width = 320 / values.length;
      values.forEach((s, i) => svg.append(h("rect", {
        x: 10 + i * width, y: 80 - (70 * s) / values[0], width: width * 0.8, height: (70 * s) / values[0], class: i < r ? "kept" : "lost",
      })));
      return svg;
    }

    const show = (x) => t("rank {0}", x);
    const rank = Mini.slider(t("Rank"), { min: 1, max: values.length, step: 1, value: 4, show }, changed);
    const whole = h("canvas", { role: "img", "aria-label": t("the whole change") });
    const part = h("canvas", { role: "img", "aria-label": t("its best approximation of this rank") });
    const spectrum = h("div"), facts = h("p", { class: "living-facts", role: "status" });
    stage.append(rank, h("p", { class: "living-label" }, t("The change of the weight {0} by {1}:", about.weight, about.method)), whole,
      h("p", { class: "living-label" }, t("Its best approximation of this rank:")), part,
      h("p", { class: "living-label" }, t("Its singular values:")), spectrum, facts);
    await changed();
  });
})(MiniTransformer);
