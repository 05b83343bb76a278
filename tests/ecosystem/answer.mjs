// Opens a bundle with transformers.js and answers texts with each of its precisions.
//
// node answer.mjs MODULES < request.json > answers.json
//
// MODULES is the folder that holds node_modules.
// The request: {"directory", "opener", "dtypes", "texts", "pairs", "types"}. `pairs` is null or each text's second;
// `types` says whether the model takes token types, for the library would decide by the tokenizer's class.
// The answers: {"tokens": [[id]], dtype: {output: {"dims", "data"}}}.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const { resolve } = createRequire(path.join(path.resolve(process.argv[2]), "package.json"));
const library = await import(pathToFileURL(resolve("@huggingface/transformers")));
const { directory, opener, dtypes, texts, pairs, types } = JSON.parse(readFileSync(0, "utf8"));

library.env.allowRemoteModels = false;
library.env.localModelPath = path.dirname(directory);
const name = path.basename(directory);

const tokenizer = await library.AutoTokenizer.from_pretrained(name);
const options = { padding: true, truncation: true, text_pair: pairs, return_token_type_ids: types };
const inputs = await tokenizer(texts, options);
const answers = { tokens: inputs.input_ids.tolist().map((row) => row.map(Number)) };
for (const dtype of dtypes) {
  const model = await library[opener].from_pretrained(name, { dtype, device: "cpu" });
  const outputs = Object.entries(await model(inputs)).filter(([, tensor]) => tensor?.dims);
  answers[dtype] = Object.fromEntries(
    outputs.map(([output, { dims, data }]) => [output, { dims, data: Array.from(data, Number) }]),
  );
}
process.stdout.write(JSON.stringify(answers));
