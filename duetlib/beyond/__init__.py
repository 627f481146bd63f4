"""What the paper leaves out: smaller downloads, asking seldom, inversion, drift."""
