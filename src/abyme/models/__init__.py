"""Models: names, endpoints, prices, adapters. Implements `abyme.ports.Model`."""
