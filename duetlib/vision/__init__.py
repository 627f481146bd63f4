"""DUET for faces: MobileNetV3 with dynamic layers, fast forms of it, its training. Chapter 8."""
