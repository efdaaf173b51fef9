//! The Rust types and traits that wasmtime generates from `plugins/wit`.

wasmtime::component::bindgen!({
    world: "plugin",
    path: "../plugins/wit",
    imports: { "nightshift:plugin/http.fetch": async },
    exports: { default: async },
});
