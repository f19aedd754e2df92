/* Living figure: byte-pair merges on the reader's own text, with as many learned tokens as a slider says. */
(function (Mini) {
  "use strict";
  const { h, t, number } = Mini;
  const BYTES = 256; // the tokens that every vocabulary begins with

  Mini.living("merges", async (stage, status, figure) => {
    await Mini.need(["tokenizer"]);
    const tokenizer = Mini.Tokenizer(new TextDecoder().decode(Mini.bytes("tokenizer")));

    const changed = Mini.newest(status, async () => {
      const size = +vocabulary.input.value;
      if (text.value.length > Mini.MOST_CHARACTERS) {
        throw new Error(t("The text has {0} characters; this figure reads up to {1}. Shorten it.",
          number(text.value.length), number(Mini.MOST_CHARACTERS)));
      }
      if (!text.value) throw new Error(t("Type a text to see its tokens."));
      const ids = tokenizer.encode(text.value, size);
      chips.replaceChildren(...tokenizer.pieces(text.value).map((piece) =>
        h("span", { class: "living-piece" }, ...tokenizer.encodePiece(piece, size).map((id) =>
          h("span", { class: "living-chip", title: t("token {0}", id) }, tokenizer.show(id))))));
      const bytes = new TextEncoder().encode(text.value).length;
      facts.textContent = t("{0} characters, {1} bytes, {2} tokens: {3} characters per token.",
        number([...text.value].length), number(bytes), number(ids.length), number([...text.value].length / ids.length, 2));
    });

    const text = Mini.textField(figure.dataset.text, changed, 3);
    const show = (x) => t("{0} tokens", number(x));
    const vocabulary = Mini.slider(t("Learned so far"),
      { min: BYTES, max: tokenizer.learned, step: 1, value: tokenizer.learned, show }, changed);
    const chips = h("div", { class: "living-chips", role: "group", "aria-label": t("the tokens of your text") });
    const facts = h("p", { class: "living-facts", role: "status" });
    stage.append(Mini.field(t("Your text"), text), vocabulary, chips, facts);
    await changed();
  });
})(MiniTransformer);
