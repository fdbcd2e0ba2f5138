"""REPLs in the real WebAssembly tier, where this Python has it."""

import asyncio
from contextlib import contextmanager

import pytest
from jail_doubles import TEXT, OneRun

from abyme.contexts.sealed import from_value
from abyme.core.limits import Limits
from abyme.errors import SandboxUnavailable
from abyme.sandboxes.wasm import Wasm
from abyme.sandboxes.wasm.wasm import check_installed

BASE = {"cell_timeout_s": 20, "memory_bytes": 256 << 20}


def needs_wasm():
    """Skip a module where the extra is not installed, or cannot be."""
    try:
        check_installed()
    except SandboxUnavailable as missing:
        pytest.skip(str(missing), allow_module_level=True)


class WasmBench(OneRun):
    """A run of its own loop."""

    def __init__(self, context=TEXT, **limits):
        self.loop = asyncio.new_event_loop()
        self.context = from_value(context)
        self.run = self.wait(
            Wasm().begin(context=self.context, limits=Limits(**{**BASE, **limits}))
        )

    def close(self):
        self.wait(self.run.aclose())
        self.context.close()
        self.wait(self.loop.shutdown_default_executor())
        self.loop.close()


@contextmanager
def wasm_bench(**settings):
    made = WasmBench(**settings)
    try:
        yield made
    finally:
        made.close()
