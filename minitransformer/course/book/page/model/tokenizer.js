/* Byte-level byte-pair encoding (字节对编码), as in minitransformer/text/tokenizer.py.
 *
 * A regular expression cuts the text into pieces. Each piece becomes UTF-8 bytes, and neighbours are joined in the
 * order in which the merges were learned. A token's bytes are kept as a string with one character for each byte,
 * because a string can be the key of a Map.
 */
(function (root) {
  "use strict";
  const Mini = (root.MiniTransformer = root.MiniTransformer || {});

  // GPT-2's cut: contractions, letters, digits, other signs, white space. JavaScript's own \s differs from the
  // tokenizer's in two characters (U+0085 and U+FEFF), so the property is named.
  const S = "\\p{White_Space}";
  const PIECE = new RegExp(
    `'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^${S}\\p{L}\\p{N}]+|${S}+$|${S}+(?!\\P{White_Space})|${S}`,
    "gu",
  );
  const SPECIAL = ["<|endoftext|>", "<|pad|>", "[CLS]", "[SEP]", "[MASK]", "<|bos|>"]; // they take the last ids

  const toBytes = (text) => Array.from(new TextEncoder().encode(text), (b) => String.fromCharCode(b));
  const toText = (bytes) =>
    new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes, (c) => c.charCodeAt(0)));

  /**
   * @param {string} vocabulary data/tokenizer.tiktoken: a line "base64-of-token rank" for each token.
   */
  function Tokenizer(vocabulary) {
    const ranks = new Map(); // token → rank, which is its id and its place in the order of merges
    const tokens = []; // id → token
    for (const line of vocabulary.trim().split("\n")) {
      const [token, rank] = line.split(" ");
      tokens[+rank] = atob(token);
      ranks.set(tokens[+rank], +rank);
    }
    const special = new Map(SPECIAL.map((text, i) => [tokens.length + i, text]));

    /**
     * The ids of one piece: join the pair of lowest rank, the leftmost of equals, until no two neighbours are a token.
     *
     * @param {number} [size] of the vocabulary: as if no more tokens than these had been learned.
     */
    function encodePiece(piece, size = tokens.length) {
      const rankOf = (left, right) => {
        const rank = ranks.get(left + right);
        return rank < size ? rank : Infinity; // Infinity: the two make no token
      };
      const parts = toBytes(piece);
      const whole = ranks.get(parts.join(""));
      if (whole < size) return [whole];
      const pairs = parts.slice(1).map((part, i) => rankOf(parts[i], part)); // pairs[i] is of parts i and i + 1
      while (pairs.length) {
        let at = 0;
        for (let i = 1; i < pairs.length; i++) if (pairs[i] < pairs[at]) at = i;
        if (pairs[at] === Infinity) break;
        parts.splice(at, 2, parts[at] + parts[at + 1]);
        pairs.splice(at, 1);
        if (at > 0) pairs[at - 1] = rankOf(parts[at - 1], parts[at]);
        if (at < pairs.length) pairs[at] = rankOf(parts[at], parts[at + 1]);
      }
      return parts.map((part) => ranks.get(part));
    }

    /** Text → pieces, which no merge crosses. */
    const pieces = (text) => text.match(PIECE) || [];

    /** Text → ids. */
    const encode = (text, size) => pieces(text).flatMap((piece) => encodePiece(piece, size));

    /** Ids → text. Bytes that are no whole character come out as "\ufffd": a cut may go through a character. */
    function decode(ids) {
      let text = "";
      let bytes = "";
      for (const id of [...ids, -1]) {
        if (id >= 0 && !special.has(id)) {
          if (tokens[id] === undefined) throw new Error(`There is no token ${id}.`);
          bytes += tokens[id];
        } else {
          text += toText(bytes) + (special.get(id) ?? "");
          bytes = "";
        }
      }
      return text;
    }

    /** One token for the eye: " the" is "␣the", a newline "\n", part of a character "\xe4". */
    const show = (id) => (special.has(id) ? special.get(id) : shown(tokens[id]));

    return { encode, encodePiece, decode, pieces, show, learned: tokens.length, eot: tokens.length };
  }

  /** A token's bytes for the eye, see `show`. */
  function shown(bytes) {
    let text = "";
    for (let i = 0; i < bytes.length; ) {
      const first = bytes.charCodeAt(i);
      const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4; // of the character that begins here
      const character = toText(bytes.slice(i, i + length));
      const whole = [...character].length === 1 && character !== "\ufffd";
      text += whole ? character : "\\x" + hex(bytes[i]);
      i += whole ? length : 1;
    }
    return text
      .replaceAll(" ", "␣")
      .replaceAll("\n", "\\n")
      .replaceAll("\t", "\\t")
      .replaceAll("\r", "\\r")
      .replace(/[\p{Cc}]/gu, (c) => "\\x" + hex(c));
  }
  const hex = (c) => c.charCodeAt(0).toString(16).padStart(2, "0");

  Mini.Tokenizer = Tokenizer;
  Mini.shownBytes = shown;
})(globalThis);
