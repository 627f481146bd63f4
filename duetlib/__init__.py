"""The method of DUET, one idea per file.

Read the files in the order of the book: `sessions`, `drift`, `hypernetwork`, `backbones`,
`dynamic`, `umn`, `ppg`, `swa`, `spectrum`, `training`, `metrics`; then `finetuning`, `controls`,
`records`, `experiments`, `tables`; for faces `conv`, `mobilenet`, `factored`, `fused_swa`,
`vision`, `augmentation`, `vision_training`, `vision_experiments`, `vision_tables`; for device and
cloud `latency`, `generator`, `payload`, `transport`, `device`, `batching`, `cloud`, `export`,
`faults`, `inversion`; and beyond the paper `smaller`, `seldom`.
"""

__version__ = "0.1.0"
