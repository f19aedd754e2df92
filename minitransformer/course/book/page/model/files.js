/* Numbers and texts that come with the page: a safetensors file, written as base64 into a script.
 *
 * A page that was opened from disk (file://) may not fetch a file, but it may run a script that stands beside it. So
 * each data file is a script with one line, MiniTransformer.files["name"] = "base64", and this one unpacks it.
 */
(function (root) {
  "use strict";
  const Mini = (root.MiniTransformer = root.MiniTransformer || {});
  Mini.files = Mini.files || {};

  /** The bytes of a data file, Uint8Array. */
  function bytes(name) {
    if (!(name in Mini.files)) throw new Error(`The data file ${name} is missing beside this page.`);
    return Uint8Array.from(atob(Mini.files[name]), (c) => c.charCodeAt(0));
  }

  /** A half-precision number (16 bits: sign, 5 of exponent, 10 of fraction) as an ordinary one. */
  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  /**
   * Read a safetensors file: 8 bytes with the length of a JSON header, the header, then the numbers.
   *
   * @param {Uint8Array} file
   * @returns {{tensors: Object<string, Float32Array>, about: Object}} tensors by name, row after row, and what the
   *   file says about itself.
   */
  function safetensors(file) {
    const size = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + size)));
    const tensors = {};
    let about = {};
    for (const [name, { dtype, data_offsets: ends, ...rest }] of Object.entries(header)) {
      if (name === "__metadata__") {
        about = JSON.parse(rest.about);
        continue;
      }
      const part = file.slice(8 + size + ends[0], 8 + size + ends[1]).buffer;
      if (dtype === "F32") tensors[name] = new Float32Array(part);
      else if (dtype === "F16") tensors[name] = Float32Array.from(new Uint16Array(part), half);
      else throw new Error(`The tensor ${name} holds ${dtype}; F16 and F32 can be read.`);
    }
    return { tensors, about };
  }

  Mini.bytes = bytes;
  Mini.safetensors = safetensors;
  Mini.half = half;
})(globalThis);
