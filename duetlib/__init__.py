"""The method of DUET, one idea per file.

Read the files in the order of the book: `sessions`, `hypernetwork`, `backbones`, `dynamic`, `umn`,
`ppg`, `swa`, `training`, `metrics`.
"""

__version__ = "0.1.0"
