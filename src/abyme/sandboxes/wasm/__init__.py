"""WebAssembly: CPython in Wasmtime, in a process of its own that is confined as well."""

from abyme.sandboxes.wasm.wasm import Wasm

__all__ = ["Wasm"]
