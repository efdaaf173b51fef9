//! What `plugins/wit` says, in Rust.

wasmtime::component::bindgen!({
    world: "plugin",
    path: "../plugins/wit",
    imports: { "nightshift:plugin/http.fetch": async },
    exports: { default: async },
});
