"""Everything that runs forward: backbone, item rows, heads, adapter."""
