"""Options that say how REPLs are kept apart, and what cells may import."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from abyme.core.isolation import Isolation

Command = TypeVar("Command", bound=Callable[..., object])

TIERS = ("jail", "wasm", "container")
POLICIES = ("standard", "strict", "any")
OF_CONTAINERS = ("engine", "runtime", "image")

OPTIONS = (
    click.option(
        "--sandbox",
        "tier",
        type=click.Choice(TIERS),
        default="jail",
        help="Where cells run: jail (Linux; the default), wasm, container; never a weaker one by "
        "itself.",
    ),
    click.option(
        "--require",
        multiple=True,
        metavar="LAYER",
        help="Refuse to run without this layer of `abyme doctor`; `all`: without any. Repeatable.",
    ),
    click.option(
        "--imports",
        default="standard",
        metavar="POLICY|MODULE,...",
        help="What cells may import: standard (the standard library without what reaches "
        "outside), strict (math, json, re...), any, or modules of your own list.",
    ),
    click.option(
        "--guest-package",
        "packages",
        multiple=True,
        metavar="NAME",
        help="Let cells import this package of yours, such as numpy. Repeatable.",
    ),
    click.option(
        "--apart",
        is_flag=True,
        help="Give each child model an interpreter of its own: 0.1 s and 15 MB each.",
    ),
    click.option("--container-engine", "engine", default="", metavar="E", help="docker or podman."),
    click.option(
        "--container-runtime", "runtime", default="", metavar="R", help="Such as runsc (gVisor)."
    ),
    click.option("--container-image", "image", default="", metavar="I", help="The guest's image."),
)


def isolation(command: Command) -> Command:
    """Give a command the options."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def given(options: Mapping[str, Any]) -> "Isolation":
    """Put together what a command line says.

    Raises:
        ConfigError: it contradicts itself.
    """
    from abyme.core.isolation import Isolation  # noqa: PLC0415
    from abyme.errors import ConfigError  # noqa: PLC0415

    names = ("tier", "apart", "engine", "runtime", "image")
    for name in OF_CONTAINERS:
        if options[name] and options["tier"] != "container":
            raise ConfigError(
                f"--container-{name} goes with --sandbox container; "
                f"this run's is --sandbox {options['tier']}"
            )
    policy, allowed = options["imports"], []
    if policy not in POLICIES:
        policy, allowed = "listed", [word.strip() for word in policy.split(",") if word.strip()]
        if not allowed:
            raise ConfigError(f"--imports: name {', '.join(POLICIES)}, or modules")
        for name in allowed:
            first, *below = name.split(".")
            known = first in sys.stdlib_module_names
            if not (known and name.isascii() and all(part.isidentifier() for part in below)):
                raise ConfigError(
                    f"--imports: {name!r} is neither {', '.join(POLICIES)} nor a module of the "
                    "standard library; packages of yours are named by --guest-package"
                )
    return Isolation(
        **{name: options[name] for name in names},
        imports=policy,
        allowed=allowed,
        require=list(options["require"]),
        packages=list(options["packages"]),
    )
