// Reads out of an ONNX file what onnxruntime-web does not tell: its metadata, and what goes in and comes out.
//
// The file is one protobuf message (onnx.proto). Each field is a number that holds its key and wire type, and its
// value; what is not wanted, above all the weights, is stepped over.

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

const MODEL = { irVersion: 1, graph: 7, metadata: 14 };
const GRAPH = { input: 11, output: 12, initializer: 5 };
const TENSOR_NAME = 8;

// TensorProto.DataType, as onnxruntime names them.
const TYPES = {
  1: "tensor(float)",
  2: "tensor(uint8)",
  3: "tensor(int8)",
  6: "tensor(int32)",
  7: "tensor(int64)",
  9: "tensor(bool)",
  10: "tensor(float16)",
  11: "tensor(double)",
  16: "tensor(bfloat16)",
};

/**
 * @typedef {object} Value what goes in or comes out.
 * @property {string} name
 * @property {string} type "tensor(float)" and so on.
 * @property {(number|string|null)[]} shape names stand for sides that may be of any length.
 */

/**
 * @param {Uint8Array} bytes of the file.
 * @returns {{metadata: Map<string, string>, inputs: Value[], outputs: Value[]}}
 * @throws {RangeError} it is no ONNX file, or was cut off.
 */
export function readOnnx(bytes) {
  const metadata = new Map();
  let graph = null;
  for (const { key, value } of fields(bytes)) {
    if (key === MODEL.graph) graph = value;
    if (key === MODEL.metadata) metadata.set(...readNote(value));
  }
  if (!graph) throw new RangeError("no graph in it");
  return { metadata, ...readGraph(graph) };
}

function readNote(bytes) {
  const note = collect(bytes);
  return [text(note.get(1)), text(note.get(2))];
}

function readGraph(bytes) {
  const inputs = [];
  const outputs = [];
  const weights = new Set();
  for (const { key, value } of fields(bytes)) {
    if (key === GRAPH.input) inputs.push(readValue(value));
    if (key === GRAPH.output) outputs.push(readValue(value));
    if (key === GRAPH.initializer) weights.add(text(collect(value).get(TENSOR_NAME)));
  }
  // Old files list their weights among the inputs.
  return { inputs: inputs.filter(({ name }) => !weights.has(name)), outputs };
}

/** ValueInfoProto: name = 1, type = 2; TypeProto: tensor_type = 1; Tensor: elem_type = 1, shape = 2. */
function readValue(bytes) {
  const value = collect(bytes);
  const tensor = collect(collect(value.get(2)).get(1));
  const code = tensor.get(1);
  const shape = [];
  for (const { key, value: side } of fields(tensor.get(2) ?? new Uint8Array())) {
    if (key === 1) shape.push(readSide(side));
  }
  return { name: text(value.get(1)), type: TYPES[code] ?? `type ${code}`, shape };
}

/** Dimension: dim_value = 1, dim_param = 2. */
function readSide(bytes) {
  const side = collect(bytes);
  return side.get(1) ?? (side.has(2) ? text(side.get(2)) : null);
}

function collect(bytes = new Uint8Array()) {
  return new Map(Array.from(fields(bytes), ({ key, value }) => [key, value]));
}

function text(bytes = new Uint8Array()) {
  return new TextDecoder().decode(bytes);
}

/** Yield the fields of a message: a number for a varint, the bytes themselves for all else. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (at >= bytes.length || factor > 2 ** 63) throw new RangeError("cut off");
      const byte = bytes[at++];
      value += (byte & 127) * factor; // not by shifting, which ends at 32 bits
      if (byte < 128) return value;
    }
  };
  const slice = (length) => {
    if (at + length > bytes.length) throw new RangeError("cut off");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = varint();
    const key = Math.floor(tag / 8);
    const type = tag % 8;
    if (type === VARINT) yield { key, value: varint() };
    else if (type === BYTES) yield { key, value: slice(varint()) };
    else if (type === FIXED64) yield { key, value: slice(8) };
    else if (type === FIXED32) yield { key, value: slice(4) };
    else throw new RangeError("not a protobuf message");
  }
}
