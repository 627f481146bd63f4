"""The method of DUET, one idea per file.

    Eq. 1, 2        umn.UniversalMetaNetwork, umn.OrdinaryLayers    a model whose last layers come
    Section 3.2     dynamic                                         from a source; one for all
    Eq. 3, 4        hypernetwork                                    what generates layers
    Eq. 5, 6, 7     ppg.PPG, ppg.ppg_loss                           layers from a device's clicks
    Eq. 8, 9        swa                                             stable weights
    Algorithm 1     training.Trainer                                the training loop
    Table 1, Fig. 7 evidence.tables                                 recommendation
    Table 2, 4      evidence.vision_tables                          faces, Figures 3 to 6
    Table 3         latency                                         delays on paper
    Table 5         training.TABLE_5                                settings
    what the paper prints: evidence.paper; its code in full: the map from the paper to the code

The method: `sessions` (clicks, histories, negatives), `backbones` (static layers), `dynamic`,
`hypernetwork`, `ppg`, `swa`, `umn`. Training: `training`, `metrics`, `finetuning`, `controls` (what
DUET is held against), `methods` (all by name), `cache`. `recommend`: a list for a user.

    vision      MobileNetV3 with dynamic layers, and its training
    serving     device and cloud: `payload` (the wire format), `transport`, `device`, `cloud`
    evidence    runs, their records, tables with intervals
    beyond      smaller downloads, asking seldom, inversion, drift

Arrows run one way: method, training, then the four rooms; a test holds them.
"""

__version__ = "0.1.0"
