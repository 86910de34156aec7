import { defineConfig } from "vitest/config";

/** The page is built into the server's package, so that the wheel carries it; assets are never inlined, as the policy
 * on content forbids data: scripts and inline styles. */
export default defineConfig({
  base: "/",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: { outDir: "../server/static", emptyOutDir: true, assetsInlineLimit: 0, target: "es2022", modulePreload: { polyfill: false } },
  // The default of 5 s is four times what the longest test takes beside other work on two cores.
  test: { environment: "jsdom", testTimeout: 30_000 },
});
