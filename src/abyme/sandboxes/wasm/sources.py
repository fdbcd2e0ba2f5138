"""The guest's modules as one script for the WebAssembly interpreter, which has no file of ours.

Decides which module takes the place of one that cannot be loaded there. Stand-ins that are not
ours are gone again when the guest is made: a cell that imports them is told that they are absent.
"""

from pathlib import Path
from typing import Final

STAND_INS: Final = {
    "abyme.guest.interrupts": "guest/wasm/interrupts.py",
    "abyme.guest.kernel.libc": "guest/wasm/no_fork.py",
}
ABSENT: Final = ("mmap",)
"""Modules of Python's own that the guest names and does not use here."""

LOADER: Final = """
def _begin(sources, packages, absent, order):
    import sys
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    class Loader:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name in sources or name in packages:
                return ModuleSpec(name, Loader, is_package=name in packages)

        @staticmethod
        def create_module(spec):
            return None

        @staticmethod
        def exec_module(module):
            name = module.__name__
            source = sources.get(name)
            if source:
                exec(compile(source, name.replace(".", "/") + ".py", "exec"), vars(module))

    kept = {name: sys.modules[name] for name in absent if name in sys.modules}
    sys.modules.update((name, ModuleType(name)) for name in absent if name not in kept)
    sys.meta_path.insert(0, Loader)
    try:
        import _eryx
        from abyme.guest.wasm.program import Order, Program

        return Program(Order(**order), _eryx._eryx_report_output)
    finally:
        sys.meta_path.remove(Loader)
        for name in absent:
            if name not in kept:
                del sys.modules[name]
"""


def script(package: Path, order: dict[str, object]) -> str:
    """Make the script that leaves a REPL in the name `__abyme`; `package` is our own folder."""
    sources: dict[str, str] = {}
    packages = {"abyme", "abyme.guest", "abyme.guest.kernel", "abyme.guest.wasm"}
    files = [package / name for name in ("wire.py", "layout.py", "estimates.py")]
    files += [*(package / "guest").glob("*.py"), *(package / "guest" / "wasm").glob("*.py")]
    for file in files:
        name = ".".join(("abyme", *file.relative_to(package).with_suffix("").parts))
        sources[name.removesuffix(".__init__")] = file.read_text(encoding="utf-8")
    for name, file_name in STAND_INS.items():
        sources[name] = (package / file_name).read_text(encoding="utf-8")
    given = f"{sources!r}, {packages!r}, {ABSENT!r}, {order!r}"
    return f"{LOADER}\n__abyme = _begin({given})\ndel _begin\n"
