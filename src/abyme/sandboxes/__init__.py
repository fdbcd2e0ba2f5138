"""Places to run model-written code in; each implements `abyme.ports.Sandbox`."""
