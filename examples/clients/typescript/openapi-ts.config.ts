import { defineConfig } from "@hey-api/openapi-ts";

// Node's own modules are imported with the ending of what they become.
export default defineConfig({
  input: "openapi.json",
  output: { path: "generated/sdk", importFileExtension: ".js" },
});
