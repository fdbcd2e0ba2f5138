"""abyme: Recursive Language Models."""
