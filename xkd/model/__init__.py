"""The XKD network: tokenizers, ViT encoders, masked autoencoders, projectors, refinement."""
